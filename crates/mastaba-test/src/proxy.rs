//! A proxy that breaks connections (feature `servers`, Unix).

mod link;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use crate::servers::process::free_port;
use crate::servers::wait;
use link::ProxyLink;

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What clients send.
    ToServer,
    /// What the server answers.
    ToClient,
}

/// Stands between clients and a server, on a loopback port of its own, and passes everything on until a test says otherwise.
///
/// What a call sets holds from the moment it returns, for connections that are there and those to come, until another
/// call changes it. Dropping it closes its port and all its connections. It runs on the runtime where it was
/// made.
///
/// ```
/// use mastaba_test::proxy::Proxy;
/// use mastaba_test::servers::{RedisServer, resp::Connection};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let Some(server) = RedisServer::start().await else { return };
/// let proxy = Proxy::to(server.addr()).await;
/// let mut connection = Connection::open(proxy.addr()).await.unwrap();
/// assert_eq!(connection.call(&["PING"]).await.unwrap().to_string(), "PONG");
/// proxy.refuse().await;
/// assert!(connection.call(&["PING"]).await.is_err());
/// assert!(Connection::open(proxy.addr()).await.is_err());
/// # });
/// ```
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    board: Arc<Board>,
    /// Accepts; none while connections are refused.
    door: Mutex<Option<JoinHandle<()>>>,
}

impl Proxy {
    /// In front of `server`, to which it connects anew for each connection that it gets.
    pub async fn to(server: SocketAddr) -> Self {
        loop {
            let addr = (Ipv4Addr::LOCALHOST, free_port()).into();
            let Ok(listener) = TcpListener::bind(addr).await else { continue };
            let board = Arc::new(Board { server, state: Mutex::default() });
            let door = Mutex::new(Some(tokio::spawn(accept(listener, board.clone()))));
            return Self { addr, board, door };
        }
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The same as the address of a Redis without a password.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.board.state().accepted
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.board.state().links.len()
    }

    /// Passes everything on again. A connection that has lost bytes stays silent: it has a hole.
    pub async fn pass(&self) {
        self.turn(LinkMode::Pass).await;
    }

    /// Closes its port, so that the system refuses connections, and all connections that it has.
    pub async fn refuse(&self) {
        self.board.state().mode = LinkMode::Pass;
        let door = self.door().take();
        if let Some(door) = door {
            door.abort();
            // the port is closed when the task is gone
            let _ = door.await;
        }
        self.cut().await;
    }

    /// Holds back each piece of what is sent this long, in both directions. Nothing is lost.
    pub async fn slow(&self, by: Duration) {
        self.turn(LinkMode::Slow(by)).await;
    }

    /// Accepts and reads, but answers nothing and passes nothing on, as behind a cable that was pulled. Nobody learns
    /// of it, for connections stay open.
    pub async fn half_open(&self) {
        self.turn(LinkMode::Swallow { to_server: true, to_client: true }).await;
    }

    /// Loses what goes in this direction, and passes the other one on.
    pub async fn swallow(&self, what: Direction) {
        let to_server = what == Direction::ToServer;
        self.turn(LinkMode::Swallow { to_server, to_client: !to_server }).await;
    }

    /// Closes all connections that are open now, and waits until they are closed. New ones are welcome.
    pub async fn cut(&self) {
        self.cut_those(|_| true).await;
    }

    /// Closes those connections whose client has sent these words one after another, such as `CLIENT TRACKING`; case
    /// and the framing of the protocol of Redis do not matter. Only the first megabyte of a connection is remembered.
    pub async fn cut_marked(&self, words: &str) {
        self.cut_those(|link| link.has_sent(words)).await;
    }

    /// [`cut_marked`](Self::cut_marked), and from now on closes each connection that sends these words before the server
    /// sees them; until [`pass`](Self::pass) or another one of those that change what happens.
    pub async fn ban(&self, words: &str) {
        self.turn(LinkMode::Ban(words.to_owned())).await;
        self.cut_marked(words).await;
    }

    /// Lets the next request through to the server, and when it is answered (so it was done), resets its connection
    /// instead of passing the answer on. Only one: what follows on other connections is not touched.
    pub fn reset_after_request(&self) {
        self.reset_after("");
    }

    /// [`reset_after_request`](Self::reset_after_request) for the next request that has these words in it.
    ///
    /// A request is what arrives at once: those sent together share its fate.
    pub fn reset_after(&self, words: &str) {
        self.board.state().trap = Some(words.to_owned());
    }

    async fn cut_those(&self, which: impl Fn(&ProxyLink) -> bool) {
        self.catch_up().await;
        let mut cut: Vec<Arc<ProxyLink>> = self.board.state().links.clone();
        cut.retain(|link| which(link));
        cut.iter().for_each(|link| link.cut());
        let is_gone =
            |link: &Arc<ProxyLink>| !self.board.state().links.iter().any(|other| Arc::ptr_eq(other, link));
        wait::until("connections that close", async || cut.iter().all(is_gone)).await;
    }

    /// Waits until all are accepted that have connected so far: to their clients they are open, though the proxy does
    /// not know them. The port serves in order, so a connection of our own is the last one of them.
    async fn catch_up(&self) {
        if self.door().is_none() {
            return;
        }
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket can be bound");
        let own = socket.local_addr().expect("a bound socket has an address");
        self.board.state().own.push(own);
        let _connection = socket.connect(self.addr).await.expect("the door is open");
        wait::until("a proxy that accepts", async || !self.board.state().own.contains(&own)).await;
    }

    async fn turn(&self, mode: LinkMode) {
        self.board.state().mode = mode;
        wait::until("a port that is free again", async || self.listen().await).await;
    }

    /// Opens the port unless it is open.
    async fn listen(&self) -> bool {
        if self.door().is_none() {
            let Ok(listener) = TcpListener::bind(self.addr).await else { return false };
            *self.door() = Some(tokio::spawn(accept(listener, self.board.clone())));
        }
        true
    }

    fn door(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(door) = self.door().take() {
            door.abort();
        }
        self.board.state().links.iter().for_each(|link| link.cut());
    }
}

#[derive(Clone, Debug, Default)]
enum LinkMode {
    #[default]
    Pass,
    Slow(Duration),
    Swallow {
        to_server: bool,
        to_client: bool,
    },
    Ban(String),
}

impl LinkMode {
    fn swallows(&self, what: Direction) -> bool {
        match (self, what) {
            (Self::Swallow { to_server, .. }, Direction::ToServer) => *to_server,
            (Self::Swallow { to_client, .. }, Direction::ToClient) => *to_client,
            _ => false,
        }
    }
}

/// What all connections look at.
#[derive(Debug)]
struct Board {
    server: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mode: LinkMode,
    /// The words of the request whose answer will be lost.
    trap: Option<String>,
    links: Vec<Arc<ProxyLink>>,
    accepted: usize,
    /// Where connections of our own come from, until they are accepted.
    own: Vec<SocketAddr>,
}

impl Board {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, board: Arc<Board>) {
    loop {
        let Ok((client, from)) = listener.accept().await else {
            // out of files, perhaps; those who close them need their turn
            tokio::task::yield_now().await;
            continue;
        };
        let link = Arc::new(ProxyLink::default());
        {
            let mut state = board.state();
            if let Some(index) = state.own.iter().position(|own| *own == from) {
                state.own.swap_remove(index);
                continue;
            }
            state.accepted += 1;
            state.links.push(link.clone());
        }
        let board = board.clone();
        tokio::spawn(async move {
            link.run(client, &board).await;
            board.state().links.retain(|other| !Arc::ptr_eq(other, &link));
        });
    }
}
