//! A request's cache begins with the request and ends with the response, whatever becomes of either.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use futures_util::future::join_all;
use futures_util::stream;
use mastaba::Tier;
use mastaba_axum::{CacheLayer, RequestCache};
use mastaba_test::world::{UserById, World};
use tokio::sync::{Barrier, Semaphore};

use crate::http::{ask, get as fetch, read_until, reply, send, serve};
use crate::log::Log;
use crate::{Pulse, in_time};

/// Reads one user twice, and says which tier knew it.
async fn tiers(cache: RequestCache) -> String {
    let mut tiers = Vec::new();
    for _ in 0..2 {
        let users = cache.get_outcomes::<UserById>([1]).await;
        tiers.push(users[&1].tier().map_or_else(String::new, |tier: Tier| tier.to_string()));
    }
    tiers.join(" ")
}

#[tokio::test]
async fn each_request_begins_with_nothing_and_asks_for_nothing_twice() {
    in_time(async {
        let world = World::new().await;
        let app = Router::new().route("/", get(tiers)).layer(CacheLayer::new(world.cache.clone()));
        let address = serve(app).await;
        assert_eq!(fetch(address, "/").await.body, "source request");
        world.idle().await;
        assert_eq!(fetch(address, "/").await.body, "shared request");
        assert_eq!(world.trips().len(), 5, "read, lease, load and fill; then one read");
    })
    .await;
}

#[tokio::test]
async fn requests_at_the_same_time_do_not_share_their_first_tier() {
    in_time(async {
        struct Mark(usize);
        const REQUESTS: usize = 8;
        let world = World::new().await;
        let all_here = Arc::new(Barrier::new(REQUESTS));
        let page = async move |cache: RequestCache, axum::extract::Path(nth): axum::extract::Path<usize>| {
            assert!(cache.stash().insert(Mark(nth)).is_none());
            all_here.wait().await;
            format!("{} {}", cache.stash().get::<Mark>().unwrap().0, tiers(cache).await)
        };
        let page = move |cache, path| {
            let page = page.clone();
            async move { page(cache, path).await }
        };
        let app = Router::new().route("/{nth}", get(page)).layer(CacheLayer::new(world.cache.clone()));
        let address = serve(app).await;
        let paths: Vec<_> = (0..REQUESTS).map(|nth| format!("/{nth}")).collect();
        let replies = join_all(paths.iter().map(|path| fetch(address, path))).await;
        for (nth, reply) in replies.iter().enumerate() {
            // found by each for itself, in a tier below
            let (mark, tiers) = reply.body.split_once(' ').unwrap();
            assert_eq!(mark, nth.to_string());
            assert!(["source request", "shared request"].contains(&tiers), "{tiers}");
        }
        assert_eq!(world.loads(), ["source load user [1]"], "and yet the source was asked once");
    })
    .await;
}

/// A body of two chunks, the second one held back, which does not hold the request's cache itself.
fn streaming(world: &World, pulse: &Pulse, go_on: &Arc<Semaphore>) -> Router {
    let (pulse, go_on) = (pulse.clone(), go_on.clone());
    let page = move |cache: RequestCache| {
        pulse.feel(&cache);
        let go_on = go_on.clone();
        async move {
            let chunks = stream::unfold(0, move |nth| {
                let go_on = go_on.clone();
                async move {
                    match nth {
                        0 => Some((Ok::<_, Infallible>(Bytes::from_static(b"first ")), 1)),
                        1 => {
                            go_on.acquire().await.unwrap().forget();
                            Some((Ok(Bytes::from_static(b"second")), 2))
                        }
                        _ => None,
                    }
                }
            });
            Body::from_stream(chunks)
        }
    };
    Router::new().route("/", get(page)).layer(CacheLayer::new(world.cache.clone()))
}

#[tokio::test]
async fn a_streaming_body_keeps_its_request_until_it_has_ended() {
    in_time(async {
        let (log, _guard) = Log::start();
        let (pulse, go_on) = (Pulse::default(), Arc::new(Semaphore::new(0)));
        let address = serve(streaming(&World::new().await, &pulse, &go_on)).await;
        let mut stream = ask(address, "/").await;
        read_until(&mut stream, "first ").await;
        assert_eq!((pulse.beats(), log.requests().len()), (1, 0), "it has not ended");
        go_on.add_permits(1);
        read_until(&mut stream, "second").await;
        pulse.ended().await;
        assert_eq!(log.requests().len(), 1);
        assert_eq!(log.requests()[0].get("end"), Some("complete"));
    })
    .await;
}

#[tokio::test]
async fn a_request_whose_answer_was_sent_whole_was_not_cut_off_whatever_its_body_is_like() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        let counted = async |_: RequestCache| {
            // the server asks for no more than it has announced
            let chunks = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"1234")), Ok("5678".into())]);
            ([(axum::http::header::CONTENT_LENGTH, "8")], Body::from_stream(chunks))
        };
        let app = Router::new()
            .route("/counted", get(counted))
            .route("/plain", get(async |_: RequestCache| "a page"))
            .route("/empty", get(async |_: RequestCache| ()))
            .route("/nothing", get(async |_: RequestCache| axum::http::StatusCode::NO_CONTENT))
            .layer(CacheLayer::new(world.cache.clone()));
        let address = serve(app).await;
        let paths = ["/counted", "/plain", "/empty", "/nothing"];
        for path in paths {
            assert!([200, 204].contains(&fetch(address, path).await.status), "{path}");
        }
        let head = |path| format!("HEAD {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        for path in paths {
            assert!(
                [200, 204].contains(&reply(send(address, &head(path)).await).await.status),
                "HEAD {path}"
            );
        }
        while log.requests().len() < 2 * paths.len() {
            tokio::task::yield_now().await;
        }
        for line in log.requests() {
            assert_eq!(line.get("end"), Some("complete"), "{:?} {:?}", line.get("method"), line.get("route"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_of_a_body_ends_its_request() {
    in_time(async {
        let (log, _guard) = Log::start();
        let (pulse, go_on) = (Pulse::default(), Arc::new(Semaphore::new(0)));
        let address = serve(streaming(&World::new().await, &pulse, &go_on)).await;
        let mut stream = ask(address, "/").await;
        read_until(&mut stream, "first ").await;
        assert_eq!(pulse.beats(), 1);
        drop(stream);
        pulse.ended().await;
        while log.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(log.requests()[0].get("status"), Some("200"));
        assert_eq!(log.requests()[0].get("end"), Some("cut off"));
        assert_eq!(log.requests()[0].message(), "request, cut off");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_before_the_answer_ends_its_request_and_the_load_goes_on() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        let pulse = Pulse::default();
        let beating = pulse.clone();
        let page = move |cache: RequestCache| {
            beating.feel(&cache);
            async move { tiers(cache).await }
        };
        let app = Router::new().route("/", get(page)).layer(CacheLayer::new(world.cache.clone()));
        let address = serve(app).await;
        let gate = world.db.close_gate();
        let stream = ask(address, "/").await;
        gate.arrived(1).await;
        assert_eq!((pulse.beats(), log.requests().len()), (1, 0));
        drop(stream);
        while log.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(log.requests()[0].get("status"), None, "there was no response");
        assert_eq!(log.requests()[0].get("end"), Some("cut off"));
        gate.open_for_good();
        world.idle().await;
        pulse.ended().await;
        // what was loaded for nobody is there for the next one
        assert_eq!(fetch(address, "/").await.body, "shared request");
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_panics_leaves_nothing_behind() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        let pulse = Pulse::default();
        let beating = pulse.clone();
        let bad = move |cache: RequestCache| {
            beating.feel(&cache);
            async move {
                // one read is on its way, and another one still gathers
                let (user, ()) = tokio::join!(cache.get::<UserById>(1), async {
                    tokio::task::yield_now().await;
                    panic!("this handler panics");
                });
                user.unwrap().unwrap().name.clone()
            }
        };
        let app = Router::new().route("/bad", get(bad)).route("/", get(tiers));
        let address = serve(app.layer(CacheLayer::new(world.cache.clone()))).await;
        assert_eq!(fetch(address, "/bad").await.status, 0, "the connection was closed");
        world.idle().await;
        pulse.ended().await;
        let lines = log.requests();
        assert_eq!((lines.len(), lines[0].get("route"), lines[0].get("status")), (1, Some("/bad"), None));
        assert_eq!(lines[0].get("end"), Some("panicked"));
        assert!(fetch(address, "/").await.body.ends_with(" request"));
    })
    .await;
}

#[tokio::test]
async fn what_is_not_http_does_not_matter() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        let app = Router::new().route("/", get(tiers)).layer(CacheLayer::new(world.cache.clone()));
        let address = serve(app).await;
        for text in ["nonsense\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\0\0\0\0\r\n\r\n"] {
            assert!([0, 400].contains(&reply(send(address, text).await).await.status), "{text:?}");
        }
        assert!(log.requests().is_empty(), "none of these was a request");
        assert_eq!(fetch(address, "/nowhere").await.status, 404);
        assert_eq!(fetch(address, "/").await.body, "source request");
    })
    .await;
}

/// Something of a program that knows of no framework.
async fn name_of(request: mastaba::RequestCache, id: u64) -> String {
    request.get::<UserById>(id).await.unwrap().unwrap().name.clone()
}

#[tokio::test]
async fn what_a_handler_is_given_goes_into_a_task_and_everywhere_else_as_it_is() {
    in_time(async {
        let world = World::new().await;
        let page = async |cache: RequestCache| {
            let tasks = [1, 2].map(|id| tokio::spawn(name_of(cache.clone(), id)));
            let names = join_all(tasks).await.into_iter().map(Result::unwrap);
            names.chain([name_of(cache, 1).await]).collect::<Vec<_>>().join(" ")
        };
        let app = Router::new().route("/", get(page)).layer(CacheLayer::new(world.cache.clone()));
        assert_eq!(fetch(serve(app).await, "/").await.body, "user 1 user 2 user 1");
    })
    .await;
}

#[tokio::test]
async fn a_handler_may_do_without_the_layer() {
    in_time(async {
        let world = World::new().await;
        let page = async |cache: Option<RequestCache>| match cache {
            Some(cache) => name_of(cache, 1).await,
            None => "nobody".to_owned(),
        };
        let app = Router::new()
            .route("/with", get(page))
            .layer(CacheLayer::new(world.cache.clone()))
            .route("/without", get(page));
        let address = serve(app).await;
        assert_eq!(fetch(address, "/with").await.body, "user 1");
        assert_eq!(fetch(address, "/without").await.body, "nobody");
    })
    .await;
}

#[tokio::test]
async fn a_route_without_the_layer_says_which_one_to_add() {
    in_time(async {
        let (log, _guard) = Log::start();
        let address = serve(Router::new().route("/", get(tiers))).await;
        let reply = fetch(address, "/").await;
        assert_eq!(reply.status, 500);
        assert!(reply.body.contains(".layer(mastaba_axum::CacheLayer::new(cache))"), "{}", reply.body);
        let errors = log.all().into_iter().filter(|line| line.level == tracing::Level::ERROR);
        assert_eq!(errors.map(|line| line.message().to_owned()).collect::<Vec<_>>(), [reply.body]);
    })
    .await;
}
