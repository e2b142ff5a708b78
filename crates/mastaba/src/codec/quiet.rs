//! Tries the user's code on values that are made up: silently, and only where a panic is not the end.
//!
//! A panic in there says nothing about the program, so nobody should read about it. What prints it is the panic hook
//! of the process, which is everybody's: it is replaced for these microseconds by one that hands on the panics of
//! other threads. There is no hook of a single thread. `docs/decisions/0017` says what was weighed.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Mutex};

use crate::sync::lock;

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// Why nothing is known of what would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untried {
    /// It panicked.
    Panicked,
    /// A panic would end this program, so it was not tried.
    PanicsAbort,
}

impl fmt::Display for Untried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panicked => "it panics on values that are made up",
            Self::PanicsAbort => {
                "a panic ends this program, so it was not tried with values that are made up"
            }
        })
    }
}

thread_local! {
    /// A panic of this thread is not to be printed.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The hook is exchanged by one thread at a time.
static EXCHANGE: Mutex<()> = Mutex::new(());

/// Runs `work`, of which a panic is only an answer.
pub(crate) fn try_out<T>(work: impl FnOnce() -> T) -> Result<T, Untried> {
    if cfg!(panic = "abort") {
        return Err(Untried::PanicsAbort);
    }
    let work = || catch_unwind(AssertUnwindSafe(work)).map_err(|_| Untried::Panicked);
    // within another trial, or in a thread that is panicking, which may not exchange the hook
    if QUIET.get() || std::thread::panicking() { work() } else { quietly(work) }
}

fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let _exchange = lock(&EXCHANGE);
    let theirs: Arc<Hook> = Arc::new(take_hook());
    let hand_on = theirs.clone();
    let ours: Hook = Box::new(move |info| {
        // the value is gone in a thread that ends: it has a panic of its own to print
        if !QUIET.try_with(Cell::get).unwrap_or(false) {
            hand_on(info);
        }
    });
    let place = address(&ours);
    set_hook(ours);
    QUIET.set(true);
    let done = work();
    QUIET.set(false);
    let now = take_hook();
    // Somebody else may have set a hook in the meantime; then it stays. While `hand_on` lives, so does our own, and
    // nothing else has its address.
    if address(&now) == place && Arc::strong_count(&theirs) == 2 {
        drop(now);
        set_hook(Arc::into_inner(theirs).unwrap_or_else(|| Box::new(|_| ())));
    } else {
        set_hook(now);
    }
    done
}

fn address(hook: &Hook) -> *const () {
    (&raw const **hook).cast()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// One test, for the hook belongs to the process.
    #[test]
    fn a_trial_that_panics_is_not_told_and_everybody_else_is() {
        static TOLD: AtomicUsize = AtomicUsize::new(0);
        // tests beside this one may panic as well
        let count = |by: usize| {
            move |info: &PanicHookInfo<'_>| {
                if info.payload_as_str() == Some("told") {
                    TOLD.fetch_add(by, Ordering::SeqCst);
                }
            }
        };
        let told = || TOLD.swap(0, Ordering::SeqCst);
        let panics = || std::thread::spawn(|| panic!("told")).join().is_err();
        let before = take_hook();
        set_hook(Box::new(count(1)));

        assert_eq!(try_out(|| panic!("told")).unwrap_err(), Untried::Panicked);
        assert_eq!(try_out(|| try_out(|| panic!("told")).is_err()), Ok(true));
        assert_eq!(told(), 0);
        // of another thread meanwhile, and of any thread afterwards
        assert_eq!(try_out(panics), Ok(true));
        assert_eq!(told(), 1);
        assert!(panics() && catch_unwind(|| panic!("told")).is_err());
        assert_eq!(told(), 2);

        // a hook that is set meanwhile stays, and one that hands on goes on to be called
        let other = || set_hook(Box::new(count(10)));
        assert_eq!(try_out(other), Ok(()));
        assert!(panics());
        assert_eq!(told(), 10);
        let chained = || {
            let inner = take_hook();
            set_hook(Box::new(move |info| {
                count(100)(info);
                inner(info);
            }));
        };
        assert_eq!(try_out(chained), Ok(()));
        assert!(panics());
        assert_eq!(told(), 110);
        assert_eq!(try_out(|| ()), Ok(()));
        assert!(panics());
        assert_eq!(told(), 110);
        set_hook(before);
    }
}
