//! A database in two places that says how far each of them has come, and which of them a load reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mastaba::shared::memory::Memory;
use mastaba::{
    Cache, Checked, Event, Force, LoadContext, Positions, Prefer, Region, Replicated, RequestCache, Rows,
    Source,
};
use mastaba_test::ledger::{Ledger, Recorded};

/// One of two databases.
#[derive(Clone)]
struct Node(Arc<Inner>);

struct Inner {
    name: &'static str,
    state: Mutex<State>,
    manner: Mutex<Manner>,
}

/// Its rows, and how many transactions have made them.
#[derive(Clone, Default)]
struct State {
    transactions: u64,
    rows: BTreeMap<u64, u32>,
}

/// How it answers when it is asked how far it is.
#[derive(Clone, Copy)]
enum Manner {
    Answers,
    Fails,
    Hangs,
}

impl Node {
    fn new(name: &'static str) -> Self {
        Self(Arc::new(Inner { name, state: Mutex::default(), manner: Mutex::new(Manner::Answers) }))
    }

    fn update(&self, row: u64, to: u32) {
        let mut state = self.0.state.lock().unwrap();
        state.transactions += 1;
        state.rows.insert(row, to);
    }

    /// Comes as far as another one.
    fn follow(&self, other: &Self) {
        let state = other.0.state.lock().unwrap().clone();
        *self.0.state.lock().unwrap() = state;
    }

    fn is(&self, manner: Manner) {
        *self.0.manner.lock().unwrap() = manner;
    }

    async fn transactions(&self) -> Result<u64, String> {
        let manner = *self.0.manner.lock().unwrap();
        match manner {
            Manner::Answers => Ok(self.0.state.lock().unwrap().transactions),
            Manner::Fails => Err("permission denied".to_owned()),
            Manner::Hangs => std::future::pending().await,
        }
    }
}

struct Transactions(Ledger);

impl Positions<Node> for Transactions {
    type Position = u64;
    type Error = String;

    async fn of_writer(&self, writer: &Node) -> Result<u64, String> {
        self.0.write(format!("position of the {}", writer.0.name));
        writer.transactions().await
    }

    async fn reached(&self, reader: &Node, position: &u64, _: Duration) -> Result<bool, String> {
        self.0.write(format!("position of the {}", reader.0.name));
        Ok(reader.transactions().await? >= *position)
    }
}

struct RowById(Arc<Checked<Node, Transactions>>, Ledger);

impl Source for RowById {
    type Key = u64;
    type Value = u32;
    type Error = String;
    const NAME: &'static str = "row";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, String> {
        let node = self.0.pick(cx).await;
        self.1.write(format!("load from the {}", node.0.name));
        let state = node.0.state.lock().unwrap();
        Ok(ids.iter().filter_map(|id| Some((*id, *state.rows.get(id)?))).collect())
    }
}

struct World {
    writer: Node,
    reader: Node,
    cache: Cache,
    ledger: Ledger,
    events: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// Both databases have the rows 1 to 9, each with the value 0.
    async fn new(prefer: Prefer) -> Self {
        let (writer, reader, ledger) = (Node::new("writer"), Node::new("reader"), Ledger::new());
        (1..=9).for_each(|row| writer.update(row, 0));
        reader.follow(&writer);
        let nodes = Replicated::consistent(writer.clone(), reader.clone());
        let nodes = nodes.checked_by(Transactions(ledger.clone())).prefer(prefer);
        let events = Arc::<Mutex<Vec<String>>>::default();
        let listener = events.clone();
        let shared = Recorded::new(Memory::default(), ledger.clone());
        let cache = Cache::builder()
            .region("objects", Region::backend(shared).jitter(0.0).early_refresh(0.0))
            .source(RowById(Arc::new(nodes), ledger.clone()))
            .on_event(move |event: &Event| listener.lock().unwrap().push(event.to_string()))
            .build()
            .await
            .unwrap();
        Self { writer, reader, cache, ledger, events }
    }

    /// What a new request sees of a row, and the trips that it took.
    async fn sees(&self, row: u64) -> (u32, Vec<String>) {
        let value = get(&self.cache.request(), row).await;
        self.cache.idle().await;
        (value, self.ledger.take())
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

async fn get(request: &RequestCache, row: u64) -> u32 {
    *request.get::<RowById>(row).await.unwrap().unwrap()
}

/// From which of the two the last load came.
fn loaded_from(trips: &[String]) -> &str {
    let load = trips.iter().rev().find_map(|trip| trip.strip_prefix("load from the "));
    load.unwrap_or("neither")
}

#[tokio::test]
async fn a_reader_that_is_behind_never_refills_what_a_write_voided() {
    let world = World::new(Prefer::default()).await;
    let (value, trips) = world.sees(1).await;
    assert_eq!(value, 0);
    // the position is asked for once the lease is there (E4)
    assert_eq!(
        trips,
        [
            "shared read 3",
            "shared lease 1, stamps 3",
            "position of the writer",
            "position of the reader",
            "load from the reader",
            "shared fill 1"
        ]
    );

    let writer = world.cache.request().write();
    writer.invalidate::<RowById>([1]).await.unwrap();
    world.writer.update(1, 7);
    writer.published().await.unwrap();
    world.ledger.take();
    let (value, trips) = world.sees(1).await;
    assert_eq!((value, loaded_from(&trips)), (7, "writer"), "the reader has not come so far");
    assert_eq!(world.sees(1).await, (7, vec!["shared read 3".to_owned()]), "which is stored");
    let (_, trips) = world.sees(2).await;
    assert_eq!(loaded_from(&trips), "writer", "nobody knows which rows a reader that is behind lacks");

    world.reader.follow(&world.writer);
    let (_, trips) = world.sees(3).await;
    assert_eq!(loaded_from(&trips), "reader");
    world.cache.request().invalidate::<RowById>([1]).await.unwrap();
    let (value, trips) = world.sees(1).await;
    assert_eq!((value, loaded_from(&trips)), (7, "reader"));
    assert_eq!(world.events(), [""; 0], "that a reader is behind is no event");
}

#[tokio::test]
async fn which_of_the_two_is_read_where_both_may_is_for_the_program_to_say() {
    let cases = [
        (Prefer::ReaderUntilWrite, ["reader", "reader", "writer", "writer", "writer"]),
        (Prefer::Reader, ["reader", "reader", "writer", "reader", "reader"]),
        (Prefer::Writer, ["writer"; 5]),
    ];
    for (prefer, expected) in cases {
        let world = World::new(prefer).await;
        let request = world.cache.request();
        let mut from = Vec::new();
        let mut load = async |force: Force, row: u64, value: u32| {
            assert_eq!(get(&request.with(force), row).await, value, "{prefer:?}");
            from.push(loaded_from(&world.ledger.take()).to_owned());
        };
        load(Force::No, 1, 0).await;
        load(Force::PastShared, 2, 0).await;
        request.invalidate::<RowById>([1]).await.unwrap();
        world.writer.update(1, 7);
        // the request reads what it wrote
        load(Force::No, 1, 7).await;
        world.reader.follow(&world.writer);
        load(Force::No, 3, 0).await;
        load(Force::PastShared, 4, 0).await;
        assert_eq!(from, expected, "{prefer:?}");
    }
}

/// One that does not ask, for the same choices.
struct Named(Replicated<&'static str>);

impl Source for Named {
    type Key = u64;
    type Value = String;
    type Error = String;
    const NAME: &'static str = "named";
    const REGION: &'static str = "objects";

    async fn load_many(&self, cx: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, String> {
        Ok(ids.iter().map(|id| (*id, (*self.0.pick(cx)).to_owned())).collect())
    }
}

#[tokio::test]
async fn without_a_check_the_choice_is_within_what_the_constructor_allows() {
    let (consistent, lagging) =
        (Replicated::consistent("writer", "reader"), Replicated::lagging("writer", "reader"));
    // stored, not stored; and the same after a write of the request
    let cases = [
        (consistent.clone().prefer(Prefer::Reader), ["writer", "reader", "writer", "reader"]),
        (consistent.prefer(Prefer::Writer), ["writer"; 4]),
        (lagging.clone().prefer(Prefer::Reader), ["reader"; 4]),
        (lagging.prefer(Prefer::Writer), ["writer"; 4]),
    ];
    for (pools, expected) in cases {
        let what = format!("{pools:?}");
        let builder = Cache::builder().region("objects", Region::memory()).source(Named(pools));
        let request = builder.build().await.unwrap().request();
        let mut from = Vec::new();
        for (force, row) in [(Force::No, 1), (Force::PastShared, 2), (Force::No, 3), (Force::PastShared, 4)] {
            if row == 3 {
                request.invalidate::<Named>([9]).await.unwrap();
            }
            from.push(request.with(force).get::<Named>(row).await.unwrap().unwrap());
        }
        let from: Vec<&str> = from.iter().map(|from| from.as_str()).collect();
        assert_eq!(from, expected, "{what}");
    }
}

#[tokio::test]
async fn the_check_is_two_statements_and_none_where_there_is_no_choice() {
    for (prefer, statements) in [(Prefer::Reader, 3), (Prefer::Writer, 1)] {
        let request = World::new(prefer).await.cache.request();
        get(&request, 1).await;
        assert_eq!(request.report().statements(), statements, "{prefer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_say_how_far_it_is_is_an_event_and_is_left_alone_for_a_second() {
    let world = World::new(Prefer::default()).await;
    let mut row = 0;
    let mut next = async || {
        row += 1;
        let (value, trips) = world.sees(row).await;
        assert_eq!(value, 0);
        let asked = trips.iter().filter(|trip| trip.starts_with("position")).count();
        (loaded_from(&trips).to_owned(), asked)
    };
    let (reader, writer) = ("reader".to_owned(), "writer".to_owned());
    assert_eq!(next().await, (reader.clone(), 2));

    world.reader.is(Manner::Fails);
    assert_eq!(next().await, (writer.clone(), 2));
    assert_eq!(
        world.events(),
        [
            "source row: how far the reader is behind the writer could not be found out, and loads read from the writer \
          until it can: permission denied"
        ]
    );
    assert_eq!(next().await, (writer.clone(), 0), "it is not asked again at once");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(next().await, (writer.clone(), 2));
    assert_eq!(world.events(), [""; 0], "which is known");

    world.reader.is(Manner::Answers);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(next().await, (reader.clone(), 2));

    world.writer.is(Manner::Hangs);
    assert_eq!(next().await, (writer, 1), "and its load answers or fails by itself");
    let events = world.events();
    assert!(events[0].ends_with("until it can: no answer within 500ms"), "{events:?}");
    world.writer.is(Manner::Answers);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(next().await, (reader, 2));
}
