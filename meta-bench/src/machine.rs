//! Reads what the operating system reports about this machine and its processes.

use std::{
    fs,
    path::Path,
    sync::LazyLock,
    time::{Duration, Instant},
};

/// How long this program has run; it asks once at its start.
pub fn age() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The cores that this process may use, as the system lists them (`0-3,8`); empty where it does not.
pub fn cores_allowed() -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = text
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.unwrap_or_default().trim().to_owned()
}

/// What tells this machine from others, as far as the system says: a number of its start.
pub fn machine_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// The commit of this program, in short; `unknown` where it was built from no checkout.
pub fn commit() -> &'static str {
    option_env!("META_COMMIT").map_or("unknown", |commit| &commit[..12])
}

/// The architecture, and those instructions of the processor that products of matrices use where they are there.
pub fn instructions() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags"));
    let has =
        |name: &&str| flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == *name));
    let used: Vec<&str> = ["fma", "avx2", "avx512f"].into_iter().filter(has).collect();
    format!("{} {}", std::env::consts::ARCH, used.join(" "))
}

/// Model name of the processor, where the system reports it.
pub fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Bytes that this process can still have, and what sets the bound: the machine, its control group (as
/// in a container), or its own limit (`ulimit -v`). None where the system reports nothing.
pub fn available_memory() -> Option<(u64, &'static str)> {
    available_below(Path::new("/"))
}

/// As [`available_memory`], without its bound.
pub fn available_bytes() -> Option<u64> {
    available_memory().map(|(bytes, _)| bytes)
}

/// Resident memory of this process now, where the system reports it.
pub fn resident_bytes() -> Option<u64> {
    bytes_at("/proc/self/status", "VmRSS:")
}

/// [`available_memory`] by the files of the system below `root`.
fn available_below(root: &Path) -> Option<(u64, &'static str)> {
    let machine = bytes_at(root.join("proc/meminfo"), "MemAvailable:");
    let limit = address_space(root).and_then(|limit| {
        let taken = bytes_at(root.join("proc/self/status"), "VmSize:")?;
        Some(limit.saturating_sub(taken))
    });
    let bounds = [
        machine.map(|bytes| (bytes, "this machine")),
        control_group(root).map(|bytes| (bytes, "the control group of this process")),
        limit.map(|bytes| {
            (
                bytes,
                "the limit of this process's address space (ulimit -v)",
            )
        }),
    ];
    bounds.into_iter().flatten().min_by_key(|(bytes, _)| *bytes)
}

/// The limit of this process's address space, where it has one.
fn address_space(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/self/limits")).ok()?;
    let mut lines = text.lines();
    let values = lines.find_map(|line| line.strip_prefix("Max address space"))?;
    values.split_whitespace().next()?.parse().ok()
}

/// What the control groups of this process leave, the narrowest of them; files that are only cached are
/// given back when memory is short.
fn control_group(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let left = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (mount, limit, usage, prefix) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max", "memory.current", ""),
            _ if controllers.split(',').any(|name| name == "memory") => (
                "sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_",
            ),
            _ => return None,
        };
        let mount = root.join(mount);
        let group = mount.join(path.trim_start_matches('/'));
        let groups = group
            .ancestors()
            .take_while(|group| group.starts_with(&mount));
        let left = |group: &Path| {
            let number = |name| {
                fs::read_to_string(group.join(name))
                    .ok()?
                    .trim()
                    .parse()
                    .ok()
            };
            let (limit, usage): (u64, u64) = (number(limit)?, number(usage)?);
            let statistics = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
            let cached = |kind: &str| {
                let mut lines = statistics.lines();
                let value =
                    lines.find_map(|line| line.strip_prefix(&format!("{prefix}{kind}_file ")));
                value
                    .and_then(|value| value.trim().parse().ok())
                    .unwrap_or(0)
            };
            let taken = usage.saturating_sub(cached("inactive") + cached("active"));
            Some(limit.saturating_sub(taken))
        };
        groups.filter_map(left).min()
    });
    left.min()
}

/// Peak resident memory of this process, where the system reports it.
pub fn peak_bytes() -> Option<u64> {
    bytes_at("/proc/self/status", "VmHWM:")
}

/// Peak resident memory of the process with this number, where the system reports it.
pub fn peak_bytes_of(process: u32) -> Option<u64> {
    bytes_at(format!("/proc/{process}/status"), "VmHWM:")
}

/// The bytes on the line that starts with `name`, which gives them in kibibytes.
fn bytes_at(path: impl AsRef<Path>, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kibibytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of memory that is written counts, on systems that report it.
    #[test]
    fn the_peak_covers_what_was_written() {
        let Some(before) = peak_bytes() else { return };
        let block = vec![1u8; 64_000_000];
        assert_eq!(block.iter().filter(|&&byte| byte == 1).count(), block.len());
        let after = peak_bytes().expect("it was reported before");
        assert!(after >= before.max(64_000_000), "{before} {after}");
        // The system reads what it counts for each processor apart without waiting for the others: within 1 %.
        let again = peak_bytes_of(std::process::id()).expect("this process");
        assert!(again >= after - after / 100, "{again} {after}");
    }

    /// The narrowest bound counts; a machine, a container and a limit each have their own files.
    #[test]
    fn the_narrowest_bound_of_memory_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(available_below(root), None);
        write(
            "proc/meminfo",
            "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n",
        );
        assert_eq!(available_below(root), Some((8_192_000, "this machine")));
        // A group inside one that is narrower; its cached files can go.
        write("proc/self/cgroup", "0::/outer/inner\n");
        write("sys/fs/cgroup/outer/memory.max", "5000000\n");
        write("sys/fs/cgroup/outer/memory.current", "3000000\n");
        write(
            "sys/fs/cgroup/outer/memory.stat",
            "anon 1\ninactive_file 1500000\nactive_file 500000\n",
        );
        write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
        write("sys/fs/cgroup/outer/inner/memory.current", "3000000\n");
        assert_eq!(available_below(root).unwrap().0, 4_000_000);
        // The older layout.
        write("proc/self/cgroup", "3:cpu,memory:/job\n1:name=systemd:/\n");
        write(
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes",
            "3000000\n",
        );
        write(
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes",
            "1000000\n",
        );
        assert_eq!(available_below(root).unwrap().0, 2_000_000);
        write(
            "proc/self/limits",
            "Limit  Soft  Hard  Units\nMax address space  2000000  unlimited  bytes\n",
        );
        write("proc/self/status", "VmSize:\t    1000 kB\nVmRSS:\t 10 kB\n");
        let (bytes, which) = available_below(root).unwrap();
        assert_eq!(bytes, 976_000);
        assert!(which.contains("ulimit"), "{which}");
        write(
            "proc/self/limits",
            "Max address space  unlimited  unlimited  bytes\n",
        );
        assert_eq!(available_below(root).unwrap().0, 2_000_000);
    }
}
