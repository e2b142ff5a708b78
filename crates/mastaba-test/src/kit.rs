//! For tests of programs: their cache in memory, and whether their pages cost more when there are more rows.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::panic::Location;

use mastaba::{Cache, CacheBuilder, Operation, Report, RequestCache};

/// The cache of a program as its tests want it: in the memory of this process, with nothing that happens at random, and
/// with nothing left in the background of one piece of work when the next one begins.
///
/// It is made of the builder that the program itself uses, so that the policies, the sources and what they load from are
/// those of the program: see [`CacheBuilder::in_memory`]. It derefs to its [`Cache`].
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use mastaba::{Cache, CacheBuilder, LoadContext, Region, Rows, Source};
/// use mastaba_test::TestCache;
///
/// struct TitleById; // with a pool in it
///
/// impl Source for TitleById {
///     type Key = u64;
///     type Value = String;
///     type Error = std::io::Error;
///     const NAME: &'static str = "title.by_id";
///     const REGION: &'static str = "objects";
///
///     async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Self::Error> {
///         Ok(ids.iter().map(|id| (*id, format!("Book {id}"))).collect())
///     }
/// }
///
/// /// The program's own: a file that survives restarts.
/// fn caching() -> CacheBuilder {
///     Cache::builder().region("objects", Region::embedded("/var/lib/books")).source(TitleById)
/// }
///
/// let cache = TestCache::of(caching()).await;
/// for statements in [1, 0] {
///     let (title, report) = cache.run(async |request| request.get::<TitleById>(1).await).await;
///     assert_eq!(title?.unwrap().as_str(), "Book 1");
///     assert_eq!(report.statements(), statements); // loaded, and then found in the shared tier
/// }
/// # Ok::<_, mastaba::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct TestCache(Cache);

impl TestCache {
    /// The cache that this builder describes, in memory.
    ///
    /// # Panics
    /// With everything that is wrong, if it cannot be built.
    pub async fn of(builder: CacheBuilder) -> Self {
        match builder.in_memory().build().await {
            Ok(cache) => Self(cache),
            Err(error) => panic!("{error}"),
        }
    }

    /// Runs a piece of work with a request of its own, and waits for what it left in the background: fills, refreshes. Gives
    /// what it gave, and what it cost, from one end to the other.
    pub async fn run<T>(&self, work: impl AsyncFnOnce(&RequestCache) -> T) -> (T, Report) {
        let request = self.request();
        let done = work(&request).await;
        self.idle().await;
        (done, request.report())
    }
}

impl Deref for TestCache {
    type Target = Cache;

    fn deref(&self) -> &Cache {
        &self.0
    }
}

impl fmt::Debug for TestCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestCache").field(&self.0).finish()
    }
}

/// Asserts that a page makes no more trips and no more statements when it has more rows: that it is no N+1.
///
/// Runs it once for each number of rows, in this order, and compares each run with the first one. Trips for leases do not count:
/// a load that happens to be slow takes one, and a cheap one does not. What the page gives is
/// what it cost: a [`Report`], a [`RequestCache`], what `mastaba_axum::test` measured.
///
/// Begin with one row, for a page without any may well ask for less. Give each run a cache of its own, or other rows: what
/// an earlier run has stored costs a later one no statement. And stay below
/// [`Policy::max_batch`](mastaba::Policy::max_batch), beyond which a load is several statements.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use mastaba_test::assert_flat;
/// use mastaba_test::world::{UserById, World};
///
/// assert_flat([1, 10, 100], async |rows| {
///     let request = World::new().await.request();
///     request.get_many::<UserById>(1..=rows as u64).await.unwrap();
///     request
/// })
/// .await;
/// # });
/// ```
///
/// # Panics
/// With both reports, if a run cost more trips or more statements than the first one.
#[track_caller]
pub fn assert_flat<R: Into<Report>>(
    rows: impl IntoIterator<Item = usize>,
    page: impl AsyncFn(usize) -> R,
) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let mut first: Option<(usize, Report)> = None;
        for count in rows {
            let report = page(count).await.into();
            match &first {
                Some(first) => compare(first, (count, &report), caller),
                None => first = Some((count, report)),
            }
        }
    }
}

/// The trips that depend on no time: whether a miss takes a lease is decided by how long loads take.
fn steady_trips(report: &Report) -> usize {
    let leases = report.trips.iter().filter(|trip| trip.waited && trip.operation == Operation::Lease).count();
    report.shared_trips().saturating_sub(leases)
}

fn compare((few, of_few): &(usize, Report), (many, of_many): (usize, &Report), caller: &Location<'_>) {
    let cost = |report: &Report| (report.shared_trips(), report.statements());
    let ((trips, statements), (more_trips, more_statements)) = (cost(of_few), cost(of_many));
    assert!(
        steady_trips(of_many) <= steady_trips(of_few) && more_statements <= statements,
        "{caller}: the page grows with its rows: {few} cost {trips} trips and {statements} statements, and {many} cost \
         {more_trips} and {more_statements}\n\nwith {few}:\n{of_few}\nwith {many}:\n{of_many}"
    );
}
