//! Writers that are processes of their own, and are killed (`kill -9`) between COMMIT and the end of their write.

use crate::rows;

use std::convert::Infallible;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mastaba::{Cache, Coherence, LoadContext, NearConfig, Region, Rows, Source, Tier, WriteMode};
use mastaba_test::servers::RedisServer;
use mastaba_test::servers::resp::Connection;
use rows::{connect, until};

/// A number that all processes see: the database is a key of the server, outside of the cache.
struct Number(String);

impl Source for Number {
    type Key = u64;
    type Value = u64;
    type Error = Infallible;
    const NAME: &'static str = "number";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, Infallible> {
        let number = committed(&self.0).await;
        Ok(ids.iter().map(|id| (*id, number)).collect())
    }
}

async fn committed(address: &str) -> u64 {
    let mut connection = Connection::open(address).await.unwrap();
    connection.call(&["GET", "committed"]).await.unwrap().to_string().parse().unwrap_or(0)
}

async fn cache(address: &str, shape: impl FnOnce(Region) -> Region) -> Cache {
    let region = Region::backend(connect(&format!("redis://{address}")).await);
    let region = shape(region.jitter(0.0).early_refresh(0.0));
    Cache::builder().region("objects", region).source(Number(address.to_owned())).build().await.unwrap()
}

async fn finds(cache: &Cache) -> (u64, Tier) {
    let found = cache.request().get_outcomes::<Number>([1]).await;
    (**found[&1].value().unwrap().unwrap(), found[&1].tier().unwrap())
}

async fn until_stored(cache: &Cache) {
    until("a hit", async || {
        cache.idle().await;
        finds(cache).await.1 != Tier::Source
    })
    .await;
}

const CHILD: &str = "MASTABA_KILLED_WRITER";
const HOLD: Duration = Duration::from_millis(1500);

fn mode_of(name: &str) -> WriteMode {
    match name {
        "simple" => WriteMode::Simple,
        "strict" => WriteMode::Strict,
        "serve" => WriteMode::Serve,
        other => panic!("{other}: no such mode"),
    }
}

/// The process that is killed: makes one write to its end, and in a second one goes no further than COMMIT, or, killed
/// earlier, than its hold.
async fn child(arguments: &str) {
    let [address, mode, before_commit] = arguments.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{arguments}")
    };
    let (mode, before_commit) = (mode_of(mode), before_commit == "true");
    let cache = cache(address, |region| region.write_mode(mode).hold_ttl(HOLD)).await;
    for last in [false, true] {
        let write = cache.request().write();
        write.invalidate::<Number>([1]).await.unwrap();
        let address = address.to_owned();
        let commit = async move {
            let mut database = Connection::open(address.as_str()).await.unwrap();
            if !(last && before_commit) {
                database.call(&["INCR", "committed"]).await.unwrap();
            }
            if last {
                database.call(&["SET", "last", "1"]).await.unwrap();
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(())
        };
        assert!(write.commit(commit).await.unwrap().published.is_confirmed());
        cache.idle().await;
        let mut database = Connection::open(arguments.split(' ').next().unwrap()).await.unwrap();
        database.call(&["SET", "acknowledged", "1"]).await.unwrap();
        database.call(&["BLPOP", "go", "60"]).await.unwrap();
    }
}

/// A server, and a writer that is killed.
struct Scene {
    server: RedisServer,
    address: String,
    writer: tokio::process::Child,
}

impl Scene {
    /// `test`: the name of the test, which the child runs too, up to here.
    async fn open(test: &str, mode: &str, before_commit: bool) -> Option<Self> {
        let server = RedisServer::start().await?;
        let address = server.addr().to_string();
        let writer = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("killed_writers::{test}"), "--nocapture"])
            .env(CHILD, format!("{address} {mode} {before_commit}"))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        until("a write", async || server.command(&["EXISTS", "acknowledged"]).await == "1").await;
        Some(Self { server, address, writer })
    }

    /// Lets the second write begin, and kills its process where it stands.
    async fn kills(&mut self) {
        self.server.command(&["RPUSH", "go", "1"]).await;
        until("the last write", async || self.server.command(&["EXISTS", "last"]).await == "1").await;
        self.writer.kill().await.unwrap(); // SIGKILL
    }
}

async fn is_child() -> bool {
    let Ok(arguments) = std::env::var(CHILD) else { return false };
    child(&arguments).await;
    true
}

fn near(region: Region) -> Region {
    region.near(NearConfig::entries(100).coherence(Coherence::Fenced))
}

/// I2: nobody ever reads what was there before, from COMMIT on. I3: what is there is stored again after the hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_strict_nobody_ever_reads_the_old_value() {
    if is_child().await {
        return;
    }
    let test = "killed_in_strict_nobody_ever_reads_the_old_value";
    let Some(mut scene) = Scene::open(test, "strict", false).await else { return };
    for reader in [cache(&scene.address, near).await, cache(&scene.address, |region| region).await] {
        assert_eq!(finds(&reader).await.0, 1);
        until_stored(&reader).await;
    }
    let address = scene.address.clone();
    let reading = async move {
        let readers = [cache(&address, near).await, cache(&address, |region| region).await];
        let mut current_for = None::<Instant>;
        while current_for.is_none_or(|since| since.elapsed() < HOLD * 2) {
            for reader in &readers {
                let floor = committed(&address).await;
                let (seen, _) = finds(reader).await;
                assert!(seen >= floor, "{floor} was committed before the read began, which saw {seen}");
                if seen == 2 {
                    current_for.get_or_insert_with(Instant::now);
                }
            }
        }
        for reader in &readers {
            until_stored(reader).await;
            assert_eq!(finds(reader).await.0, 2);
        }
    };
    let reading = tokio::time::timeout(Duration::from_secs(30), reading);
    let (ended, ()) = tokio::join!(reading, scene.kills());
    ended.expect("somebody reads the new value");
}

/// Killed before COMMIT: what is there goes on to be read, and is stored again after the hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_commit_its_hold_runs_out_and_nothing_else_happens() {
    if is_child().await {
        return;
    }
    let test = "killed_before_commit_its_hold_runs_out_and_nothing_else_happens";
    for mode in ["strict", "serve"] {
        let Some(mut scene) = Scene::open(test, mode, true).await else { return };
        let reader = cache(&scene.address, |region| region.write_mode(mode_of(mode))).await;
        assert_eq!(finds(&reader).await.0, 1);
        until_stored(&reader).await;
        scene.kills().await;
        assert_eq!(committed(&scene.address).await, 1);
        assert_eq!(finds(&reader).await.0, 1);
        // what a hold keeps is served in the one mode, and loaded in the other one, until a value stands there again
        let head = async || scene.server.command(&["GETRANGE", "mastaba:objects:number:1", "2", "2"]).await;
        until("the end of the hold", async || {
            assert_eq!(finds(&reader).await.0, 1);
            reader.idle().await;
            head().await == "@"
        })
        .await;
        assert_eq!(finds(&reader).await, (1, Tier::Shared));
    }
}

/// Serve: the old value may be served for as long as the hold stands, and not after it (I3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_serve_the_old_value_goes_with_the_hold() {
    if is_child().await {
        return;
    }
    let test = "killed_in_serve_the_old_value_goes_with_the_hold";
    let Some(mut scene) = Scene::open(test, "serve", false).await else { return };
    let reader = cache(&scene.address, |region| region.write_mode(WriteMode::Serve)).await;
    assert_eq!(finds(&reader).await.0, 1, "acknowledged (I1)");
    until_stored(&reader).await;
    scene.kills().await;
    let mut seen = Vec::new();
    until("the new value", async || {
        seen.push(finds(&reader).await.0);
        seen.last() == Some(&2)
    })
    .await;
    for _ in 0..20 {
        assert_eq!(finds(&reader).await.0, 2, "and never the old one again");
    }
    until_stored(&reader).await;
    assert_eq!(finds(&reader).await, (2, Tier::Shared));
}

/// Simple promises nothing here but the time to live: the write that was acknowledged is seen (I1), the one that was
/// killed is not, until what was there before has expired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_simple_the_old_value_lives_until_its_time_to_live_is_over() {
    if is_child().await {
        return;
    }
    let test = "killed_in_simple_the_old_value_lives_until_its_time_to_live_is_over";
    for (ttl, ends) in [(Duration::from_secs(3600), false), (Duration::from_secs(2), true)] {
        let Some(mut scene) = Scene::open(test, "simple", false).await else { return };
        let reader = cache(&scene.address, |region| region.ttl(ttl)).await;
        assert_eq!(finds(&reader).await.0, 1, "acknowledged (I1)");
        until_stored(&reader).await;
        scene.kills().await;
        assert_eq!(committed(&scene.address).await, 2);
        if ends {
            until("the end of its time to live", async || finds(&reader).await.0 == 2).await;
        } else {
            assert_eq!(finds(&reader).await, (1, Tier::Shared), "nobody has voided it");
        }
    }
}
