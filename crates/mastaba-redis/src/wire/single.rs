//! One server at a time: by its address, by its socket, or the one that the sentinels name.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline,
    ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult, Value,
};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::explain::{at_start, discreet, explain};
use super::greet::{self, Tracker};
use super::per_runtime::{Keeping, PerRuntime, current, per_runtime};
use super::{identity, tcp_settings};
use crate::config::{RedisConfig, Servers};
use crate::greeting::Greeting;
use crate::hub::{Hub, LOOK_EVERY};
use crate::loss::Loss;
use mastaba::shared::connections::ConnectError;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A connection of one runtime, which comes back by itself. One task keeps it, and ends with the link.
pub(crate) struct SingleLink {
    hub: Arc<Hub>,
    state: watch::Receiver<State>,
    /// Something is wrong with the connection of this number.
    suspect: Arc<Suspect>,
}

#[derive(Clone)]
enum State {
    /// It is new, or was lost just now, and the first attempt to get it is under way.
    Connecting,
    Up(LiveConnection),
    Down(RedisError),
}

#[derive(Clone)]
struct LiveConnection {
    number: u64,
    /// What the server said that it is, or the number in the store where it does not say, and the incarnation that this makes
    /// of the store (`R11`).
    greeted: u64,
    by: GreetedBy,
    incarnation: u64,
    wire: MultiplexedConnection,
    ear: Arc<Tracker>,
}

/// Who says which store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GreetedBy {
    Server,
    /// A number in the store: [`identity`].
    Record,
}

#[derive(Default)]
struct Suspect {
    number: std::sync::atomic::AtomicU64,
    notify: Notify,
    /// The number in the store may be another one.
    look: Notify,
}

/// How to get a connection.
enum Opener {
    Client(Box<Client>),
    /// It keeps connections to the sentinels, of the runtime that it was used on.
    Sentinel(Box<SentinelClient>),
}

impl SingleLink {
    /// Connects on the runtime of the caller; others connect when they ask for the first time.
    pub(crate) async fn connect(
        hub: &Arc<Hub>,
        optional: bool,
    ) -> Result<Arc<PerRuntime<Self>>, ConnectError> {
        let wrong = |error: RedisError| ConnectError::config(error.to_string()).because(error);
        let runtime = current().map_err(wrong)?;
        let mut opener = Opener::new(hub)?;
        let suspect = Arc::new(Suspect::default());
        let first = open(&mut opener, hub, 1, &suspect, false).await;
        at_start(&hub.config, first.as_ref().err(), optional)?;
        let of = Arc::downgrade(hub);
        let links = per_runtime(hub, move || {
            let hub = of.upgrade().ok_or_else(closed)?;
            let again = |error: ConnectError| {
                RedisError::from((ErrorKind::InvalidClientConfig, "", error.to_string()))
            };
            let opener = Opener::new(&hub).map_err(again)?;
            Ok(Self::begin(opener, &hub, Arc::default(), State::Connecting))
        });
        let first = first.map_or_else(State::Down, State::Up);
        links.settle(&runtime, || Ok(Self::begin(opener, hub, suspect, first))).map_err(wrong)?;
        Ok(links)
    }

    fn begin(opener: Opener, hub: &Arc<Hub>, suspect: Arc<Suspect>, state: State) -> (Arc<Self>, Keeping) {
        let (tell, state) = watch::channel(state);
        let link = Arc::new(Self { hub: hub.clone(), state, suspect: suspect.clone() });
        (link, Box::pin(keep(opener, Arc::downgrade(hub), tell, suspect)))
    }

    /// The connection, or why there is none. Waits for the first attempt after a loss, and for none after it.
    async fn connection(&self) -> RedisResult<LiveConnection> {
        if let State::Up(connection) = &*self.state.borrow()
            && self.is_current(connection)
        {
            return Ok(connection.clone());
        }
        let mut state = self.state.clone();
        let known = state.wait_for(|state| match state {
            State::Connecting => false,
            State::Up(connection) => self.is_current(connection),
            State::Down(_) => true,
        });
        match known.await.as_deref() {
            Ok(State::Up(connection)) => Ok(connection.clone()),
            Ok(State::Down(error)) => Err(error.clone()),
            _ => Err(closed()),
        }
    }

    /// Whether a connection leads to the store that the process reckons with. The link of another runtime may have found
    /// a new master: what stands in the old one must not be taken for what stands in the new one (`R11`).
    fn is_current(&self, connection: &LiveConnection) -> bool {
        let store = self.hub.incarnation();
        let current = store == 0 || store == connection.incarnation;
        match connection.by {
            _ if current => {}
            GreetedBy::Server => self.suspect.tell(connection.number),
            // not lost: what was lost renews the number, and two links would take turns at that
            GreetedBy::Record => self.suspect.look.notify_one(),
        }
        current
    }

    /// The answer to one command. Errors within a list are left there: to look for them copies the list.
    pub(crate) async fn one(&self, cmd: &Cmd) -> RedisResult<Value> {
        let mut connection = self.connection().await?;
        let done = match connection.wire.req_packed_command(cmd).await {
            Ok(Value::ServerError(error)) => Err(error.into()),
            done => done,
        };
        self.judge(connection.number, done.as_ref().err());
        done
    }

    pub(crate) async fn many(&self, commands: Vec<Cmd>) -> RedisResult<Vec<Value>> {
        let mut connection = self.connection().await?;
        let mut pipeline = Pipeline::with_capacity(commands.len());
        let count = commands.len();
        commands.into_iter().for_each(|cmd| {
            pipeline.add_command(cmd);
        });
        let done = connection.wire.req_packed_commands(&pipeline, 0, count).await;
        let refused = done.as_ref().ok().and_then(|values| {
            values.iter().find_map(|value| match value {
                Value::ServerError(error) => Some(RedisError::from(error.clone())),
                _ => None,
            })
        });
        self.judge(connection.number, done.as_ref().err().or(refused.as_ref()));
        done
    }

    pub(crate) async fn catch_up(&self) -> RedisResult<()> {
        let mut connection = self.connection().await?;
        connection.ear.track(&mut connection.wire).await?;
        let done =
            connection.wire.req_packed_command(&redis::cmd("PING")).await.and_then(Value::extract_error);
        self.judge(connection.number, done.as_ref().err());
        done.map(drop)
    }

    /// A connection that is broken, or leads to a server that is no master any longer, is replaced.
    fn judge(&self, number: u64, error: Option<&RedisError>) {
        let Some(error) = error else { return };
        if error.is_connection_dropped()
            || error.is_io_error() && !error.is_timeout()
            || error.code() == Some("READONLY")
        {
            self.suspect.tell(number);
        }
    }
}

fn closed() -> RedisError {
    (ErrorKind::Io, "the backend was closed").into()
}

impl Suspect {
    fn tell(&self, number: u64) {
        self.number.fetch_max(number, std::sync::atomic::Ordering::AcqRel);
        self.notify.notify_one();
    }

    /// Waits until something is wrong with the connection of this number.
    async fn of(&self, number: u64) {
        while self.number.load(std::sync::atomic::Ordering::Acquire) < number {
            self.notify.notified().await;
        }
    }
}

/// Keeps the connection until nobody uses it any longer.
async fn keep(mut opener: Opener, hub: Weak<Hub>, tell: watch::Sender<State>, suspect: Arc<Suspect>) {
    let mut number = 1;
    let mut lost = false;
    loop {
        let state = tell.borrow().clone();
        if let State::Up(connection) = state {
            tokio::select! {
                () = watch_over(connection, &hub, &tell, &suspect) => {}
                () = suspect.of(number) => {}
                () = tell.closed() => return,
            }
            let Some(hub) = hub.upgrade() else { return };
            tracing::debug!(target: "mastaba", "{}: the connection was lost", hub.config.place());
            let _ = tell.send(State::Connecting);
            lost = true;
            hub.lost();
        }
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(hub) = hub.upgrade() else { return };
            number += 1;
            match open(&mut opener, &hub, number, &suspect, lost).await {
                Ok(connection) => {
                    lost = false;
                    let _ = tell.send(State::Up(connection));
                    break;
                }
                Err(error) => {
                    tracing::debug!(target: "mastaba", "{}", explain(&hub.config, error.clone()));
                    let _ = tell.send(State::Down(error));
                }
            }
            drop(hub);
            tokio::select! {
                () = sleep(pause.mul_f64(0.5 + fastrand::f64())) => {}
                () = tell.closed() => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// How soon a look may follow another one.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Ends when the server no longer answers, or says that it is another one (`R11`). Some networks swallow a connection silently.
///
/// Where a number in the store says which it is, another one is taken over on the same connection: a new one could lead to
/// another server, and nobody would know.
async fn watch_over(
    mut connection: LiveConnection,
    hub: &Weak<Hub>,
    tell: &watch::Sender<State>,
    suspect: &Suspect,
) {
    loop {
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = suspect.look.notified() => sleep(LOOK_AGAIN).await,
        }
        let Some(hub) = hub.upgrade() else { return };
        let looking = look(&mut connection.wire, &hub, false);
        let Ok(Ok((greeted, by))) = timeout(hub.config.connect_timeout, looking).await else { return };
        if by != connection.by {
            return;
        }
        if by == GreetedBy::Record {
            connection.greeted = greeted;
            connection.incarnation = hub.set_members([(String::new(), greeted)].into());
            // also where it is what it was: readers may wait for the process to reckon with it again
            let _ = tell.send(State::Up(connection.clone()));
            continue;
        }
        if greeted != connection.greeted {
            return hub.met("", greeted);
        }
        // nothing is sure, or the link of another runtime has found another server
        if hub.incarnation() != connection.incarnation {
            return;
        }
    }
}

/// What the server is now, which has to be a master.
async fn look(wire: &mut MultiplexedConnection, hub: &Hub, renew: bool) -> RedisResult<(u64, GreetedBy)> {
    let greeting = greet::ask(wire).await?;
    if greeting.replica {
        return Err(is_replica());
    }
    identify(wire, hub, &greeting, renew).await
}

/// Which store it is: as the server says, or as a number in it does. `renew`: who asks has lost a connection to it.
async fn identify(
    wire: &mut MultiplexedConnection,
    hub: &Hub,
    greeting: &Greeting,
    renew: bool,
) -> RedisResult<(u64, GreetedBy)> {
    match greeting.incarnation {
        Some(greeted) => Ok((greeted, GreetedBy::Server)),
        None => Ok((identity::recall(wire, hub, renew).await?, GreetedBy::Record)),
    }
}

fn is_replica() -> RedisError {
    greet::refuse(
        "the server is a replica, which takes no writes; use the address of its master, or redis-sentinel://"
            .to_owned(),
    )
}

/// Connects to the server, and asks it what it is before anybody else may send it a command (`R11`). `lost`: the link has had a
/// connection before.
async fn open(
    opener: &mut Opener,
    hub: &Arc<Hub>,
    number: u64,
    suspect: &Arc<Suspect>,
    lost: bool,
) -> RedisResult<LiveConnection> {
    let work = async {
        let opened = open_once(opener, hub, number, suspect, lost).await;
        match opened {
            Err(error) if !hub.has_lost(Loss::Resp3) && is_about_hello(&error) => {
                hub.lose(Loss::Resp3);
                hub.say_losses(Some(&discreet(&hub.config, error).to_string()));
                let again = |error: ConnectError| {
                    RedisError::from((ErrorKind::InvalidClientConfig, "", error.to_string()))
                };
                *opener = Opener::new(hub).map_err(again)?;
                open_once(opener, hub, number, suspect, lost).await
            }
            opened => opened,
        }
    };
    match timeout(hub.config.connect_timeout * 2, work).await {
        Ok(done) => done.map_err(|error| discreet(&hub.config, error)),
        Err(_) => Err((ErrorKind::Io, "no answer within the time to connect").into()),
    }
}

/// `HELLO`, which begins RESP3, is refused: by an old server, by a proxy, or by a user's rights.
fn is_about_hello(error: &RedisError) -> bool {
    let refused = matches!(error.code(), Some("ERR" | "NOPERM")) && {
        let said = error.detail().unwrap_or_default().to_ascii_lowercase();
        said.contains("hello")
    };
    error.kind() == ErrorKind::RESP3NotSupported || error.code() == Some("NOPROTO") || refused
}

async fn open_once(
    opener: &mut Opener,
    hub: &Arc<Hub>,
    number: u64,
    suspect: &Arc<Suspect>,
    lost: bool,
) -> RedisResult<LiveConnection> {
    let ear = Tracker::of(hub);
    let (hearing, suspect) = (ear.clone(), suspect.clone());
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(hub.config.connect_timeout))
        // each operation has a budget of its own
        .set_response_timeout(None);
    if !hub.has_lost(Loss::Resp3) {
        config = config.set_push_sender(move |push: redis::PushInfo| {
            if push.kind == redis::PushKind::Disconnection {
                suspect.tell(number);
            }
            hearing.hear(&push)
        });
    }
    let mut wire = match opener {
        Opener::Client(client) => client.get_multiplexed_async_connection_with_config(&config).await?,
        Opener::Sentinel(sentinel) => sentinel.get_async_connection_with_config(&config).await?,
    };
    let greeting = greet::ask(&mut wire).await?;
    if let Some(problem) = greeting.problem(false) {
        return Err(greet::refuse(problem));
    }
    if greeting.replica {
        return Err(is_replica());
    }
    greet::examine(&mut wire, hub, &greeting).await?;
    hub.warn(&greeting);
    let (greeted, by) = identify(&mut wire, hub, &greeting, lost).await?;
    let incarnation = hub.set_members([(String::new(), greeted)].into());
    ear.track(&mut wire).await?;
    Ok(LiveConnection { number, greeted, by, incarnation, wire, ear })
}

impl Opener {
    fn new(hub: &Hub) -> Result<Self, ConnectError> {
        let config = &hub.config;
        let wrong =
            |error: RedisError| ConnectError::config(format!("{}: {error}", config.place())).because(error);
        let protocol =
            if hub.has_lost(Loss::Resp3) { ProtocolVersion::RESP2 } else { ProtocolVersion::RESP3 };
        let mut redis = RedisConnectionInfo::default().set_db(config.database).set_protocol(protocol);
        if let Some(username) = &config.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &config.password {
            redis = redis.set_password(password);
        }
        let tcp = |host: &str, port: u16| address(config, host, port);
        let at = match &config.servers {
            Servers::One(host, port) => tcp(host, *port),
            Servers::Socket(path) => ConnectionAddr::Unix(path.clone()),
            Servers::Sentinel { sentinels, master } => {
                let sentinels: Vec<_> = sentinels.iter().map(|(host, port)| tcp(host, *port)).collect();
                let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)
                    .map_err(wrong)?
                    .set_client_to_redis_db(config.database)
                    .set_client_to_redis_tcp_settings(tcp_settings())
                    .set_client_to_sentinel_tcp_settings(tcp_settings())
                    .set_client_to_redis_protocol(protocol);
                if let Some(username) = &config.username {
                    builder = builder.set_client_to_redis_username(username);
                }
                if let Some(password) = &config.password {
                    builder = builder.set_client_to_redis_password(password);
                }
                if let Some(username) = &config.sentinel_username {
                    builder = builder.set_client_to_sentinel_username(username);
                }
                if let Some(password) = &config.sentinel_password {
                    builder = builder.set_client_to_sentinel_password(password);
                }
                #[cfg(feature = "tls")]
                if config.tls.is_some() {
                    let certificates = super::certificates(hub)?;
                    builder = builder
                        .set_client_to_redis_tls_mode(redis::TlsMode::Secure)
                        .set_client_to_sentinel_tls_mode(redis::TlsMode::Secure)
                        .set_client_to_redis_certificates(certificates.clone())
                        .set_client_to_sentinel_certificates(certificates);
                }
                let client = builder.build().map_err(wrong)?;
                return Ok(Self::Sentinel(Box::new(client)));
            }
            Servers::Cluster(_) => return Err(ConnectError::config("a cluster is no single server")),
        };
        let info = at.into_connection_info().map_err(wrong)?;
        let info = info.set_redis_settings(redis).set_tcp_settings(tcp_settings());
        #[cfg(feature = "tls")]
        if config.tls.is_some() {
            let client = Client::build_with_tls(info, super::certificates(hub)?).map_err(wrong)?;
            return Ok(Self::Client(Box::new(client)));
        }
        Client::open(info).map(|client| Self::Client(Box::new(client))).map_err(wrong)
    }
}

pub(super) fn address(config: &RedisConfig, host: &str, port: u16) -> ConnectionAddr {
    match config.tls {
        Some(_) => ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: false, tls_params: None },
        None => ConnectionAddr::Tcp(host.to_owned(), port),
    }
}
