//! Failures of an accelerator, which happen in threads of its driver.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The first failure since the computation on an accelerator began, in whichever thread.
static FAILURE: Mutex<Option<String>> = Mutex::new(None);

fn failure() -> MutexGuard<'static, Option<String>> {
    FAILURE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a computation whose accelerator has failed, before what was read from it is believed.
///
/// CubeCL works in a thread of its own. After a failure (of an allocation, say) that thread continues
/// without the failed kernel, and the numbers that follow look like any others. Reading a value waits for
/// that thread, so a failure is known after reading.
///
/// # Panics
/// When something failed since the computation began; [`crate::backend::dispatch`] makes it an error.
pub fn check() {
    let reason = failure().clone();
    if let Some(reason) = reason {
        panic!("{reason}");
    }
}

thread_local! {
    /// Whether a panic of this thread is its own affair.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `action`; its panic is its error, and none of the computation on an accelerator that goes on
/// meanwhile. For what reads bytes of strangers by code of others. `action` computes on no device.
///
/// # Errors
/// What the panic says.
pub fn contained<T>(action: impl FnOnce() -> T) -> Result<T, String> {
    let before = CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(action));
    CONTAINED.set(before);
    result.map_err(|panic| message_of(panic.as_ref()))
}

/// Runs `action`; a panic, in whichever thread, is its error instead of words on stderr.
pub(crate) fn watched<T>(action: impl FnOnce() -> T) -> Result<T, String> {
    *failure() = None;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|panic| {
        tracing::debug!("{panic}");
        if !CONTAINED.get() {
            failure().get_or_insert_with(|| message_of(panic.payload()));
        }
    }));
    let result = catch_unwind(AssertUnwindSafe(action));
    std::panic::set_hook(hook);
    let failed = failure().take();
    match (result, failed) {
        (_, Some(reason)) => Err(reason),
        (Ok(result), None) => Ok(result),
        (Err(panic), None) => Err(message_of(panic.as_ref())),
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it does not say why");
    // An unwrapped error is known by what comes after these words.
    let text = text
        .split_once("on an `Err` value: ")
        .map_or(text, |(_, error)| error);
    let text = text.replace("No backtrace available", "");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The threads of a driver continue after a failure; what they compute then must not be used.
    #[test]
    fn a_failure_in_another_thread_ends_the_computation() {
        let reason = "ParseIntError { kind: InvalidDigit }".to_owned();
        let failing = || {
            let driver = std::thread::spawn(|| {
                "none".parse::<u8>().unwrap();
            });
            let _ = driver.join();
        };
        assert_eq!(watched(failing), Err(reason.clone()));
        let reading = || {
            failing();
            check();
            unreachable!("the failure is known");
        };
        assert_eq!(watched::<()>(reading), Err(reason.clone()));
        assert_eq!(watched(|| 1), Ok(1));
        check();
        // A contained panic is nobody else's.
        let decoding = || {
            let decoder = std::thread::spawn(|| contained(|| "none".parse::<u8>().unwrap()));
            let found = decoder.join().expect("the panic is contained");
            check();
            found
        };
        assert_eq!(watched(decoding), Ok(Err(reason)));
    }
}
