//! What stands in the server under which key, as `redis-cli` finds it and the book says.

use std::convert::Infallible;

use mastaba::{Cache, LoadContext, Region, Rows, Source};
use mastaba_redis::{Redis, RedisConfig};
use mastaba_test::servers::RedisServer;

use crate::common::limited;

struct TitleByPlace;

impl Source for TitleByPlace {
    type Key = (String, u32);
    type Value = String;
    type Error = Infallible;
    const NAME: &'static str = "title.by_place";
    const REGION: &'static str = "objects";
    const TAGS: &'static [&'static str] = &["titles"];

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[Self::Key]) -> Result<Rows<Self>, Infallible> {
        Ok(keys.iter().map(|key| (key.clone(), format!("the {}th of {}", key.1, &key.0[..4]))).collect())
    }
}

#[tokio::test]
async fn an_entry_is_found_by_a_plain_get_of_its_key_whatever_is_in_it() {
    limited(async {
        let Some(server) = RedisServer::builder().start().await else { return };
        for prefix in ["", "team-a/"] {
            let mut config = RedisConfig::from_url(&server.url()).unwrap();
            config.prefix = prefix.to_owned();
            let region = Region::backend(Redis::connect(config).await.unwrap());
            let builder = Cache::builder().namespace("shop").region("objects", region).source(TitleByPlace);
            let cache = builder.build().await.unwrap();
            let long = "x".repeat(5000);
            for place in ["Linz", "Bad Ischl: \"the spa\"", long.as_str()] {
                let key = (place.to_owned(), 7);
                let full = cache.key_of::<TitleByPlace>(&key).unwrap();
                assert_eq!(server.command(&["EXISTS", &full]).await, "0", "{full}");
                cache.request().get::<TitleByPlace>(key.clone()).await.unwrap();
                cache.idle().await;
                let record = server.command(&["GET", &full]).await;
                assert!(record.starts_with("Mt"), "{full}: {record}");
                assert!(record.contains(&format!("the 7th of {}", &place[..4])), "{full}: {record}");
                // as an operator sees what it is
                let third = server.command(&["GETRANGE", &full, "2", "2"]).await;
                assert!(("@"..="O").contains(&third.as_str()), "a value: {third}");
                let prefixed = full.strip_prefix(prefix).unwrap();
                assert!(prefixed.starts_with("shop:objects:title.by_place:"), "{full}");
                assert_eq!(prefixed.starts_with("shop:objects:title.by_place:%"), place.len() > 4096);
            }
            for stamp in ["shop:objects:@generation", "shop:objects:#titles"] {
                let key = format!("{prefix}{stamp}");
                assert_eq!(server.command(&["EXISTS", &key]).await, "1", "nothing stands under {key}");
            }
            // what a region is voided by, if it has to be by hand
            let key = ("Linz".to_owned(), 7);
            let request = cache.request();
            request.get::<TitleByPlace>(key.clone()).await.unwrap();
            assert_eq!(request.report().statements(), 0);
            server.command(&["DEL", &format!("{prefix}shop:objects:@generation")]).await;
            let request = cache.request();
            request.get::<TitleByPlace>(key).await.unwrap();
            assert_eq!(request.report().statements(), 1, "its entries count as misses");
        }
    })
    .await;
}
