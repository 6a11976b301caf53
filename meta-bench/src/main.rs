//! The binary `meta`; see the library for what it does.

use std::process::{Command, ExitCode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// mimalloc's setting for how long freed memory is kept, in milliseconds; −1 is for good.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

fn main() -> ExitCode {
    keep_freed_memory();
    meta_bench::main_with::<meta_bench::BuiltIn>()
}

/// Starts this program over with an allocator that keeps freed memory, unless the setting says
/// anything already.
///
/// Every training step frees and allocates the same large tensors. Given back to the system in
/// between, they are zeroed by it page by page, which takes up to a third of a step. The allocator
/// reads its settings before `main`, and from the environment alone.
fn keep_freed_memory() {
    #[cfg(unix)]
    if std::env::var_os(PURGE_DELAY).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        use std::os::unix::process::CommandExt;
        let mut arguments = std::env::args_os();
        let mut command = Command::new(program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        // Returns only where it fails; the program is then merely slower.
        let _ = command.args(arguments).env(PURGE_DELAY, "-1").exec();
    }
}
