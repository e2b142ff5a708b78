use std::mem::size_of_val;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::batch::{Part, Sink};
use crate::claim::verdict::tests::Doubles;
use crate::{Cache, Region};

#[tokio::test]
async fn a_load_that_waits_for_nobody_is_small() {
    let builder = Cache::builder().region("objects", Region::memory()).source(Doubles);
    let request = builder.build().await.unwrap().request().inner;
    let source = request.cache.source::<Doubles>().unwrap();
    let sink = Sink::new(Part::new(0));
    let mut claim = Claim::empty(&source, sink, request, Lane::Normal, 0, CancellationToken::new());
    // it is copied into its box: 10 kB where what waits for other processes stands in it
    let load = claim.load();
    assert!(size_of_val(&*load) < 3000, "{}", size_of_val(&*load));
}
