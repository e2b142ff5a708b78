//! What happens to keys between the read that asks for them and the trip that they take.

use mastaba_test::world::{UserById, World};

#[tokio::test]
async fn a_key_that_is_written_again_while_it_gathers_has_its_row_for_both_readers() {
    let world = World::new().await;
    let request = world.request();
    let write = request.write();
    write.invalidate::<UserById>([1]).await.unwrap();
    let again = async {
        write.invalidate::<UserById>([1]).await.unwrap();
        request.get::<UserById>(1).await
    };
    let (one, two) = tokio::join!(request.get::<UserById>(1), again);
    assert!(one.unwrap().is_some() && two.unwrap().is_some());
    // two loads: no loader is given a key twice
    assert_eq!(world.trips(), ["source load user from the writer [1]"; 2]);
}
