//! P3: a multi-get from a new request, all in Redis, decode included.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use async_graphql::dataloader::DataLoader;
use bytes::Bytes;
use fred::interfaces::{ClientLike, KeysInterface};
use futures_util::future::{BoxFuture, join_all};
use mastaba::{Cache, Region};
use redis::aio::MultiplexedConnection;
use stats_alloc::Region as Counted;
use tokio::runtime::Runtime;

use crate::by_hand::{self, Hand, Tiers};
use crate::fixture::{User, UserById, cache, runtime, user};
use crate::pin::{Placement, placements};
use crate::rounds::{Case, Effort, Table, measure};
use crate::servers::{self, Redis};
use crate::task::{Job, per_call};

pub(super) const SIZES: [i64; 4] = [1, 10, 100, 1000];
/// One by one is measured up to this many keys.
const FEW: i64 = 100;

/// One call, for the clients and the keys that it is given.
type Work = fn(MgetClients, Arc<[i64]>) -> BoxFuture<'static, ()>;

/// Everybody's clients of one server.
#[derive(Clone)]
struct MgetClients {
    redis: MultiplexedConnection,
    fred: fred::clients::Client,
    cache: Cache,
}

impl MgetClients {
    fn new(server: &Redis, runtime: &Runtime) -> Self {
        let url = server.url();
        let most = SIZES[SIZES.len() - 1];
        server.empty();
        let (redis, fred, backend) = runtime.block_on(async {
            let config = fred::types::config::Config::from_url(&url).expect("a URL");
            let fred = fred::types::Builder::from_config(config).build().expect("a client");
            fred.init().await.expect("a connection");
            (servers::connect(&url).await, fred, servers::backend(&url).await)
        });
        let users: Vec<_> = (0..most).map(user).collect();
        runtime.block_on(Hand::Redis(redis.clone()).fill(&users));
        let cache = cache(runtime, Region::backend(backend), 0..most);
        Self { redis, fred, cache }
    }

    fn loader(&self) -> DataLoader<Tiers> {
        by_hand::loader(Tiers { hand: Hand::Redis(self.redis.clone()), pool: None })
    }
}

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    let Some(server) = Redis::start() else { return Vec::new() };
    let mut tables = Vec::new();
    for placement in placements() {
        let _held = placement.hold(&[server.pid()]);
        let runtime = runtime();
        let clients = MgetClients::new(&server, &runtime);
        let sizes = sizes(effort);
        let (row, place) = (format!("P3 {}", placement.name()), placement.name());
        let goal = |size| (size >= 10).then_some(1.10);
        tables.extend(sizes.iter().map(|size| {
            let calls = calls(*size, 200, effort);
            timed(&runtime, &clients, (&row, place, goal(*size)), (*size, calls), effort)
        }));
        let first = tables.len() == sizes.len();
        let joined_sizes: &[i64] = if effort.quick { &[20] } else { &[20, 100, 1000] };
        tables.extend(joined_sizes.iter().map(|size| joined(&runtime, &clients, place, *size, effort)));
        tables.extend(sizes.iter().map(|size| shared_map(&runtime, &clients, place, *size, effort)));
        if first {
            tables.extend([commands(&server, &runtime, &clients), allocations(&runtime, &clients)]);
        }
    }
    tables
}

/// P3 as a part of P10: over a network.
pub(crate) fn distant(effort: Effort) -> Vec<Table> {
    let Some(mut server) = Redis::start() else { return Vec::new() };
    let placement = placements().pop().unwrap_or(Placement::Anywhere);
    let _held = placement.hold(&[server.pid()]);
    server.move_away(placement.core_of_servers());
    let runtime = runtime();
    let clients = MgetClients::new(&server, &runtime);
    let place = format!("{} and a network", placement.name());
    let timed = |size| {
        let calls = calls(size, 40, effort);
        timed(&runtime, &clients, ("P10 P3", &place, None), (size, calls), effort)
    };
    sizes(effort).iter().map(|size| timed(*size)).collect()
}

pub(super) fn sizes(effort: Effort) -> &'static [i64] {
    if effort.quick { &[1, 100] } else { &SIZES }
}

/// How many calls of this size are one round.
pub(super) fn calls(size: i64, most: u32, effort: Effort) -> u32 {
    if effort.quick { 1 } else { u32::try_from(2000 / size).unwrap_or(1).clamp(5, most) }
}

/// Gets that are awaited together, beside one call for all of them.
fn joined(runtime: &Runtime, clients: &MgetClients, place: &str, size: i64, effort: Effort) -> Table {
    let calls = calls(size, 200, effort);
    let case = |name, work: Work| case(runtime, clients, (name, size, calls), work);
    measure(
        format!("P3j {place} {size}"),
        format!("{size} gets that are awaited together, {place}; reference: one get_many of as many"),
        ("us/call", Some(1.15)),
        effort.rounds(61),
        vec![case("reference", ours), case("mastaba", ours_joined)],
    )
}

/// What a program needs: not a list, but each value by its id, to be shared.
fn shared_map(runtime: &Runtime, clients: &MgetClients, place: &str, size: i64, effort: Effort) -> Table {
    let calls = calls(size, 200, effort);
    let case = |name, work: Work| case(runtime, clients, (name, size, calls), work);
    let by_hand: Work = |mut clients, ids| {
        Box::pin(async move {
            let found = by_hand::mget(&mut clients.redis, &ids).await.into_iter().flatten();
            let mut users: HashMap<i64, Arc<User>> = HashMap::with_capacity(ids.len());
            users.extend(found.map(|user| (user.id, Arc::new(user))));
            drop(black_box(users));
        })
    };
    measure(
        format!("P3m {place} {size}"),
        format!(
            "multi-get of {size} from Redis, {place}; reference: redis MGET and postcard by hand, into a map of \
             shared values"
        ),
        ("us/call", Some(1.0)),
        effort.rounds(61),
        vec![case("reference", by_hand), case("mastaba", ours)],
    )
}

fn ours(clients: MgetClients, ids: Arc<[i64]>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let users = clients.cache.request().get_many::<UserById>(ids.iter().copied()).await;
        drop(black_box(users.expect("users")));
    })
}

fn ours_joined(clients: MgetClients, ids: Arc<[i64]>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let request = clients.cache.request();
        drop(black_box(join_all(ids.iter().map(|id| request.get::<UserById>(*id))).await));
    })
}

fn case<'a>(
    runtime: &'a Runtime,
    clients: &MgetClients,
    (name, size, calls): (&'static str, i64, u32),
    work: Work,
) -> Case<'a> {
    let (clients, ids): (_, Arc<[i64]>) = (clients.clone(), (0..size).collect());
    let job: Job = Arc::new(move || work(clients.clone(), ids.clone()));
    Case::new(name, move || per_call(runtime, calls, &job))
}

fn timed(
    runtime: &Runtime,
    clients: &MgetClients,
    (row, place, goal): (&str, &str, Option<f64>),
    (size, calls): (i64, u32),
    effort: Effort,
) -> Table {
    let seldom = (calls / 10).max(1);
    let case = |name, calls, work: Work| case(runtime, clients, (name, size, calls), work);
    let mut cases = vec![
        case("reference", calls, |mut clients, ids| {
            Box::pin(async move { drop(black_box(by_hand::mget(&mut clients.redis, &ids).await)) })
        }),
        case("mastaba", calls, ours),
        case("mastaba joined", calls, ours_joined),
        case("fred MGET", calls, |clients, ids| {
            Box::pin(async move {
                let keys: Vec<_> = ids.iter().map(|id| by_hand::key(*id)).collect();
                let found: Vec<Option<Bytes>> = clients.fred.mget(keys).await.expect("an answer");
                let users = found.into_iter().map(|bytes| bytes.map(|bytes| by_hand::decode(&bytes)));
                drop(black_box(users.collect::<Vec<_>>()));
            })
        }),
        case("pipeline of GET", calls, |mut clients, ids| {
            Box::pin(async move { drop(black_box(by_hand::pipelined(&mut clients.redis, &ids).await)) })
        }),
        case("GET joined", seldom, |clients, ids| {
            Box::pin(async move {
                let get = |id| {
                    let mut redis = clients.redis.clone();
                    async move { by_hand::get(&mut redis, id).await }
                };
                drop(black_box(join_all(ids.iter().map(|id| get(*id))).await));
            })
        }),
        case("DataLoader load_many", calls, |clients, ids| {
            Box::pin(async move { drop(black_box(clients.loader().load_many(ids.iter().copied()).await)) })
        }),
        case("DataLoader joined", calls, |clients, ids| {
            Box::pin(async move {
                let loader = clients.loader();
                drop(black_box(join_all(ids.iter().map(|id| loader.load_one(*id))).await));
            })
        }),
    ];
    if size <= FEW {
        cases.push(case("GET one by one", seldom, |mut clients, ids| {
            Box::pin(async move {
                for id in ids.iter() {
                    drop(black_box(by_hand::get(&mut clients.redis, *id).await));
                }
            })
        }));
    }
    measure(
        format!("{row} {size}"),
        format!("multi-get of {size} from Redis, {place}; reference: redis MGET and postcard by hand"),
        ("us/call", goal),
        effort.rounds(61),
        cases,
    )
}

/// What the server counts of one warm request.
fn commands(server: &Redis, runtime: &Runtime, clients: &MgetClients) -> Table {
    let MgetClients { redis, cache, .. } = clients;
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

fn allocations(runtime: &Runtime, clients: &MgetClients) -> Table {
    let MgetClients { redis, cache, .. } = clients;
    let ids: Vec<i64> = (0..100).collect();
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
