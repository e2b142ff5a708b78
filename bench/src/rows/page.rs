//! P6: a page over HTTP: one user and 20 posts, each with its author and its photo.
//!
//! The server, Redis and PostgreSQL share one core, so that what each way costs all of them is what counts, and the
//! client has another one.

mod client;
mod readers;
mod records;

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;

use self::readers::Reader;
use crate::fixture::runtime;
use crate::pin::{Placement, children, pin_thread, placements};
use crate::rounds::{Effort, Table, rates, recorded};
use crate::servers::{Database, Redis};

/// The ways to read a page. The first is the reference.
const CASES: [&str; 7] =
    ["reference", "mastaba", "mastaba near", "by hand and near", "DataLoader", "moka and GET", "naive SQL"];
/// Of those, the least requests per second beside the reference.
const GOALS: &[(&str, f64)] = &[("mastaba", 0.95), ("mastaba near", 2.0)];
const FEW_GOALS: &[(&str, f64)] = &[("mastaba", 0.95)];

/// What one run of pages came to.
struct Run {
    per_second: f64,
    p50: f64,
    p99: f64,
    /// Microseconds of the database's CPU per page.
    database: f64,
}

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    let (Some(redis), Some(database)) = (Redis::start(), Database::start()) else { return Vec::new() };
    let starting = runtime();
    starting.block_on(async { records::create(&database.pool(1).await).await });
    let placement = placements().pop().unwrap_or(Placement::Anywhere);
    let (servers, client) = match placement {
        Placement::AcrossCores(servers, client) => (Placement::SameCore(servers), Some(client)),
        other => (other, None),
    };
    let _held = servers.hold(&[redis.pid(), database.pid()]);
    redis.empty();
    let serving = runtime();
    let sites: Vec<_> = CASES.iter().map(|case| site(&serving, case, &redis, &database)).collect();
    // the servers run while the client measures
    let _serving = std::thread::spawn(move || serving.block_on(std::future::pending::<()>()));
    let pages = if effort.quick { 10 } else { 256 };
    let mut tables = Vec::new();
    for connections in [1_usize, 32] {
        for cold in [0_u8, 10] {
            let rounds = if effort.quick { 1 } else { 15 };
            let mut runs: Vec<Vec<Run>> = CASES.iter().map(|_| Vec::new()).collect();
            for round in 0..=rounds {
                let mut order: Vec<_> = (0..CASES.len()).collect();
                fastrand::shuffle(&mut order);
                let users = records::visits(round as u64, pages);
                for at in order {
                    let site = &sites[at];
                    // a naive page takes long, and depends on nothing that was read before
                    let users = if CASES[at] == "naive SQL" { &users[..pages / 8] } else { &users[..] };
                    starting.block_on(site.reader.prepare(users, cold));
                    let run = visit(site, users, connections, client, &database);
                    starting.block_on(site.reader.idle());
                    if round > 0 {
                        runs[at].push(run);
                    }
                }
            }
            tables.extend(tables_of(connections, cold, &runs, placement));
        }
    }
    tables
}

struct Site {
    addr: SocketAddr,
    reader: Arc<Reader>,
}

/// A server of its own for each way.
fn site(serving: &tokio::runtime::Runtime, case: &str, redis: &Redis, database: &Database) -> Site {
    serving.block_on(async {
        let reader = Arc::new(Reader::new(case, &redis.url(), database).await);
        let router = Router::new().route("/{user}", get(page)).with_state(reader.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Site { addr, reader }
    })
}

async fn page(State(reader): State<Arc<Reader>>, Path(user): Path<i64>) -> String {
    reader.page(user).await
}

fn visit(site: &Site, users: &[i64], connections: usize, core: Option<usize>, database: &Database) -> Run {
    let before = cpu(database.pid());
    let (took, mut latencies) = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            if let Some(core) = core {
                pin_thread(core);
            }
            runtime().block_on(client::visit(site.addr, users, connections))
        });
        client.join().expect("no panic")
    });
    let database = (cpu(database.pid()) - before) * 1e6;
    latencies.sort_by(f64::total_cmp);
    #[allow(clippy::cast_precision_loss)]
    let count = latencies.len() as f64;
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
    Run { per_second: count / took, p50: at(50), p99: at(99), database: database / count }
}

/// Seconds of CPU that a process and what it has started have used.
fn cpu(pid: u32) -> f64 {
    let of = |pid: u32| {
        // the first number is nanoseconds on a core, of the first thread, and PostgreSQL has no other ones
        let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
    };
    children(pid).into_iter().chain([pid]).map(of).sum()
}

fn tables_of(connections: usize, cold: u8, runs: &[Vec<Run>], placement: Placement) -> Vec<Table> {
    let row = format!(
        "P6 {connections} connection{} {}% warm",
        if connections == 1 { "" } else { "s" },
        100 - cold
    );
    let place = match placement {
        Placement::AcrossCores(..) => "servers on one core, client on another",
        other => other.name(),
    };
    let table = |what: &str, unit, figure: &dyn Fn(&Run) -> f64| {
        let cases = CASES.iter().zip(runs);
        let cases = cases.map(|(case, runs)| (*case, runs.iter().map(figure).collect())).collect();
        let about = format!("{what} of pages of 1 user and 20 posts with author and photo, {place}");
        recorded(format!("{row} {what}"), about, (unit, None), cases)
    };
    let goals = if connections == 1 { FEW_GOALS } else { GOALS };
    let rate = CASES.iter().zip(runs);
    let rate = rate.map(|(case, runs)| (*case, runs.iter().map(|run| run.per_second).collect())).collect();
    let about =
        format!("pages of 1 user and 20 posts with author and photo per second (more is better), {place}");
    vec![
        rates(format!("{row} rate"), about, ("pages/s", goals), rate),
        table("p50", "us", &|run| run.p50),
        table("p99", "us", &|run| run.p99),
        // one more: a ratio to nothing at all is none
        table("database CPU, plus 1", "us/page", &|run| run.database + 1.0),
    ]
}
