//! P5: two passes over 100 keys, of which half are in Redis and half only in PostgreSQL.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_graphql::dataloader::DataLoader;
use futures_util::future::{BoxFuture, join_all};
use mastaba::{Cache, LoadContext, RequestCache, Rows, Source};
use sqlx::postgres::PgPool;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::by_hand::{self, Hand, Tiers};
use crate::fixture::{User, runtime};
use crate::pin::{Placement, placements};
use crate::rounds::{Case, Effort, Table, measure};
use crate::servers::{self, Database, Redis, Store};
use crate::task::within;

const N: i64 = 100;
const USERS: i64 = 10_000;

/// Users in a database.
struct DatabaseUsers(PgPool);

impl Source for DatabaseUsers {
    type Key = i64;
    type Value = User;
    type Error = sqlx::Error;
    const NAME: &'static str = "user";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[i64]) -> Result<Rows<Self>, sqlx::Error> {
        let users = by_hand::select(&self.0, ids).await?;
        Ok(users.into_iter().map(|user| (user.id, user)).collect())
    }
}

/// A fill that is still under way.
type Left = Option<JoinHandle<()>>;

/// One call by hand.
type Work = fn(TwoPassClients) -> BoxFuture<'static, Left>;

/// One call of ours.
type Read = fn(RequestCache, Arc<[i64]>) -> BoxFuture<'static, ()>;

#[derive(Clone)]
struct TwoPassClients {
    hand: Hand,
    pool: PgPool,
    cache: Cache,
    ids: Arc<[i64]>,
    /// Those that are only in the database when a call begins.
    cold: Arc<[i64]>,
}

impl TwoPassClients {
    async fn new(url: &str, database: &Database) -> Self {
        let ids: Arc<[i64]> = (0..N).map(|nth| nth * 83 % USERS).collect();
        let cold = ids.iter().copied().skip(1).step_by(2).collect();
        let pool = database.pool(8).await;
        let region = servers::region(url).await.ttl(Duration::from_secs(36_000));
        let region = region.early_refresh(0.0).max_batch(1_000_000);
        let cache =
            Cache::builder().region("objects", region).source(DatabaseUsers(pool.clone())).build().await;
        let (hand, cache) = (servers::hand(url).await, cache.expect("a sound configuration"));
        // everything is in the shared tier before the first call, as it is after each
        by_hand::two_pass(&hand, &pool, &ids).await;
        cache.request().prefetch::<DatabaseUsers>(ids.iter().copied()).await.expect("users");
        Self { hand, pool, cache, ids, cold }
    }

    fn loader(&self) -> DataLoader<Tiers> {
        by_hand::loader(Tiers { hand: self.hand.clone(), pool: Some(self.pool.clone()) })
    }

    /// Microseconds of a call by hand. Outside of that time, half of the keys leave the shared tier.
    async fn by_hand(self, calls: u32, work: Work) -> f64 {
        let mut took = Duration::ZERO;
        for _ in 0..calls {
            self.hand.forget(&self.cold).await;
            let began = Instant::now();
            let left = work(self.clone()).await;
            took += began.elapsed();
            if let Some(fill) = left {
                fill.await.expect("no panic");
            }
        }
        micros(took, calls)
    }

    /// The same of ours, whose fill nobody waits for.
    async fn ours(self, calls: u32, read: Read) -> f64 {
        let mut took = Duration::ZERO;
        for _ in 0..calls {
            self.cache.idle().await;
            let write = self.cache.request().write();
            write.invalidate::<DatabaseUsers>(self.cold.iter().copied()).await.expect("a write");
            write.published().await.expect("an invalidation");
            let began = Instant::now();
            read(self.cache.request(), self.ids.clone()).await;
            took += began.elapsed();
        }
        self.cache.idle().await;
        micros(took, calls)
    }
}

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    let Some((server, database)) = servers() else { return Vec::new() };
    let tables = placements().into_iter().map(|placement| {
        let _held = placement.hold(&[server.pid(), database.pid()]);
        let row = format!("P5 {}", placement.name());
        over(&server, &database, (&row, placement.name(), Some(0.75)), effort)
    });
    tables.collect()
}

/// P5 as a part of P10: Redis and PostgreSQL over a network.
pub(crate) fn distant(effort: Effort) -> Vec<Table> {
    let Some((mut server, mut database)) = servers() else { return Vec::new() };
    let placement = placements().pop().unwrap_or(Placement::Anywhere);
    let _held = placement.hold(&[server.pid(), database.pid()]);
    server.move_away(placement.core_of_servers());
    database.move_away(placement.core_of_servers());
    let place = format!("{} and a network", placement.name());
    vec![over(&server, &database, ("P10 P5", &place, None), effort)]
}

fn servers() -> Option<(Redis, Database)> {
    Some((Redis::start()?, database()?))
}

/// With all users in it.
fn database() -> Option<Database> {
    let database = Database::start()?;
    runtime().block_on(async {
        let pool = database.pool(1).await;
        by_hand::create_users(&pool, USERS).await;
        pool.close().await;
    });
    Some(database)
}

/// P5 as a part of P15: over each of these shared tiers, by hand and by Mastaba.
pub(crate) fn beside(stores: &[Store], effort: Effort) -> Vec<Table> {
    let Some(database) = database() else { return Vec::new() };
    let pids: Vec<_> = stores.iter().map(Store::pid).chain([database.pid()]).collect();
    let tables = placements().into_iter().map(|placement| {
        let _held = placement.hold(&pids);
        let runtime = runtime();
        let calls = if effort.quick { 1 } else { 10 };
        let clients: Vec<_> = stores
            .iter()
            .map(|store| runtime.block_on(TwoPassClients::new(&store.url(), &database)))
            .collect();
        let runtime = &runtime;
        let cases = stores.iter().zip(&clients).flat_map(|(store, clients)| {
            let by_hand = move || within(runtime, clients.clone().by_hand(calls, all_awaited));
            let ours = move || within(runtime, clients.clone().ours(calls, many));
            [Case::new(store.by_hand(), by_hand), Case::new(store.mastaba(), ours)]
        });
        let place = placement.name();
        let table = measure(
            format!("P15 P5 {place}"),
            format!("{N} keys, half of them in the shared tier, the rest only in PostgreSQL, {place}"),
            ("us/call", None),
            effort.rounds(61),
            cases.collect(),
        );
        clients.iter().for_each(|clients| runtime.block_on(clients.pool.close()));
        table
    });
    tables.collect()
}

/// The reference.
fn all_awaited(clients: TwoPassClients) -> BoxFuture<'static, Left> {
    Box::pin(async move {
        drop(black_box(by_hand::two_pass(&clients.hand, &clients.pool, &clients.ids).await));
        None
    })
}

fn many(request: RequestCache, ids: Arc<[i64]>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let users = request.get_many::<DatabaseUsers>(ids.iter().copied()).await;
        drop(black_box(users.expect("users")));
    })
}

type About<'a> = (&'a str, &'a str, Option<f64>);

fn over(server: &Redis, database: &Database, about: About<'_>, effort: Effort) -> Table {
    let runtime = runtime();
    server.empty();
    let clients = runtime.block_on(TwoPassClients::new(&server.url(), database));
    let table = timed(&runtime, &clients, about, effort);
    runtime.block_on(clients.pool.close());
    table
}

fn timed(
    runtime: &Runtime,
    clients: &TwoPassClients,
    (row, place, goal): About<'_>,
    effort: Effort,
) -> Table {
    let (calls, seldom) = if effort.quick { (1, 1) } else { (10, 1) };
    let by_hand = |name, calls, work: Work| {
        Case::new(name, move || within(runtime, clients.clone().by_hand(calls, work)))
    };
    let ours = |name, read: Read| Case::new(name, move || within(runtime, clients.clone().ours(calls, read)));
    let cases = vec![
        by_hand("reference", calls, all_awaited),
        ours("mastaba", many),
        ours("mastaba joined", |request, ids| {
            Box::pin(async move {
                drop(black_box(join_all(ids.iter().map(|id| request.get::<DatabaseUsers>(*id))).await));
            })
        }),
        by_hand("fill not awaited", calls, |clients| {
            Box::pin(async move {
                let found = clients.hand.users(&clients.ids).await;
                let missing = by_hand::missing(&clients.ids, &found);
                let loaded = by_hand::select(&clients.pool, &missing).await.expect("users");
                let stored = loaded.clone();
                let fill = tokio::spawn(async move { clients.hand.fill(&stored).await });
                drop(black_box((found, loaded)));
                Some(fill)
            })
        }),
        by_hand("PostgreSQL alone", calls, |clients| {
            Box::pin(async move {
                drop(black_box(by_hand::select(&clients.pool, &clients.ids).await.expect("users")));
                None
            })
        }),
        by_hand("DataLoader load_many", calls, |clients| {
            Box::pin(async move {
                drop(black_box(clients.loader().load_many(clients.ids.iter().copied()).await));
                None
            })
        }),
        by_hand("DataLoader joined", calls, |clients| {
            Box::pin(async move {
                let loader = clients.loader();
                drop(black_box(join_all(clients.ids.iter().map(|id| loader.load_one(*id))).await));
                None
            })
        }),
        by_hand("singles joined", seldom, |clients| {
            Box::pin(async move {
                let single = |id| by_hand::single(&clients.hand, &clients.pool, id);
                drop(black_box(join_all(clients.ids.iter().map(|id| single(*id))).await));
                None
            })
        }),
        by_hand("one by one", seldom, |clients| {
            Box::pin(async move {
                for id in clients.ids.iter() {
                    drop(black_box(by_hand::single(&clients.hand, &clients.pool, *id).await));
                }
                None
            })
        }),
    ];
    measure(
        row,
        format!(
            "{N} keys, half of them in Redis, the rest only in PostgreSQL, {place}; reference: MGET, any($1), \
             pipelined SET EX, all awaited"
        ),
        ("us/call", goal),
        effort.rounds(61),
        cases,
    )
}

fn micros(took: Duration, calls: u32) -> f64 {
    took.as_secs_f64() * 1e6 / f64::from(calls)
}
