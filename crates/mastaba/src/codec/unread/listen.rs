//! A deserializer around another one, which notes the names that are asked for.

use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

/// What was heard.
#[derive(Default)]
pub(super) struct Heard {
    /// The fields that were asked for, by the name of the struct or the enum.
    pub(super) asked: RefCell<Vec<(&'static str, &'static [&'static str])>>,
    /// A field that follows all others of a struct of this name, once.
    pub(super) add: Option<(&'static str, &'static str)>,
    /// The type of the value that was asked for under that field.
    pub(super) asked_for: Cell<Option<&'static str>>,
}

impl Heard {
    fn hear(&self, of: &'static str, fields: &'static [&'static str]) -> Option<&'static str> {
        let asked = (of, fields);
        if !self.asked.borrow().contains(&asked) {
            self.asked.borrow_mut().push(asked);
        }
        self.add.and_then(|(to, field)| (to == of && fields.contains(&field)).then_some(field))
    }
}

/// Around a deserializer.
pub(super) struct Listen<'e, D> {
    pub(super) inner: D,
    pub(super) ear: &'e Heard,
}

/// Around a visitor, a seed, or what gives the items of something.
struct Around<'e, T> {
    inner: T,
    ear: &'e Heard,
    /// The name of the enum.
    of: &'static str,
    /// A field to follow all others.
    add: Option<&'static str>,
    added: bool,
}

impl<'e> Heard {
    fn around<T>(&'e self, inner: T) -> Around<'e, T> {
        Around { inner, ear: self, of: "", add: None, added: false }
    }
}

macro_rules! forward {
    ($($method:ident($($name:ident: $type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method($($name,)* self.ear.around(visitor))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Listen<'_, D> {
    type Error = D::Error;

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    forward! {
        deserialize_any()
        deserialize_bool()
        deserialize_i8()
        deserialize_i16()
        deserialize_i32()
        deserialize_i64()
        deserialize_i128()
        deserialize_u8()
        deserialize_u16()
        deserialize_u32()
        deserialize_u64()
        deserialize_u128()
        deserialize_f32()
        deserialize_f64()
        deserialize_char()
        deserialize_str()
        deserialize_string()
        deserialize_bytes()
        deserialize_byte_buf()
        deserialize_option()
        deserialize_unit()
        deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str)
        deserialize_seq()
        deserialize_tuple(len: usize)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_map()
        deserialize_identifier()
        deserialize_ignored_any()
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let add = self.ear.hear(name, fields);
        self.inner.deserialize_struct(name, fields, Around { add, ..self.ear.around(visitor) })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, Around { of: name, ..self.ear.around(visitor) })
    }
}

macro_rules! visits {
    ($($method:ident $type:ty,)*) => {$(
        fn $method<E: serde::de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Around<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visits! {
        visit_bool bool,
        visit_i8 i8,
        visit_i16 i16,
        visit_i32 i32,
        visit_i64 i64,
        visit_i128 i128,
        visit_u8 u8,
        visit_u16 u16,
        visit_u32 u32,
        visit_u64 u64,
        visit_u128 u128,
        visit_f32 f32,
        visit_f64 f64,
        visit_char char,
        visit_str &str,
        visit_borrowed_str &'de str,
        visit_string String,
        visit_bytes &[u8],
        visit_borrowed_bytes &'de [u8],
        visit_byte_buf Vec<u8>,
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Listen { inner, ear: self.ear })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Listen { inner, ear: self.ear })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(self.ear.around(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, pairs: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Around { add: self.add, ..self.ear.around(pairs) })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(Around { of: self.of, ..self.ear.around(variant) })
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Around<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Listen { inner, ear: self.ear })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Around<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_element_seed(self.ear.around(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Around<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        if let Some(field) = self.add {
            // It comes last; the seed is spent on whichever key there is.
            let mut seed = Some(seed);
            let again = KeySeed { seed: &mut seed, ear: self.ear };
            if let Some(key) = self.inner.next_key_seed(again)? {
                return Ok(Some(key));
            }
            if let Some(seed) = seed.take().filter(|_| !self.added) {
                self.added = true;
                return seed.deserialize(field.into_deserializer()).map(Some);
            }
            return Ok(None);
        }
        self.inner.next_key_seed(self.ear.around(seed))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        if self.added {
            self.ear.asked_for.set(Some(type_name::<S::Value>()));
            return Err(A::Error::custom("there is no value"));
        }
        self.inner.next_value_seed(self.ear.around(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

/// A seed that is left where it was if there is no key.
struct KeySeed<'s, 'e, K> {
    seed: &'s mut Option<K>,
    ear: &'e Heard,
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for KeySeed<'_, '_, K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<K::Value, D::Error> {
        match self.seed.take() {
            Some(seed) => seed.deserialize(Listen { inner, ear: self.ear }),
            None => Err(D::Error::custom("a key was asked for twice")),
        }
    }
}

impl<'e, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Around<'e, A> {
    type Error = A::Error;
    type Variant = Around<'e, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (made, variant) = self.inner.variant_seed(self.ear.around(seed))?;
        Ok((made, Around { of: self.of, ..self.ear.around(variant) }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Around<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(self.ear.around(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(len, self.ear.around(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let add = self.ear.hear(self.of, fields);
        self.inner.struct_variant(fields, Around { add, ..self.ear.around(visitor) })
    }
}
