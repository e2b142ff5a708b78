//! P5: two passes over 100 keys, of which half are in Redis and half only in PostgreSQL.

use std::hint::black_box;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mastaba::{Cache, LoadContext, Region, RequestCache, Rows, Source};
use redis::aio::MultiplexedConnection;
use sqlx::postgres::PgPool;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::by_hand::{self, Tiers, loader};
use crate::fixture::{User, runtime};
use crate::pin::{Placement, placements};
use crate::rounds::{Case, Effort, Table, measure};
use crate::servers::{self, Database, Redis};

const N: i64 = 100;
const USERS: i64 = 10_000;

/// Users in a database.
struct Users(PgPool);

impl Source for Users {
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

struct Clients {
    runtime: Runtime,
    redis: MultiplexedConnection,
    pool: PgPool,
    cache: Cache,
    ids: Vec<i64>,
    /// Those that are only in the database when a call begins.
    cold: Vec<i64>,
}

impl Clients {
    fn new(server: &Redis, database: &Database) -> Self {
        let runtime = runtime();
        let url = server.url();
        server.empty();
        let ids: Vec<i64> = (0..N).map(|nth| nth * 83 % USERS).collect();
        let cold = ids.iter().copied().skip(1).step_by(2).collect();
        let (redis, pool, cache) = runtime.block_on(async {
            let pool = database.pool(8).await;
            let region = Region::backend(servers::backend(&url).await).ttl(Duration::from_secs(36_000));
            let region = region.early_refresh(0.0).max_batch(1_000_000);
            let cache = Cache::builder().region("objects", region).source(Users(pool.clone())).build().await;
            let (mut redis, cache) = (servers::connect(&url).await, cache.expect("a sound configuration"));
            // everything is in Redis before the first call, as it is after each
            by_hand::two_pass(&mut redis, &pool, &ids).await;
            cache.request().prefetch::<Users>(ids.iter().copied()).await.expect("users");
            (redis, pool, cache)
        });
        Self { runtime, redis, pool, cache, ids, cold }
    }

    fn tiers(&self) -> Tiers {
        Tiers { redis: self.redis.clone(), pool: Some(self.pool.clone()) }
    }

    /// Microseconds of a call by hand. Outside of that time, half of the keys leave Redis.
    fn by_hand(&self, calls: u32, mut call: impl AsyncFnMut(MultiplexedConnection) -> Left) -> f64 {
        self.runtime.block_on(async {
            let mut took = Duration::ZERO;
            for _ in 0..calls {
                by_hand::forget(&mut self.redis.clone(), &self.cold).await;
                let began = Instant::now();
                let left = call(self.redis.clone()).await;
                took += began.elapsed();
                if let Some(fill) = left {
                    fill.await.expect("no panic");
                }
            }
            micros(took, calls)
        })
    }

    /// The same of ours, whose fill nobody waits for.
    fn ours(&self, calls: u32, mut call: impl AsyncFnMut(RequestCache)) -> f64 {
        self.runtime.block_on(async {
            let mut took = Duration::ZERO;
            for _ in 0..calls {
                self.cache.idle().await;
                let write = self.cache.request().write();
                write.invalidate::<Users>(self.cold.iter().copied()).await.expect("a write");
                write.published().await.expect("an invalidation");
                let began = Instant::now();
                call(self.cache.request()).await;
                took += began.elapsed();
            }
            self.cache.idle().await;
            micros(took, calls)
        })
    }
}

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    let (Some(server), Some(database)) = (Redis::start(), Database::start()) else { return Vec::new() };
    let setting_up = runtime();
    setting_up.block_on(async {
        let pool = database.pool(1).await;
        by_hand::create_users(&pool, USERS).await;
        pool.close().await;
    });
    let tables = placements().into_iter().map(|placement| {
        let _held = placement.hold(&[server.pid(), database.pid()]);
        let clients = Clients::new(&server, &database);
        let table = timed(&clients, placement, effort);
        clients.runtime.block_on(clients.pool.close());
        table
    });
    tables.collect()
}

fn timed(clients: &Clients, placement: Placement, effort: Effort) -> Table {
    let (calls, seldom) = if effort.quick { (1, 1) } else { (10, 1) };
    let Clients { pool, ids, .. } = clients;
    let cases = vec![
        Case::new("reference", || {
            clients.by_hand(calls, async |mut redis| {
                drop(black_box(by_hand::two_pass(&mut redis, pool, ids).await));
                None
            })
        }),
        Case::new("mastaba", || {
            clients.ours(calls, async |request| {
                let users = request.get_many::<Users>(ids.iter().copied()).await;
                drop(black_box(users.expect("users")));
            })
        }),
        Case::new("mastaba joined", || {
            clients.ours(calls, async |request| {
                drop(black_box(join_all(ids.iter().map(|id| request.get::<Users>(*id))).await));
            })
        }),
        Case::new("fill not awaited", || {
            clients.by_hand(calls, async |mut redis| {
                let found = by_hand::mget(&mut redis, ids).await;
                let missing = by_hand::missing(ids, &found);
                let loaded = by_hand::select(pool, &missing).await.expect("users");
                let stored = loaded.clone();
                let fill = tokio::spawn(async move { by_hand::fill(&mut redis, &stored).await });
                drop(black_box((found, loaded)));
                Some(fill)
            })
        }),
        Case::new("PostgreSQL alone", || {
            clients.by_hand(calls, async |_| {
                drop(black_box(by_hand::select(pool, ids).await.expect("users")));
                None
            })
        }),
        Case::new("DataLoader load_many", || {
            clients.by_hand(calls, async |_| {
                drop(black_box(loader(clients.tiers()).load_many(ids.iter().copied()).await));
                None
            })
        }),
        Case::new("DataLoader joined", || {
            clients.by_hand(calls, async |_| {
                let loader = loader(clients.tiers());
                drop(black_box(join_all(ids.iter().map(|id| loader.load_one(*id))).await));
                None
            })
        }),
        Case::new("singles joined", || {
            clients.by_hand(seldom, async |redis| {
                let single = |id| {
                    let mut redis = redis.clone();
                    async move { by_hand::single(&mut redis, pool, id).await }
                };
                drop(black_box(join_all(ids.iter().map(|id| single(*id))).await));
                None
            })
        }),
        Case::new("one by one", || {
            clients.by_hand(seldom, async |mut redis| {
                for id in ids {
                    drop(black_box(by_hand::single(&mut redis, pool, *id).await));
                }
                None
            })
        }),
    ];
    measure(
        format!("P5 {}", placement.name()),
        format!(
            "{N} keys, half of them in Redis, the rest only in PostgreSQL, {}; reference: MGET, any($1), pipelined \
             SET EX, all awaited",
            placement.name()
        ),
        ("us/call", Some(0.75)),
        effort.rounds(61),
        cases,
    )
}

fn micros(took: Duration, calls: u32) -> f64 {
    took.as_secs_f64() * 1e6 / f64::from(calls)
}
