//! The connections to the nodes of a cluster, which the crate makes and makes again.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use futures_util::FutureExt;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::Connect;
use redis::io::AsyncDNSResolver;
use redis::{
    Arg, AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisError, RedisFuture, RedisResult, Value,
};

use crate::greeting::Greeting;
use crate::hub::Hub;
use crate::wire::greet::{self, Tracker};

/// A connection to one node that was asked what it is before any other command (`R11`).
#[derive(Clone)]
pub(super) struct Greeted {
    wire: MultiplexedConnection,
    ear: Arc<Tracker>,
    place: Arc<str>,
    /// It was a replica when it was asked last. Should it be given a key's command, it has become the master.
    replica: Arc<AtomicBool>,
}

tokio::task_local! {
    /// The backend that a connection is made for. The crate makes them in a task of its own, where our resolver is the
    /// only thing that says whose they are.
    static HUB: RefCell<Option<Arc<Hub>>>;
}

/// Looks names up, and lets the connection that asks know which backend it is for.
pub(super) struct Resolver(pub(super) Weak<Hub>);

impl AsyncDNSResolver for Resolver {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        host: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        let _ = HUB.try_with(|hub| *hub.borrow_mut() = self.0.upgrade());
        async move {
            let found = tokio::net::lookup_host((host, port)).await?;
            Ok(Box::new(found) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        }
        .boxed()
    }
}

impl Connect for Greeted {
    fn connect_with_config<'a, T>(info: T, config: AsyncConnectionConfig) -> RedisFuture<'a, Self>
    where
        T: IntoConnectionInfo + Send + 'a,
    {
        async move {
            let ear = Arc::new(Tracker::default());
            let hearing = ear.clone();
            let config = config.set_push_sender(move |push: redis::PushInfo| hearing.hear(&push));
            let info = info.into_connection_info()?;
            let place = match info.addr() {
                ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                    format!("{host}:{port}")
                }
                _ => String::new(),
            };
            let client = Client::open(info)?;
            let (mut wire, hub) = HUB
                .scope(RefCell::new(None), async {
                    let wire = client.get_multiplexed_async_connection_with_config(&config).await?;
                    let hub = HUB.with(|hub| hub.borrow_mut().take());
                    Ok::<_, RedisError>((wire, hub))
                })
                .await?;
            let hub = hub.ok_or_else(|| RedisError::from((ErrorKind::Client, "the backend was closed")))?;
            ear.belongs_to(&hub);
            let greeting = greet::ask(&mut wire).await?;
            if let Some(problem) = greeting.problem(true) {
                return Err(greet::refuse(problem));
            }
            greet::examine(&mut wire, &hub, &greeting).await?;
            hub.warn(&greeting);
            if !greeting.replica {
                meet(&hub, &place, &greeting)?;
            }
            ear.track(&mut wire).await?;
            Ok(Self { wire, ear, place: place.into(), replica: Arc::new(AtomicBool::new(greeting.replica)) })
        }
        .boxed()
    }
}

impl Greeted {
    /// What has to be done before a command is sent.
    async fn before(&mut self, name: &[u8]) -> RedisResult<()> {
        if name == b"PING" {
            return self.ear.track(&mut self.wire).await;
        }
        let about_keys = !matches!(name, b"CLUSTER" | b"INFO" | b"READONLY" | b"CLIENT" | b"HELLO");
        if about_keys && self.replica.load(Ordering::Acquire) {
            let greeting = greet::ask(&mut self.wire).await?;
            if !greeting.replica {
                if let Some(hub) = self.ear.hub() {
                    meet(hub, &self.place, &greeting)?;
                }
                self.replica.store(false, Ordering::Release);
            }
        }
        Ok(())
    }
}

/// A master was met. One that no longer says what it is could be any.
fn meet(hub: &Hub, place: &str, greeting: &Greeting) -> RedisResult<()> {
    let known = greeting.incarnation.ok_or_else(|| {
        RedisError::from((ErrorKind::Io, "a node of the cluster does not say what it is", place.to_owned()))
    })?;
    hub.met(place, known);
    Ok(())
}

fn name(cmd: &Cmd) -> Vec<u8> {
    match cmd.args_iter().next() {
        Some(Arg::Simple(name)) => name.to_ascii_uppercase(),
        _ => Vec::new(),
    }
}

/// Whether the command may have been carried out, and its answer was lost.
fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}

/// Whether a `SET` leaves alone what stands there already.
fn is_conditional(cmd: &Cmd) -> bool {
    cmd.args_iter().skip(3).any(|word| matches!(word, Arg::Simple(b"NX" | b"IFEQ")))
}

/// An error that the crate does not answer by sending the command once more. A stamp that is set twice would bring back
/// what another process has voided by setting it in between (`R12`).
fn unconfirmed(error: &RedisError) -> RedisError {
    (ErrorKind::Client, "the answer to a command was lost, and it cannot be sent again", error.to_string())
        .into()
}

impl ConnectionLike for Greeted {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        async move {
            let name = name(cmd);
            self.before(&name).await?;
            let done = self.wire.req_packed_command(cmd).await;
            match done {
                Err(error) if name == b"SET" && is_lost(&error) && !is_conditional(cmd) => {
                    Err(unconfirmed(&error))
                }
                done => done,
            }
        }
        .boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        async move {
            self.before(b"").await?;
            self.wire.req_packed_commands(pipeline, offset, count).await
        }
        .boxed()
    }

    fn get_db(&self) -> i64 {
        self.wire.get_db()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> Cmd {
        let mut cmd = redis::cmd("SET");
        words.iter().for_each(|word| {
            cmd.arg(*word);
        });
        cmd
    }

    #[test]
    fn a_set_that_leaves_alone_what_stands_there_may_be_sent_again_and_no_other() {
        assert!(is_conditional(&set(&["k", "v", "NX", "GET", "PX", "5"])));
        assert!(is_conditional(&set(&["k", "v", "IFEQ", "old", "PX", "5"])));
        assert!(!is_conditional(&set(&["k", "v", "PX", "5"])));
        // what only looks like the word is the key or the value
        assert!(!is_conditional(&set(&["NX", "IFEQ"])));
        assert!(!is_conditional(&set(&["k", "NX", "PX", "5"])));
    }

    #[test]
    fn a_lost_answer_is_an_error_that_the_client_does_not_try_again() {
        let lost = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert!(is_lost(&lost));
        assert!(!is_lost(&RedisError::from((ErrorKind::UnexpectedReturnType, "something else"))));
        let told = unconfirmed(&lost);
        assert!(matches!(told.retry_method(), redis::RetryMethod::NoRetry));
        assert_eq!(crate::wire::fault(told).kind(), mastaba::FaultKind::Down);
    }
}
