//! A value with every relation in it resolved, as a tree that can be serialized.
//!
//! While a value is serialized to JSON here, each [`Lazy`] in it leaves a placeholder in its place and itself in a
//! collector of this thread (serialization is synchronous, so it cannot leave it). The relations of one level
//! are then resolved together, and their values serialized in the same way.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};
use serde::Serialize;
use serde_json::Value;

use super::Lazy;
use crate::error::Error;
use crate::request::RequestCache;
use crate::source::Source;

/// How far [`RequestCache::expand_with`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expand {
    /// How many relations deep. Those below stay keys. Default: 8.
    pub depth: usize,
    /// How many relations at the most, in all. More is an error. Default: 100,000.
    pub most: usize,
}

impl Default for Expand {
    fn default() -> Self {
        Self { depth: 8, most: 100_000 }
    }
}

/// A value with its relations resolved. It serializes as a tree; it is made by [`RequestCache::expand`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Expanded(Value);

impl Expanded {
    /// The tree.
    pub fn into_json(self) -> Value {
        self.0
    }

    /// The tree.
    pub fn as_json(&self) -> &Value {
        &self.0
    }
}

impl RequestCache {
    /// The value with every [`Lazy`] in it, and in what these lead to, resolved: an object in place of its
    /// key, `null` where there is none.
    ///
    /// Every level costs what one [`get_many`](RequestCache::get_many) over all its relations, of all
    /// sources, costs. A relation that leads back to an object that it is part of stays a key. So do those
    /// deeper than 8 levels.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use mastaba_test::world::{PostById, World};
    ///
    /// let world = World::new().await; // users 1 to 999, a shared tier in memory
    /// let request = world.request();
    /// let post = request.get::<PostById>(1).await?.unwrap();
    /// let tree = request.expand(&*post).await?.into_json();
    /// assert_eq!(tree["author"]["name"], "user 2");
    /// assert_eq!(tree["author"]["photo"]["url"], "/1002.png");
    /// # Ok::<_, mastaba::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// If a relation cannot be loaded, or the value cannot be written as JSON, or there are more than 100,000
    /// relations.
    pub async fn expand<T: Serialize + ?Sized>(&self, value: &T) -> Result<Expanded, Error> {
        self.expand_with(value, Expand::default()).await
    }

    /// [`expand`](RequestCache::expand) with other limits.
    ///
    /// # Errors
    /// As [`expand`](RequestCache::expand).
    pub async fn expand_with<T: Serialize + ?Sized>(
        &self,
        value: &T,
        limits: Expand,
    ) -> Result<Expanded, Error> {
        // what is not Send or not Sync (the value, perhaps) is not kept over an await
        let root = Leaf::of(value)?;
        let mut tree = vec![Node::default()];
        let mut level = tree_add(&mut tree, 0, root, None);
        let mut count = level.len();
        for _ in 0..limits.depth {
            if level.is_empty() {
                break;
            }
            if count > limits.most {
                return Err(Error::usage(format!(
                    "expanding met {count} relations, and may meet {}; ask for less depth or give a higher limit",
                    limits.most
                )));
            }
            let leaves = try_join_all(level.iter().map(|open| open.relation.resolve(self))).await?;
            let mut next = Vec::new();
            for (open, leaf) in level.into_iter().zip(leaves) {
                let at = tree.len();
                tree[open.node].places[open.place] = Replacement::Node(at);
                tree.push(Node::default());
                let below = tree_add(&mut tree, at, leaf.unwrap_or_default(), Some(&open.chain));
                count += below.len();
                next.extend(below);
            }
            level = next;
        }
        Ok(Expanded(assemble(&mut tree, 0)))
    }
}

/// A relation whose source is not known.
trait Relation: Send + Sync {
    fn source(&self) -> &'static str;
    fn resolve<'a>(&'a self, request: &'a RequestCache) -> BoxFuture<'a, Result<Option<Leaf>, Error>>;
}

impl<S: Source> Relation for Lazy<S> {
    fn source(&self) -> &'static str {
        S::name()
    }

    fn resolve<'a>(&'a self, request: &'a RequestCache) -> BoxFuture<'a, Result<Option<Leaf>, Error>> {
        async move {
            let value = self.get(request).await?;
            value.map(|value| Leaf::of(&*value)).transpose()
        }
        .boxed()
    }
}

/// One value as JSON with placeholders, and what they stand for.
#[derive(Default)]
struct Leaf {
    json: Value,
    mark: String,
    /// The relations that are keys of maps.
    json_keys: HashSet<usize>,
    relations: Vec<(Box<dyn Relation>, Value)>,
}

thread_local! {
    static COLLECTOR: RefCell<Option<Collector>> = const { RefCell::new(None) };
}

struct Collector {
    mark: String,
    relations: Vec<(Box<dyn Relation>, Value)>,
}

impl Leaf {
    fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        /// Takes the collector out again, also when the value's own code panics.
        struct Collecting(Option<Collector>);
        impl Drop for Collecting {
            fn drop(&mut self) {
                COLLECTOR.with_borrow_mut(|collector| *collector = self.0.take());
            }
        }
        // nobody can have written these 128 bits into a value
        let mark = format!("\u{1}{:032x}:", fastrand::u128(..));
        let new = Collector { mark: mark.clone(), relations: Vec::new() };
        let before = Collecting(COLLECTOR.replace(Some(new)));
        let json = serde_json::to_value(value);
        let relations = COLLECTOR.take().map(|collector| collector.relations).unwrap_or_default();
        drop(before);
        let json = json.map_err(|why| Error::usage(format!("a value cannot be expanded: {why}")))?;
        let mut json_keys = HashSet::new();
        map_keys(&json, &mark, &mut json_keys);
        Ok(Self { json, mark, json_keys, relations })
    }
}

/// Called while a [`Lazy`] is serialized: the placeholder to leave in its place, if a value is being expanded.
pub(super) fn collect<S: Source>(relation: &Lazy<S>) -> Option<String> {
    // the collector is taken out while the key is serialized, which may hold anything
    let mut collector = COLLECTOR.take()?;
    let key = serde_json::to_value(&relation.key).unwrap_or(Value::Null);
    let place = format!("{}{}", collector.mark, collector.relations.len());
    collector.relations.push((Box::new(relation.clone()), key));
    COLLECTOR.set(Some(collector));
    Some(place)
}

#[derive(Default)]
struct Node {
    json: Value,
    mark: String,
    places: Vec<Replacement>,
}

/// What a placeholder becomes.
enum Replacement {
    Key(Value),
    Node(usize),
}

/// A relation to resolve, and the objects that it is part of.
struct Open {
    node: usize,
    place: usize,
    relation: Box<dyn Relation>,
    chain: Arc<ChainLink>,
}

struct ChainLink {
    source: &'static str,
    key: Value,
    above: Option<Arc<ChainLink>>,
}

impl ChainLink {
    fn holds(mut link: Option<&Arc<Self>>, source: &str, key: &Value) -> bool {
        while let Some(each) = link {
            if each.source == source && each.key == *key {
                return true;
            }
            link = each.above.as_ref();
        }
        false
    }
}

/// Puts a leaf into the tree; gives its relations, but for those that lead back up.
fn tree_add(tree: &mut [Node], at: usize, leaf: Leaf, above: Option<&Arc<ChainLink>>) -> Vec<Open> {
    let mut open = Vec::new();
    let mut places = Vec::with_capacity(leaf.relations.len());
    for (place, (relation, key)) in leaf.relations.into_iter().enumerate() {
        let source = relation.source();
        // as the key of a map it stays what it is
        if !leaf.json_keys.contains(&place) && !ChainLink::holds(above, source, &key) {
            let chain = Arc::new(ChainLink { source, key: key.clone(), above: above.cloned() });
            open.push(Open { node: at, place, relation, chain });
        }
        places.push(Replacement::Key(key));
    }
    tree[at] = Node { json: leaf.json, mark: leaf.mark, places };
    open
}

fn assemble(tree: &mut [Node], at: usize) -> Value {
    let Node { mut json, mark, places } = std::mem::take(&mut tree[at]);
    let places: Vec<_> = places
        .into_iter()
        .map(|place| match place {
            Replacement::Key(key) => key,
            Replacement::Node(at) => assemble(tree, at),
        })
        .collect();
    if !places.is_empty() {
        let mut places: Vec<_> = places.into_iter().map(Some).collect();
        replace(&mut json, &mark, &mut places);
    }
    json
}

/// The places of relations that stand as keys of maps.
fn map_keys(json: &Value, mark: &str, found: &mut HashSet<usize>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| map_keys(item, mark, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                found.extend(name.strip_prefix(mark).and_then(|place| place.parse::<usize>().ok()));
                map_keys(value, mark, found);
            }
        }
        _ => {}
    }
}

/// Puts what the placeholders stand for in their places.
fn replace(json: &mut Value, mark: &str, places: &mut [Option<Value>]) {
    match json {
        Value::String(text) => {
            if let Some(place) = text.strip_prefix(mark).and_then(|place| place.parse::<usize>().ok()) {
                *json = places.get_mut(place).and_then(Option::take).unwrap_or(Value::Null);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, mark, places)),
        Value::Object(fields) => {
            if fields.keys().any(|name| name.starts_with(mark)) {
                // a relation as the key of a map stays what it is
                for (name, value) in std::mem::take(fields) {
                    let place = name.strip_prefix(mark).and_then(|place| place.parse::<usize>().ok());
                    let key = place.and_then(|place| places.get_mut(place)).and_then(Option::take);
                    let name = match key {
                        Some(Value::String(text)) => text,
                        Some(key) => key.to_string(),
                        None => name,
                    };
                    fields.insert(name, value);
                }
            }
            fields.values_mut().for_each(|value| replace(value, mark, places));
        }
        _ => {}
    }
}
