//! A soak: processes read and write over one Redis, or one Memcached, behind proxies that fail at random, in every write mode and in every
//! way in which a program writes. Every read is compared with what was confirmed before it began (I1), and every row, again
//! and again when all is quiet, with what is committed: no invalidation may be forgotten.
//!
//! ```text
//! cargo run -p mastaba-redis --example chaos -- [--server redis|memcached] [--seconds 60] [--seed N] [--processes 6]
//! ```
//!
//! Over Redis a third of the processes has no near, a third is bounded, a third is fenced; every second one fills without leases
//! where loads are cheap. Over Memcached there is neither. Prints the seed and what was counted;
//! the exit code is 1 when a read was wrong. A seed repeats the faults and the choices, not the timing.

mod load;
mod process;
mod store;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use load::{Load, Oracle, forgotten, get};
use mastaba::{Coherence, NearConfig};
use mastaba_test::proxy::{Direction, Proxy};
use process::{Database, MODES, Process};
use store::Store;
use tokio::time::sleep;

const BOUND: Duration = Duration::from_millis(200);
/// After so long all is quiet for a moment.
const ROUND: Duration = Duration::from_secs(10);

struct Arguments {
    seconds: u64,
    seed: u64,
    processes: usize,
    server: String,
}

fn arguments() -> Result<Arguments, String> {
    let seed = fastrand::u64(0..1_000_000);
    let mut arguments = Arguments { seconds: 60, seed, processes: 6, server: "redis".to_owned() };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let value = given.next().ok_or(format!("{name} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{name} needs a number"));
        match name.as_str() {
            "--seconds" => arguments.seconds = number()?,
            "--seed" => arguments.seed = number()?,
            "--processes" => arguments.processes = usize::try_from(number()?).unwrap_or(1).max(1),
            "--server" if matches!(value.as_str(), "redis" | "memcached") => arguments.server = value,
            "--server" => return Err("--server is redis or memcached".to_owned()),
            _ => return Err(format!("{name}: there are --server, --seconds, --seed and --processes")),
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
    println!("chaos: {}, seed {seed}, {seconds} s, {} processes", arguments.server, arguments.processes);
    let Some(server) = Store::start(&arguments.server).await else { return ExitCode::FAILURE };
    let (database, oracle) = (Arc::new(Database::default()), Arc::new(Oracle::default()));
    let (mut proxies, mut processes) = (Vec::new(), Vec::new());
    for number in 0..arguments.processes {
        let proxy = Proxy::to(server.addr()).await;
        let near = |coherence| Some(NearConfig::entries(1000).coherence(coherence));
        let (near, bound) = match number % 3 {
            _ if !server.tells() => (None, Duration::ZERO),
            0 => (None, Duration::ZERO),
            1 => (near(Coherence::Bounded(BOUND)), BOUND),
            _ => (near(Coherence::Fenced), Duration::ZERO),
        };
        // beside processes that take a lease for every load
        let unleased = number % 2 == 0;
        processes
            .push(Arc::new(Process::start(server.through(&proxy), &database, near, bound, unleased).await));
        proxies.push(proxy);
    }

    let mut random = Rng::with_seed(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut done = std::collections::BTreeMap::<&str, u64>::new();
    let (mut rounds, mut lost) = (0, Vec::new());
    while Instant::now() < end {
        let load = Load::start(&oracle, &database, &processes, &mut random);
        let pause = (Instant::now() + ROUND).min(end);
        while Instant::now() < pause {
            let proxy = &proxies[random.usize(..proxies.len())];
            *done.entry(harm(&server, proxy, &mut random).await).or_default() += 1;
            sleep(Duration::from_millis(random.u64(5..150))).await;
        }
        load.stop().await;
        for proxy in &proxies {
            proxy.pass().await;
            proxy.cut().await;
        }
        rounds += 1;
        for row in forgotten(&database, &processes).await {
            eprintln!("FORGOTTEN: {row}");
            lost.push(row);
        }
    }

    let counts = &oracle.counts;
    let confirmed: Vec<_> = MODES.iter().zip(&counts.confirmed).collect();
    let confirmed: Vec<_> =
        confirmed.iter().map(|((name, _), count)| format!("{name} {}", get(count))).collect();
    let total = |counter: fn(&Process) -> u64| processes.iter().map(|process| counter(process)).sum::<u64>();
    println!("faults: {done:?}");
    println!("reads {}, statements {}", get(&counts.reads), get(&database.statements));
    println!(
        "writes confirmed: {}; confirmed later {}, refused {}, rolled back {}, unknown {}, callers gone {}",
        confirmed.join(", "),
        get(&counts.unconfirmed),
        get(&counts.refused),
        get(&counts.rolled_back),
        get(&counts.unknown),
        get(&counts.dropped)
    );
    println!(
        "invalidations kept and sent again: {}, all sent: {} times; quiet {rounds} times",
        total(|process| get(&process.kept)),
        total(|process| get(&process.sent))
    );
    let (stale, failed) = (get(&counts.stale), get(&counts.failed));
    println!("STALE {stale}, FAILED {failed}, FORGOTTEN {}  (seed {seed})", lost.len());
    if stale + failed == 0 && lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One fault, and its end.
async fn harm(server: &Store, proxy: &Proxy, random: &mut Rng) -> &'static str {
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
            let words = server.words();
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
        _ => server.harm(lasts, random).await,
    }
}
