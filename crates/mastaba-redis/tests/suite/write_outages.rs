//! Writes while connections are killed and the server goes: whatever becomes of either, what is confirmed is seen by
//! every process, and nothing that is committed is forgotten.

use crate::common;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use common::{Process, until};
use futures_util::future::join_all;
use mastaba::{CommitError, Region, Tier, WriteMode};
use mastaba_test::proxy::Proxy;
use mastaba_test::servers::RedisServer;
use mastaba_test::world::{Db, UserById};

const MODES: [WriteMode; 4] = [WriteMode::Simple, WriteMode::Strict, WriteMode::Serve, WriteMode::Degrade];
const WRITES: usize = 10_000;
/// Of each mode.
const WRITERS: usize = 4;
const KEYS: u64 = 32;
const LONG: Duration = Duration::from_secs(60);

/// Ten thousand writes by processes of each mode, with four writers each, whose connections are cut again and again. All of
/// them read, and one that does nothing else.
async fn writes_over_connections_that_are_cut(server: &RedisServer, url: &str, cut: impl AsyncFn()) {
    let db = Arc::new(Db::default());
    let patient = |region: Region| region.shared_budget(Duration::from_secs(5));
    let writers =
        join_all(MODES.map(|mode| Process::with(url, &db, move |it| patient(it).write_mode(mode)))).await;
    let reader = Process::with(&server.url(), &db, patient).await;
    let confirmed: Vec<AtomicU32> = (0..=KEYS).map(|_| AtomicU32::new(0)).collect();
    let (writes, cuts, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));

    // as many as each can until they are done: a mode that holds takes longer over one
    let write = async |number: usize| {
        let (writer, mode) = (&writers[number % MODES.len()], MODES[number % MODES.len()]);
        let mine = KEYS / (MODES.len() * WRITERS) as u64;
        // of each key: one that was kept is confirmed later than another key's that was not
        let (mut last, mut its) = (HashMap::new(), 0);
        while its < 20 || writes.load(Ordering::SeqCst) < WRITES || cuts.load(Ordering::SeqCst) < 30 {
            let key = 1 + number as u64 * mine + its as u64 % mine;
            let write = writer.request().write();
            write.invalidate::<UserById>([key]).await.unwrap();
            let commit = {
                let db = db.clone();
                async move { Ok::<_, String>(db.update(key)) }
            };
            let committed = match write.commit(commit).await {
                Ok(committed) => committed,
                // a connection was cut under its hold: nothing is committed
                Err(CommitError::Refused(_)) if matches!(mode, WriteMode::Strict | WriteMode::Serve) => {
                    continue;
                }
                Err(error) => panic!("{mode:?}: {error}"),
            };
            writes.fetch_add(1, Ordering::SeqCst);
            its += 1;
            if committed.published.is_confirmed() {
                confirmed[key as usize].fetch_max(committed.value, Ordering::SeqCst);
            }
            last.insert(key, committed.published);
        }
        last
    };
    let written = async {
        let last = join_all((0..MODES.len() * WRITERS).map(write)).await;
        done.store(true, Ordering::SeqCst);
        last
    };
    let read = async {
        let mut writer = writers.iter().cycle();
        while !done.load(Ordering::SeqCst) {
            let floors: Vec<_> = confirmed.iter().map(|version| version.load(Ordering::SeqCst)).collect();
            for process in [&reader].into_iter().chain(writer.next()) {
                let users = process.request().get_many::<UserById>(1..=KEYS).await.unwrap();
                for (key, user) in users.found() {
                    assert!(user.version >= floors[*key as usize], "user {key}: {} is old", user.version);
                }
            }
        }
    };
    let cutting = async {
        while !done.load(Ordering::SeqCst) {
            cut().await;
            cuts.fetch_add(1, Ordering::SeqCst);
            // time enough for a hold, a commit and an end, and not for many
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (last, (), ()) = tokio::join!(written, read, cutting);

    for published in last.into_iter().flat_map(HashMap::into_values) {
        published.confirmed(LONG).await.unwrap();
    }
    for process in writers.iter().chain([&reader]) {
        let users = process.request().get_many::<UserById>(1..=KEYS).await.unwrap();
        let seen: Vec<_> = users.found().map(|(key, user)| (*key, user.version)).collect();
        let committed: Vec<_> = (1..=KEYS).map(|key| (key, db.version(key))).collect();
        assert_eq!(seen, committed, "the last of them are confirmed");
    }
    assert!((1..=KEYS).map(|key| db.version(key) as usize).sum::<usize>() >= WRITES);
    for writer in writers {
        writer.cache.close().await.expect("nothing is left to be sent");
        let dropped: Vec<_> =
            writer.events().into_iter().filter(|event| event.contains("was dropped")).collect();
        assert_eq!(dropped, [""; 0], "each of them went to its end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_writes_over_connections_that_the_server_kills() {
    let Some(server) = RedisServer::start().await else { return };
    let kill = async || {
        server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    };
    let url = server.url();
    let test = writes_over_connections_that_are_cut(&server, &url, kill);
    tokio::time::timeout(LONG * 4, test).await.expect("it hangs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_writes_over_connections_that_the_network_cuts() {
    let Some(server) = RedisServer::start().await else { return };
    let proxy = Proxy::to(server.addr()).await;
    let url = proxy.url();
    let test = writes_over_connections_that_are_cut(&server, &url, async || proxy.cut().await);
    tokio::time::timeout(LONG * 4, test).await.expect("it hangs");
}

/// When the server goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    BeforeTheWrite,
    BeforeCommit,
    AfterCommit,
}

/// How it goes, and comes back.
#[derive(Clone, Copy, Debug)]
enum Comes {
    Empty,
    WithItsData,
    /// It has only not answered: nothing of what it holds counts as lost.
    AsItWas,
}

impl Comes {
    async fn go(self, server: &RedisServer) {
        match self {
            Self::Empty => server.kill().await,
            Self::WithItsData => server.stop().await,
            Self::AsItWas => server.pause().await,
        }
    }

    async fn come_back(self, server: &RedisServer) {
        match self {
            Self::Empty => server.restart_empty().await,
            Self::WithItsData => server.restart().await,
            Self::AsItWas => server.resume().await,
        }
    }
}

/// One write around an outage. The reading process is one of its own.
async fn outage(server: &Arc<RedisServer>, place: usize, mode: WriteMode, goes: Goes, comes: Comes) {
    let case = format!("{mode:?}, the server goes {goes:?} and comes back {comes:?}");
    let url = format!("{}?prefix=place{place}:", server.url());
    let db = Arc::new(Db::default());
    let configure = |region: Region| {
        region.write_mode(mode).hold_ttl(Duration::from_secs(2)).breaker_pause(Duration::from_millis(50))
    };
    let (writer, reader) =
        (Process::with(&url, &db, configure).await, Process::with(&url, &db, configure).await);
    reader.warm(1).await;
    writer.warm(1).await;

    let write = writer.request().write();
    write.invalidate::<UserById>([1]).await.unwrap();
    if goes == Goes::BeforeTheWrite {
        comes.go(server).await;
    }
    let commit = {
        let (server, db) = (server.clone(), db.clone());
        async move {
            if goes == Goes::BeforeCommit {
                comes.go(&server).await;
            }
            let version = db.update(1);
            if goes == Goes::AfterCommit {
                comes.go(&server).await;
            }
            Ok::<_, String>(version)
        }
    };
    let done = write.commit(commit).await;
    let holds = matches!(mode, WriteMode::Strict | WriteMode::Serve);
    let published = match done {
        Err(error) => {
            assert!(holds && goes == Goes::BeforeTheWrite, "{case}: {error}");
            assert!(matches!(&error, CommitError::Refused(error) if error.is_shared()), "{case}: {error}");
            assert_eq!(db.version(1), 0, "{case}: nothing is committed");
            None
        }
        Ok(committed) => {
            assert!(!holds || goes != Goes::BeforeTheWrite, "{case}: it could not be held");
            assert_eq!(db.version(1), 1, "{case}");
            assert!(committed.published.error().is_some(), "{case}: nobody has confirmed it");
            Some(committed.published)
        }
    };
    for process in [&writer, &reader] {
        assert_eq!(process.sees(1).await, db.version(1), "{case}: nobody gets anything but the source");
    }

    comes.come_back(server).await;
    for _ in 0..3 {
        assert_eq!(writer.sees(1).await, db.version(1), "{case}: time does not go backwards for who wrote");
    }
    if let Some(published) = published {
        published.confirmed(LONG).await.unwrap_or_else(|error| panic!("{case}: {error}"));
        for process in [&reader, &writer] {
            assert_eq!(process.sees(1).await, 1, "{case}: confirmed");
        }
    }
    for process in [&writer, &reader] {
        until(&case, async || {
            assert_eq!(process.sees(1).await, db.version(1), "{case}");
            process.cache.idle().await;
            process.finds(1).await == (db.version(1), Tier::Shared)
        })
        .await;
    }
    until(&case, async || writer.cache.close().await.is_ok()).await;
    let told = writer.events();
    let said = |what: &str| told.iter().any(|event| event.contains(what));
    assert_eq!(
        said("has not confirmed that"),
        said("has confirmed, "),
        "{case}: what was not confirmed is, in the end: {told:?}"
    );
}

async fn outages(goes: Goes) {
    let Some(server) = RedisServer::builder().persistent().start().await else { return };
    let server = Arc::new(server);
    let mut place = 0;
    for mode in [WriteMode::Simple, WriteMode::Strict, WriteMode::Serve, WriteMode::Degrade] {
        for comes in [Comes::Empty, Comes::WithItsData, Comes::AsItWas] {
            place += 1;
            let case: std::pin::Pin<Box<dyn Future<Output = ()>>> =
                Box::pin(outage(&server, place, mode, goes, comes));
            tokio::time::timeout(LONG, case).await.unwrap_or_else(|_| panic!("{mode:?} {comes:?} hangs"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_before_a_write_refuses_it_or_is_told_later() {
    outages(Goes::BeforeTheWrite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_before_commit_is_told_later() {
    outages(Goes::BeforeCommit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_after_commit_is_told_later() {
    outages(Goes::AfterCommit).await;
}
