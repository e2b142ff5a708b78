//! Keys that share a slot of a cluster, while that slot moves: a server takes no command for several keys of it unless it has
//! all of them.

use crate::common::limited;
use crate::rows;

use mastaba::Region;
use mastaba_test::servers::Cluster;
use rows::{Row, Table, process};

/// All rows in one slot.
const TAG: &str = "{rows}";

fn tagged(region: Region) -> Region {
    region.mangler(|key| {
        let key = String::from_utf8_lossy(key);
        key.replacen(":row:", &format!(":{TAG}row:"), 1).into_bytes()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hits_stay_hits_while_their_slot_moves_with_keys_that_are_not_there() {
    limited(async {
        let Some(cluster) = Cluster::start().await else { return };
        let table = Table::new();
        let cache = process(&cluster.url(), &table, tagged).await;
        cache.request().prefetch::<Row>(1..=10).await.unwrap();
        cache.idle().await;
        let slot = cluster.slot_of(TAG.as_bytes()).await;
        let from = cluster.owner(slot).await.unwrap();
        let migration = cluster.start_migration(slot, from, (from + 1) % 3).await;
        let reads = [[1, 2].as_slice(), &[11], &[3, 12]];
        for keys in reads {
            let rows = cache.request().get_many::<Row>(keys.iter().copied()).await.unwrap();
            assert_eq!(rows.found().count(), keys.len());
        }
        migration.move_key(format!("mastaba:objects:{TAG}row:1").as_bytes()).await;
        let rows = cache.request().get_many::<Row>(1..=10).await.unwrap();
        assert_eq!(rows.found().count(), 10);
        migration.finish().await;
        let rows = cache.request().get_many::<Row>(1..=10).await.unwrap();
        assert_eq!(rows.found().count(), 10);
        let loaded: Vec<u64> = table.loads().into_iter().skip(1).flatten().collect();
        assert_eq!(loaded, [11, 12], "what stood in the cluster was read from there");
    })
    .await;
}
