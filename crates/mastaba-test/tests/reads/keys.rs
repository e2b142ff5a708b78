//! The keys of the shared tier, as the book has them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::marker::PhantomData;

use mastaba::shared::Shared;
use mastaba::shared::memory::Memory;
use mastaba::{Cache, Key, LoadContext, Region, Rows, Source};
use mastaba_test::world::{UserById, World};
use serde::{Deserialize, Serialize};

const PAGE: &str = include_str!("../../../../docs/book/src/reference/keys.md");

/// A source of any key.
struct By<K, const PRIVATE: bool = false>(PhantomData<fn() -> K>);

impl<K: Key, const PRIVATE: bool> Source for By<K, PRIVATE> {
    type Key = K;
    type Value = u8;
    type Error = Infallible;
    const NAME: &'static str = "account.by_id";
    const REGION: &'static str = "objects";
    const PRIVATE: bool = PRIVATE;
    const TAGS: &'static [&'static str] = &["prices"];

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[K]) -> Result<Rows<Self>, Infallible> {
        Ok(keys.iter().map(|key| (key.clone(), 1)).collect())
    }
}

async fn cache<K: Key>(region: Region) -> Cache {
    let builder = Cache::builder().namespace("shop").region("objects", region);
    builder.source(By::<K>(PhantomData)).build().await.unwrap()
}

/// What stands behind `shop:objects:account.by_id:` for a key, which the page has to say in the same words.
async fn documented<K: Key>(rust: &str, key: K) {
    let full = cache::<K>(Region::memory()).await.key_of::<By<K>>(&key).unwrap();
    let text = full.strip_prefix("shop:objects:account.by_id:").unwrap();
    let row = format!("| `{rust}` | `{text}` |");
    assert!(PAGE.lines().any(|line| line == row), "the page lacks this row:\n{row}");
}

#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Place {
    country: String,
    number: u32,
}

#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Which {
    Latest,
    Of(u64),
}

#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct UserId(i64);

#[tokio::test]
async fn the_page_on_keys_says_how_each_type_is_written() {
    documented("-5", -5).await;
    documented("true", true).await;
    documented("\"bob\"", "bob".to_owned()).await;
    documented("\"a b%é\"", "a b%é".to_owned()).await;
    documented("'c'", 'c').await;
    documented("()", ()).await;
    documented("(3, \"bob\")", (3, "bob".to_owned())).await;
    documented("Place { country: \"at\", number: 7 }", Place { country: "at".to_owned(), number: 7 }).await;
    documented("UserId(7)", UserId(7)).await;
    documented("None::<u8>", None::<u8>).await;
    documented("Some(1)", Some(1)).await;
    documented("vec![1, 2]", vec![1, 2]).await;
    documented("BTreeMap::from([(1, 2)])", BTreeMap::from([(1, 2)])).await;
    documented("Which::Latest", Which::Latest).await;
    documented("Which::Of(7)", Which::Of(7)).await;
}

#[tokio::test]
async fn a_key_that_is_too_long_is_hashed_behind_a_percent_sign() {
    let cache = cache::<String>(Region::memory()).await;
    let (short, long) = ("x".repeat(60_000), "x".repeat(70_000));
    assert_eq!(cache.key_of::<By<String>>(&short).unwrap().len(), 27 + 2 + 60_000);
    let hashed = cache.key_of::<By<String>>(&long).unwrap();
    let hash = hashed.strip_prefix("shop:objects:account.by_id:%").unwrap();
    assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hashed}");
    for said in ["64 KiB", "4 KiB", "1 KiB", "`%` and 64 hexadecimal digits"] {
        assert!(PAGE.contains(said), "{said}");
    }
}

#[tokio::test]
async fn an_entry_stands_under_its_key_and_the_stamps_under_theirs() {
    let memory = Memory::default();
    let cache = cache::<u64>(Region::backend(memory.clone())).await;
    cache.request().get::<By<u64>>(7).await.unwrap();
    cache.idle().await;
    cache.region("objects").invalidate_tag("prices").await.unwrap();
    let entry = cache.key_of::<By<u64>>(&7).unwrap();
    let stamps = ["shop:objects:@generation", "shop:objects:@tags", "shop:objects:#prices"];
    for key in stamps.into_iter().chain([entry.as_str()]) {
        let found = memory.read(&[key.to_owned().into()]).await.unwrap().remove(0);
        assert!(found.is_some(), "nothing stands under {key}");
        assert!(PAGE.contains(key), "the page does not name {key}");
    }
    assert!(PAGE.contains("`shop:objects@writes`"));
}

#[tokio::test]
async fn a_mangler_has_the_last_word_but_that_of_the_store() {
    let region = Region::memory().mangler(|key| [b"team:", key].concat());
    let full = cache::<u64>(region).await.key_of::<By<u64>>(&7).unwrap();
    assert_eq!(full, "team:shop:objects:account.by_id:7");
}

#[tokio::test]
async fn what_is_not_stored_has_no_key() {
    let cache = cache::<u64>(Region::null()).await;
    let said = cache.key_of::<By<u64>>(&7).unwrap_err();
    assert!(said.is_usage() && said.to_string().contains("its region keeps nothing"), "{said}");
    let builder = Cache::builder().region("objects", Region::memory());
    let private = builder.source(By::<u64, true>(PhantomData)).build().await.unwrap();
    let said = private.key_of::<By<u64, true>>(&7).unwrap_err();
    assert!(said.is_usage() && said.to_string().contains("it is private"), "{said}");
    assert!(private.key_of::<UserById>(&7).unwrap_err().is_usage(), "a source that is not registered");
    assert_eq!(World::new().await.cache.key_of::<UserById>(&7).unwrap(), "mastaba:objects:user:7");
}
