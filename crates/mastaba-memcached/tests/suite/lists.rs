//! Several servers: what one of them is worth to the keys of the others, and what happens where processes are given other lists.

use std::sync::Arc;
use std::time::Duration;

use mastaba::Tier;
use mastaba::shared::Shared;
use mastaba_test::servers::MemcachedServer;
use mastaba_test::world::Db;

use crate::common::{Process, connect, limited, stands, three, until, url_of};

/// Some keys of users, and the server that each has its place on.
async fn places(
    servers: &[MemcachedServer],
    process: &Process,
    keys: std::ops::Range<u64>,
) -> Vec<(u64, usize)> {
    let mut places = Vec::new();
    for key in keys {
        process.warm(key).await;
        let mut its = Vec::new();
        for (at, server) in servers.iter().enumerate() {
            if stands(server, key).await {
                its.push(at);
            }
        }
        assert_eq!(its.len(), 1, "user {key} is on the servers {its:?}");
        places.push((key, its[0]));
    }
    places
}

/// Keys of a server that is down are read from the source, and nobody else stores them; and those of others are not concerned.
#[tokio::test]
async fn no_other_server_takes_the_place_of_one_that_is_down() {
    limited(async {
        let Some(servers) = three().await else { return };
        let db = Arc::new(Db::default());
        let process = Process::start(&url_of(&servers), &db).await;
        let places = places(&servers, &process, 1..40).await;
        let generation = async |server: &MemcachedServer| {
            server.command("mg mastaba:objects:@generation s\r\n").await.starts_with("HD")
        };
        let mut stamped = usize::MAX;
        for (at, server) in servers.iter().enumerate() {
            if generation(server).await {
                stamped = at;
            }
        }
        let down = (stamped + 1) % 3;
        let of =
            |wanted: bool| places.iter().filter(move |(_, at)| (*at == down) == wanted).map(|(key, _)| *key);
        let (gone, there) = (of(true).next().unwrap(), of(false).next().unwrap());
        servers[down].stop().await;
        until("the loss", async || process.finds(gone).await.1 == Tier::Source).await;
        // a region has one breaker, which passes all of them over after some failures
        until("a hit of another server", async || process.finds(there).await.1 == Tier::Shared).await;
        let error = process.write(gone).await.unwrap_err();
        assert!(error.is_shared(), "{error}");
        process.write(there).await.unwrap();
        for server in [&servers[(down + 1) % 3], &servers[(down + 2) % 3]] {
            assert!(!stands(server, gone).await, "nobody stores it in another place");
        }
        servers[down].restart().await;
        until("a write", async || process.write(gone).await.is_ok()).await;
        assert_eq!(process.warm(gone).await, db.version(gone));
    })
    .await;
}

/// Whoever comes with another list takes the servers over, and those who are there already stop: nobody is given a value that
/// somebody has voided in another place. And what was stored under a list counts for nothing when that comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_list_of_servers_takes_over_and_nothing_comes_back_with_the_first_one() {
    limited(async {
        let Some(servers) = three().await else { return };
        let (two, all) = (url_of(&servers[..2]), url_of(&servers));
        let db = Arc::new(Db::default());
        let first = Process::start(&two, &db).await;
        for key in 1..30 {
            first.warm(key).await;
        }

        let backend = connect(&all).await;
        assert_eq!(backend.incarnation(), 0, "for some seconds nothing counts");
        let second = Process::over(backend.clone(), &db, |region| region).await;
        for key in 1..30 {
            assert_eq!(second.finds(key).await, (0, Tier::Source));
        }
        // the first one finds it out, while the second one still stores nothing
        until("a process that stops", async || first.invalidate(1).await.is_err()).await;
        assert_eq!(backend.incarnation(), 0);
        let told = format!("{:?}", first.write(1).await.unwrap_err());
        assert!(told.contains("another list of servers"), "{told}");
        assert_eq!(first.finds(1).await, (1, Tier::Source));
        until("the second one", async || backend.incarnation() != 0).await;
        for key in 1..30 {
            second.write(key).await.unwrap();
            assert_eq!(second.warm(key).await, db.version(key));
        }

        // back to the first list, by a process that is new
        let third = Process::start(&two, &db).await;
        for key in 1..30 {
            let (version, tier) = third.finds(key).await;
            assert_eq!((version, tier), (db.version(key), Tier::Source), "user {key} from before");
        }
        until("the first one", async || first.write(1).await.is_ok()).await;
        for key in 1..30 {
            assert_eq!(third.warm(key).await, db.version(key));
            until("a hit", async || first.finds(key).await == (db.version(key), Tier::Shared)).await;
        }
        assert!(second.write(1).await.is_err(), "and now it is the second one that has stopped");
    })
    .await;
}

/// The record that says which list is in use may be lost with everything else, while nobody looks.
#[tokio::test]
async fn a_flush_is_no_other_list() {
    limited(async {
        let Some(servers) = three().await else { return };
        let db = Arc::new(Db::default());
        let (one, two) =
            (Process::start(&url_of(&servers), &db).await, Process::start(&url_of(&servers), &db).await);
        one.warm(1).await;
        for server in &servers {
            assert_eq!(server.command("flush_all\r\n").await, "OK\r\n");
        }
        tokio::time::sleep(Duration::from_millis(2500)).await; // they have looked
        one.warm(1).await;
        assert_eq!(two.finds(1).await, (0, Tier::Shared));
        for server in &servers {
            assert!(server.command("mg mastaba@servers s\r\n").await.starts_with("HD s16"));
        }
        assert_eq!((one.events(), two.events()), (vec![], vec![]));
    })
    .await;
}
