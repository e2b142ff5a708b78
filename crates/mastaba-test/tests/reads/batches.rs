//! What is more than a backend takes at once goes in parts, each whole, and in an order where that has a meaning.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mastaba::shared::memory::Memory;
use mastaba::shared::{Abilities, Shared};
use mastaba::{Cache, Region};
use mastaba_test::world::{Control, Db, UserById, Watched};

/// Memory that takes two keys at once.
struct Two(Memory);

impl Shared for Two {
    const ABILITIES: Abilities = Abilities { max_batch: 2, ..Memory::ABILITIES };

    mastaba_test::pass_on!(0: read, lease, fill, invalidate, hold, end, incarnation);
}

struct World {
    cache: Cache,
    shared: Arc<Control>,
    memory: Memory,
    trips: Arc<Mutex<Vec<String>>>,
}

impl World {
    async fn new() -> Self {
        let trips = Arc::new(Mutex::new(Vec::new()));
        let memory = Memory::default();
        let watched = Watched::<_>::new(Two(memory.clone()), trips.clone());
        let shared = watched.control();
        let users = UserById(Arc::new(Db::default()));
        let region = Region::backend(watched).jitter(0.0).early_refresh(0.0);
        let cache = Cache::builder().region("objects", region).source(users).build().await.unwrap();
        Self { cache, shared, memory, trips }
    }

    /// Which of the users 1 to 5 the shared tier holds.
    async fn stands(&self) -> Vec<u64> {
        let keys: Vec<_> = (1..=5).map(|id| Bytes::from(format!("mastaba:objects:user:{id}"))).collect();
        let records = self.memory.read(&keys).await.unwrap();
        (1..=5).zip(records).filter_map(|(id, record)| record.map(|_| id)).collect()
    }

    /// The trips up to now, which are forgotten.
    fn trips(&self) -> Vec<String> {
        std::mem::take(&mut self.trips.lock().unwrap())
    }

    /// Those of them that are of one kind.
    fn trips_of(&self, operation: &str) -> Vec<String> {
        self.trips().into_iter().filter(|trip| trip.contains(operation)).collect()
    }
}

#[tokio::test]
async fn a_read_and_a_fill_are_cut_to_what_the_backend_takes() {
    let world = World::new().await;
    let users = world.cache.request().get_many::<UserById>(1..=5).await.unwrap();
    assert_eq!(users.found().count(), 5);
    world.cache.idle().await;
    let trips = world.trips();
    let of = |operation: &str| -> Vec<_> { trips.iter().filter(|trip| trip.contains(operation)).collect() };
    assert_eq!(of("read"), ["shared read [1, 2]", "shared read [3, 4]", "shared read [5]"]);
    assert_eq!(of("fill"), ["shared fill [1, 2]", "shared fill [3, 4]", "shared fill [5]"]);
    let mut keys: Vec<_> = of("lease")
        .iter()
        .flat_map(|trip| trip["shared lease [".len()..].trim_end_matches(']').split(", "))
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, ["1", "2", "3", "4", "5"], "each is leased once");
    let request = world.cache.request();
    assert_eq!(request.get_many::<UserById>(1..=5).await.unwrap().found().count(), 5);
    assert_eq!(request.report().statements(), 0, "all of them are stored");
    assert_eq!(request.report().shared_trips(), 1, "parts of one trip travel together");
}

/// R7: inner objects were collected before those derived from them.
#[tokio::test]
async fn an_invalidation_is_cut_in_its_order_one_part_after_the_other() {
    let world = World::new().await;
    world.cache.request().get_many::<UserById>(1..=5).await.unwrap();
    world.cache.idle().await;
    world.trips();
    let gate = world.shared.before("invalidate");
    let write = tokio::spawn({
        let request = world.cache.request();
        async move { request.invalidate::<UserById>([5, 4, 3, 2, 1]).await }
    });
    let parts = ["shared invalidate [5, 4]", "shared invalidate [3, 2]", "shared invalidate [1]"];
    for (nth, part) in (1..).zip(parts) {
        gate.arrived(nth).await;
        assert_eq!(world.trips_of("invalidate"), [part]);
        gate.open();
    }
    write.await.unwrap().unwrap();
    let request = world.cache.request();
    request.get_many::<UserById>(1..=5).await.unwrap();
    assert_eq!(request.report().keys_loaded(), 5);
}

#[tokio::test]
async fn a_part_of_an_invalidation_that_fails_does_not_keep_back_those_after_it() {
    let world = World::new().await;
    for failing in 1..=3 {
        world.cache.request().get_many::<UserById>(1..=5).await.unwrap();
        world.cache.idle().await;
        assert_eq!(world.stands().await, [1, 2, 3, 4, 5]);
        let gate = world.shared.before("invalidate");
        let write = tokio::spawn({
            let request = world.cache.request();
            async move { request.invalidate::<UserById>(1..=5).await }
        });
        for nth in 1..=3 {
            gate.arrived(nth).await;
            world.shared.refuse(if nth == failing { &["invalidate"] } else { &[] });
            gate.open();
        }
        let published = write.await.unwrap().unwrap();
        assert!(!published.is_confirmed(), "part {failing} was not confirmed");
        world.shared.refuse(&[]);
        let left: &[u64] = [&[1, 2][..], &[3, 4], &[5]][failing as usize - 1];
        assert_eq!(world.stands().await, left, "all but part {failing} were voided");
        // and that part is sent again
        gate.open_for_good();
        published.confirmed(Duration::from_secs(10)).await.unwrap();
        assert_eq!(world.stands().await, [0; 0]);
    }
}
