//! A subscriber is the program's, and may panic like everything that is.

use mastaba_test::world::{UserById, World};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Panics wherever a trip is written down.
struct NoRoom;

impl Subscriber for NoRoom {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == "mastaba" && metadata.fields().field("took_us").is_some()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        panic!("no room for a line");
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn a_read_whose_every_trip_panics_in_the_subscriber_names_the_source_and_the_panic() {
    let world = World::new().await;
    let request = world.request();
    let error = {
        let _here = tracing::subscriber::set_default(NoRoom);
        request.get::<UserById>(1).await.unwrap_err()
    };
    assert!(error.is_panic(), "{error}");
    assert_eq!(
        error.to_string(),
        "source user: a read was cut off three times; what carried it panicked: no room for a line"
    );
    assert_eq!(request.get::<UserById>(1).await.unwrap().unwrap().name, "user 1", "and it is read again");
}
