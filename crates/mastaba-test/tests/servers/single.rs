use std::time::Duration;

use mastaba_test::servers::RedisServer;
use mastaba_test::servers::resp::{Connection, Reply};

use super::{is_there, limited, occupy};

#[tokio::test]
async fn a_server_answers_and_leaves_no_process_when_it_is_dropped() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        assert_eq!(server.command(&["SET", "a", "1"]).await, "OK");
        let mut connection = Connection::open(server.addr()).await.unwrap();
        assert_eq!(connection.call(&["GET", "a"]).await.unwrap(), Reply::Bytes(b"1".to_vec()));
        let (pid, log) = (server.pid().unwrap(), server.log());
        assert!(is_there(pid) && log.exists());
        drop(server);
        assert!(!is_there(pid), "the process is still there");
        assert!(!log.exists(), "the folder is still there");
        assert!(connection.call(&["GET", "a"]).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_stopped_server_is_gone_and_comes_back_empty_on_its_port() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        let pid = server.pid().unwrap();
        server.command(&["SET", "a", "1"]).await;
        server.stop().await;
        assert!(!is_there(pid) && server.pid().is_none());
        assert!(Connection::open(server.addr()).await.is_err());
        server.restart().await;
        let mut connection = Connection::open(server.addr()).await.unwrap();
        assert_eq!(connection.call(&["GET", "a"]).await.unwrap(), Reply::Nil);
    })
    .await;
}

#[tokio::test]
async fn a_persistent_server_finds_its_data_unless_it_is_killed_or_wiped() {
    limited(async {
        let Some(server) = RedisServer::builder().persistent().start().await else { return };
        server.command(&["SET", "a", "1"]).await;
        server.restart().await;
        assert_eq!(server.command(&["GET", "a"]).await, "1");
        server.command(&["SET", "b", "1"]).await;
        server.kill().await;
        server.restart().await;
        assert_eq!(server.command(&["MGET", "a", "b"]).await, "1\n", "a kill leaves no time to save");
        server.restart_empty().await;
        assert_eq!(server.command(&["DBSIZE"]).await, "0");
    })
    .await;
}

#[tokio::test]
async fn a_restart_waits_until_the_port_is_free_again() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        server.stop().await;
        let other = occupy(server.port());
        server.restart().await;
        assert!(other.is_finished(), "there were two on one port");
        let mut connection = Connection::open(server.addr()).await.unwrap();
        assert_eq!(connection.call(&["PING"]).await.unwrap().to_string(), "PONG");
    })
    .await;
}

#[tokio::test]
async fn a_paused_server_is_silent_and_answers_when_it_goes_on() {
    limited(async {
        let Some(server) = RedisServer::start().await else { return };
        let mut connection = Connection::open(server.addr()).await.unwrap();
        server.pause().await;
        connection.send(&["PING"]).await.unwrap();
        let silence = tokio::time::timeout(Duration::from_millis(200), connection.receive()).await;
        assert!(silence.is_err(), "{silence:?}");
        server.resume().await;
        assert_eq!(server.command(&["PING"]).await, "PONG");
        // and one that is frozen can still be ended
        server.pause().await;
        let pid = server.pid().unwrap();
        server.stop().await;
        assert!(!is_there(pid));
    })
    .await;
}

#[tokio::test]
async fn a_password_is_asked_of_others_and_not_of_the_test() {
    limited(async {
        let guarded = RedisServer::builder().password("secret").user("reader", "on >word ~* +get");
        let Some(server) = guarded.start().await else { return };
        assert_eq!(server.url(), format!("redis://:secret@127.0.0.1:{}", server.port()));
        let mut connection = Connection::open(server.addr()).await.unwrap();
        let refused = connection.call(&["GET", "a"]).await.unwrap();
        assert!(refused.to_string().starts_with("NOAUTH"), "{refused}");
        assert_eq!(connection.call(&["AUTH", "secret"]).await.unwrap().to_string(), "OK");
        assert_eq!(connection.call(&["SET", "a", "1"]).await.unwrap().to_string(), "OK");
        assert_eq!(connection.call(&["AUTH", "reader", "word"]).await.unwrap().to_string(), "OK");
        let refused = connection.call(&["SET", "a", "2"]).await.unwrap();
        assert!(refused.to_string().starts_with("NOPERM"), "{refused}");
        assert_eq!(server.command(&["GET", "a"]).await, "1");
    })
    .await;
}

#[tokio::test]
async fn settings_are_set_and_statistics_are_read() {
    limited(async {
        let small = RedisServer::builder().set("maxmemory", "3mb").set("maxmemory-policy", "noeviction");
        let Some(server) = small.start().await else { return };
        assert_eq!(server.info("memory").await["maxmemory"], "3145728");
        server.config_set("maxmemory-policy", "allkeys-lru").await;
        assert_eq!(server.info("memory").await["maxmemory_policy"], "allkeys-lru");
        server.reset_stats().await;
        server.command(&["GET", "a"]).await;
        server.command(&["GET", "b"]).await;
        let stats = server.commandstats().await;
        assert_eq!(stats["get"], 2, "{stats:?}");
        assert_eq!(stats.get("set"), None);
    })
    .await;
}

#[tokio::test]
#[should_panic(expected = "Bad directive")]
async fn a_server_that_cannot_start_says_why() {
    if RedisServer::builder().set("no-such-setting", "1").start().await.is_none() {
        panic!("Bad directive is what an installed one says");
    }
}

#[tokio::test]
async fn many_servers_start_at_once_on_ports_of_their_own() {
    limited(async {
        let servers = futures_util::future::join_all((0..16).map(|_| RedisServer::start())).await;
        let mut ports: Vec<u16> = servers.iter().flatten().map(RedisServer::port).collect();
        let count = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), count);
        assert!(count == 16 || count == 0);
    })
    .await;
}
