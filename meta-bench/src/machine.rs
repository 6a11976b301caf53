//! Reads what the operating system reports about this machine and its processes.

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Model name of the processor, where the system reports it.
pub fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Bytes that programs can still have, where the system reports them.
pub fn available_bytes() -> Option<u64> {
    bytes_at("/proc/meminfo", "MemAvailable:")
}

/// Peak resident memory of this process, where the system reports it.
pub fn peak_bytes() -> Option<u64> {
    bytes_at("/proc/self/status", "VmHWM:")
}

/// Peak resident memory of the process with this number, where the system reports it.
pub fn peak_bytes_of(process: u32) -> Option<u64> {
    bytes_at(&format!("/proc/{process}/status"), "VmHWM:")
}

/// The bytes on the line that starts with `name`, which gives them in kibibytes.
fn bytes_at(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
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
        assert!(peak_bytes_of(std::process::id()).expect("this process") >= after);
    }
}
