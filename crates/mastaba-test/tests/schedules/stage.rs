//! Three processes over one store and one database.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mastaba::shared::Shared;
use mastaba::{
    Cache, Coherence, CommitError, LoadContext, NearConfig, Region, RequestCache, Rows, Source, Write,
};
use mastaba_test::world::{Control, Db, DbError, UserById, Watched};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{LIMIT, Store};

/// The version of user n under the key 100 + n, read through the cache.
pub(super) struct Derived(Arc<Db>);

impl Source for Derived {
    type Key = u64;
    type Value = u32;
    type Error = mastaba::Error;
    const NAME: &'static str = "derived";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, mastaba::Error> {
        self.0.wrote("derived", ids);
        let users = cx.request().get_many::<UserById>(ids.iter().map(|id| id - 100)).await?;
        Ok(users.found().map(|(id, user)| (id + 100, user.version)).collect())
    }
}

/// The version of a user, read in the transaction that the test has opened, if it has opened one.
pub(super) struct InTransaction(Arc<Db>, Arc<Mutex<Option<u32>>>);

impl Source for InTransaction {
    type Key = u64;
    type Value = u32;
    type Error = DbError;
    const NAME: &'static str = "transaction";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
        let open = *self.1.lock().unwrap();
        if open.is_some() {
            cx.do_not_store();
        }
        let rows = ids.iter().map(|id| (*id, open.unwrap_or_else(|| self.0.version(*id)))).collect();
        self.0.answer().await;
        Ok(rows)
    }
}

/// The version of a user, under a tag that all of them have.
pub(super) struct Labelled(Arc<Db>);

impl Source for Labelled {
    type Key = u64;
    type Value = u32;
    type Error = DbError;
    const NAME: &'static str = "labelled";
    const REGION: &'static str = "objects";
    const TAGS: &'static [&'static str] = &["labelled"];

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
        let rows = ids.iter().map(|id| (*id, self.0.version(*id))).collect();
        self.0.answer().await;
        Ok(rows)
    }
}

/// A reading and two writing processes.
pub(super) struct Stage {
    pub(super) place: usize,
    pub(super) db: Arc<Db>,
    /// What a transaction that is open has in view.
    pub(super) transaction: Arc<Mutex<Option<u32>>>,
    pub(super) reader: Process,
    pub(super) writer: Process,
    pub(super) second: Process,
}

/// No two stages meet.
static PLACES: AtomicUsize = AtomicUsize::new(0);

impl Stage {
    /// All that are to be tried: without near and, where the backend tells of changes, with near in every process.
    pub(super) async fn all<S: Store>(store: &S, configure: impl Fn(Region) -> Region) -> Vec<Self> {
        let mut stages = vec![Self::open(store, &configure).await];
        if S::Backend::ABILITIES.tells {
            let near = NearConfig::entries(100).coherence(Coherence::Fenced);
            stages.push(Self::open(store, &|region| configure(region).near(near)).await);
        }
        stages
    }

    async fn open<S: Store>(store: &S, configure: &impl Fn(Region) -> Region) -> Self {
        let place = PLACES.fetch_add(1, Ordering::Relaxed);
        let (db, transaction) = (Arc::new(Db::default()), Arc::default());
        let process = async || Process::start(store.connect(place).await, &db, &transaction, configure).await;
        let (reader, writer, second) = (process().await, process().await, process().await);
        Self { place, db, transaction, reader, writer, second }
    }

    fn all_processes(&self) -> [&Process; 3] {
        [&self.reader, &self.writer, &self.second]
    }

    /// Has user 1 and what is derived from it stored, and seen by every process.
    pub(super) async fn warm(&self) {
        for process in self.all_processes() {
            assert_eq!((process.sees(1).await, process.derives(101).await), (0, 0));
            process.cache.idle().await;
        }
    }

    /// When all is quiet, every process sees what is committed, and goes on to.
    pub(super) async fn all_see_what_is_committed(&self) {
        let committed = self.db.version(1);
        for _ in 0..2 {
            for process in self.all_processes() {
                process.cache.idle().await;
                assert_eq!(process.sees(1).await, committed);
                assert_eq!(process.derives(101).await, committed, "derived");
            }
        }
    }
}

/// A cache with connections of its own.
pub(super) struct Process {
    pub(super) cache: Cache,
    pub(super) shared: Arc<Control>,
}

impl Process {
    async fn start<B: Shared>(
        backend: B,
        db: &Arc<Db>,
        transaction: &Arc<Mutex<Option<u32>>>,
        configure: impl Fn(Region) -> Region,
    ) -> Self {
        let watched = Watched::<_, true>::new(backend, Arc::default());
        let shared = watched.control();
        // what stands still at a gate is not out
        // the rows about leases have some; those about fills without are configured so
        let region = Region::backend(watched).jitter(0.0).early_refresh(0.0).shared_budget(LIMIT);
        let region = region.fill_without_lease(false);
        let builder = Cache::builder()
            .region("objects", configure(region))
            .source(UserById(db.clone()))
            .source(Derived(db.clone()))
            .source(Labelled(db.clone()))
            .source(InTransaction(db.clone(), transaction.clone()));
        Self { cache: builder.build().await.unwrap(), shared }
    }

    pub(super) fn request(&self) -> RequestCache {
        self.cache.request()
    }

    /// The version of a user as a new request sees it.
    pub(super) async fn sees(&self, key: u64) -> u32 {
        self.request().get::<UserById>(key).await.unwrap().unwrap().version
    }

    /// The version in what is derived from a user, as a new request sees it.
    pub(super) async fn derives(&self, key: u64) -> u32 {
        *self.request().get::<Derived>(key).await.unwrap().unwrap()
    }

    /// A get of a new request, in a task.
    pub(super) fn start_get<S: Source<Key = u64>>(&self, key: u64) -> JoinHandle<Arc<S::Value>> {
        let request = self.request();
        tokio::spawn(async move { request.get::<S>(key).await.unwrap().unwrap() })
    }

    /// Commits a new version of user 1 and has its invalidation acknowledged.
    pub(super) async fn writes(&self, db: &Db) {
        db.update(1);
        assert!(self.request().invalidate::<UserById>([1]).await.unwrap().is_confirmed());
    }

    /// A write of user 1.
    pub(super) async fn write(&self) -> Write {
        let write = self.request().write();
        write.invalidate::<UserById>([1]).await.unwrap();
        write
    }

    /// A write of user 1 and of what is derived from it, in two steps: something else stands between them.
    pub(super) async fn write_in_steps(&self, inner_first: bool) -> Write {
        let write = self.request().write();
        if inner_first {
            write.invalidate::<UserById>([1]).await.unwrap();
        } else {
            write.invalidate::<Derived>([101]).await.unwrap();
        }
        write.invalidate_tag("nobody");
        if inner_first {
            write.invalidate::<Derived>([101]).await.unwrap();
        } else {
            write.invalidate::<UserById>([1]).await.unwrap();
        }
        write
    }
}

/// A write of user 1 whose COMMIT is under way: its holds are placed.
pub(super) struct Committing {
    db: Arc<Db>,
    answer: oneshot::Sender<Result<(), &'static str>>,
    done: JoinHandle<Result<bool, CommitError<&'static str>>>,
}

/// What the database says of a transaction that it has certainly rolled back.
pub(super) const ROLLED_BACK: &str = "rolled back";

impl Committing {
    pub(super) async fn begin(write: Write, db: &Arc<Db>) -> Self {
        let (begun, began) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let commit = async move {
            begun.send(()).unwrap();
            answered.await.unwrap()
        };
        let done = tokio::spawn(async move {
            let committed = write.commit_unless(commit, |error| *error == ROLLED_BACK).await?;
            Ok(committed.published.is_confirmed())
        });
        began.await.unwrap();
        Self { db: db.clone(), answer, done }
    }

    /// The database has committed. Nobody knows of it.
    pub(super) fn commits(&self) {
        self.db.update(1);
    }

    /// COMMIT is answered. What is given waits until the write is acknowledged, or has failed.
    pub(super) fn answered(self, answer: Result<(), &'static str>) -> impl Future<Output = ()> {
        self.answer.send(answer).unwrap();
        async move {
            match (self.done.await.unwrap(), answer) {
                (Ok(confirmed), Ok(())) => assert!(confirmed),
                (Err(CommitError::RolledBack(_)), Err(ROLLED_BACK)) => {}
                (Err(CommitError::Unknown { published, .. }), Err(_)) => assert!(published.is_confirmed()),
                (done, answer) => panic!("{answer:?} became {done:?}"),
            }
        }
    }
}
