use std::collections::BTreeSet;
use std::convert::Infallible;
use std::marker::PhantomData;

use crate::key::Key;
use crate::relation::Lazy;
use crate::source::{LoadContext, Rows, Source};

/// A source of keys of any type.
struct By<K>(PhantomData<K>);

impl<K: Key> Source for By<K> {
    type Key = K;
    type Value = ();
    type Error = Infallible;
    const NAME: &'static str = "by";
    const REGION: &'static str = "objects";

    async fn load_many(&self, _: &LoadContext<'_>, _: &[K]) -> Result<Rows<Self>, Infallible> {
        Ok(Rows::new())
    }
}

#[test]
fn a_key_becomes_a_relation() {
    let author: Lazy<By<i64>> = 7_i64.into();
    assert_eq!(*author.key(), 7);
    let by_slug: Lazy<By<String>> = "hello".into();
    assert_eq!(by_slug, String::from("hello").into());
    let member: Lazy<By<(u32, String)>> = (3_u32, "ada".to_owned()).into();
    assert_eq!(*member.key(), (3, "ada".to_owned()));
    let readers: Vec<Lazy<By<u64>>> = [1_u64, 2].into_iter().map(Lazy::from).collect();
    assert_eq!(readers.iter().map(|reader| *reader.key()).collect::<Vec<_>>(), [1, 2]);
    // the case for which there cannot be one implementation for all
    let of_itself: Lazy<By<Lazy<By<i64>>>> = Lazy::new(author);
    assert_eq!(of_itself.key().key(), &7);
}

#[test]
fn relations_are_ordered_shown_and_copied_as_their_keys_are() {
    let lazy = Lazy::<By<i64>>::new;
    let copied = lazy(10);
    let ordered: BTreeSet<_> = [copied, lazy(9), copied, lazy(-1)].into_iter().collect();
    assert_eq!(ordered.iter().map(ToString::to_string).collect::<Vec<_>>(), ["-1", "9", "10"]);
    assert!(lazy(9) < lazy(10) && lazy(9) != lazy(10));
    assert_eq!(format!("/author/{copied:03} {copied:?}"), "/author/010 Lazy(by 10)");
}
