//! The connections of one runtime, one to each server, which come back by themselves.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use mastaba::shared::connections::Keeping;
use mastaba::{Fault, FaultKind};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::connection::Pipe;
use super::greet;
use crate::hub::{LOOK_EVERY, ServerList};
use mastaba::shared::connections::ConnectError;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What is known of one connection.
#[derive(Clone)]
enum State {
    /// It is new, or was lost just now, and the first attempt to get it is under way.
    Connecting,
    Up(Arc<Pipe>),
    Down(String),
}

/// The connections of one runtime. One task keeps them, and ends with the links.
pub(super) struct Links {
    states: Vec<watch::Receiver<State>>,
}

/// What a first attempt at each server came to.
pub(super) async fn open_all(hub: &ServerList) -> Vec<Result<Arc<Pipe>, ConnectError>> {
    join_all((0..hub.servers()).map(|server| greet::open(hub, server))).await
}

impl Links {
    /// `first` are the connections that there are already.
    pub(super) fn begin(
        hub: &Arc<ServerList>,
        first: Vec<Result<Arc<Pipe>, ConnectError>>,
    ) -> (Arc<Self>, Keeping) {
        let mut first = first.into_iter();
        let (mut states, mut keepers) = (Vec::new(), Vec::new());
        for server in 0..hub.servers() {
            let state = match first.next() {
                None => State::Connecting,
                Some(Ok(connection)) => State::Up(connection),
                Some(Err(error)) => State::Down(error.to_string()),
            };
            let (tell, state) = watch::channel(state);
            states.push(state);
            keepers.push(keep(Arc::downgrade(hub), server, tell));
        }
        (Arc::new(Self { states }), Box::pin(async move { drop(join_all(keepers).await) }))
    }

    /// The connection, or why there is none. Waits for the first attempt after a loss, and for none after it.
    pub(super) async fn to(&self, hub: &ServerList, server: usize) -> Result<Arc<Pipe>, Fault> {
        if let State::Up(connection) = &*self.states[server].borrow()
            && connection.is_open()
        {
            return Ok(connection.clone());
        }
        let mut state = self.states[server].clone();
        let known = state.wait_for(|state| match state {
            State::Connecting => false,
            State::Up(connection) => connection.is_open(),
            State::Down(_) => true,
        });
        match known.await.as_deref() {
            Ok(State::Up(connection)) => Ok(connection.clone()),
            Ok(State::Down(why)) => Err(Fault::new(FaultKind::Down, why.clone())),
            _ => {
                let closed = format!("memcached at {}: the backend was closed", hub.name(server));
                Err(Fault::new(FaultKind::Down, closed))
            }
        }
    }
}

/// Keeps the connection to one server until nobody uses it any longer.
async fn keep(hub: Weak<ServerList>, server: usize, tell: watch::Sender<State>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let state = tell.borrow().clone();
        match state {
            State::Up(connection) => {
                tokio::select! {
                    () = watch_over(&hub, server, &connection) => {}
                    () = connection.ended() => {}
                    () = tell.closed() => return,
                }
                connection.close();
                pause = FIRST_PAUSE;
                tell.send_replace(State::Connecting);
            }
            State::Down(_) => {
                tokio::select! {
                    () = sleep(pause.mul_f64(0.5 + fastrand::f64())) => {}
                    () = tell.closed() => return,
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
                if !reach(&hub, server, &tell).await {
                    return;
                }
            }
            State::Connecting => {
                if !reach(&hub, server, &tell).await {
                    return;
                }
            }
        }
    }
}

/// One attempt. Whether anybody is there who wants it.
async fn reach(hub: &Weak<ServerList>, server: usize, tell: &watch::Sender<State>) -> bool {
    let Some(hub) = hub.upgrade() else { return false };
    let opened = tokio::select! {
        opened = greet::open(&hub, server) => opened,
        () = tell.closed() => return false,
    };
    tell.send_replace(match opened {
        Ok(connection) => State::Up(connection),
        Err(error) => State::Down(error.to_string()),
    });
    true
}

/// Ends when the server no longer answers: some networks swallow a connection silently. Finds out when it is used with another
/// list of servers.
async fn watch_over(hub: &Weak<ServerList>, server: usize, connection: &Pipe) {
    loop {
        sleep(LOOK_EVERY).await;
        let Some(hub) = hub.upgrade() else { return };
        match timeout(hub.config.connect_timeout, greet::join(&hub, server, connection)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}
