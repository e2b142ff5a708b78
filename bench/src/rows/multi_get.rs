//! P3: a multi-get from a new request, all in Redis, decode included.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use fred::interfaces::{ClientLike, KeysInterface};
use futures_util::future::join_all;
use mastaba::{Cache, Region};
use redis::aio::MultiplexedConnection;
use stats_alloc::Region as Counted;
use tokio::runtime::Runtime;

use crate::by_hand::{self, Tiers, loader};
use crate::fixture::{UserById, cache, runtime, user};
use crate::pin::{Placement, placements};
use crate::rounds::{Case, Effort, Table, measure};
use crate::servers::{self, Redis};

const SIZES: [i64; 4] = [1, 10, 100, 1000];
/// One by one is measured up to this many keys.
const FEW: i64 = 100;

/// Everybody's clients of one server.
struct Clients {
    runtime: Runtime,
    redis: MultiplexedConnection,
    fred: fred::clients::Client,
    cache: Cache,
}

impl Clients {
    fn new(server: &Redis) -> Self {
        let runtime = runtime();
        let url = server.url();
        let most = SIZES[SIZES.len() - 1];
        server.empty();
        let (mut redis, fred, backend) = runtime.block_on(async {
            let config = fred::types::config::Config::from_url(&url).expect("a URL");
            let fred = fred::types::Builder::from_config(config).build().expect("a client");
            fred.init().await.expect("a connection");
            (servers::connect(&url).await, fred, servers::backend(&url).await)
        });
        let users: Vec<_> = (0..most).map(user).collect();
        runtime.block_on(by_hand::fill(&mut redis, &users));
        let cache = cache(&runtime, Region::backend(backend), 0..most);
        Self { runtime, redis, fred, cache }
    }
}

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    let Some(server) = Redis::start() else { return Vec::new() };
    let mut tables = Vec::new();
    for placement in placements() {
        let _held = placement.hold(&[server.pid()]);
        let clients = Clients::new(&server);
        let sizes: &[i64] = if effort.quick { &[1, 100] } else { &SIZES };
        tables.extend(sizes.iter().map(|size| timed(&clients, placement, *size, effort)));
        if tables.len() == sizes.len() {
            tables.extend([commands(&server, &clients), allocations(&clients)]);
        }
    }
    tables
}

fn timed(clients: &Clients, placement: Placement, size: i64, effort: Effort) -> Table {
    let ids: Vec<i64> = (0..size).collect();
    let ids = &ids[..];
    let calls = if effort.quick { 1 } else { (2000 / size).clamp(5, 200) };
    let seldom = (calls / 10).max(1);
    let Clients { runtime, redis, fred, cache } = clients;
    let mut cases = vec![
        Case::new("reference", || {
            per_call(runtime, calls, async || drop(black_box(by_hand::mget(&mut redis.clone(), ids).await)))
        }),
        Case::new("mastaba", || {
            per_call(runtime, calls, async || {
                let users = cache.request().get_many::<UserById>(ids.iter().copied()).await;
                drop(black_box(users.expect("users")));
            })
        }),
        Case::new("mastaba joined", || {
            per_call(runtime, calls, async || {
                let request = cache.request();
                drop(black_box(join_all(ids.iter().map(|id| request.get::<UserById>(*id))).await));
            })
        }),
        Case::new("fred MGET", || {
            per_call(runtime, calls, async || {
                let keys: Vec<_> = ids.iter().map(|id| by_hand::key(*id)).collect();
                let found: Vec<Option<Bytes>> = fred.mget(keys).await.expect("an answer");
                let users = found.into_iter().map(|bytes| bytes.map(|bytes| by_hand::decode(&bytes)));
                drop(black_box(users.collect::<Vec<_>>()));
            })
        }),
        Case::new("pipeline of GET", || {
            per_call(runtime, calls, async || {
                drop(black_box(by_hand::pipelined(&mut redis.clone(), ids).await));
            })
        }),
        Case::new("GET joined", || {
            per_call(runtime, seldom, async || {
                let gets = ids.iter().map(|id| {
                    let mut redis = redis.clone();
                    async move { by_hand::get(&mut redis, *id).await }
                });
                drop(black_box(join_all(gets).await));
            })
        }),
        Case::new("DataLoader load_many", || {
            per_call(runtime, calls, async || {
                let loader = loader(Tiers { redis: redis.clone(), pool: None });
                drop(black_box(loader.load_many(ids.iter().copied()).await));
            })
        }),
        Case::new("DataLoader joined", || {
            per_call(runtime, calls, async || {
                let loader = loader(Tiers { redis: redis.clone(), pool: None });
                drop(black_box(join_all(ids.iter().map(|id| loader.load_one(*id))).await));
            })
        }),
    ];
    if size <= FEW {
        cases.push(Case::new("GET one by one", || {
            per_call(runtime, seldom, async || {
                let mut redis = redis.clone();
                for id in ids {
                    drop(black_box(by_hand::get(&mut redis, *id).await));
                }
            })
        }));
    }
    measure(
        format!("P3 {} {size}", placement.name()),
        format!(
            "multi-get of {size} from Redis, {}; reference: redis MGET and postcard by hand",
            placement.name()
        ),
        ("us/call", (size >= 10).then_some(1.05)),
        effort.rounds(61),
        cases,
    )
}

/// What the server counts of one warm request.
fn commands(server: &Redis, clients: &Clients) -> Table {
    let Clients { runtime, redis, cache, .. } = clients;
    let ids: Vec<i64> = (0..100).collect();
    let all = |work: &dyn Fn()| {
        let calls = server.counted(work);
        let count: u64 = calls.values().sum();
        assert_eq!(calls.get("mget"), Some(&1), "{calls:?}");
        #[allow(clippy::cast_precision_loss)]
        let count = count as f64;
        count
    };
    let by_hand = || {
        runtime.block_on(by_hand::mget(&mut redis.clone(), &ids));
    };
    let ours = || {
        runtime.block_on(cache.request().get_many::<UserById>(ids.iter().copied())).expect("users");
        runtime.block_on(cache.idle());
    };
    let about = "commands of a warm request of 100, as the server counts them: one MGET and nothing else";
    let cases = vec![Case::new("reference", || all(&by_hand)), Case::new("mastaba", || all(&ours))];
    measure("P3 commands", about, ("commands", Some(1.0)), 5, cases)
}

fn allocations(clients: &Clients) -> Table {
    let Clients { runtime, redis, fred, cache } = clients;
    let ids: Vec<i64> = (0..100).collect();
    let _ = fred;
    let cases = vec![
        Case::new("reference", || {
            counted(|| drop(black_box(runtime.block_on(by_hand::mget(&mut redis.clone(), &ids)))))
        }),
        Case::new("mastaba", || {
            counted(|| {
                let request = cache.request();
                let users = runtime.block_on(request.get_many::<UserById>(ids.iter().copied()));
                drop(black_box(users.expect("users")));
            })
        }),
    ];
    let about = "heap allocations of a multi-get of 100 from Redis, new request included";
    measure("P3 allocations", about, ("allocs", Some(1.0)), 5, cases)
}

#[allow(clippy::cast_precision_loss)]
fn counted(work: impl FnOnce()) -> f64 {
    let counted = Counted::new(crate::ALLOCATOR);
    work();
    let change = counted.change();
    (change.allocations + change.reallocations) as f64
}

/// Microseconds per call.
#[allow(clippy::cast_precision_loss)]
fn per_call(runtime: &Runtime, calls: i64, mut call: impl AsyncFnMut()) -> f64 {
    runtime.block_on(async {
        let began = Instant::now();
        for _ in 0..calls {
            call().await;
        }
        began.elapsed().as_nanos() as f64 / calls as f64 / 1000.0
    })
}
