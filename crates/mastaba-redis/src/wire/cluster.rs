//! A cluster: slots, redirections and reconnects are the crate's; who the nodes are, and their notifications, are ours.

mod greeted;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::ConnectionLike;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisError, RedisResult, Value};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use self::greeted::{Greeted, Resolver};
use super::explain::{at_start, discreet};
use super::greet;
use super::per_runtime::{Keeping, PerRuntime, current, per_runtime};
use super::single::address;
use super::tcp_settings;
use crate::greeting::Greeting;
use crate::hub::{Hub, LOOK_EVERY};
use mastaba::shared::connections::ConnectError;

/// Between attempts at a slot that is on its way.
const LONGEST_PAUSE: Duration = Duration::from_millis(32);

/// The connections of one runtime to a cluster. One task looks after its nodes, and ends with the link.
pub(crate) struct ClusterLink {
    state: watch::Receiver<State>,
    hub: Arc<Hub>,
}

/// `None`: the first attempt is under way.
type State = Option<Result<ClusterConnection<Greeted>, RedisError>>;

impl ClusterLink {
    /// Connects on the runtime of the caller; others connect when they ask for the first time.
    pub(crate) async fn connect(
        hub: &Arc<Hub>,
        nodes: &[(String, u16)],
        optional: bool,
    ) -> Result<Arc<PerRuntime<Self>>, ConnectError> {
        let wrong = |error: RedisError| ConnectError::config(error.to_string()).because(error);
        let runtime = current().map_err(wrong)?;
        let client = client(hub, nodes)?;
        let first = open(&client, hub).await;
        at_start(&hub.config, first.as_ref().err(), optional)?;
        let (of, again) = (Arc::downgrade(hub), client.clone());
        let links = per_runtime(hub, move || {
            let hub = of.upgrade().ok_or_else(closed)?;
            Ok(Self::begin(again.clone(), &hub, None))
        });
        links.settle(&runtime, || Ok(Self::begin(client, hub, Some(first)))).map_err(wrong)?;
        Ok(links)
    }

    fn begin(client: ClusterClient, hub: &Arc<Hub>, state: State) -> (Arc<Self>, Keeping) {
        let (tell, state) = watch::channel(state);
        let link = Arc::new(Self { state, hub: hub.clone() });
        (link, Box::pin(look_after(client, Arc::downgrade(hub), tell)))
    }

    /// The connection, or why there is none. Waits for the first attempt, and for none after it.
    async fn connection(&self) -> RedisResult<ClusterConnection<Greeted>> {
        if let Some(known) = &*self.state.borrow() {
            return known.clone();
        }
        let mut state = self.state.clone();
        let known = state.wait_for(Option::is_some).await;
        known.ok().and_then(|known| known.clone()).unwrap_or_else(|| Err(closed()))
    }

    pub(crate) async fn one(&self, cmd: Cmd) -> RedisResult<Value> {
        let mut connection = self.connection().await?;
        let mut pause = Duration::from_millis(1);
        loop {
            let done = once(&mut connection, &cmd).await;
            // A slot is on its way. The crate sends `ASKING` ahead of the command, and on a connection that many share
            // the command of another one may come between and use it up; after some attempts it gives up. A redirection
            // says that nothing was done, so it is tried for as long as the budget of the operation reaches.
            let redirected = |error: &RedisError| matches!(error.code(), Some("ASK" | "MOVED" | "TRYAGAIN"));
            if !done.as_ref().is_err_and(redirected) {
                return done;
            }
            sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A read of many keys: `all` of them, or `each` by itself where that is refused. While a slot is on its way, neither of
    /// its nodes answers for several keys of it unless it has all of them, and a key that is nowhere is one that it does
    /// not have. That lasts for as long as the slot takes.
    pub(crate) async fn read(&self, all: Cmd, each: impl Iterator<Item = Cmd>) -> RedisResult<Value> {
        let done = once(&mut self.connection().await?, &all).await;
        match done.as_ref().map_err(RedisError::code) {
            Err(Some("TRYAGAIN")) => {
                let each = each.map(|cmd| async { self.one(cmd).await.map(only) });
                try_join_all(each).await.map(Value::Array)
            }
            Err(Some("ASK" | "MOVED")) => self.one(all).await,
            _ => done,
        }
    }

    /// A ping to each node whose records count. One that does not answer, or has been left out of the map of slots,
    /// fails it.
    pub(crate) async fn catch_up(&self) -> RedisResult<()> {
        let connection = self.connection().await?;
        let nodes = self.hub.members();
        if nodes.is_empty() {
            return Err((ErrorKind::Io, "the nodes of the cluster are not known").into());
        }
        let pings = nodes.keys().map(|node| at(&connection, node, redis::cmd("PING")));
        try_join_all(pings).await.map(drop)
    }
}

/// The answer for the only key of a list.
fn only(value: Value) -> Value {
    match value {
        Value::Array(mut values) if values.len() == 1 => values.remove(0),
        other => other,
    }
}

async fn once(connection: &mut ClusterConnection<Greeted>, cmd: &Cmd) -> RedisResult<Value> {
    connection.req_packed_command(cmd).await.and_then(Value::extract_error)
}

impl ClusterLink {
    /// The masters whose records count.
    pub(crate) async fn nodes(&self) -> RedisResult<Vec<String>> {
        self.connection().await?;
        Ok(self.hub.members().into_keys().collect())
    }

    /// The answer of one node.
    pub(crate) async fn ask(&self, node: &str, cmd: Cmd) -> RedisResult<Value> {
        at(&self.connection().await?, node, cmd).await
    }
}

fn closed() -> RedisError {
    (ErrorKind::Io, "the backend was closed").into()
}

fn client(hub: &Arc<Hub>, nodes: &[(String, u16)]) -> Result<ClusterClient, ConnectError> {
    let config = &hub.config;
    let wrong =
        |error: RedisError| ConnectError::config(format!("{}: {error}", config.place())).because(error);
    let nodes = nodes
        .iter()
        .map(|(host, port)| address(config, host, *port).into_connection_info())
        .collect::<Result<Vec<_>, _>>();
    let mut builder = ClusterClientBuilder::new(nodes.map_err(wrong)?)
        .use_protocol(ProtocolVersion::RESP3)
        .tcp_settings(tcp_settings())
        .connection_timeout(config.connect_timeout)
        // each operation has a budget of its own; this one finds a node that has fallen silent
        .response_timeout(config.connect_timeout)
        .retries(4)
        .min_retry_wait(5)
        .max_retry_wait(200)
        .async_dns_resolver(Resolver(Arc::downgrade(hub)));
    if let Some(username) = &config.username {
        builder = builder.username(username);
    }
    if let Some(password) = &config.password {
        builder = builder.password(password);
    }
    #[cfg(feature = "tls")]
    if config.tls.is_some() {
        builder = builder.tls(redis::TlsMode::Secure).certs(super::certificates(hub)?);
    }
    builder.build().map_err(wrong)
}

async fn open(client: &ClusterClient, hub: &Arc<Hub>) -> RedisResult<ClusterConnection<Greeted>> {
    let connection = client.get_async_generic_connection::<Greeted>();
    let connection = match timeout(hub.config.connect_timeout * 2, connection).await {
        Ok(connection) => connection.map_err(|error| discreet(&hub.config, error))?,
        Err(_) => return Err((ErrorKind::Io, "no answer within the time to connect").into()),
    };
    look(&connection, hub).await?;
    Ok(connection)
}

/// Connects until it has worked once, and then looks at the nodes again and again (`R11`).
async fn look_after(client: ClusterClient, hub: Weak<Hub>, tell: watch::Sender<State>) {
    let Some(mut looks) = hub.upgrade().map(|hub| hub.look.subscribe()) else { return };
    let mut pause = Duration::from_millis(50);
    loop {
        let Some(strong) = hub.upgrade() else { return };
        let state = tell.borrow().clone();
        let wait = match state {
            Some(Ok(connection)) => {
                let looked = look(&connection, &strong).await;
                // soon again while nothing that is stored counts
                if looked.is_ok() && strong.incarnation() != 0 {
                    LOOK_EVERY
                } else {
                    Duration::from_millis(50)
                }
            }
            None | Some(Err(_)) => {
                let opened = open(&client, &strong).await;
                let again = if opened.is_ok() { LOOK_EVERY } else { pause };
                let _ = tell.send(Some(opened));
                pause = (pause * 2).min(Duration::from_secs(1));
                again
            }
        };
        drop(strong); // which is not kept alive by being looked after
        tokio::select! {
            () = sleep(wait) => {}
            asked = looks.changed() => if asked.is_err() {
                return;
            },
            () = tell.closed() => return,
        }
    }
}

/// Learns which nodes have slots, and what each of them is.
async fn look(connection: &ClusterConnection<Greeted>, hub: &Arc<Hub>) -> RedisResult<()> {
    let (owed, newest) = hub.owed();
    let map = view(connection, newest.as_deref()).await?;
    let before = hub.members();
    let mut members = BTreeMap::new();
    for node in masters(&map) {
        let asked = at(connection, &node, greet::question());
        let greeting = match timeout(hub.config.connect_timeout, asked).await {
            Ok(Ok(value)) => Some(greet::read(value)),
            _ => None,
        };
        let incarnation = incarnation(&node, greeting, before.get(&node))?;
        members.insert(node, incarnation);
    }
    if members.is_empty() {
        return Err((ErrorKind::Io, "the cluster has no slots").into());
    }
    // R11: whoever was met as a master, and says that it has slots, has to be among them
    let mut settled = Vec::new();
    for (id, node) in owed.into_iter().filter(|(id, _)| !members.values().any(|member| member == id)) {
        let own = timeout(hub.config.connect_timeout, at(connection, &node, slots())).await;
        if matches!(&own, Ok(Ok(map)) if masters(map).contains(&node)) {
            return Err((ErrorKind::Io, "the nodes of the cluster do not agree on its masters", node).into());
        }
        settled.push(id);
    }
    hub.set_members_but(members, &settled);
    Ok(())
}

/// The incarnation of a node that the map of slots names as a master: by what it says of itself now, or by what was
/// known of it before (`R11`).
fn incarnation(node: &str, greeting: Option<Greeting>, known: Option<&u64>) -> RedisResult<u64> {
    match (greeting.map(|greeting| (greeting.replica, greeting.incarnation)), known) {
        (Some((true, _)), _) => {
            Err((ErrorKind::Io, "the map of slots is older than a failover", node.to_owned()).into())
        }
        (Some((false, Some(incarnation))), _) => Ok(incarnation),
        // it said once what it is; should it be another one now, it cannot be told
        (Some((false, None)), _) => {
            Err((ErrorKind::Io, "a node of the cluster no longer says what it is", node.to_owned()).into())
        }
        // it cannot be reached just now; should it come back as another one, it will be met
        (None, Some(known)) => Ok(*known),
        (None, None) => {
            Err((ErrorKind::Io, "a node of the cluster cannot be reached", node.to_owned()).into())
        }
    }
}

fn slots() -> Cmd {
    redis::cmd("CLUSTER").arg("SLOTS").to_owned()
}

/// Who has which slots, as the master says that was met last, or else any node.
async fn view(connection: &ClusterConnection<Greeted>, newest: Option<&str>) -> RedisResult<Value> {
    if let Some(node) = newest
        && let Ok(map) = at(connection, node, slots()).await
        && masters(&map).iter().any(|master| master == node)
    {
        return Ok(map);
    }
    let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
    connection.clone().route_command(slots(), any).await
}

/// The addresses of the masters in an answer to `CLUSTER SLOTS`.
fn masters(map: &Value) -> Vec<String> {
    let Value::Array(ranges) = map else { return Vec::new() };
    let mut nodes: Vec<String> = ranges
        .iter()
        .filter_map(|range| {
            let Value::Array(range) = range else { return None };
            let Value::Array(node) = range.get(2)? else { return None };
            let (Value::BulkString(host), Value::Int(port)) = (node.first()?, node.get(1)?) else {
                return None;
            };
            Some(format!("{}:{port}", String::from_utf8_lossy(host)))
        })
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

async fn at(connection: &ClusterConnection<Greeted>, node: &str, cmd: Cmd) -> RedisResult<Value> {
    let (host, port) = node.rsplit_once(':').unwrap_or((node, ""));
    let route = SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port: port.parse().unwrap_or(0) };
    let value = connection.clone().route_command(cmd, RoutingInfo::SingleNode(route)).await?;
    value.extract_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(role: &str) -> Greeting {
        let info = format!("redis_version:7.0.15\r\nrun_id:a\r\nmaster_replid:b\r\nrole:{role}\r\n");
        Greeting::read(&info).unwrap()
    }

    /// It has no incarnation of its own: with its master's number it would pass for it.
    #[test]
    fn a_replica_that_a_map_of_slots_names_as_a_master_is_not_believed() {
        let (master, replica) = (greeting("master"), greeting("slave"));
        let id = master.incarnation.unwrap();
        assert_eq!(replica.incarnation, Some(id));
        for known in [None, Some(&id)] {
            let error = incarnation("a:1", Some(replica.clone()), known).unwrap_err();
            assert!(error.to_string().contains("older than a failover"), "{error}");
            assert_eq!(incarnation("a:1", Some(master.clone()), known).unwrap(), id);
        }
        assert_eq!(incarnation("a:1", None, Some(&5)).unwrap(), 5, "out of reach for a moment");
        let error = incarnation("a:1", None, None).unwrap_err();
        assert!(error.to_string().contains("cannot be reached"), "{error}");
    }

    #[test]
    fn of_each_range_of_a_map_of_slots_the_first_node_is_the_master() {
        let node = |host: &str, port| {
            Value::Array(vec![
                Value::BulkString(host.into()),
                Value::Int(port),
                Value::BulkString(b"id".into()),
                Value::Array(Vec::new()),
            ])
        };
        let range = |from, to, nodes: &[(&str, i64)]| {
            let nodes = nodes.iter().map(|(host, port)| node(host, *port));
            Value::Array([Value::Int(from), Value::Int(to)].into_iter().chain(nodes).collect())
        };
        let map = Value::Array(vec![
            range(0, 99, &[("b", 2), ("replica-of-b", 9)]),
            range(100, 199, &[("a", 1)]),
            range(200, 299, &[("b", 2), ("replica-of-b", 9)]),
        ]);
        assert_eq!(masters(&map), ["a:1", "b:2"]);
        assert_eq!(masters(&Value::Nil), [""; 0]);
    }
}
