//! P15: P3, P5 and P6 over each kind of server, by hand and by Mastaba. The reference is what a program has by hand over Redis.

use std::hint::black_box;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use mastaba::Cache;
use tokio::runtime::Runtime;

use crate::by_hand::Hand;
use crate::fixture::{UserById, cache, runtime, user};
use crate::pin::placements;
use crate::rounds::{Case, Effort, Table, measure};
use crate::servers::{self, Store};
use crate::task::{Job, per_call};

use super::multi_get::{SIZES, calls, sizes};
use super::{page, two_pass};

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    let stores = Store::all();
    if stores.is_empty() {
        return Vec::new();
    }
    let rows = [multi_get, two_pass::beside, page::beside];
    rows.into_iter().flat_map(|row| row(&stores, effort)).collect()
}

/// Everybody's clients of one store.
#[derive(Clone)]
struct StoreClients {
    hand: Hand,
    cache: Cache,
}

impl StoreClients {
    fn new(store: &Store, runtime: &Runtime) -> Self {
        let url = store.url();
        let most = SIZES[SIZES.len() - 1];
        let (hand, region) =
            runtime.block_on(async { (servers::hand(&url).await, servers::region(&url).await) });
        runtime.block_on(hand.fill(&(0..most).map(user).collect::<Vec<_>>()));
        Self { hand, cache: cache(runtime, region, 0..most) }
    }
}

/// One call, for the clients and the keys that it is given.
type Work = fn(StoreClients, Arc<[i64]>) -> BoxFuture<'static, ()>;

fn by_hand(clients: StoreClients, ids: Arc<[i64]>) -> BoxFuture<'static, ()> {
    Box::pin(async move { drop(black_box(clients.hand.users(&ids).await)) })
}

fn ours(clients: StoreClients, ids: Arc<[i64]>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let users = clients.cache.request().get_many::<UserById>(ids.iter().copied()).await;
        drop(black_box(users.expect("users")));
    })
}

fn multi_get(stores: &[Store], effort: Effort) -> Vec<Table> {
    let pids: Vec<u32> = stores.iter().map(Store::pid).collect();
    let mut tables = Vec::new();
    for placement in placements() {
        let _held = placement.hold(&pids);
        let runtime = &runtime();
        let clients: Vec<_> = stores.iter().map(|store| StoreClients::new(store, runtime)).collect();
        for &size in sizes(effort) {
            let calls = calls(size, 200, effort);
            let ids: Arc<[i64]> = (0..size).collect();
            let case = |name, clients: &StoreClients, work: Work| {
                let (clients, ids) = (clients.clone(), ids.clone());
                let job: Job = Arc::new(move || work(clients.clone(), ids.clone()));
                Case::new(name, move || per_call(runtime, calls, &job))
            };
            let cases = stores.iter().zip(&clients).flat_map(|(store, clients)| {
                [case(store.by_hand(), clients, by_hand), case(store.mastaba(), clients, ours)]
            });
            let place = placement.name();
            tables.push(measure(
                format!("P15 P3 {place} {size}"),
                format!("multi-get of {size} from the shared tier, {place}"),
                ("us/call", None),
                effort.rounds(61),
                cases.collect(),
            ));
        }
    }
    tables
}
