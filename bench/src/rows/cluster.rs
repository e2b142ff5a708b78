//! P13: a multi-get from a cluster of three, from a new request, decode included.
//!
//! A server of a cluster takes an `MGET` of one slot, so keys that fall into as many slots are as many commands, whoever
//! sends them. Beside the keys as they are stand keys that carry a hash tag, one of 16 or of 64 for a source: a *shard*,
//! whose keys share a slot. Mastaba reads those through a mangler, with all else as it is.

mod balance;

use std::hint::black_box;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use mastaba::{Cache, Region};
use redis::AsyncCommands;
use redis::cluster_async::ClusterConnection;
use tokio::runtime::Runtime;

use crate::by_hand;
use crate::fixture::{UserById, cache, runtime, user};
use crate::pin::placements;
use crate::rounds::{Case, Effort, Table, measure, recorded};
use crate::servers::{self, Cluster};
use crate::task::{Job, per_call};

const SIZES: [i64; 3] = [10, 100, 1000];
/// What stands before the key of a user.
const ENTRIES: &str = "mastaba:objects:user:";

/// How many shards the keys of a source have; as they are, each key has a slot of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shards {
    None,
    Of(u64),
}

impl Shards {
    const ALL: [Self; 3] = [Self::None, Self::Of(16), Self::Of(64)];

    fn key(self, id: &str) -> String {
        match self {
            Self::None => format!("user:{id}"),
            Self::Of(count) => format!("{{user:{}}}:{id}", spread(id) % count),
        }
    }

    /// The same of a whole key of Mastaba. What is no entry stays as it is.
    fn mangled(self, key: &[u8]) -> Vec<u8> {
        let id = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(ENTRIES));
        id.map_or_else(|| key.to_vec(), |id| format!("mastaba:objects:{}", self.key(id)).into_bytes())
    }
}

fn spread(id: &str) -> u64 {
    use std::hash::BuildHasher;
    foldhash::quality::FixedState::default().hash_one(id)
}

/// Everybody's clients of the cluster.
struct ClusterClients {
    redis: ClusterConnection,
    /// One for each of [`Shards::ALL`].
    caches: [Cache; 3],
}

/// The ways to read. The first is the reference.
const CASES: [(&str, ClusterReader, Shards); 6] = [
    ("reference", ClusterReader::ByHand, Shards::None),
    ("mastaba", ClusterReader::Mastaba, Shards::None),
    ("by hand, 16 shards", ClusterReader::ByHand, Shards::Of(16)),
    ("mastaba, 16 shards", ClusterReader::Mastaba, Shards::Of(16)),
    ("by hand, 64 shards", ClusterReader::ByHand, Shards::Of(64)),
    ("mastaba, 64 shards", ClusterReader::Mastaba, Shards::Of(64)),
];

#[derive(Clone, Copy)]
enum ClusterReader {
    ByHand,
    Mastaba,
}

impl ClusterClients {
    fn new(cluster: &Cluster, runtime: &Runtime) -> Self {
        let most = SIZES[SIZES.len() - 1];
        let redis = runtime.block_on(async {
            let redis = cluster.connect().await;
            let fill = |shards: Shards, id: i64| {
                let mut redis = redis.clone();
                async move {
                    let bytes = postcard::to_stdvec(&user(id)).expect("bytes");
                    let () = redis.set(shards.key(&id.to_string()), bytes).await.expect("an answer");
                }
            };
            let all = Shards::ALL.into_iter().flat_map(|shards| (0..most).map(move |id| (shards, id)));
            join_all(all.map(|(shards, id)| fill(shards, id))).await;
            redis
        });
        let caches = Shards::ALL.map(|shards| {
            let backend = runtime.block_on(servers::backend(&cluster.url()));
            let region = match shards {
                Shards::None => Region::backend(backend),
                Shards::Of(_) => Region::backend(backend).mangler(move |key| shards.mangled(key)),
            };
            let cache = cache(runtime, region, 0..most);
            runtime.block_on(stored(&cache, most));
            cache
        });
        Self { redis, caches }
    }

    /// One call.
    fn job(&self, reader: ClusterReader, shards: Shards, size: i64) -> Job {
        let ids: Arc<[i64]> = (0..size).collect();
        match reader {
            ClusterReader::ByHand => {
                let redis = self.redis.clone();
                Arc::new(move || -> BoxFuture<'static, ()> {
                    let (mut redis, ids) = (redis.clone(), ids.clone());
                    Box::pin(async move {
                        let keys = ids.iter().map(|id| shards.key(&id.to_string())).collect();
                        let found = by_hand::mget_keys(&mut redis, keys).await;
                        assert!(found.iter().all(Option::is_some), "all of them are hits");
                        black_box(found);
                    })
                })
            }
            ClusterReader::Mastaba => {
                let at = Shards::ALL.iter().position(|known| *known == shards).unwrap_or(0);
                let cache = self.caches[at].clone();
                Arc::new(move || -> BoxFuture<'static, ()> {
                    let (cache, ids) = (cache.clone(), ids.clone());
                    Box::pin(async move {
                        let users = cache.request().get_many::<UserById>(ids.iter().copied()).await;
                        drop(black_box(users.expect("users")));
                    })
                })
            }
        }
    }
}

/// Until all of them are hits: on a busy machine some of so many fills are over their budget.
async fn stored(cache: &Cache, most: i64) {
    for _ in 0..100 {
        let request = cache.request();
        request.prefetch::<UserById>(0..most).await.expect("users");
        if request.report().statements() == 0 {
            return;
        }
        cache.idle().await;
    }
    panic!("the cluster does not store {most} users");
}

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    let Some(cluster) = Cluster::start() else { return Vec::new() };
    let setting_up = runtime();
    let sizes: &[i64] = if effort.quick { &SIZES[..2] } else { &SIZES };
    // what Mastaba stores of 1000 keys is under way when its readers have been answered
    let clients = ClusterClients::new(&cluster, &setting_up);
    let mut tables: Vec<_> =
        sizes.iter().map(|size| commands(&cluster, &setting_up, &clients, *size)).collect();
    drop((clients, setting_up));
    for placement in placements() {
        let _held = placement.hold(&cluster.pids());
        let runtime = runtime();
        let clients = ClusterClients::new(&cluster, &runtime);
        for size in sizes {
            tables.extend(timed(&cluster, &runtime, &clients, (placement.name(), *size), effort));
        }
    }
    tables.extend(balance::tables(effort));
    tables
}

/// How long a call takes, and what it costs the nodes, both of the same rounds.
fn timed(
    cluster: &Cluster,
    runtime: &Runtime,
    clients: &ClusterClients,
    (place, size): (&str, i64),
    effort: Effort,
) -> [Table; 2] {
    let calls = if effort.quick { 2 } else { u32::try_from(4000 / size).unwrap_or(1).clamp(10, 200) };
    let jobs = CASES.map(|(_, reader, shards)| clients.job(reader, shards, size));
    let mut times = CASES.map(|_| Vec::new());
    let mut costs = CASES.map(|_| Vec::new());
    for job in &jobs {
        per_call(runtime, calls, job); // warm
    }
    for _ in 0..effort.rounds(31) {
        let mut order: Vec<_> = (0..CASES.len()).collect();
        fastrand::shuffle(&mut order);
        for at in order {
            let before = cluster.cpu();
            times[at].push(per_call(runtime, calls, &jobs[at]));
            costs[at].push((cluster.cpu() - before) * 1e6 / f64::from(calls));
        }
    }
    let named = |figures: [Vec<f64>; CASES.len()]| CASES.iter().map(|case| case.0).zip(figures).collect();
    let from = format!("of {size} from a cluster of three, {place}");
    [
        recorded(
            format!("P13 {place} {size}"),
            format!("multi-get {from}; reference: redis MGET over the nodes and postcard by hand"),
            ("us/call", Some(1.10)),
            named(times),
        ),
        recorded(
            format!("P13 {place} {size} CPU"),
            format!("CPU of the three nodes for a multi-get {from}"),
            ("us/call", None),
            named(costs),
        ),
    ]
}

/// What the nodes count of one warm request.
fn commands(cluster: &Cluster, runtime: &Runtime, clients: &ClusterClients, size: i64) -> Table {
    let cases = CASES.map(|(name, reader, shards)| {
        let job = clients.job(reader, shards, size);
        Case::new(name, move || {
            let calls = cluster.counted(|| {
                per_call(runtime, 1, &job);
            });
            assert!(calls.keys().all(|name| name == "mget"), "all of them are hits: {calls:?}");
            #[allow(clippy::cast_precision_loss)]
            let count = calls.values().sum::<u64>() as f64;
            count
        })
    });
    let about = format!("commands of a warm request of {size}, as the nodes count them");
    measure(format!("P13 {size} commands"), about, ("commands", None), 3, cases.into())
}
