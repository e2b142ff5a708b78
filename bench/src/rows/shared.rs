//! P3 on the tiers that need no server: a multi-get of 100 from a new request, decode included.

use std::hint::black_box;

use mastaba::Region;
use redb::{Database, ReadableDatabase, TableDefinition};

use crate::fixture::{User, UserById, cache, per, runtime, user};
use crate::rounds::{Case, Effort, Table, measure};

const N: i64 = 100;
const USERS: TableDefinition<'_, i64, &[u8]> = TableDefinition::new("users");

pub(crate) fn measured(effort: Effort) -> Vec<Table> {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = runtime();
    let by_hand = by_hand(folder.path());
    let embedded = cache(&runtime, Region::embedded(folder.path()), 0..N);
    let memory = cache(&runtime, Region::memory(), 0..N);
    let quick = quick_cache::sync::Cache::new(10_000);
    (0..N).for_each(|id| quick.insert(id, postcard::to_stdvec(&user(id)).expect("bytes")));
    let times = if effort.quick { 2 } else { 20 };
    let some = |cache: &mastaba::Cache, keys: i64, times: i32| {
        runtime.block_on(async {
            let began = std::time::Instant::now();
            for _ in 0..times {
                black_box(cache.request().get_many::<UserById>(0..keys).await.expect("users"));
            }
            #[allow(clippy::cast_precision_loss)]
            let micros = began.elapsed().as_nanos() as f64 / f64::from(times) / 1000.0;
            micros
        })
    };
    let ours = |cache: &mastaba::Cache| some(cache, N, times);
    let get = |id| postcard::from_bytes::<User>(&quick.get(&id).expect("bytes")).expect("a user");
    let often = 50 * times;
    let one = vec![
        Case::new("reference", || {
            per(often as usize, || (0..often).for_each(|_| drop(black_box(get(0))))) / 1000.0
        }),
        Case::new("mastaba", || some(&memory, 1, often)),
    ];
    let file = vec![
        Case::new("reference", || {
            per(times as usize, || (0..times).for_each(|_| drop(black_box(read(&by_hand))))) / 1000.0
        }),
        Case::new("mastaba", || ours(&embedded)),
    ];
    let ram = vec![
        Case::new("reference", || {
            let all = || (0..N).map(get).collect::<Vec<_>>();
            per(times as usize, || (0..times).for_each(|_| drop(black_box(all())))) / 1000.0
        }),
        Case::new("mastaba", || ours(&memory)),
    ];
    vec![
        measure(
            "P3E file",
            "multi-get of 100 from the embedded file; reference: redb read and postcard by hand, on the same thread",
            ("us/call", None),
            effort.rounds(61),
            file,
        ),
        measure(
            "P3E memory",
            "multi-get of 100 from the memory backend; reference: quick_cache of bytes and postcard by hand",
            ("us/call", None),
            effort.rounds(61),
            ram,
        ),
        measure(
            "P3E one",
            "one get from the memory backend: what a batch costs beside its keys; reference: quick_cache and postcard",
            ("us/call", None),
            effort.rounds(61),
            one,
        ),
    ]
}

fn by_hand(folder: &std::path::Path) -> Database {
    let database = Database::create(folder.join("by-hand")).expect("a file");
    let write = database.begin_write().expect("a transaction");
    {
        let mut table = write.open_table(USERS).expect("a table");
        for id in 0..N {
            table.insert(id, postcard::to_stdvec(&user(id)).expect("bytes").as_slice()).expect("an insert");
        }
    }
    write.commit().expect("a commit");
    database
}

fn read(database: &Database) -> Vec<User> {
    let read = database.begin_read().expect("a transaction");
    let table = read.open_table(USERS).expect("a table");
    let get = |id| table.get(id).expect("a read").expect("a row");
    (0..N).map(|id| postcard::from_bytes(get(id).value()).expect("a user")).collect()
}
