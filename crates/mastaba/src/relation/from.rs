//! Keys that become relations by themselves.
//!
//! One implementation for all keys cannot be written: a source may have `Lazy` itself for its key, and for that one the
//! standard library has `From` already. So there is one for each usual type of a key, and one for each length of a tuple.

use super::Lazy;
use crate::key::Key;
use crate::source::Source;

macro_rules! from_key {
    ($($key:ty),*) => {
        $(
            impl<S: Source<Key = $key>> From<$key> for Lazy<S> {
                fn from(key: $key) -> Self {
                    Self::new(key)
                }
            }
        )*
    };
}

macro_rules! from_tuple {
    ($($part:ident),*) => {
        impl<$($part: Key,)* S: Source<Key = ($($part,)*)>> From<($($part,)*)> for Lazy<S> {
            fn from(key: ($($part,)*)) -> Self {
                Self::new(key)
            }
        }
    };
}

from_key!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);
from_key!(bool, char, String, Box<str>, Vec<u8>);
from_tuple!(A);
from_tuple!(A, B);
from_tuple!(A, B, C);
from_tuple!(A, B, C, D);

impl<S: Source<Key = String>> From<&str> for Lazy<S> {
    fn from(key: &str) -> Self {
        Self::new(key.to_owned())
    }
}
