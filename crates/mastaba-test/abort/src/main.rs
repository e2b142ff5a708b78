//! Its values and its hook hold only with what the program itself makes, and panic otherwise; built with the profile
//! `panic-abort`, a panic is the end. It starts, stores and reads back, and says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use mastaba::{BoxError, Cache, Error, Fetched, LoadContext, Region, Rows, Source};
use serde::{Deserialize, Deserializer, Serialize};

/// A percentage that is never above 100, and never nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Percent(u8);

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let percent = u8::deserialize(from)?;
        assert!((2..=100).contains(&percent), "nobody stores {percent} %");
        Ok(Self(percent))
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Discount {
    name: String,
    percent: Percent,
    by_country: BTreeMap<String, Option<Percent>>,
    /// Not known to be an alias without a trial, which could be the end.
    #[serde(alias = "until")]
    ends: u64,
}

fn discount(id: u64) -> Discount {
    let by_country = BTreeMap::from([("FR".to_owned(), Some(Percent(20))), ("IT".to_owned(), None)]);
    Discount { name: format!("Discount {id}"), percent: Percent(10), by_country, ends: id }
}

static LOADS: AtomicU32 = AtomicU32::new(0);

macro_rules! sources {
    ($($source:ident $name:literal { $($hook:item)* })*) => {$(
        struct $source;

        impl Source for $source {
            type Key = u64;
            type Value = Discount;
            type Error = BoxError;
            const NAME: &'static str = $name;
            const REGION: &'static str = "objects";

            async fn load_many(&self, _: &LoadContext<'_>, ids: &[u64]) -> Result<Rows<Self>, BoxError> {
                LOADS.fetch_add(1, Ordering::SeqCst);
                Ok(ids.iter().map(|id| (*id, discount(*id))).collect())
            }

            $($hook)*
        }
    )*};
}

sources! {
    Plain "plain" {}
    Hooked "hooked" {
        async fn after_fetch(&self, _: &LoadContext<'_>, rows: &mut Fetched<Self>) -> Result<(), BoxError> {
            let (_, first) = rows.iter_mut().next().expect("there is always a row");
            first.name.push('!');
            Ok(())
        }
    }
}

async fn run() -> Result<(), Error> {
    let cache = Cache::builder()
        .region("objects", Region::memory())
        .source(Plain)
        .source(Hooked)
        .on_event(|event| println!("{event}"))
        .build()
        .await?;
    for _ in 0..3 {
        let request = cache.request();
        assert_eq!(*request.get::<Plain>(1).await?.expect("loaded"), discount(1));
        assert_eq!(request.get::<Hooked>(2).await?.expect("loaded").name, "Discount 2!");
        cache.idle().await;
    }
    println!("{} loads, {}", LOADS.load(Ordering::SeqCst), cache.encoding_of::<Plain>()?);
    Ok(())
}

fn main() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(run())
}
