//! The layer around services that are not axum's, such as tonic's.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use mastaba_axum::CacheLayer;
use mastaba_test::world::{UserById, World};
use tower::{Layer, ServiceExt, service_fn};

use crate::in_time;
use crate::log::Log;

#[tokio::test]
async fn a_service_with_trailers_keeps_them_and_reads_through_its_request() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        // as a tonic service does: the cache from the extensions, messages as frames, the status in trailers
        let service = service_fn(async |request: Request<Full<Bytes>>| {
            let cache = request.extensions().get::<mastaba::RequestCache>().unwrap().clone();
            let user = cache.get::<UserById>(1).await.unwrap().unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let frames = [Frame::data(Bytes::from(user.name.clone())), Frame::trailers(trailers)];
            let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
            Ok::<_, Infallible>(Response::new(body))
        });
        let layer = CacheLayer::new(world.cache.clone()).route(|parts| parts.uri.path().to_owned());
        let request = Request::post("/shop.Users/Get").body(Full::new(Bytes::from_static(b"1"))).unwrap();
        let response = layer.layer(service).oneshot(request).await.unwrap();
        assert!(log.requests().is_empty(), "the body has not ended");
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), "user 1");
        let line = log.requests().remove(0);
        assert_eq!(
            (line.get("method"), line.get("route"), line.get("statements")),
            (Some("POST"), Some("/shop.Users/Get"), Some("1"))
        );
    })
    .await;
}

#[tokio::test]
async fn what_a_body_says_of_itself_is_passed_on() {
    in_time(async {
        let world = World::new().await;
        let layer = CacheLayer::new(world.cache.clone());
        let full = service_fn(async |_: Request<()>| {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"12345"))))
        });
        let body = layer.layer(full).oneshot(Request::new(())).await.unwrap().into_body();
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(5), false));
        let empty =
            service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())));
        let body = layer.layer(empty).oneshot(Request::new(())).await.unwrap().into_body();
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
    })
    .await;
}

#[tokio::test]
async fn errors_of_a_service_and_of_a_body_are_passed_on_and_end_the_request() {
    in_time(async {
        let (log, _guard) = Log::start();
        let world = World::new().await;
        let layer = CacheLayer::new(world.cache.clone());
        let failing = service_fn(async |_: Request<()>| Err::<Response<Empty<Bytes>>, _>("no answer"));
        assert_eq!(layer.layer(failing).oneshot(Request::new(())).await.unwrap_err(), "no answer");
        assert_eq!(log.requests()[0].get("status"), None);
        assert_eq!(log.requests()[0].get("end"), Some("failed"));

        let broken = service_fn(async |_: Request<()>| {
            let frames = [Ok(Frame::data(Bytes::from_static(b"half"))), Err("broken")];
            Ok::<_, Infallible>(Response::new(StreamBody::new(stream::iter(frames))))
        });
        let mut body = layer.layer(broken).oneshot(Request::new(())).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        assert_eq!(log.requests().len(), 1);
        assert_eq!(body.frame().await.unwrap().unwrap_err(), "broken");
        assert_eq!(log.requests().len(), 2, "ended by the error, before the body is dropped");
        assert_eq!(log.requests()[1].get("end"), Some("failed"));
    })
    .await;
}
