//! The middleware and the extractor in an application.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::body::{MessageBody, to_bytes};
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::test::{TestRequest, call_and_read_body, call_service, init_service, try_call_service};
use actix_web::web::{self, Bytes, Path};
use actix_web::{App, HttpResponse};
use futures_util::{StreamExt, stream};
use mastaba::Budget;
use mastaba_actix::{MastabaCache, RequestCache};
use mastaba_test::world::{UserById, World};

#[path = "../../mastaba-axum/tests/web/log.rs"]
mod log;

use log::Log;

async fn in_time<T>(test: impl Future<Output = T>) -> T {
    actix_web::rt::time::timeout(Duration::from_secs(20), test).await.expect("the test hangs")
}

fn get(path: &str) -> TestRequest {
    TestRequest::get().uri(path)
}

/// Two users, awaited together, and one of them again.
async fn users(cache: RequestCache, id: Path<u64>) -> String {
    let (one, two) = futures_util::join!(cache.get::<UserById>(*id), cache.get::<UserById>(*id + 1));
    let (one, two) = (one.unwrap().unwrap(), two.unwrap().unwrap());
    cache.get::<UserById>(*id).await.unwrap();
    format!("{} {}", one.name, two.name)
}

#[actix_web::test]
async fn each_request_has_a_cache_of_its_own_and_ends_with_one_line() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        let middleware = MastabaCache::new(world.cache.clone());
        let app = App::new().wrap(middleware).route("/user/{id}", web::get().to(users));
        let app = init_service(app).await;
        for nth in 1..=2 {
            assert_eq!(call_and_read_body(&app, get("/user/7").to_request()).await, "user 7 user 8");
            world.idle().await;
            assert_eq!(log.requests().len(), nth);
        }
        let figures = |nth: usize| {
            let line = log.requests().remove(nth);
            ["method", "route", "status", "trips", "statements", "near", "shared", "loaded"]
                .map(|field| line.get(field).unwrap().to_owned())
        };
        assert_eq!(figures(0), ["GET", "/user/{id}", "200", "2", "1", "0", "0", "2"]);
        assert_eq!(figures(1), ["GET", "/user/{id}", "200", "1", "0", "0", "2", "0"]);
        for trip in log.trips() {
            assert_eq!(trip.spans, ["request_cache", "read"], "{trip:?}");
        }
    })
    .await;
}

#[actix_web::test]
async fn requests_at_the_same_time_do_not_share_their_first_tier() {
    in_time(async {
        struct Mark(u64);
        const REQUESTS: u64 = 5;
        let world = World::new().await;
        let here = web::Data::new(AtomicUsize::new(0));
        let page = async |cache: RequestCache, id: Path<u64>, here: web::Data<AtomicUsize>| {
            assert!(cache.stash().insert(Mark(*id)).is_none());
            here.fetch_add(1, Ordering::Relaxed);
            while here.load(Ordering::Relaxed) < REQUESTS as usize {
                actix_web::rt::task::yield_now().await;
            }
            cache.stash().get::<Mark>().unwrap().0.to_string()
        };
        let app = App::new()
            .wrap(MastabaCache::new(world.cache.clone()))
            .app_data(here)
            .route("/{id}", web::get().to(page));
        let app = init_service(app).await;
        let paths = (0..REQUESTS).map(|id| get(&format!("/{id}")).to_request());
        let replies = futures_util::future::join_all(paths.map(|path| call_and_read_body(&app, path))).await;
        assert_eq!(replies, ["0", "1", "2", "3", "4"]);
    })
    .await;
}

#[actix_web::test]
async fn a_streaming_body_keeps_its_request_until_it_has_ended_or_is_dropped() {
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
            HttpResponse::Ok().streaming(names)
        };
        let middleware = MastabaCache::new(world.cache.clone());
        let app = init_service(App::new().wrap(middleware).route("/", web::get().to(page))).await;
        let body = call_service(&app, get("/").to_request()).await.into_body();
        assert!(log.requests().is_empty(), "the body has not begun");
        assert_eq!(to_bytes(body).await.unwrap(), "user 1user 2user 3");
        assert_eq!(log.requests()[0].get("statements"), Some("3"));
        for trip in log.trips() {
            assert_eq!(trip.spans, ["request_cache", "read"], "{trip:?}");
        }

        let mut body = Box::pin(call_service(&app, get("/").to_request()).await.into_body());
        let chunk = std::future::poll_fn(|cx| body.as_mut().poll_next(cx)).await;
        assert_eq!(chunk.unwrap().unwrap(), "user 1");
        assert_eq!(log.requests().len(), 1);
        drop(body);
        assert_eq!(log.requests().len(), 2);
    })
    .await;
}

#[actix_web::test]
async fn a_request_ends_with_the_last_chunk_of_its_body_although_the_body_is_still_held() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        let middleware = MastabaCache::new(world.cache.clone());
        let app = App::new().wrap(middleware).route("/user/{id}", web::get().to(users));
        let reply = call_service(&init_service(app).await, get("/user/7").to_request()).await;
        let mut body = Box::pin(reply.into_body());
        assert!(log.requests().is_empty(), "the body has not begun");
        while std::future::poll_fn(|cx| body.as_mut().poll_next(cx)).await.is_some() {}
        assert_eq!(log.requests().len(), 1);
        drop(body);
        assert_eq!(log.requests().len(), 1, "and it ends once");
    })
    .await;
}

#[actix_web::test]
async fn a_request_that_is_dropped_before_its_response_has_ended() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        let gate = world.db.close_gate();
        let middleware = MastabaCache::new(world.cache.clone());
        let app = App::new().wrap(middleware).route("/user/{id}", web::get().to(users));
        let app = init_service(app).await;
        let call = Box::pin(call_and_read_body(&app, get("/user/7").to_request()));
        let here = Box::pin(gate.arrived(1));
        let futures_util::future::Either::Right((_, call)) = futures_util::future::select(call, here).await
        else {
            panic!("the gate is closed");
        };
        drop(call);
        assert_eq!(log.requests()[0].get("status"), None);
        gate.open_for_good();
        world.idle().await;
        assert_eq!(call_and_read_body(&app, get("/user/7").to_request()).await, "user 7 user 8");
    })
    .await;
}

#[actix_web::test]
async fn an_error_of_a_handler_has_its_status_in_the_line() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        let page = async |_: RequestCache| Err::<String, _>(actix_web::error::ErrorNotFound("nothing here"));
        let middleware = MastabaCache::new(world.cache.clone());
        let app = init_service(App::new().wrap(middleware).route("/", web::get().to(page))).await;
        assert_eq!(call_service(&app, get("/").to_request()).await.status(), StatusCode::NOT_FOUND);
        assert_eq!(call_service(&app, get("/nowhere").to_request()).await.status(), StatusCode::NOT_FOUND);
        let lines = log.requests();
        let seen = lines.iter().map(|line| (line.get("route").unwrap(), line.get("status").unwrap()));
        assert_eq!(seen.collect::<Vec<_>>(), [("/", "404"), ("", "404")]);
    })
    .await;
}

#[actix_web::test]
async fn an_error_of_a_middleware_further_in_is_passed_on_and_has_its_status_in_the_line() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        let app = App::new()
            .wrap_fn(|_, _| async { Err::<ServiceResponse, _>(actix_web::error::ErrorForbidden("not you")) })
            .wrap(MastabaCache::new(world.cache.clone()));
        let app = init_service(app).await;
        let error = try_call_service(&app, get("/").to_request()).await.unwrap_err();
        assert_eq!(error.to_string(), "not you");
        assert_eq!(log.requests()[0].get("status"), Some("403"));
    })
    .await;
}

/// Something of a program that knows of no framework.
async fn name_of(request: mastaba::RequestCache, id: u64) -> String {
    request.get::<UserById>(id).await.unwrap().unwrap().name.clone()
}

#[actix_web::test]
async fn what_a_handler_is_given_goes_into_a_task_and_everywhere_else_as_it_is() {
    in_time(async {
        let world = World::new().await;
        let page = async |cache: RequestCache| {
            let name = actix_web::rt::spawn(name_of(cache.clone(), 1)).await.unwrap();
            [name, name_of(cache, 2).await].join(" ")
        };
        let middleware = MastabaCache::new(world.cache.clone());
        let app = init_service(App::new().wrap(middleware).route("/", web::get().to(page))).await;
        assert_eq!(call_and_read_body(&app, get("/").to_request()).await, "user 1 user 2");
    })
    .await;
}

#[actix_web::test]
async fn an_application_without_the_middleware_says_which_one_to_add() {
    in_time(async {
        let app = init_service(App::new().route("/user/{id}", web::get().to(users))).await;
        let reply = try_call_service(&app, get("/user/7").to_request()).await.unwrap();
        assert_eq!(reply.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = to_bytes(reply.into_body()).await.unwrap();
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains(".wrap(mastaba_actix::MastabaCache::new(cache))"), "{body}");
    })
    .await;
}

#[actix_web::test]
async fn the_header_is_for_debug_builds_and_whoever_asks_for_it() {
    in_time(async {
        let world = World::new().await;
        let header = async |middleware: MastabaCache| {
            let app = App::new().wrap(middleware).route("/user/{id}", web::get().to(users));
            let reply = call_service(&init_service(app).await, get("/user/777").to_request()).await;
            reply.headers().get("server-timing").map(|value| value.to_str().unwrap().to_owned())
        };
        let middleware = || MastabaCache::new(world.cache.clone());
        let shown = header(middleware().server_timing(true)).await.unwrap();
        assert!(shown.starts_with("request;desc=\"1 hit\", shared;dur="), "{shown}");
        assert!(shown.contains("source;dur=") && shown.contains("desc=\"1 statement\""), "{shown}");
        assert!(!shown.contains("777"), "no keys: {shown}");
        assert_eq!(header(middleware()).await.is_some(), cfg!(debug_assertions));
        assert!(header(middleware().server_timing(false)).await.is_none());
    })
    .await;
}

#[actix_web::test]
async fn a_request_that_costs_too_much_is_warned_about_once_and_may_set_its_own_budget() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        let over = Arc::new(Mutex::new(Vec::new()));
        let seen = over.clone();
        let middleware = MastabaCache::new(world.cache.clone())
            .budget(Budget { trips: 2, statements: 1 })
            .on_over_budget(move |over| seen.lock().unwrap().push(over.to_string()));
        let one_by_one = async |cache: RequestCache| {
            cache.get::<UserById>(1).await.unwrap();
            cache.get::<UserById>(2).await.unwrap();
            "done"
        };
        let on_purpose = async |cache: RequestCache| {
            cache.stash().insert(Budget { trips: 4, statements: 2 });
            cache.get::<UserById>(3).await.unwrap();
            cache.get::<UserById>(4).await.unwrap();
            "done"
        };
        let app = App::new()
            .wrap(middleware)
            .route("/user/{id}", web::get().to(users))
            .route("/one_by_one", web::get().to(one_by_one))
            .route("/on_purpose", web::get().to(on_purpose));
        let app = init_service(app).await;
        for path in ["/user/7", "/one_by_one", "/on_purpose"] {
            call_and_read_body(&app, get(path).to_request()).await;
        }
        assert_eq!(
            *over.lock().unwrap(),
            ["N+1? /one_by_one cost 2 trips and 2 statements, and may cost 2 and 1; most by user: 2"]
        );
        assert_eq!(log.warnings().len(), 1);
    })
    .await;
}

/// actix has a runtime of one thread per worker, and the cache is made outside of all of them.
#[test]
fn workers_share_a_cache_and_one_of_them_may_end_before_the_others() {
    let world = actix_web::rt::System::new().block_on(World::new());
    std::thread::scope(|scope| {
        for rounds in [2, 40, 40] {
            let cache = world.cache.clone();
            scope.spawn(move || {
                actix_web::rt::System::new().block_on(in_time(async {
                    let middleware = MastabaCache::new(cache);
                    let app = App::new().wrap(middleware).route("/user/{id}", web::get().to(users));
                    let app = init_service(app).await;
                    for round in 1..=rounds {
                        let (one, two) = (round * 10, round * 10 + 1);
                        let page = call_and_read_body(&app, get(&format!("/user/{one}")).to_request()).await;
                        assert_eq!(page, format!("user {one} user {two}"));
                    }
                }));
            });
        }
    });
    actix_web::rt::System::new().block_on(in_time(world.cache.close())).unwrap();
}
