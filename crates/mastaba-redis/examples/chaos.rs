//! A soak: processes read and write over one Redis, behind proxies that fail at random, and every read is compared
//! with what was acknowledged before it started (I1).
//!
//! ```text
//! cargo run -p mastaba-redis --example chaos -- [--seconds 60] [--seed N] [--processes 6]
//! ```
//!
//! A third of the processes has no near, a third is bounded, a third is fenced. Prints the seed and what was counted;
//! the exit code is 1 when a read was wrong. A seed repeats the faults and the choices, not the timing.

#[path = "../tests/common/mod.rs"]
mod common;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::load::{Load, Oracle, all_current};
use common::{Process, until};
use fastrand::Rng;
use mastaba::Coherence;
use mastaba_test::proxy::{Direction, Proxy};
use mastaba_test::servers::RedisServer;
use mastaba_test::world::Db;
use tokio::time::sleep;

const KEYS: u64 = 24;
const BOUND: Duration = Duration::from_millis(200);

struct Arguments {
    seconds: u64,
    seed: u64,
    processes: usize,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments { seconds: 60, seed: fastrand::u64(0..1_000_000), processes: 6 };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let value =
            given.next().and_then(|value| value.parse().ok()).ok_or(format!("{name} needs a number"))?;
        match name.as_str() {
            "--seconds" => arguments.seconds = value,
            "--seed" => arguments.seed = value,
            "--processes" => arguments.processes = usize::try_from(value).unwrap_or(1).max(1),
            _ => return Err(format!("{name}: there are --seconds, --seed and --processes")),
        }
    }
    Ok(arguments)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(sentence) => {
            eprintln!("chaos: {sentence}");
            return ExitCode::from(2);
        }
    };
    let Arguments { seconds, seed, .. } = arguments;
    println!("chaos: seed {seed}, {seconds} s, {} processes", arguments.processes);
    let Some(server) = RedisServer::builder().persistent().start().await else { return ExitCode::FAILURE };
    let (db, oracle) = (Arc::new(Db::default()), Oracle::new(KEYS));
    let mut proxies = Vec::new();
    let mut processes = Vec::new();
    for number in 0..arguments.processes {
        let proxy = Proxy::to(server.addr()).await;
        let url = proxy.url();
        let (process, bound) = match number % 3 {
            0 => (Process::start(&url, &db).await, Duration::ZERO),
            1 => (Process::near(&url, &db, Coherence::Bounded(BOUND)).await, BOUND),
            _ => (Process::near(&url, &db, Coherence::Fenced).await, Duration::ZERO),
        };
        proxies.push(proxy);
        processes.push((Arc::new(process), bound));
    }

    let load = Load::start(&oracle, &processes, seed);
    let mut random = Rng::with_seed(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut done = std::collections::BTreeMap::<&str, u64>::new();
    while Instant::now() < end {
        let proxy = &proxies[random.usize(..proxies.len())];
        *done.entry(harm(&server, proxy, &mut random).await).or_default() += 1;
        sleep(Duration::from_millis(random.u64(5..150))).await;
    }
    for proxy in &proxies {
        proxy.pass().await;
        proxy.cut().await;
    }
    load.stop().await;

    // when all is quiet, every process is served by the store again, with what was acknowledged
    for (process, bound) in &processes {
        sleep(*bound).await;
        all_current(process, &db, &oracle).await;
        until("an acknowledged write", async || process.write(1).await.is_ok()).await;
        assert_eq!(process.warm(1).await, db.version(1), "the store serves again");
    }
    let counts = &oracle.counts;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    println!("faults: {done:?}");
    println!(
        "reads {}, writes acknowledged {}, not acknowledged {}, statements {}",
        count(&counts.reads),
        count(&counts.writes),
        count(&counts.unsure),
        db.started()
    );
    println!("answers by tier: {}", oracle.tiers());
    println!("STALE {}, FAILED {}  (seed {seed})", count(&counts.stale), count(&counts.failed));
    if count(&counts.stale) + count(&counts.failed) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One fault, and its end.
async fn harm(server: &RedisServer, proxy: &Proxy, random: &mut Rng) -> &'static str {
    let lasts = Duration::from_millis(random.u64(1..300));
    match random.u32(0..100) {
        0..20 => {
            proxy.cut().await;
            "cut"
        }
        20..30 => {
            proxy.refuse().await;
            sleep(lasts).await;
            proxy.pass().await;
            "refused"
        }
        30..50 => {
            proxy.reset_after_request();
            "reset"
        }
        50..60 => {
            let words = ["MGET", "NX GET", "EVALSHA", "PING", "CLIENT TRACKING"];
            proxy.reset_after(words[random.usize(..words.len())]);
            "reset of a kind"
        }
        60..68 => {
            proxy.slow(lasts / 4).await;
            sleep(lasts * 2).await;
            proxy.pass().await;
            "slow"
        }
        68..72 => {
            proxy.half_open().await;
            sleep(lasts * 2).await;
            proxy.pass().await;
            "half-open"
        }
        72..76 => {
            let what = if random.bool() { Direction::ToServer } else { Direction::ToClient };
            proxy.swallow(what).await;
            sleep(lasts).await;
            proxy.pass().await;
            "swallowed"
        }
        76..84 => {
            let _ = server.call(&["SCRIPT", "FLUSH"]).await;
            "scripts flushed"
        }
        84..90 => {
            let _ = server.call(&["FLUSHALL"]).await;
            "flushed"
        }
        90..93 => {
            server.pause().await;
            sleep(lasts * 2).await;
            server.resume().await;
            "paused"
        }
        93..95 => {
            let _ = server.call(&["SAVE"]).await;
            "saved"
        }
        95..98 => {
            server.kill().await;
            sleep(lasts / 4).await;
            server.restart().await;
            "restarted from the last dump"
        }
        _ => {
            server.restart_empty().await;
            "restarted empty"
        }
    }
}
