//! The user's code panics for a key, and once more while that is written down: nothing catches that within the library.

use std::cell::Cell;
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use mastaba::{Cache, LoadContext, Region, Rows, Source};
use serde::{Deserialize, Serialize};

thread_local! {
    /// Key 2 panics when it is hashed.
    static SORE: Cell<bool> = const { Cell::new(false) };
    /// It has: the name of the source panics from then on.
    static HIT: Cell<bool> = const { Cell::new(false) };
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Touchy(u32);

impl Hash for Touchy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if self.0 == 2 && SORE.get() {
            HIT.set(true);
            panic!("hashed");
        }
        self.0.hash(state);
    }
}

struct Tens;

impl Source for Tens {
    type Key = Touchy;
    type Value = u32;
    type Error = Infallible;
    const NAME: &'static str = "tens";
    const REGION: &'static str = "objects";

    fn name() -> &'static str {
        assert!(!HIT.get(), "named");
        Self::NAME
    }

    async fn load_many(&self, _: &LoadContext<'_>, keys: &[Touchy]) -> Result<Rows<Self>, Infallible> {
        Ok(keys.iter().map(|key| (key.clone(), key.0 * 10)).collect())
    }
}

/// The keys that the call has taken in before it stand where they were promised to be: who asks for one of them next is not
/// answered with the value of a key that came to its place.
#[tokio::test]
async fn a_call_that_panics_on_its_way_leaves_no_key_at_the_place_of_another() {
    let cache = Cache::builder().region("objects", Region::memory()).source(Tens).build().await.unwrap();
    let request = cache.request();
    SORE.set(true);
    let call = request.get_many::<Tens>([Touchy(1), Touchy(2)]);
    assert!(AssertUnwindSafe(call).catch_unwind().await.is_err());
    assert!(HIT.replace(false));
    SORE.set(false);
    let (nine, one) = tokio::join!(request.get::<Tens>(Touchy(9)), request.get::<Tens>(Touchy(1)));
    assert_eq!((nine.unwrap().as_deref(), one.unwrap().as_deref()), (Some(&90), Some(&10)));
}
