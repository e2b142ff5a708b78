//! P6: a page over HTTP: one user and 20 posts, each with its author and its photo. P12: what one costs Redis.
//!
//! The server, Redis and PostgreSQL share one core, so that what each way costs all of them is what counts, and the
//! client has another one.

mod client;
mod readers;
mod records;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;

use self::readers::Reader;
use crate::fixture::runtime;
use crate::pin::{Placement, cpu, pin_thread, placements};
use crate::rounds::{Effort, Table, rates, recorded};
use crate::servers::{Database, Redis, Store};

/// The ways to read a page. The first is the reference.
const WAYS: [&str; 7] =
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
    /// The same of Redis, with what is stored after the answer.
    redis: f64,
}

/// What is measured of the pages.
struct Row {
    name: &'static str,
    rounds: usize,
    /// Redis and PostgreSQL are a network away.
    distant: bool,
    tables: fn(&About<'_>, &[Vec<Run>]) -> Vec<Table>,
}

/// A line of the tables: one of the ways, over the shared tier at this URL.
struct PageCase {
    name: &'static str,
    way: &'static str,
    url: String,
}

/// Where and how pages were measured.
struct About<'a> {
    row: String,
    place: &'a str,
    connections: usize,
    distant: bool,
    /// The names of the lines, in the order of the runs.
    names: &'a [&'static str],
}

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    in_redis(effort, &WAYS, &Row { name: "P6", rounds: 15, distant: false, tables: times })
}

/// P6 as a part of P10: over a network.
pub(crate) fn distant(effort: Effort) -> Vec<Table> {
    in_redis(effort, &WAYS, &Row { name: "P10 P6", rounds: 5, distant: true, tables: times })
}

/// P12.
pub(crate) fn redis_cpu(effort: Effort) -> Vec<Table> {
    in_redis(effort, &WAYS[..5], &Row { name: "P12", rounds: 15, distant: false, tables: redis_cpu_of })
}

/// P6 as a part of P15: over each of these shared tiers, by hand and by Mastaba.
pub(crate) fn beside(stores: &[Store], effort: Effort) -> Vec<Table> {
    let Some(database) = database() else { return Vec::new() };
    let cases = stores.iter().flat_map(|store| {
        let case = |name, way| PageCase { name, way, url: store.url() };
        [case(store.by_hand(), "reference"), case(store.mastaba(), "mastaba")]
    });
    let shared: Vec<u32> = stores.iter().map(Store::pid).collect();
    let row = Row { name: "P15 P6", rounds: 15, distant: false, tables: times };
    pages(effort, &row, (&cases.collect::<Vec<_>>(), &shared), &database)
}

fn in_redis(effort: Effort, ways: &[&'static str], row: &Row) -> Vec<Table> {
    let (Some(mut redis), Some(mut database)) = (Redis::start(), database()) else { return Vec::new() };
    if row.distant {
        // not where the servers and the site are, who are to be busy with nothing else
        let client = core_of_client();
        redis.move_away(client);
        database.move_away(client);
    }
    let case = |way: &&'static str| PageCase { name: way, way, url: redis.url() };
    let cases: Vec<_> = ways.iter().map(case).collect();
    pages(effort, row, (&cases, &[redis.pid()]), &database)
}

/// With all that pages are made of.
fn database() -> Option<Database> {
    let database = Database::start()?;
    runtime().block_on(async {
        let pool = database.pool(1).await;
        records::create(&pool).await;
        pool.close().await;
    });
    Some(database)
}

/// Where the servers have a core of their own, that of the client.
fn core_of_client() -> Option<usize> {
    match placements().pop() {
        Some(Placement::AcrossCores(_, client)) => Some(client),
        _ => None,
    }
}

/// `shared`: the processes of the shared tier; what the first of them costs is counted.
fn pages(
    effort: Effort,
    row: &Row,
    (cases, shared): (&[PageCase], &[u32]),
    database: &Database,
) -> Vec<Table> {
    let starting = runtime();
    let placement = placements().pop().unwrap_or(Placement::Anywhere);
    let (servers, client) = match placement {
        Placement::AcrossCores(servers, client) => (Placement::SameCore(servers), Some(client)),
        other => (other, None),
    };
    let pids: Vec<u32> = shared.iter().copied().chain([database.pid()]).collect();
    let _held = servers.hold(&pids);
    let names: Vec<&'static str> = cases.iter().map(|case| case.name).collect();
    let serving = runtime();
    let sites: Vec<_> = cases.iter().map(|case| site(&serving, case, database)).collect();
    let served = serving.handle().clone();
    // the servers run while the client measures
    let _serving = std::thread::spawn(move || serving.block_on(std::future::pending::<()>()));
    let pages = if effort.quick { 10 } else { 256 };
    let place = match (placement, row.distant) {
        (_, true) => "Redis and PostgreSQL over a network",
        (Placement::AcrossCores(..), _) => "servers on one core, client on another",
        (other, _) => other.name(),
    };
    let mut tables = Vec::new();
    for connections in [1_usize, 32] {
        for cold in [0_u8, 10] {
            let rounds = if effort.quick { 1 } else { row.rounds };
            let mut runs: Vec<Vec<Run>> = cases.iter().map(|_| Vec::new()).collect();
            for round in 0..=rounds {
                let mut order: Vec<_> = (0..cases.len()).collect();
                fastrand::shuffle(&mut order);
                let users = records::visits(round as u64, pages);
                for at in order {
                    let site = &sites[at];
                    // a naive page takes long, and depends on nothing that was read before
                    let users = if cases[at].way == "naive SQL" { &users[..pages / 8] } else { &users[..] };
                    // where its connections are
                    let (reader, ids) = (site.reader.clone(), users.to_vec());
                    let prepared = served.spawn(async move { reader.prepare(&ids, cold).await });
                    starting.block_on(prepared).expect("no panic");
                    let before = cpu(shared[0]);
                    let mut run = visit(site, users, connections, client, database);
                    starting.block_on(site.reader.idle());
                    #[allow(clippy::cast_precision_loss)]
                    let count = users.len() as f64;
                    run.redis = (cpu(shared[0]) - before) * 1e6 / count;
                    if round > 0 {
                        runs[at].push(run);
                    }
                }
            }
            let plural = if connections == 1 { "" } else { "s" };
            let name = format!("{} {connections} connection{plural} {}% warm", row.name, 100 - cold);
            let about = About { row: name, place, connections, distant: row.distant, names: &names };
            tables.extend((row.tables)(&about, &runs));
        }
    }
    tables
}

struct Site {
    addr: SocketAddr,
    reader: Arc<Reader>,
}

/// A server of its own for each way.
fn site(serving: &tokio::runtime::Runtime, case: &PageCase, database: &Database) -> Site {
    serving.block_on(async {
        let reader = Arc::new(Reader::new(case.way, &case.url, database).await);
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
    Run { per_second: count / took, p50: at(50), p99: at(99), database: database / count, redis: 0.0 }
}

/// The table of a figure.
fn table(
    about: &About<'_>,
    (what, unit): (&str, &'static str),
    runs: &[Vec<Run>],
    figure: impl Fn(&Run) -> f64,
) -> Table {
    let sentence = format!("{what} of pages of 1 user and 20 posts with author and photo, {}", about.place);
    recorded(format!("{} {what}", about.row), sentence, (unit, None), each(about, runs, figure))
}

/// A figure of all runs, by the line that it goes to.
fn each(about: &About<'_>, runs: &[Vec<Run>], figure: impl Fn(&Run) -> f64) -> Vec<(&'static str, Vec<f64>)> {
    about.names.iter().zip(runs).map(|(name, runs)| (*name, runs.iter().map(&figure).collect())).collect()
}

fn times(about: &About<'_>, runs: &[Vec<Run>]) -> Vec<Table> {
    let goals = match about {
        About { distant: true, .. } => &[],
        About { connections: 1, .. } => FEW_GOALS,
        _ => GOALS,
    };
    let sentence = format!(
        "pages of 1 user and 20 posts with author and photo per second (more is better), {}",
        about.place
    );
    let rate = each(about, runs, |run| run.per_second);
    vec![
        rates(format!("{} rate", about.row), sentence, ("pages/s", goals), rate),
        table(about, ("p50", "us"), runs, |run| run.p50),
        table(about, ("p99", "us"), runs, |run| run.p99),
        // one more: a ratio to nothing at all is none
        table(about, ("database CPU, plus 1", "us/page"), runs, |run| run.database + 1.0),
    ]
}

fn redis_cpu_of(about: &About<'_>, runs: &[Vec<Run>]) -> Vec<Table> {
    let sentence = format!(
        "CPU of Redis per page of 1 user and 20 posts with author and photo, fills included, {}",
        about.place
    );
    let row = format!("{} Redis CPU", about.row);
    vec![recorded(row, sentence, ("us/page", Some(1.1)), each(about, runs, |run| run.redis))]
}
