//! What a request works out once, without a source.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use super::RequestCache;
use crate::error::{BoxError, Error};
use crate::guarded::{Guarded, Panicked, guard};
use crate::sync::lock;
use crate::waits::Load;

/// What has been worked out for a request, and what is being.
#[derive(Default)]
pub(super) struct Onces {
    // boxed: most requests have none
    runs: Mutex<Option<Box<Runs>>>,
}

/// By name, type of the value and type of the key: a `HashMap<K, Arc<Ongoing<T>>>` each.
type Runs = HashMap<(&'static str, TypeId, TypeId), Box<dyn Any + Send>>;

/// One key of one name: on its way, or known.
struct Ongoing<T> {
    /// Which runs wait for each other. It is the load of no source.
    load: Arc<Load>,
    /// The tick at which it began, for loads that use it (`R6`).
    begun: u64,
    state: Mutex<State<T>>,
}

enum State<T> {
    /// Worked out by one caller; these wait for it.
    Running(Vec<Waker>),
    Done(Result<Arc<T>, Error>),
    /// Its caller was dropped: somebody else has to.
    Dropped,
}

tokio::task_local! {
    /// The run whose work polls this.
    static INSIDE: Arc<Load>;
}

impl RequestCache {
    /// Something that this request works out once, for all who ask for it: the exchange rates of today, what the user may
    /// do. It needs no source. What has the same name, type and key is the same thing, and is known until the request ends
    /// or is [renewed](RequestCache::renew).
    ///
    /// Costs what the work costs; its own reads travel with all others of the request. Of those who ask at the same time
    /// the first does the work, in its own call, and the others wait. If that one is dropped, one of the others does its own work
    /// instead; so whoever waits needs the first one to be polled or dropped, as with a lock. Nothing is stored outside of
    /// the request. A loader that uses what was worked out before it began has its rows stored nowhere (`R6`).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{UserById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let request = world.request();
    /// let length_of_name = |id: u64| {
    ///     let request = &request;
    ///     request.once("length of name", id, move || async move {
    ///         let user = request.get::<UserById>(id).await?;
    ///         Ok::<_, mastaba::Error>(user.map_or(0, |user| user.name.len()))
    ///     })
    /// };
    /// let (one, again, other) = tokio::try_join!(length_of_name(1), length_of_name(1), length_of_name(20))?;
    /// assert_eq!((*one, *again, *other), (6, 6, 7));
    /// assert_eq!(request.report().statements(), 1); // both users together
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// What the work gave, for everybody who waits: with it as the cause ([`Error::is_source`]), or, where it is an error of
    /// this library, of the same kind as that. If the work panicked ([`Error::is_panic`]). Neither is remembered. If the
    /// work would wait for itself, by itself or through others ([`Error::is_usage`]).
    pub async fn once<T, K, E, F>(
        &self,
        name: &'static str,
        key: K,
        work: impl FnOnce() -> F + Send,
    ) -> Result<Arc<T>, Error>
    where
        T: Send + Sync + 'static,
        K: Hash + Eq + Clone + Send + 'static,
        E: Into<BoxError>,
        F: Future<Output = Result<T, E>> + Send,
    {
        let of_key =
            |why| Error::panic(format!("once {name:?}: `Hash`, `Eq` or `Clone` of its key panicked: {why}"));
        let outer = INSIDE.try_with(Arc::clone).ok();
        loop {
            let (run, first) = guard(|| self.take_part::<T, K>(name, &key)).map_err(of_key)?;
            // whoever waits, or works, inside of another run: both are waited for by that one
            let wait = outer.as_ref().map(|outer| outer.wait_for(&run.load)).transpose();
            let working = first.then(|| Working { request: self, name, key: &key, run: &run });
            if wait.is_err() {
                return Err(Error::usage(format!(
                    "once {name:?}: it is asked for by what works it out, by itself or through others; it would wait for ever"
                )));
            }
            if let Some(nesting) = &self.nesting {
                nesting.saw(run.begun, false);
            }
            if let Some(working) = working {
                let worked = INSIDE.scope(run.load.clone(), Guarded::new(work)).await;
                return working.end(result(name, worked));
            }
            if let Some(done) = run.ended().await {
                return done;
            }
        }
    }

    /// The run of a key, and whether the caller is the first of it.
    fn take_part<T, K>(&self, name: &'static str, key: &K) -> (Arc<Ongoing<T>>, bool)
    where
        T: Send + Sync + 'static,
        K: Hash + Eq + Clone + Send + 'static,
    {
        let mut runs = lock(&self.inner.onces.runs);
        let runs = of_name::<T, K>(runs.get_or_insert_with(Box::default), name);
        if let Some(run) = runs.get(key) {
            return (run.clone(), false);
        }
        let run = Arc::new(Ongoing {
            load: Load::new(name),
            begun: self.inner.cache.tick(),
            state: Mutex::new(State::Running(Vec::new())),
        });
        runs.insert(key.clone(), run.clone());
        (run, true)
    }
}

fn of_name<'r, T, K>(runs: &'r mut Runs, name: &'static str) -> &'r mut HashMap<K, Arc<Ongoing<T>>>
where
    T: Send + Sync + 'static,
    K: Send + 'static,
{
    let id = (name, TypeId::of::<T>(), TypeId::of::<K>());
    let of_name = runs.entry(id).or_insert_with(|| Box::new(HashMap::<K, Arc<Ongoing<T>>>::new()));
    of_name.downcast_mut().expect("they are found by the types of the value and the key")
}

/// What becomes of some work.
fn result<T, E: Into<BoxError>>(name: &str, worked: Result<Result<T, E>, Panicked>) -> Result<Arc<T>, Error> {
    let panicked = |what: &str, why| Error::panic(format!("once {name:?}: {what} panicked: {why}"));
    let cause = match worked {
        Ok(Ok(value)) => return Ok(Arc::new(value)),
        Ok(Err(cause)) => cause,
        Err(why) => return Err(panicked("it", why)),
    };
    // to make an error of it and to show it is the user's code as well
    let shown = guard(|| {
        let cause = cause.into();
        let said = cause.to_string();
        (cause, said)
    });
    Err(match shown {
        Err(why) => panicked("its error", why),
        Ok((cause, said)) => match cause.downcast::<Error>() {
            Ok(error) => error.within(&format!("once {name:?}")),
            Err(cause) => Error::source(format!("once {name:?} failed: {said}"), cause),
        },
    })
}

impl<T> Ongoing<T> {
    /// What it ended with. `None`: its caller was dropped.
    async fn ended(&self) -> Option<Result<Arc<T>, Error>> {
        poll_fn(|cx| match &mut *lock(&self.state) {
            State::Done(done) => Poll::Ready(Some(done.clone())),
            State::Dropped => Poll::Ready(None),
            State::Running(wakers) => {
                if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                    wakers.push(cx.waker().clone());
                }
                Poll::Pending
            }
        })
        .await
    }

    fn end(&self, state: State<T>) {
        let before = std::mem::replace(&mut *lock(&self.state), state);
        if let State::Running(wakers) = before {
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

/// Who works. Dropped before the end, it leaves the work to those who wait, or to whoever asks next.
struct Working<'a, T: Send + Sync + 'static, K: Hash + Eq + Send + 'static> {
    request: &'a RequestCache,
    name: &'static str,
    key: &'a K,
    run: &'a Arc<Ongoing<T>>,
}

impl<T: Send + Sync + 'static, K: Hash + Eq + Send + 'static> Working<'_, T, K> {
    fn end(self, done: Result<Arc<T>, Error>) -> Result<Arc<T>, Error> {
        if done.is_err() {
            self.forget(); // first: who is woken may ask again
        }
        self.run.end(State::Done(done.clone()));
        done
    }

    /// Nobody finds this run any longer.
    fn forget(&self) {
        let forgotten = guard(|| {
            let mut runs = lock(&self.request.inner.onces.runs);
            let runs = of_name::<T, K>(runs.get_or_insert_with(Box::default), self.name);
            // not one that came after a renewal
            if runs.get(self.key).is_some_and(|run| Arc::ptr_eq(run, self.run)) {
                return runs.remove_entry(self.key);
            }
            None
        });
        if forgotten.is_err() {
            self.request.inner.onces.forget(); // a key panicked while it was looked up
        }
    }
}

impl<T: Send + Sync + 'static, K: Hash + Eq + Send + 'static> Drop for Working<'_, T, K> {
    fn drop(&mut self) {
        if matches!(*lock(&self.run.state), State::Running(_)) {
            self.forget();
            self.run.end(State::Dropped);
        }
    }
}

impl Onces {
    /// Forgets what is known. What is on its way goes on, for those who wait.
    pub(super) fn forget(&self) {
        let forgotten = lock(&self.runs).take();
        drop(forgotten); // without the lock, as it is the user's
    }
}
