//! OpenTelemetry: the spans of `tracing` go there through `tracing-opentelemetry`, and those of Mastaba with
//! them. The exporter of this example keeps them, to print them as a tree; in a program it would be one of
//! `opentelemetry-otlp`, and nothing else would change.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Path, Request};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::{Router, routing::get};
use mastaba_axum::{CacheLayer, RequestCache};
use mastaba_test::world::{UserById, World};
use opentelemetry::trace::{SpanId, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tower::ServiceExt;
use tracing::Instrument;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, mut spans: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().append(&mut spans);
        Ok(())
    }
}

impl Kept {
    /// The spans under one, each with its events under it.
    fn tree(&self, parent: SpanId, depth: usize, lines: &mut Vec<String>) {
        let mut spans: Vec<_> = self.0.lock().unwrap().clone();
        spans.retain(|span| span.parent_span_id == parent);
        spans.sort_by_key(|span| span.start_time);
        for span in spans {
            lines.push(format!("{:indent$}{}", "", span.name, indent = 2 * depth));
            for event in &span.events.events {
                let shown = ["operation", "name", "keys", "trips", "statements", "status"];
                let fields = event.attributes.iter().filter(|field| shown.contains(&field.key.as_str()));
                let fields: Vec<_> = fields.map(|field| format!("{}={}", field.key, field.value)).collect();
                let indent = 2 * depth + 2;
                lines.push(format!("{:indent$}- {} {}", "", event.name, fields.join(" ")));
            }
            self.tree(span.span_context.span_id(), depth + 1, lines);
        }
    }
}

async fn name(cache: RequestCache, Path(id): Path<u64>) -> String {
    let user = cache.get::<UserById>(id).await.unwrap().unwrap();
    let photo = user.photo.get(&cache).await.unwrap().unwrap();
    format!("{} {}", user.name, photo.url)
}

/// The span of a request, as the `TraceLayer` of tower-http makes one.
async fn traced(request: Request, next: Next) -> Response {
    let span = tracing::info_span!("http", path = request.uri().path());
    next.run(request).instrument(span).await
}

/// What is exported of one request: a line per span and event.
pub(crate) async fn spans() -> Vec<String> {
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
    let exported = tracing_opentelemetry::layer().with_tracer(provider.tracer("example"));
    // the reads and trips of Mastaba are at level DEBUG
    let filter =
        Targets::new().with_target("mastaba", tracing::Level::DEBUG).with_default(tracing::Level::INFO);
    tracing_subscriber::registry().with(exported.with_filter(filter)).init();

    let world = World::new().await;
    let app = Router::new()
        .route("/user/{id}", get(name))
        .layer(CacheLayer::new(world.cache.clone()))
        .layer(from_fn(traced));
    let request = http::Request::get("/user/7").body(Body::empty()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    world.idle().await;
    provider.shutdown().unwrap();

    let mut lines = Vec::new();
    kept.tree(SpanId::INVALID, 0, &mut lines);
    lines
}

#[tokio::main]
async fn main() {
    for line in spans().await {
        println!("{line}");
    }
}
