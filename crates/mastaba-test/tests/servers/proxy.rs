use std::io::ErrorKind;
use std::time::{Duration, Instant};

use mastaba_test::proxy::{Direction, Proxy};
use mastaba_test::servers::RedisServer;
use mastaba_test::servers::resp::Connection;

use super::limited;

/// Long for a server on the same machine.
const A_WHILE: Duration = Duration::from_millis(200);

struct Set {
    server: RedisServer,
    proxy: Proxy,
}

impl Set {
    async fn start() -> Option<Self> {
        let server = RedisServer::start().await?;
        let proxy = Proxy::to(server.addr()).await;
        Some(Self { server, proxy })
    }

    async fn connect(&self) -> Connection {
        Connection::open(self.proxy.addr()).await.expect("the proxy accepts")
    }

    async fn works(&self) -> bool {
        let Ok(mut connection) = Connection::open(self.proxy.addr()).await else { return false };
        answers(&mut connection).await
    }
}

async fn answers(connection: &mut Connection) -> bool {
    connection.call(&["PING"]).await.is_ok_and(|reply| reply.to_string() == "PONG")
}

async fn is_silent(connection: &mut Connection, command: &[&str]) -> bool {
    tokio::time::timeout(A_WHILE, connection.call(command)).await.is_err()
}

#[tokio::test]
async fn everything_passes_and_connections_are_counted() {
    limited(async {
        let Some(set) = Set::start().await else { return };
        let (mut one, mut two) = (set.connect().await, set.connect().await);
        assert!(answers(&mut one).await && answers(&mut two).await);
        let long = "x".repeat(1 << 20);
        assert_eq!(one.call(&["SET", "long", &long]).await.unwrap().to_string(), "OK");
        assert_eq!(two.call(&["GET", "long"]).await.unwrap().to_string(), long);
        assert_eq!((set.proxy.accepted(), set.proxy.open()), (2, 2));
        set.proxy.cut().await;
        assert_eq!((set.proxy.accepted(), set.proxy.open()), (2, 0));
        assert!(!answers(&mut one).await && !answers(&mut two).await);
        assert!(set.works().await, "a cut is for those that were there");
        // not accepted yet, for the proxy runs on this thread and had no turn
        let early = std::net::TcpStream::connect(set.proxy.addr()).unwrap();
        set.proxy.cut().await;
        early.set_read_timeout(Some(A_WHILE)).unwrap();
        let read = std::io::Read::read(&mut &early, &mut [0]);
        assert!(read.as_ref().is_ok_and(|count| *count == 0), "{read:?}");
    })
    .await;
}

#[tokio::test]
async fn refused_connections_are_refused_by_the_system_and_welcome_again_later() {
    limited(async {
        let Some(set) = Set::start().await else { return };
        let mut before = set.connect().await;
        assert!(answers(&mut before).await);
        set.proxy.refuse().await;
        assert_eq!(
            Connection::open(set.proxy.addr()).await.unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        assert!(!answers(&mut before).await);
        set.proxy.pass().await;
        assert!(set.works().await);
    })
    .await;
}

#[tokio::test]
async fn a_slow_connection_takes_its_time_and_loses_nothing() {
    limited(async {
        let Some(set) = Set::start().await else { return };
        let mut connection = set.connect().await;
        assert!(answers(&mut connection).await);
        set.proxy.slow(A_WHILE).await;
        let began = Instant::now();
        assert!(answers(&mut connection).await);
        assert!(began.elapsed() >= 2 * A_WHILE, "once to the server, once back: {:?}", began.elapsed());
        set.proxy.pass().await;
        assert!(answers(&mut connection).await);
    })
    .await;
}

#[tokio::test]
async fn a_half_open_connection_is_silent_for_good_and_nothing_reaches_the_server() {
    limited(async {
        let Some(set) = Set::start().await else { return };
        let (mut used, mut unused) = (set.connect().await, set.connect().await);
        assert!(answers(&mut used).await && answers(&mut unused).await);
        set.proxy.half_open().await;
        assert!(is_silent(&mut used, &["SET", "a", "1"]).await);
        let mut new = set.connect().await;
        assert!(is_silent(&mut new, &["SET", "b", "1"]).await);
        assert_eq!(set.server.command(&["DBSIZE"]).await, "0", "nothing reaches the server");
        set.server.kill().await;
        let mut newer = set.connect().await;
        assert!(is_silent(&mut newer, &["PING"]).await, "nobody learns that the server is gone");
        assert!(is_silent(&mut unused, &["PING"]).await, "neither do those that were there");
        set.server.restart().await;
        set.proxy.pass().await;
        assert!(is_silent(&mut used, &["PING"]).await, "what has a hole stays silent");
        assert!(set.works().await);
    })
    .await;
}

#[tokio::test]
async fn one_way_partitions_lose_requests_or_answers() {
    limited(async {
        let Some(set) = Set::start().await else { return };
        let (mut one, mut two) = (set.connect().await, set.connect().await);
        set.proxy.swallow(Direction::ToServer).await;
        assert!(is_silent(&mut one, &["SET", "a", "1"]).await);
        assert_eq!(set.server.command(&["EXISTS", "a"]).await, "0");
        set.proxy.swallow(Direction::ToClient).await;
        assert!(is_silent(&mut two, &["SET", "b", "1"]).await);
        assert_eq!(set.server.command(&["EXISTS", "b"]).await, "1");
    })
    .await;
}

#[tokio::test]
async fn a_request_is_done_and_its_answer_is_lost_once() {
    limited(async {
        let Some(set) = Set::start().await else { return };
        let (mut one, mut two) = (set.connect().await, set.connect().await);
        set.proxy.reset_after_request();
        let error = one.call(&["SET", "a", "1"]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(set.server.command(&["GET", "a"]).await, "1");
        assert!(answers(&mut two).await, "the next one is not touched");

        set.proxy.reset_after("set b");
        assert!(answers(&mut two).await, "other words are not meant");
        assert!(two.call(&["SET", "b", "2"]).await.is_err());
        assert_eq!(set.server.command(&["GET", "b"]).await, "2");
        assert!(set.works().await);
    })
    .await;
}

#[tokio::test]
async fn marked_connections_are_cut_and_can_be_kept_out() {
    limited(async {
        let Some(set) = Set::start().await else { return };
        let (mut marked, mut plain) = (set.connect().await, set.connect().await);
        assert_eq!(marked.call(&["CLIENT", "TRACKING", "OFF"]).await.unwrap().to_string(), "OK");
        assert!(answers(&mut plain).await);
        set.proxy.cut_marked("CLIENT TRACKING").await;
        assert!(!answers(&mut marked).await);
        assert!(answers(&mut plain).await);
        let mut again = set.connect().await;
        assert_eq!(again.call(&["CLIENT", "TRACKING", "OFF"]).await.unwrap().to_string(), "OK");

        set.proxy.ban("CLIENT TRACKING").await;
        assert!(!answers(&mut again).await);
        set.server.reset_stats().await;
        let mut third = set.connect().await;
        assert!(third.call(&["CLIENT", "TRACKING", "OFF"]).await.is_err());
        assert_eq!(set.server.commandstats().await.get("client|tracking"), None);
        assert!(answers(&mut plain).await && set.works().await);
        set.proxy.pass().await;
        let mut fourth = set.connect().await;
        assert_eq!(fourth.call(&["CLIENT", "TRACKING", "OFF"]).await.unwrap().to_string(), "OK");
    })
    .await;
}

#[tokio::test]
async fn a_dropped_proxy_closes_all() {
    limited(async {
        let Some(set) = Set::start().await else { return };
        let mut connection = set.connect().await;
        assert!(answers(&mut connection).await);
        let addr = set.proxy.addr();
        drop(set.proxy);
        assert!(!answers(&mut connection).await);
        assert!(Connection::open(addr).await.is_err());
    })
    .await;
}
