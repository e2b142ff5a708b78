//! P7: 200 requests for the same 20 cold keys, whose statement takes 50 ms; in one process, and in two.
//!
//! The figures are counts, of statements and of the keys that they load. The statement is a sleep, and what is loaded
//! is stored in Redis: what matters is who asks.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_graphql::dataloader::{DataLoader, Loader};
use futures_util::future::{BoxFuture, join_all};
use mastaba::{Cache, LoadContext, Region, Rows, Source};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use crate::by_hand::{self, Hand};
use crate::fixture::{User, user};
use crate::rounds::{Effort, Table, recorded};
use crate::servers::{self, Redis};

const REQUESTS: u32 = 200;
const KEYS: i64 = 20;
const STATEMENT: Duration = Duration::from_millis(50);
/// How long it takes until all requests have come, where they do not come at once.
const SPREAD: Duration = Duration::from_millis(40);

/// The ways to answer a request for all keys.
const CASES: [&str; 5] = ["mastaba", "DataLoader per request", "DataLoader shared", "moka joined", "naive"];
/// As many as make sense between two processes, where a naive one does the same twice.
const ACROSS: usize = 4;

/// What was asked of the database.
#[derive(Default)]
struct Counts {
    statements: AtomicU64,
    keys: AtomicU64,
}

/// The database, and Redis before it for those who do by hand what they do.
#[derive(Clone)]
struct StampedeTiers {
    hand: Hand,
    counts: Arc<Counts>,
}

impl StampedeTiers {
    /// The statement.
    async fn select(&self, ids: &[i64]) -> Vec<User> {
        self.counts.statements.fetch_add(1, Ordering::Relaxed);
        self.counts.keys.fetch_add(ids.len() as u64, Ordering::Relaxed);
        sleep(STATEMENT).await;
        ids.iter().map(|id| user(*id)).collect()
    }

    async fn two_pass(&self, ids: &[i64]) -> Vec<User> {
        let found = self.hand.users(ids).await;
        let missing = by_hand::missing(ids, &found);
        let mut users: Vec<_> = found.into_iter().flatten().collect();
        if !missing.is_empty() {
            let loaded = self.select(&missing).await;
            self.hand.fill(&loaded).await;
            users.extend(loaded);
        }
        users
    }
}

impl Loader<i64> for StampedeTiers {
    type Value = User;
    type Error = ();

    async fn load(&self, ids: &[i64]) -> Result<HashMap<i64, User>, ()> {
        Ok(self.two_pass(ids).await.into_iter().map(|user| (user.id, user)).collect())
    }
}

impl Source for StampedeTiers {
    type Key = i64;
    type Value = User;
    type Error = Infallible;
    const NAME: &'static str = "user";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> Result<Rows<Self>, Infallible> {
        Ok(self.select(ids).await.into_iter().map(|user| (user.id, user)).collect())
    }
}

/// Answers one request.
type Answer = Box<dyn Fn() -> BoxFuture<'static, usize> + Send + Sync>;

/// A process that takes part, with nothing but Redis behind it.
struct Party {
    tiers: StampedeTiers,
    answer: Answer,
    cache: Option<Cache>,
}

impl Party {
    async fn new(case: &str, url: &str) -> Self {
        let tiers = StampedeTiers { hand: servers::hand(url).await, counts: Arc::default() };
        let own = tiers.clone();
        let mut ours = None;
        let answer: Answer = match case {
            "mastaba" => {
                let region = Region::backend(servers::backend(url).await);
                let cache = Cache::builder().region("objects", region).source(own).build().await;
                let cache = cache.expect("a sound configuration");
                ours = Some(cache.clone());
                Box::new(move || {
                    let request = cache.request();
                    Box::pin(
                        async move { request.get_many::<StampedeTiers>(0..KEYS).await.expect("users").len() },
                    )
                })
            }
            "DataLoader per request" => Box::new(move || {
                let loader = loader(own.clone());
                Box::pin(async move { loader.load_many(0..KEYS).await.expect("users").len() })
            }),
            "DataLoader shared" => {
                let loader = Arc::new(loader(own));
                Box::new(move || {
                    let loader = loader.clone();
                    Box::pin(async move { loader.load_many(0..KEYS).await.expect("users").len() })
                })
            }
            "moka joined" => {
                let moka = moka::future::Cache::<i64, Arc<User>>::new(10_000);
                Box::new(move || {
                    let (moka, tiers) = (moka.clone(), own.clone());
                    Box::pin(async move {
                        let get = |id| {
                            let (moka, tiers) = (&moka, &tiers);
                            async move {
                                let load = async { tiers.two_pass(&[id]).await.remove(0) };
                                moka.get_with(id, async { Arc::new(load.await) }).await
                            }
                        };
                        join_all((0..KEYS).map(get)).await.len()
                    })
                })
            }
            _ => Box::new(move || {
                let tiers = own.clone();
                Box::pin(async move { tiers.two_pass(&(0..KEYS).collect::<Vec<_>>()).await.len() })
            }),
        };
        Self { tiers, answer, cache: ours }
    }

    /// Sends the requests, and gives the milliseconds until the last one was answered.
    async fn rush(&self, requests: u32, spread: Duration) -> f64 {
        let began = Instant::now();
        let coming = (0..requests).map(|nth| {
            let answer = &self.answer;
            async move {
                sleep(spread * nth / requests).await;
                tokio::spawn(answer()).await.expect("no panic")
            }
        });
        let answered = join_all(coming).await;
        assert!(answered.iter().all(|users| *users == KEYS as usize), "{answered:?}");
        let took = began.elapsed().as_secs_f64() * 1000.0;
        if let Some(cache) = &self.cache {
            cache.idle().await;
        }
        took
    }

    fn counts(&self) -> (u64, u64) {
        let counts = &self.tiers.counts;
        (counts.statements.load(Ordering::Relaxed), counts.keys.load(Ordering::Relaxed))
    }
}

fn loader(tiers: StampedeTiers) -> DataLoader<StampedeTiers> {
    // with its own delay, during which it gathers what several requests ask for
    DataLoader::new(tiers, tokio::spawn)
}

/// What one rush came to.
struct Rush {
    statements: f64,
    keys: f64,
    millis: f64,
}

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    let Some(server) = Redis::start() else { return Vec::new() };
    let runtime = several();
    let rounds = effort.rounds(9);
    let mut tables = Vec::new();
    for (name, goal, spread) in [("at once", 1.0, Duration::ZERO), ("spread", 2.0, SPREAD)] {
        let rushes = runs(&CASES, rounds, |case| alone(&runtime, &server, case, spread));
        tables.extend(tables_of(&format!("P7 {name}"), &format!("in one process, {name}"), goal, &rushes));
    }
    let rushes = runs(&CASES[..ACROSS], rounds, |case| with_another(&runtime, &server, case));
    tables.extend(tables_of(
        "P7 two processes",
        "half of them in each of two processes, at once",
        2.0,
        &rushes,
    ));
    tables
}

fn runs(
    cases: &[&'static str],
    rounds: usize,
    mut run: impl FnMut(&str) -> Rush,
) -> Vec<(&'static str, Vec<Rush>)> {
    let mut rushes: Vec<_> = cases.iter().map(|case| (*case, Vec::new())).collect();
    for _ in 0..rounds {
        fastrand::shuffle(&mut rushes);
        rushes.iter_mut().for_each(|(case, rushes)| rushes.push(run(case)));
    }
    rushes.sort_by_key(|(case, _)| cases.iter().position(|each| each == case));
    rushes
}

fn alone(runtime: &Runtime, server: &Redis, case: &str, spread: Duration) -> Rush {
    server.empty();
    runtime.block_on(async {
        let party = Party::new(case, &server.url()).await;
        let millis = party.rush(REQUESTS, spread).await;
        rush(party.counts(), (0, 0), millis)
    })
}

/// Half of the requests here, and half in a child that is this program again.
fn with_another(runtime: &Runtime, server: &Redis, case: &str) -> Rush {
    server.empty();
    let mut other = Other::start(case, &server.url());
    runtime.block_on(async {
        let party = Party::new(case, &server.url()).await;
        other.go();
        let millis = party.rush(REQUESTS / 2, Duration::ZERO).await;
        rush(party.counts(), other.counts(), millis)
    })
}

#[allow(clippy::cast_precision_loss)]
fn rush(here: (u64, u64), there: (u64, u64), millis: f64) -> Rush {
    Rush { statements: (here.0 + there.0) as f64, keys: (here.1 + there.1) as f64, millis }
}

fn tables_of(row: &str, about: &str, goal: f64, rushes: &[(&'static str, Vec<Rush>)]) -> Vec<Table> {
    let table = |what: &str, (unit, goal), ideal: f64, figure: &dyn Fn(&Rush) -> f64| {
        let rounds = rushes.first().map_or(0, |(_, rushes)| rushes.len());
        let mut cases = vec![("reference", vec![ideal; rounds])];
        cases.extend(rushes.iter().map(|(case, rushes)| (*case, rushes.iter().map(figure).collect())));
        let about =
            format!("{what}: {REQUESTS} requests for the same {KEYS} cold keys, {about}; {ideal} is ideal");
        recorded(format!("{row} {what}"), about, (unit, goal), cases)
    };
    let ideal = STATEMENT.as_secs_f64() * 1000.0;
    vec![
        table("statements", ("statements", Some(goal)), 1.0, &|rush| rush.statements),
        table("keys", ("keys", Some(1.0)), f64::from(i32::try_from(KEYS).unwrap_or(1)), &|rush| rush.keys),
        table("time", ("ms", None), ideal, &|rush| rush.millis),
    ]
}

/// Another process that takes part. Dropping it ends it.
struct Other {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Other {
    /// Starts it and waits until it is connected.
    fn start(case: &str, url: &str) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command.args([TAKE_PART, case, url]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program starts again");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut other = Self { child, lines };
        assert_eq!(other.line(), "ready");
        other
    }

    fn go(&mut self) {
        let input = self.child.stdin.as_mut().expect("it is piped");
        writeln!(input, "go").and_then(|()| input.flush()).expect("it listens");
    }

    fn counts(&mut self) -> (u64, u64) {
        let line = self.line();
        let mut numbers = line.split(' ').map(|number| number.parse().expect("a number"));
        (numbers.next().expect("statements"), numbers.next().expect("keys"))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it speaks");
        line.trim().to_owned()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What this program is called with to be the other process.
pub(crate) const TAKE_PART: &str = "--take-part";

/// The other process: says that it is ready, waits for a line, rushes, and says its counts.
pub(crate) fn take_part(case: &str, url: &str) {
    let runtime = several();
    let party = runtime.block_on(Party::new(case, url));
    println!("ready");
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line).is_ok_and(|read| read > 0) {
        runtime.block_on(party.rush(REQUESTS / 2, Duration::ZERO));
        let (statements, keys) = party.counts();
        println!("{statements} {keys}");
    }
}

/// As a server runs: on two threads.
fn several() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
