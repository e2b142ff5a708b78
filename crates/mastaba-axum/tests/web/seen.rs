//! What developers see: the line, the spans, the header.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::routing::{get, post};
use futures_util::{StreamExt, stream};
use mastaba::NearConfig;
use mastaba_axum::{CacheLayer, RequestCache};
use mastaba_test::world::{UserById, World};
use tower::ServiceBuilder;
use tracing::Instrument;
use tracing_subscriber::filter::LevelFilter;

use crate::http::{get as fetch, reply, send, serve};
use crate::in_time;
use crate::log::Log;

async fn user(cache: RequestCache, Path(id): Path<u64>) -> String {
    let (one, next) = tokio::join!(cache.get::<UserById>(id), cache.get::<UserById>(id + 1));
    let name = |user: Option<std::sync::Arc<mastaba_test::world::User>>| user.unwrap().name.clone();
    format!("{} {}", name(one.unwrap()), name(next.unwrap()))
}

#[tokio::test]
async fn a_request_ends_with_one_line() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        let app = Router::new().route("/user/{id}", get(user)).layer(CacheLayer::new(world.cache.clone()));
        let address = serve(app).await;
        assert_eq!(fetch(address, "/user/7").await.body, "user 7 user 8");
        world.idle().await;
        assert_eq!(fetch(address, "/user/7").await.body, "user 7 user 8");
        while log.requests().len() < 2 {
            tokio::task::yield_now().await;
        }
        let figures = |nth: usize| {
            let line = log.requests().remove(nth);
            ["method", "route", "status", "trips", "statements", "near", "shared", "loaded"]
                .map(|field| line.get(field).unwrap().to_owned())
        };
        assert_eq!(figures(0), ["GET", "/user/{id}", "200", "2", "1", "0", "0", "2"]);
        assert_eq!(figures(1), ["GET", "/user/{id}", "200", "1", "0", "0", "2", "0"]);
        assert!(log.requests()[0].get("elapsed_us").unwrap().parse::<u64>().is_ok());
    })
    .await;
}

/// A span around every request, as the `TraceLayer` of tower-http makes one.
async fn traced(request: axum::extract::Request, next: axum::middleware::Next) -> axum::response::Response {
    next.run(request).instrument(tracing::info_span!("http")).await
}

#[tokio::test]
async fn reads_and_trips_stand_under_the_span_of_their_request() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        let edit = async |cache: RequestCache, Path(id): Path<u64>| {
            let write = cache.write();
            write.invalidate::<UserById>([id]).await.unwrap();
            write.published().await.unwrap();
        };
        let layers = ServiceBuilder::new()
            .layer(axum::middleware::from_fn(traced))
            .layer(CacheLayer::new(world.cache.clone()));
        let app = Router::new().route("/user/{id}", get(user).merge(post(edit))).layer(layers);
        let address = serve(app).await;
        fetch(address, "/user/7").await;
        world.idle().await;
        let trips = log.trips();
        assert_eq!(
            trips.iter().map(|line| line.get("operation").unwrap()).collect::<Vec<_>>(),
            ["read", "lease", "load", "fill"]
        );
        for trip in &trips {
            assert_eq!(trip.spans, ["http", "request_cache", "read"], "{trip:?}");
        }
        reply(send(address, "POST /user/7 HTTP/1.0\r\n\r\n").await).await;
        let write = log.trips().pop().unwrap();
        assert_eq!(write.get("operation"), Some("invalidate"));
        assert_eq!(write.spans, ["http", "request_cache"]);
        for line in log.requests() {
            assert_eq!(line.spans, ["http", "request_cache"], "{line:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_streaming_body_reads_stands_under_its_request_and_is_in_its_line() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        let page = async |cache: RequestCache| {
            let names = stream::iter(1..=3).then(move |id| {
                let cache = cache.clone();
                async move {
                    let user = cache.get::<UserById>(id).await.unwrap().unwrap();
                    Ok::<_, Infallible>(Bytes::from(user.name.clone()))
                }
            });
            Body::from_stream(names)
        };
        let app = Router::new()
            .route("/", get(page))
            .layer(CacheLayer::new(world.cache.clone()))
            .layer(axum::middleware::from_fn(traced));
        let address = serve(app).await;
        assert_eq!(fetch(address, "/").await.body, "user 1user 2user 3");
        world.idle().await;
        let trips = log.trips();
        assert_eq!(trips.len(), 10, "{trips:?}");
        for trip in &trips {
            assert_eq!(trip.spans, ["http", "request_cache", "read"], "{trip:?}");
        }
        assert_eq!(log.requests()[0].get("statements"), Some("3"));
    })
    .await;
}

#[tokio::test]
async fn what_a_log_at_info_says_of_a_write_that_went_wrong_names_its_route() {
    in_time(async {
        let (log, _guard) = Log::at(LevelFilter::INFO);
        let world = World::new().await;
        let unconfirmed = async |cache: RequestCache, Path(id): Path<u64>| {
            cache.invalidate::<UserById>([id]).await.unwrap().is_confirmed().to_string()
        };
        let dropped = async |cache: RequestCache, Path(id): Path<u64>| {
            cache.write().invalidate::<UserById>([id]).await.unwrap();
        };
        let app = Router::new()
            .route("/user/{id}", post(unconfirmed))
            .route("/user/{id}/name", post(dropped))
            .layer(CacheLayer::new(world.cache.clone()));
        let address = serve(app).await;
        world.shared.down(&["invalidate"]);
        assert_eq!(reply(send(address, "POST /user/7 HTTP/1.0\r\n\r\n").await).await.body, "false");
        reply(send(address, "POST /user/8/name HTTP/1.0\r\n\r\n").await).await;
        world.shared.down(&[]);
        let said = |what: &str| log.warnings().into_iter().find(|line| line.message().contains(what));
        while said("has confirmed").is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        for (what, names, route) in [
            ("has not confirmed", "(user: 7, ..), written by /user/{id}:", "/user/{id}"),
            ("has confirmed", "(user: 7, ..), written by /user/{id}", "/user/{id}"),
            ("was dropped", "(user: 8, ..), written by /user/{id}/name", "/user/{id}/name"),
        ] {
            let line = said(what).unwrap();
            assert!(line.message().contains(names), "{line:?}");
            assert_eq!(line.get("route"), Some(route), "{line:?}");
            assert!(line.spans.is_empty(), "the span of a request is for DEBUG: {line:?}");
        }
    })
    .await;
}

/// Takes a header apart by the grammar of the Server-Timing specification: name, dur, desc.
fn metrics(header: &str) -> Vec<(String, Option<f64>, Option<String>)> {
    let token = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let metric = |metric: &str| {
        let mut parts = metric.trim().split(';').map(str::trim);
        let name = parts.next().unwrap();
        assert!(token(name), "{header}");
        let (mut dur, mut desc) = (None, None);
        for part in parts {
            match part.split_once('=').unwrap() {
                ("dur", value) => dur = Some(value.parse().unwrap()),
                ("desc", value) => {
                    let text = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap();
                    assert!(!text.contains(['"', '\\']), "{header}");
                    desc = Some(text.to_owned());
                }
                other => panic!("{other:?} in {header}"),
            }
        }
        (name.to_owned(), dur, desc)
    };
    header.split(',').map(metric).collect()
}

#[tokio::test]
async fn the_developer_tools_of_a_browser_see_the_tiers() {
    in_time(async {
        let world = World::new().await;
        let layer = CacheLayer::new(world.cache.clone()).server_timing(true);
        let twice = async |cache: RequestCache, path: Path<u64>| {
            user(cache.clone(), Path(path.0)).await;
            user(cache, path).await
        };
        let address = serve(Router::new().route("/user/{id}", get(twice)).layer(layer)).await;
        let reply = fetch(address, "/user/777").await;
        let header = reply.header("server-timing").unwrap();
        let metrics = metrics(header);
        let text = |nth: usize| (metrics[nth].0.as_str(), metrics[nth].2.as_deref());
        assert_eq!(text(0), ("request", Some("2 hits")), "{header}");
        assert_eq!(text(1), ("shared", Some("2 trips")), "{header}");
        assert_eq!(text(2), ("source", Some("1 statement")), "{header}");
        assert_eq!(text(3), ("total", None), "{header}");
        let dur = |nth: usize| metrics[nth].1.unwrap();
        assert!(dur(3) > 0.0 && dur(3) >= dur(1).max(dur(2)), "{header}");
        assert!(!header.contains("777"), "no keys: {header}");
    })
    .await;
}

#[tokio::test]
async fn what_near_knew_is_in_the_header_and_in_the_line() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::with(|region| region.near(NearConfig::entries(100))).await;
        let layer = CacheLayer::new(world.cache.clone()).server_timing(true);
        let address = serve(Router::new().route("/user/{id}", get(user)).layer(layer)).await;
        fetch(address, "/user/1").await;
        world.idle().await;
        let reply = fetch(address, "/user/1").await;
        let metrics = metrics(reply.header("server-timing").unwrap());
        assert_eq!((metrics[0].0.as_str(), metrics[0].2.as_deref()), ("near", Some("2 hits")));
        assert_eq!((metrics[1].0.as_str(), metrics[1].2.as_deref()), ("shared", Some("0 trips")));
        while log.requests().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(log.requests()[1].get("near"), Some("2"));
    })
    .await;
}

#[tokio::test]
async fn the_header_is_for_debug_builds_and_whoever_asks_for_it() {
    in_time(async {
        let world = World::new().await;
        let serve_with = async |layer: CacheLayer| {
            let address = serve(Router::new().route("/user/{id}", get(user)).layer(layer)).await;
            fetch(address, "/user/1").await.header("server-timing").is_some()
        };
        let layer = || CacheLayer::new(world.cache.clone());
        assert_eq!(serve_with(layer()).await, cfg!(debug_assertions));
        assert!(serve_with(layer().server_timing(true)).await);
        assert!(!serve_with(layer().server_timing(false)).await);
    })
    .await;
}

#[tokio::test]
async fn the_header_of_somebody_else_is_left_as_it_is() {
    in_time(async {
        use tower::ServiceExt;
        let world = World::new().await;
        let page = async |_: RequestCache| ([("server-timing", "render;dur=3")], "a page");
        let app = Router::new()
            .route("/", get(page))
            .layer(CacheLayer::new(world.cache.clone()).server_timing(true));
        let response = app.oneshot(http::Request::new(Body::empty())).await.unwrap();
        let headers: Vec<_> = response.headers().get_all("server-timing").iter().collect();
        assert_eq!(headers.len(), 2);
        assert_eq!(headers[0], "render;dur=3");
    })
    .await;
}

#[tokio::test]
async fn a_job_has_a_span_and_a_line_as_a_request_has() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        let job = async {
            let scope = world.cache.scope("count users");
            scope.run(async |cache| cache.get_many::<UserById>(1..=5).await.map(drop)).await
        };
        job.instrument(tracing::info_span!("scheduler")).await.unwrap();
        world.idle().await;
        let lines = log.requests();
        let line = &lines[0];
        assert_eq!(line.spans, ["scheduler", "request_cache"]);
        let fields = ["method", "route", "status", "statements", "loaded"].map(|field| line.get(field));
        assert_eq!(fields, [None, Some("count users"), None, Some("1"), Some("5")]);
        for trip in log.trips() {
            assert_eq!(trip.spans, ["scheduler", "request_cache", "read"], "{trip:?}");
        }
    })
    .await;
}
