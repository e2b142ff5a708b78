//! Relations: what is stored of them, and a value with all of them resolved.

use std::collections::BTreeMap;
use std::sync::Arc;

use mastaba::entry::EntryRef;
use mastaba::shared::memory::Memory;
use mastaba::{Expand, Lazy, LoadContext, Rows, Source, Tier};
use mastaba_test::world::{Db, DbError, DbFault, PhotoById, PostById, UserById, World};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Serialize, Deserialize)]
struct Node {
    id: u64,
    next: Option<Lazy<NodeById>>,
    children: Vec<Lazy<NodeById>>,
    photos: BTreeMap<String, Lazy<PhotoById>>,
    kind: Kind,
}

#[derive(Serialize, Deserialize)]
enum Kind {
    Plain,
    Owned(Lazy<UserById>),
    Pair { left: Lazy<PhotoById>, right: Lazy<PhotoById> },
}

/// Node 1 has the children 2 and 3; 2 leads back to 1 and 3 to nothing. From 10 on each leads to the next one.
struct NodeById(Arc<Db>);

impl Source for NodeById {
    type Key = u64;
    type Value = Node;
    type Error = DbError;
    const NAME: &'static str = "node";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, DbError> {
        self.0.wrote("node", ids);
        Ok(ids.iter().filter(|id| **id < 900).map(|id| (*id, node(*id))).collect())
    }
}

fn node(id: u64) -> Node {
    let next = match id {
        1 => None,
        2 => Some(1),
        3 => Some(999),
        id => Some(id + 1),
    };
    let children = if id == 1 { vec![2, 3] } else { Vec::new() };
    let photos = if id == 2 { vec![("front".to_owned(), 7), ("back".to_owned(), 8)] } else { Vec::new() };
    let kind = match id {
        2 => Kind::Owned(Lazy::new(5)),
        3 => Kind::Pair { left: Lazy::new(7), right: Lazy::new(9999) },
        _ => Kind::Plain,
    };
    Node {
        id,
        next: next.map(Lazy::new),
        children: children.into_iter().map(Lazy::new).collect(),
        photos: photos.into_iter().map(|(name, id)| (name, Lazy::new(id))).collect(),
        kind,
    }
}

async fn world() -> World {
    World::build::<false>(
        Memory::default(),
        |region| region,
        |builder, db| builder.source(NodeById(db.clone())),
    )
    .await
}

fn photo(id: u64) -> Value {
    json!({"id": id, "url": format!("/{id}.png")})
}

#[tokio::test]
async fn a_tree_is_resolved_in_options_lists_maps_and_enums_with_one_batch_per_level() {
    let world = world().await;
    let request = world.request();
    let tree = request.expand(&Lazy::<NodeById>::new(1)).await.unwrap();
    let user = json!({"id": 5, "name": "user 5", "version": 0, "photo": photo(1005)});
    let expected = json!({
        "id": 1, "next": null, "photos": {}, "kind": "Plain",
        "children": [
            {"id": 2, "next": 1, "children": [], "photos": {"front": photo(7), "back": photo(8)},
             "kind": {"Owned": user}},
            {"id": 3, "next": null, "children": [], "photos": {},
             "kind": {"Pair": {"left": photo(7), "right": null}}},
        ],
    });
    assert_eq!(*tree.as_json(), expected, "an absent one is null, one that leads back stays a key");
    assert_eq!(serde_json::to_value(&tree).unwrap(), expected);
    let report = request.report();
    assert_eq!(report.shared_reads(), 4, "one per level\n{report}");
    let loads = world.loads();
    assert_eq!(loads[..2], ["source load node [1]", "source load node [2, 3]"]);
    assert_eq!(loads.last().unwrap(), "source load photo [1005]");
    assert_eq!(loads.len(), 6, "the third level has nodes, photos and users: {loads:?}");
}

#[tokio::test]
async fn a_list_of_posts_costs_one_batch_per_level_however_many_they_are() {
    let world = World::new().await;
    let request = world.request();
    let posts: Vec<_> = (1..=100).map(Lazy::<PostById>::new).collect();
    let tree = request.expand(&posts).await.unwrap().into_json();
    assert_eq!(tree.as_array().unwrap().len(), 100);
    assert_eq!(tree[41]["author"]["photo"], photo(1003));
    let report = request.report();
    assert_eq!((report.shared_reads(), report.statements()), (3, 3), "{report}");
}

#[tokio::test]
async fn what_lies_deeper_than_the_limit_stays_a_key() {
    let world = world().await;
    let request = world.request();
    let start = Lazy::<NodeById>::new(10);
    let depth_of = |tree: &Value| {
        let (mut depth, mut at) = (0, tree);
        while at.is_object() {
            (depth, at) = (depth + 1, &at["next"]);
        }
        (depth, at.clone())
    };
    let tree = request.expand(&start).await.unwrap();
    assert_eq!(depth_of(tree.as_json()), (8, json!(18)));
    let limits = Expand { depth: 2, ..Expand::default() };
    let tree = request.expand_with(&start, limits).await.unwrap();
    assert_eq!(depth_of(tree.as_json()), (2, json!(12)));
    let limits = Expand { depth: 0, ..Expand::default() };
    assert_eq!(request.expand_with(&start, limits).await.unwrap().into_json(), json!(10));
}

#[tokio::test]
async fn more_relations_than_the_limit_are_an_error() {
    let world = World::new().await;
    let posts: Vec<_> = (1..=10).map(Lazy::<PostById>::new).collect();
    let limits = Expand { most: 15, ..Expand::default() };
    let error = world.request().expand_with(&posts, limits).await.unwrap_err();
    assert!(error.is_usage());
    assert!(error.to_string().starts_with("expanding met 20 relations, and may meet 15"), "{error}");
}

#[tokio::test]
async fn a_relation_that_cannot_be_loaded_is_an_error_and_so_is_a_value_that_is_no_json() {
    let world = World::new().await;
    world.db.fail_next(DbFault::Error("down".into()));
    let error = world.request().expand(&Lazy::<PostById>::new(1)).await.unwrap_err();
    assert!(error.is_source());
    assert_eq!(error.to_string(), "source user: loading 1 key failed: down");
    let error = world.request().expand(&BTreeMap::from([((1, 2), 3)])).await.unwrap_err();
    assert!(error.is_usage(), "{error}");
}

#[tokio::test]
async fn a_relation_serializes_as_its_key_alone_also_where_it_is_stored() {
    let world = World::new().await;
    let request = world.request();
    let post = request.get::<PostById>(1).await.unwrap().unwrap();
    request.expand(&*post).await.unwrap();
    assert_eq!(serde_json::to_value(&*post).unwrap(), json!({"id": 1, "title": "post 1", "author": 2}));
    world.idle().await;
    let record = world.record("post:1").await.unwrap();
    let payload = EntryRef::read(&record).unwrap().payload().to_vec();
    assert_eq!(payload, [b"\x01\x06post 1\x02" as &[u8]].concat(), "an id, a title, a key");
    world.trips();
    let again = world.request();
    let found = again.get_outcomes::<PostById>([1]).await;
    assert_eq!(found[&1].tier(), Some(Tier::Shared));
    assert_eq!(found[&1].value().unwrap().unwrap().author, Lazy::new(2));
    assert_eq!(world.trips(), ["shared read [1]"], "and loads nothing by itself");
}
