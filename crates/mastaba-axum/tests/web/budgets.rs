//! The N+1 alarm.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use mastaba::{Budget, OverBudget};
use mastaba_axum::{BudgetLayer, CacheLayer, RequestCache};
use mastaba_test::world::{PhotoById, UserById, World};

use crate::http::{get as fetch, serve};
use crate::in_time;
use crate::log::Log;

/// Three users one by one, as they should not be read, and a photo.
async fn one_by_one(cache: RequestCache) {
    for id in 1..=3 {
        cache.get::<UserById>(id).await.unwrap();
    }
    cache.get::<PhotoById>(1).await.unwrap();
}

async fn together(cache: RequestCache) {
    cache.get_many::<UserById>(11..=13).await.unwrap();
}

async fn costly_on_purpose(cache: RequestCache) {
    cache.stash().insert(Budget { trips: 100, statements: 100 });
    for id in 21..=23 {
        cache.get::<UserById>(id).await.unwrap();
    }
}

const SMALL: Budget = Budget { trips: 2, statements: 1 };
const LARGE: Budget = Budget { trips: 100, statements: 100 };

struct Alarm {
    over: Arc<Mutex<Vec<OverBudget>>>,
    layer: CacheLayer,
}

async fn alarm() -> Alarm {
    let over = Arc::new(Mutex::new(Vec::new()));
    let seen = over.clone();
    let layer = CacheLayer::new(World::new().await.cache)
        .on_over_budget(move |each| seen.lock().unwrap().push(each.clone()));
    Alarm { over, layer }
}

#[tokio::test]
async fn a_request_that_costs_too_much_is_warned_about_once_and_the_others_are_not() {
    in_time(async {
        let (log, _guard) = Log::start();
        let alarm = alarm().await;
        let app = Router::new()
            .route("/one_by_one", get(one_by_one))
            .route("/together", get(together))
            .route("/on_purpose", get(costly_on_purpose))
            .layer(alarm.layer.budget(SMALL));
        let address = serve(app).await;
        for path in ["/together", "/one_by_one", "/on_purpose"] {
            assert_eq!(fetch(address, path).await.status, 200);
        }
        while log.requests().len() < 3 {
            tokio::task::yield_now().await;
        }
        let warnings = log.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let warning = &warnings[0];
        assert_eq!(
            warning.message(),
            "N+1? /one_by_one cost 5 trips and 4 statements, and may cost 2 and 1; most by user: 3, photo: 1"
        );
        let tables: Vec<_> = log.all().into_iter().filter(|line| line.target == "mastaba::report").collect();
        assert_eq!(tables.len(), 1, "the whole report is a line of its own");
        assert_eq!(tables[0].level, tracing::Level::DEBUG);
        assert!(tables[0].message().lines().count() > 12, "{}", tables[0].message());
        let fields = ["route", "trips", "statements", "worst", "worst_statements"];
        assert_eq!(fields.map(|field| warning.get(field).unwrap()), ["/one_by_one", "5", "4", "user", "3"],);
        let over = alarm.over.lock().unwrap();
        assert_eq!(over.iter().map(|over| over.name.as_str()).collect::<Vec<_>>(), ["/one_by_one"]);
        assert_eq!((over[0].budget, over[0].report.statements()), (SMALL, 4));
    })
    .await;
}

#[tokio::test]
async fn a_route_has_a_budget_of_its_own_which_counts_before_that_of_all() {
    in_time(async {
        let alarm = alarm().await;
        let small = Router::new().route("/small", get(one_by_one)).route_layer(BudgetLayer::new(SMALL));
        let large = Router::new().route("/large", get(one_by_one)).route_layer(BudgetLayer::new(LARGE));
        let none = Router::new().route("/none", get(one_by_one));
        let app = small.clone().merge(large.clone()).merge(none).layer(alarm.layer.clone());
        let address = serve(app).await;
        for path in ["/none", "/large", "/small"] {
            assert_eq!(fetch(address, path).await.status, 200);
        }
        let address = serve(small.merge(large).layer(alarm.layer.clone().budget(SMALL))).await;
        assert_eq!(fetch(address, "/large").await.status, 200);
        drop(alarm.layer);
        while alarm.over.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let over = alarm.over.lock().unwrap();
        assert_eq!(over.iter().map(|over| over.name.as_str()).collect::<Vec<_>>(), ["/small"]);
    })
    .await;
}

#[tokio::test]
async fn a_listener_that_panics_costs_nobody_an_answer() {
    in_time(async {
        let world = World::new().await;
        let layer = CacheLayer::new(world.cache.clone())
            .budget(Budget { trips: 0, statements: 0 })
            .on_over_budget(|_| panic!("a listener panics"));
        let address = serve(Router::new().route("/", get(together)).layer(layer)).await;
        for _ in 0..2 {
            assert_eq!(fetch(address, "/").await.status, 200);
        }
    })
    .await;
}
