//! Runs the user's code, which may panic: here a panic becomes a value, and nobody else is taken down with it.
//!
//! Keys and values, loaders, hooks, tags, manglers, listeners and backends are the user's. Whatever the library calls of
//! them it calls through this module, most of it one key at a time: a panic then costs that key alone (decision 0018).

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The user's code panicked, and this is what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Panicked(String);

impl Panicked {
    #[cold]
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        let said = match payload.downcast_ref::<&str>() {
            Some(said) => Some((*said).to_owned()),
            None => payload.downcast_ref::<String>().cloned(),
        };
        // what was thrown is the user's as well, and may panic while it is dropped
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        Self(said.unwrap_or_else(|| "without a message".to_owned()))
    }

    /// Goes on panicking, to whoever guards the whole of it.
    pub(crate) fn resume(self) -> ! {
        std::panic::resume_unwind(Box::new(self.0))
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs it. Costs nothing while nothing panics.
#[inline]
pub(crate) fn guard<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(Panicked::new)
}

/// Does `work` for each number below `count`. Where it panics, `panicked` hears of that number, and the next one follows.
///
/// The guard stands around the loop and not in it: what is cheap per number stays so.
pub(crate) fn each<C: ?Sized>(
    context: &mut C,
    count: usize,
    mut work: impl FnMut(&mut C, usize),
    mut panicked: impl FnMut(&mut C, usize, Panicked),
) {
    let mut next = 0;
    while next < count {
        let run = guard(|| {
            while next < count {
                next += 1;
                work(context, next - 1);
            }
        });
        if let Err(why) = run {
            panicked(context, next - 1, why);
        }
    }
}

/// Drops something of the user's. Nothing depends on it any longer, so that a panic is only written down.
pub(crate) fn let_go<T>(thing: T) {
    if !std::mem::needs_drop::<T>() {
        return;
    }
    if let Err(why) = guard(|| drop(thing)) {
        // the subscriber is the user's, too
        let _ = guard(
            || tracing::warn!(target: "mastaba", "a key or a value panicked while it was dropped: {why}"),
        );
    }
}

/// Things of the user's that are [let go](let_go) when this is dropped.
pub(crate) struct Sheltered<T>(Vec<T>);

impl<T> Sheltered<T> {
    pub(crate) fn new(things: Vec<T>) -> Self {
        Self(things)
    }
}

impl<T> std::ops::Deref for Sheltered<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> Drop for Sheltered<T> {
    fn drop(&mut self) {
        self.0.drain(..).for_each(let_go);
    }
}

/// A future of the user's: whether it panics while it is made, polled or dropped, that ends here.
pub(crate) struct Guarded<'a, T> {
    work: Option<Pin<Box<dyn Future<Output = T> + Send + 'a>>>,
    /// It could not be made.
    panicked: Option<Panicked>,
}

impl<'a, T> Guarded<'a, T> {
    pub(crate) fn new<F: Future<Output = T> + Send + 'a>(make: impl FnOnce() -> F) -> Self {
        match guard(|| Box::pin(make()) as _) {
            Ok(work) => Self::of(work),
            Err(why) => Self { work: None, panicked: Some(why) },
        }
    }

    /// Of a future that has its place already.
    pub(crate) fn of(work: Pin<Box<dyn Future<Output = T> + Send + 'a>>) -> Self {
        Self { work: Some(work), panicked: None }
    }
}

impl<T> Future for Guarded<'_, T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else {
            return match self.panicked.take() {
                Some(why) => Poll::Ready(Err(why)),
                None => Poll::Pending, // it has ended: nobody asks again
            };
        };
        let done = match guard(|| work.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(done)) => Ok(done),
            Err(why) => Err(why),
        };
        let_go(self.work.take());
        Poll::Ready(done)
    }
}

impl<T> Drop for Guarded<'_, T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            let_go(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::Waker;

    use super::*;

    /// Panics while it is dropped.
    struct Sore(&'static str);

    impl Drop for Sore {
        fn drop(&mut self) {
            panic!("{}", self.0);
        }
    }

    #[test]
    fn a_panic_is_known_by_its_message_whatever_was_thrown() {
        assert_eq!(guard(|| 1), Ok(1));
        let said = |work: fn()| guard(work).unwrap_err().to_string();
        assert_eq!(said(|| panic!("plain")), "plain");
        assert_eq!(said(|| panic!("{} args", 2)), "2 args");
        assert_eq!(said(|| std::panic::panic_any(7)), "without a message");
        assert_eq!(said(|| std::panic::panic_any(Sore("again"))), "without a message");
    }

    #[test]
    fn each_number_is_done_but_for_those_that_panic() {
        let mut done = (Vec::new(), Vec::new());
        let work = |done: &mut (Vec<usize>, Vec<_>), nth| {
            assert!(nth % 3 != 0, "{nth} panics");
            done.0.push(nth);
        };
        each(&mut done, 7, work, |done, nth, why| done.1.push((nth, why.to_string())));
        assert_eq!(done.0, [1, 2, 4, 5]);
        let panics = [0, 3, 6].map(|nth| (nth, format!("{nth} panics")));
        assert_eq!(done.1, panics);
    }

    #[test]
    fn a_future_may_panic_while_it_is_made_polled_or_dropped() {
        let once = |mut work: Guarded<'_, u8>| match Pin::new(&mut work)
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(done) => Some(done.map_err(|why| why.to_string())),
            Poll::Pending => None,
        };
        assert_eq!(once(Guarded::new(|| ready(1))), Some(Ok(1)));
        let made = Guarded::new(|| if true { panic!("made") } else { ready(1) });
        assert_eq!(once(made), Some(Err("made".to_owned())));
        assert_eq!(once(Guarded::new(|| async { panic!("polled") })), Some(Err("polled".to_owned())));
        let sore = || async {
            let _sore = Sore("dropped");
            pending::<u8>().await
        };
        assert_eq!(once(Guarded::new(sore)), None, "and it is dropped on the way");
    }
}
