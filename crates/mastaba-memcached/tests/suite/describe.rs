//! What a backend says of its servers, and what somebody may do who only comes to look.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mastaba::shared::Shared;
use mastaba_memcached::{ListRecord, Memcached, MemcachedConfig};
use mastaba_test::servers::MemcachedServer;
use mastaba_test::world::Db;

use crate::common::{Process, connect, limited, three, until, url, url_of};
use crate::start::stand_in;

async fn visit(url: &str) -> Memcached {
    let mut config = MemcachedConfig::from_url(url).unwrap();
    config.connect_timeout = Duration::from_millis(500);
    Memcached::visit(config).await.unwrap()
}

#[tokio::test]
async fn a_server_is_described_by_what_it_says() {
    limited(async {
        let settings = ["-M", "-c", "100", "-o", "idle_timeout=9,no_slab_reassign"];
        let shape = MemcachedServer::builder().memory(128).item_size(2048).arguments(settings);
        let Some(server) = shape.start().await else { return };
        let memcached = connect(&url(&server)).await;
        let found = memcached.describe().await.unwrap();
        assert_eq!(found.place, format!("memcached at {}", server.addr()));
        assert_eq!((found.refuses, found.max_record), (None, memcached.max_value()));
        let facts = &found.servers[0];
        assert_eq!(facts.version.as_deref(), Some(server.stats("").await["version"].as_str()));
        assert_eq!((facts.memory_limit, facts.max_item), (Some(128 << 20), Some(2 << 20)));
        assert_eq!((facts.evicts, facts.evicted, facts.moves_memory), (Some(false), Some(0), Some(false)));
        assert_eq!((facts.max_connections, facts.refused_connections), (Some(100), Some(0)));
        assert!(facts.connections.is_some_and(|number| (1..10).contains(&number)), "{facts:?}");
        assert_eq!(
            (facts.idle_timeout, facts.memory_file.as_deref()),
            (Some(Duration::from_secs(9)), Some(""))
        );
        assert_eq!((facts.clock_ahead_ms, facts.list), (Some(0), Some(ListRecord::Ours)));
        // the record of the list
        assert_eq!((facts.items, facts.unknown.len(), facts.warnings.len()), (Some(1), 0, 1), "{facts:?}");
        let used: Vec<_> = found.capabilities.iter().map(|it| (it.name, it.used)).collect();
        let expected = [
            ("fills", true),
            ("fills without leases", false),
            ("notifications", false),
            ("holds", true),
            ("TLS and passwords", false),
        ];
        assert_eq!(used, expected);
        assert_eq!((used[2].1, used[3].1), (memcached.abilities().tells, memcached.abilities().holds));
    })
    .await;
}

/// Answers of both sorts travel on one connection, and each comes to whoever asked for it.
#[tokio::test]
async fn a_description_travels_between_reads() {
    limited(async {
        let Some(server) = MemcachedServer::start().await else { return };
        let memcached = connect(&url(&server)).await;
        let keys: Vec<Bytes> = (0..50).map(|n| Bytes::from(format!("key:{n}"))).collect();
        for n in 0..50 {
            server.command(&format!("ms key:{n} 2\r\n{n:02}\r\n")).await;
        }
        let reads = async {
            for _ in 0..50 {
                let found = memcached.read(&keys).await.unwrap();
                let expected = (0..50).map(|n| Some(Bytes::from(format!("{n:02}"))));
                assert!(found.into_iter().eq(expected));
            }
        };
        let asks = async {
            for _ in 0..50 {
                assert!(memcached.describe().await.unwrap().servers[0].version.is_some());
                assert_eq!(memcached.ping().await.unwrap().len(), 1);
            }
        };
        tokio::join!(reads, asks);
    })
    .await;
}

#[tokio::test]
async fn a_server_of_several_that_cannot_be_used_is_said_and_the_others_are_described() {
    limited(async {
        let Some(servers) = three().await else { return };
        servers[1].stop().await;
        servers[2].pause().await;
        let old = stand_in("VERSION 1.5.22\r\n").await;
        let memcached = visit(&format!("{},{old}", url_of(&servers))).await;
        let found = memcached.describe().await.unwrap();
        let down = |at: usize| found.servers[at].down.as_deref().unwrap_or("up").to_owned();
        assert_eq!(down(0), "up");
        assert!(down(1).contains("cannot be reached"), "{}", down(1));
        assert!(down(2).contains("does not answer within"), "{}", down(2));
        assert!(down(3).contains("has the version 1.5.22, and 1.6.18 or later is needed"), "{}", down(3));
        assert_eq!(memcached.ping().await.unwrap().len(), 1);
        servers[2].resume().await;
        servers[0].stop().await;
        servers[2].stop().await;
        until("the loss", async || memcached.ping().await.is_err()).await;
        let error =
            Memcached::visit(MemcachedConfig::from_url(&url_of(&servers)).unwrap()).await.unwrap_err();
        assert!(error.is_unreachable(), "{error}");
    })
    .await;
}

/// One that falls silent later.
#[tokio::test]
async fn a_server_that_no_longer_answers_is_waited_for_as_long_as_for_a_connection() {
    limited(async {
        let Some(server) = MemcachedServer::start().await else { return };
        let memcached = visit(&url(&server)).await;
        server.pause().await;
        let down = memcached.describe().await.unwrap().servers[0].down.clone().unwrap();
        assert!(down.contains("does not answer within 500ms"), "{down}");
        assert!(memcached.ping().await.is_err());
        server.resume().await;
    })
    .await;
}

/// Whoever looks with a wrong list changes nothing for those who have the right one, and is told.
#[tokio::test]
async fn a_visitor_takes_no_server_over() {
    limited(async {
        let Some(servers) = three().await else { return };
        let nobody = visit(&url(&servers[0])).await;
        assert_eq!(nobody.describe().await.unwrap().servers[0].list, Some(ListRecord::Missing));
        let key = [Bytes::from("mastaba:objects:user:1")];
        let refused = nobody.invalidate(&key, &[]).await.unwrap_err().to_string();
        assert!(refused.contains("no list of servers is known there"), "{refused}");
        drop(nobody);
        assert_eq!(servers[0].stats("").await["curr_items"], "0", "a visitor leaves nothing behind");

        let db = Arc::new(Db::default());
        let process = Process::start(&url_of(&servers), &db).await;
        process.warm(1).await;
        let wrong = visit(&url_of(&servers[..2])).await;
        let found = wrong.describe().await.unwrap();
        assert_eq!(found.servers[0].list, Some(ListRecord::Another));
        assert!(found.refuses.unwrap().contains("another list of servers"));
        for refused in [wrong.read(&key).await.map(drop), wrong.invalidate(&key, &[]).await] {
            assert!(refused.unwrap_err().to_string().contains("another list of servers"));
        }
        // the only place of all keys, by a list of one
        assert_eq!(servers[0].command("ms mine 1\r\nx\r\n").await, "HD\r\n");
        assert!(visit(&url(&servers[0])).await.invalidate(&[Bytes::from("mine")], &[]).await.is_err());
        assert_eq!(servers[0].command("mg mine s\r\n").await, "HD s1\r\n", "refused, and done all the same");
        // past its look every two seconds
        tokio::time::sleep(Duration::from_millis(2500)).await;
        process.write(1).await.unwrap();
        process.warm(1).await;

        let right = visit(&url_of(&servers)).await;
        let found = right.describe().await.unwrap();
        assert!(found.servers.iter().all(|facts| facts.list == Some(ListRecord::Ours)), "{found:?}");
        assert_eq!(right.incarnation(), connect(&url_of(&servers)).await.incarnation());
        assert!(right.read(&key).await.unwrap()[0].is_some());
        right.invalidate(&key, &[]).await.unwrap();
        assert!(right.read(&key).await.unwrap()[0].is_none());
        // a server that lost its records while somebody looks, and nobody has written its list again
        drop(process);
        for server in &servers {
            assert_eq!(server.command("flush_all\r\n").await, "OK\r\n");
        }
        let refused = right.invalidate(&key, &[]).await.unwrap_err().to_string();
        assert!(refused.contains("no list of servers is known there"), "{refused}");
        let _uses = connect(&url_of(&servers)).await;
        right.invalidate(&key, &[]).await.unwrap();
    })
    .await;
}
