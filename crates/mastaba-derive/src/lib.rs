//! `#[derive(Cached)]`, of which [`mastaba-sqlx`](https://docs.rs/mastaba-sqlx) says what it does.

mod attributes;
mod fields;
mod sources;
mod table;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes sources of a struct and its table: see `mastaba_sqlx::Cached`.
#[proc_macro_derive(Cached, attributes(cached, sqlx))]
pub fn cached(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let made = attributes::Attributes::read(&input).and_then(|attributes| {
        let table = table::CachedStruct::new(&input, attributes)?;
        Ok(sources::write(&table))
    });
    made.unwrap_or_else(syn::Error::into_compile_error).into()
}
