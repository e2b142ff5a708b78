//! A client that hangs up in the middle of a write, or a handler that is dropped anywhere: either nothing is committed, or
//! all that is committed is published.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::routing::put;
use futures_util::FutureExt;
use mastaba::WriteMode;
use mastaba_axum::{CacheLayer, RequestCache};
use mastaba_test::world::{UserById, World};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use crate::http::{read_until, send, serve};
use crate::in_time;

const MODES: [WriteMode; 4] = [WriteMode::Simple, WriteMode::Strict, WriteMode::Serve, WriteMode::Degrade];

/// The await points of a service: each is counted when it is come to, and one of them may be closed.
#[derive(Clone, Default)]
struct Points(Arc<Gates>);

#[derive(Default)]
struct Gates {
    come_to: Mutex<Vec<&'static str>>,
    count: watch::Sender<usize>,
    /// Counted from 1; 0: none is closed.
    closed: usize,
    opened: Option<Semaphore>,
}

impl Points {
    /// The n-th one to come to, which waits there.
    fn closed_at(nth: usize) -> Self {
        Self(Arc::new(Gates { closed: nth, opened: Some(Semaphore::new(0)), ..Gates::default() }))
    }

    async fn pass(&self, name: &'static str) {
        let nth = {
            let mut come_to = self.0.come_to.lock().unwrap();
            come_to.push(name);
            come_to.len()
        };
        self.0.count.send_replace(nth);
        match &self.0.opened {
            Some(opened) if nth == self.0.closed => opened.acquire().await.unwrap().forget(),
            _ => tokio::task::yield_now().await,
        }
    }

    /// Waits until the closed one has been come to; gives its name.
    async fn arrived(&self) -> &'static str {
        self.0.count.subscribe().wait_for(|count| *count >= self.0.closed).await.unwrap();
        self.0.come_to.lock().unwrap()[self.0.closed - 1]
    }

    fn open(&self) {
        self.0.opened.as_ref().unwrap().add_permits(1);
    }

    fn names(&self) -> Vec<&'static str> {
        self.0.come_to.lock().unwrap().clone()
    }
}

/// What a handler needs: a database with transactions over the world's rows, and the points at which it waits.
#[derive(Clone)]
struct Service {
    world: World,
    points: Points,
    /// How many handlers there are.
    handlers: watch::Sender<usize>,
}

/// A handler that lives.
struct Here(watch::Sender<usize>);

impl Drop for Here {
    fn drop(&mut self) {
        self.0.send_modify(|handlers| *handlers -= 1);
    }
}

/// What it has changed is in the database once it commits; dropped before, it is rolled back.
struct Transaction {
    service: Service,
    users: Vec<u64>,
}

impl Transaction {
    async fn begin(service: &Service) -> Self {
        service.points.pass("begin").await;
        Self { service: service.clone(), users: Vec::new() }
    }

    async fn update(&mut self, user: u64) {
        self.service.points.pass("update").await;
        self.users.push(user);
    }

    async fn commit(self) -> Result<(), String> {
        self.service.points.pass(SENT).await;
        for user in &self.users {
            self.service.world.db.update(*user);
        }
        self.service.points.pass("commit is answered").await;
        Ok(())
    }
}

/// From here on the write goes to its end.
const SENT: &str = "commit is sent";

/// `PUT /users`: writes two users, each by a step of its own.
async fn rename(State(service): State<Service>, cache: RequestCache) -> &'static str {
    service.handlers.send_modify(|handlers| *handlers += 1);
    let _here = Here(service.handlers.clone());
    let known = cache.get_many::<UserById>([1, 2]).await.unwrap();
    assert_eq!(known.found().count(), 2);
    let mut transaction = Transaction::begin(&service).await;
    let write = cache.write();
    for user in [1, 2] {
        transaction.update(user).await;
        write.invalidate::<UserById>([user]).await.unwrap();
        write.invalidate_tag("between");
    }
    service.points.pass("before commit").await;
    write.commit(transaction.commit()).await.unwrap();
    service.points.pass("after commit").await;
    "written"
}

impl Service {
    /// Its users are in the shared tier.
    async fn open(mode: WriteMode, points: Points) -> Self {
        let world = World::across_processes(|region| region.write_mode(mode)).await;
        world.request().get_many::<UserById>([1, 2]).await.unwrap();
        world.idle().await;
        world.trips();
        Self { world, points, handlers: watch::Sender::new(0) }
    }

    fn router(&self) -> Router {
        let layer = CacheLayer::new(self.world.cache.clone());
        Router::new().route("/users", put(rename)).layer(layer).with_state(self.clone())
    }

    /// Waits until there is no handler: it was dropped, or has ended.
    async fn left(&self) {
        self.handlers.subscribe().wait_for(|handlers| *handlers == 0).await.unwrap();
    }

    /// Nothing is committed, or all of it; and every process sees what is.
    async fn is_sound(&self, committed: bool, case: &str) {
        let world = &self.world;
        world.idle().await;
        let version = u32::from(committed);
        assert_eq!([1, 2].map(|user| world.db.version(user)), [version; 2], "{case}");
        for process in [world, &world.second().await] {
            for _ in 0..2 {
                assert_eq!((process.sees(1).await, process.sees(2).await), (version, version), "{case}");
                process.idle().await;
            }
        }
        let collected = self.points.names().iter().filter(|name| **name == "update").count() > 1;
        let dropped = world.events().iter().filter(|event| event.contains("a write was dropped")).count();
        if committed {
            assert_eq!(dropped, 0, "{case}: {:?}", world.events());
        } else {
            assert!(dropped <= 1 && (dropped == 1 || !collected), "{case}: {:?}", world.events());
        }
    }
}

const PUT: &str = "PUT /users HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn a_client_that_hangs_up_at_any_await_point_of_a_write_loses_no_invalidation() {
    in_time(async {
        for mode in MODES {
            let service = Service::open(mode, Points::default()).await;
            let mut stream = send(serve(service.router()).await, PUT).await;
            read_until(&mut stream, "written").await;
            service.is_sound(true, "nobody hangs up").await;
            let points = service.points.names();
            let sent = points.iter().position(|name| *name == SENT).unwrap();
            assert_eq!(points.len(), 7, "{points:?}");

            for nth in 1..=points.len() {
                let service = Service::open(mode, Points::closed_at(nth)).await;
                let stream = send(serve(service.router()).await, PUT).await;
                let name = service.points.arrived().await;
                drop(stream);
                service.left().await;
                service.points.open();
                service.is_sound(nth > sent, &format!("{mode:?}: hung up at {name}")).await;
            }
        }
    })
    .await;
}

/// The same in the trips of the library itself: it is with the shared tier when the client goes.
#[tokio::test]
async fn a_client_that_hangs_up_during_any_trip_of_a_write_loses_no_invalidation() {
    in_time(async {
        for mode in MODES {
            let holds = mode != WriteMode::Simple;
            for operation in ["read", "hold", "invalidate", "end"] {
                if !holds && ["hold", "end"].contains(&operation) {
                    continue;
                }
                for answered in [false, true] {
                    let service = Service::open(mode, Points::default()).await;
                    let shared = &service.world.shared;
                    let gate = if answered { shared.after(operation) } else { shared.before(operation) };
                    let stream = send(serve(service.router()).await, PUT).await;
                    gate.arrived(1).await;
                    drop(stream);
                    service.left().await;
                    gate.open_for_good();
                    let case = format!("{mode:?}: hung up in {operation}, done: {answered}");
                    service.is_sound(operation != "read", &case).await;
                }
            }
        }
    })
    .await;
}

/// And with no network between: the handler is polled so many times, for every number that there is.
#[tokio::test]
async fn a_handler_that_is_dropped_after_any_number_of_polls_loses_no_invalidation() {
    in_time(async {
        for mode in MODES {
            let mut cases = [0; 2];
            for polls in 1.. {
                let service = Service::open(mode, Points::default()).await;
                let request = Request::put("/users").body(Body::empty()).unwrap();
                let mut answering = Box::pin(service.router().oneshot(request));
                let mut answered = false;
                for _ in 0..polls {
                    if (&mut answering).now_or_never().is_some() {
                        answered = true;
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                drop(answering);
                service.world.idle().await;
                let sent = service.points.names().contains(&SENT);
                service.is_sound(sent, &format!("{mode:?}: dropped after {polls} polls")).await;
                cases[usize::from(sent)] += 1;
                if answered {
                    break;
                }
            }
            assert!(cases[0] >= 5 && cases[1] >= 3, "{mode:?}: {cases:?}");
        }
    })
    .await;
}
