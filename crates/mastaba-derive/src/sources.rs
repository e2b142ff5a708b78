//! Writes the sources, and everything that goes with them.

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::Ident;

use crate::fields::{Origin, StructField};
use crate::table::{CachedStruct, IndexSource, ListSource};

pub(crate) fn write(table: &CachedStruct) -> TokenStream {
    let sources = rows(table);
    let indexes = table.indexes.iter().map(|each| index(table, each));
    let lists = table.lists.iter().map(|each| list(table, each));
    let (keyed, function) = (keyed(table), all(table));
    quote! {
        #sources
        #(#indexes)*
        #(#lists)*
        #keyed
        #function
    }
}

/// What the sources of a struct have in common.
struct OneSource<'t> {
    source: &'t Ident,
    name: &'t str,
    hidden: bool,
    key: TokenStream,
    value: TokenStream,
    doc: String,
}

impl OneSource<'_> {
    fn write(self, table: &CachedStruct) -> TokenStream {
        let Self { source, name, hidden, key, value, doc } = self;
        let CachedStruct { vis, region, version, .. } = table;
        let private = table.private();
        let shown = !hidden;
        quote! {
            #[doc = #doc]
            #vis struct #source(#private::Select<Self>);

            impl #private::mastaba::Source for #source {
                type Key = #key;
                type Value = #value;
                type Error = #private::sqlx::Error;
                const NAME: &'static str = #name;
                const REGION: &'static str = #region;
                const VERSION: u32 = #version;
                const SHOW_KEYS: bool = #shown;

                async fn load_many(
                    &self,
                    cx: &#private::mastaba::LoadContext<'_>,
                    keys: &[Self::Key],
                ) -> #private::sqlx::Result<#private::mastaba::Rows<Self>> {
                    self.0.load(cx, keys).await
                }

                async fn check(&self) -> ::std::vec::Vec<::std::string::String> {
                    self.0.check().await
                }
            }

            impl<C: #private::sqlx::Connection + 'static> #private::mastaba::LoadIn<C> for #source {
                async fn load_in(
                    &self,
                    connection: &mut C,
                    keys: &[Self::Key],
                ) -> #private::sqlx::Result<#private::mastaba::Rows<Self>> {
                    self.0.load_in(connection, keys).await
                }
            }
        }
    }
}

fn rows(table: &CachedStruct) -> TokenStream {
    let CachedStruct { ident, source, source_name, hidden, key, .. } = table;
    let private = table.private();
    let written = OneSource {
        source,
        name: source_name,
        hidden: *hidden,
        key: key_type(table, key),
        value: quote!(#ident),
        doc: format!("The rows of [`{ident}`], by their key."),
    };
    let written = written.write(table);
    quote! {
        #written

        impl #private::mastaba::Record for #ident {
            type Source = #source;
        }
    }
}

fn index(table: &CachedStruct, index: &IndexSource) -> TokenStream {
    let CachedStruct { ident, vis, source: rows, .. } = table;
    let IndexSource { of, source, source_name, function, hidden } = index;
    let private = table.private();
    let key = key_type(table, of);
    let written = OneSource {
        source,
        name: source_name,
        hidden: *hidden,
        key: key.clone(),
        value: key_type(table, &table.key),
        doc: format!("An index: it leads to the key of a [`{ident}`]."),
    };
    let written = written.write(table);
    let leads = is_key(table, of);
    let doc = format!(
        "The row that `{source}` leads to: two reads, one of the index and one of the row, which travel with those of \
         others that are awaited together."
    );
    quote! {
        #written

        impl #private::mastaba::Index for #source {
            type Rows = #rows;

            fn leads(key: &Self::Key, row: &#ident) -> bool {
                #leads
            }
        }

        impl #ident {
            #[doc = #doc]
            ///
            /// # Errors
            /// As `RequestCache::find_by`.
            #vis async fn #function(
                request: &#private::mastaba::RequestCache,
                key: #key,
            ) -> ::core::result::Result<::core::option::Option<::std::sync::Arc<Self>>, #private::mastaba::Error> {
                request.find_by::<#source>(key).await
            }
        }
    }
}

fn list(table: &CachedStruct, list: &ListSource) -> TokenStream {
    let CachedStruct { ident, vis, source: rows, .. } = table;
    let ListSource { of, source, source_name, function, hidden, limit, embed, .. } = list;
    let private = table.private();
    let embed = embed.as_ref().map(|(parent, cap)| {
        let (own, listed) = (description(table), listed(table, list));
        let key = key_of(table, of, &quote!(row));
        let cap = Literal::usize_unsuffixed(*cap);
        quote! {
            impl #private::ChildList for #source {
                type Parents = <#parent as #private::mastaba::Record>::Source;
                const TABLE: #private::Table = #own;
                const LIST: #private::Listed = #listed;
                const CAP: usize = #cap;

                fn list_of(row: &#ident) -> ::core::option::Option<Self::Key> {
                    ::core::option::Option::Some(#key)
                }
            }
        }
    });
    let (key, to) = (key_type(table, of), key_type(table, &table.key));
    let written = OneSource {
        source,
        name: source_name,
        hidden: *hidden,
        key: key.clone(),
        value: quote!(::std::vec::Vec<#to>),
        doc: format!("Lists of the keys of [`{ident}`], of at most {limit}."),
    };
    let written = written.write(table);
    let holds = is_key(table, of);
    let doc = format!(
        "The rows of a list of `{source}`, at most {limit}: two reads, one of the list and one of the rows, which travel \
         with those of others that are awaited together."
    );
    quote! {
        #written

        impl #private::mastaba::List for #source {
            type Rows = #rows;

            fn holds(key: &Self::Key, row: &#ident) -> bool {
                #holds
            }
        }

        #embed

        impl #ident {
            #[doc = #doc]
            ///
            /// # Errors
            /// As `RequestCache::list_by`.
            #vis async fn #function(
                request: &#private::mastaba::RequestCache,
                key: #key,
            ) -> ::core::result::Result<::std::vec::Vec<::std::sync::Arc<Self>>, #private::mastaba::Error> {
                request.list_by::<#source>(key).await
            }
        }
    }
}

/// `impl Keyed`: which keys a change voids.
fn keyed(table: &CachedStruct) -> TokenStream {
    let CachedStruct { ident, source, key, .. } = table;
    let private = table.private();
    let add = |source: &dyn ToTokens, of: &[usize]| {
        let key = key_of(table, of, &quote!(row));
        // in a closure for its `?`: a row whose column is null stands in no list
        quote! {
            let key = (|| ::core::option::Option::Some(#key))();
            if let ::core::option::Option::Some(key) = key {
                keys.add::<#source>(key);
            }
        }
    };
    let own = key_of(table, key, &quote!(row));
    // last: they are derived from the rows that are kept in them
    let parents = table.lists.iter().filter_map(|list| {
        let (parent, _) = list.embed.as_ref()?;
        Some(add(&quote!(<#parent as #private::mastaba::Record>::Source), &list.of))
    });
    let parents: Vec<TokenStream> = parents.collect();
    // whether an entry is another one after a change: what a condition says of a row is known to the database alone
    let moves = |of: &mut dyn Iterator<Item = usize>, filter: &Option<syn::LitStr>| {
        let fields = of.map(|at| &table.fields[at].ident);
        let filtered = table.filter.is_some() || filter.is_some();
        if filtered { quote!(true) } else { quote!(moved #(|| old.#fields != new.#fields)*) }
    };
    let of_indexes = table
        .indexes
        .iter()
        .map(|IndexSource { source, of, .. }| (add(source, of), moves(&mut of.iter().copied(), &None)));
    let of_lists = table.lists.iter().map(|ListSource { source, of, order, filter, .. }| {
        let mut depends = of.iter().copied().chain(order.iter().map(|(at, _)| *at));
        (add(source, of), moves(&mut depends, filter))
    });
    let (adds, moves): (Vec<_>, Vec<_>) = of_indexes.chain(of_lists).unzip();
    let own_fields = key.iter().map(|at| &table.fields[*at].ident);
    quote! {
        impl #private::mastaba::Keyed for #ident {
            fn keys(&self, keys: &mut #private::mastaba::Keys) {
                let row = self;
                keys.add::<#source>(#own);
                #(#adds)*
                #(#parents)*
            }

            fn changed(old: &Self, new: &Self, keys: &mut #private::mastaba::Keys) {
                for row in [old, new] {
                    keys.add::<#source>(#own);
                }
                let moved = false #(|| old.#own_fields != new.#own_fields)*;
                #(
                    if #moves {
                        for row in [old, new] {
                            #adds
                        }
                    }
                )*
                #(
                    for row in [old, new] {
                        #parents
                    }
                )*
            }
        }
    }
}

/// `fn sources`.
fn all(table: &CachedStruct) -> TokenStream {
    let CachedStruct { ident, vis, source, key, .. } = table;
    let private = table.private();
    let known = table.fields.iter().filter_map(|field| match &field.origin {
        Origin::Column { name, decoded } => Some((name, decoded)),
        Origin::Unknown | Origin::Skipped => None,
    });
    let (names, types): (Vec<_>, Vec<_>) = known.unzip();
    let shown = types.iter().map(|ty| ty.to_token_stream().to_string().replace(' ', ""));
    let description = description(table);
    let uniques = table.indexes.iter().map(|index| table.columns(&index.of));
    let uniques = uniques.map(|columns| quote!(&[#(#columns),*]));
    let (own_type, own) = (key_type(table, key), key_of(table, key, &quote!(row)));
    let own_shape = shape(key, &private);
    let mut bounds = vec![quote!(#own_type: #private::Bind<DB, #own_shape>)];
    let mut adds = Vec::new();
    let kept = table.fields.iter().filter_map(|field| Some((&field.ident, field.embedded()?)));
    let (embeds, embedded): (Vec<_>, Vec<_>) = kept.unzip();
    for list in &embedded {
        bounds.push(quote!(#list: #private::ChildList<Parents = #source>));
        bounds.push(quote! {
            <<#list as #private::mastaba::List>::Rows as #private::mastaba::Source>::Value:
                #private::ReadFrom<DB>
        });
    }
    let mut add = |source: &Ident, of: &[usize], method: TokenStream, what: TokenStream| {
        let (row, take) = split(table, of);
        let (of_type, of_shape) = (key_type(table, of), shape(of, &private));
        bounds.push(quote!(#of_type: #private::Bind<DB, #of_shape>));
        bounds.push(quote!(#row: #private::ReadFrom<DB>));
        adds.push(quote! {
            let made = table.#method::<DB, #source, P, #row, #of_shape>(pools, &#what, #take);
            sources = sources.source(#source(made));
        });
    };
    for IndexSource { of, source, .. } in &table.indexes {
        let columns = table.columns(of);
        add(source, of, quote!(index), quote!([#(#columns),*]));
    }
    for list in &table.lists {
        add(&list.source, &list.of, quote!(list), listed(table, list));
    }
    let doc = format!(
        "The sources of this table, for `CacheBuilder::sources`: its rows{}. When the cache is built, the table, its \
         columns and its unique indexes are looked at.",
        match (table.indexes.len(), table.lists.len()) {
            (0, 0) => "",
            (0, _) => " and lists",
            (_, 0) => " and indexes",
            _ => ", indexes and lists",
        }
    );
    quote! {
        impl #ident {
            #[doc = #doc]
            #vis fn sources<DB, P>(pools: &P) -> #private::mastaba::Sources
            where
                DB: #private::Dialect,
                P: #private::Pools<DB>,
                Self: #private::ReadFrom<DB>,
                #(#types: #private::sqlx::Type<DB>,)*
                #(#bounds,)*
            {
                let table = #description;
                let mut sources = #private::mastaba::Sources::new();
                #(#adds)*
                let expected = #private::Expected::<DB> {
                    table,
                    columns: ::std::vec![#(#private::Column::of::<#types>(#names, #shown)),*],
                    uniques: &[#(#uniques),*],
                };
                let embeds = #private::ChildFields::new() #(.and::<#embedded, #own_shape>(|row| &mut row.#embeds))*;
                let made = table.rows::<DB, #source, P, #own_shape>(pools, expected, embeds, |row| (#own, row));
                sources.source(#source(made))
            }
        }
    }
}

/// The table, as the library knows it.
fn description(table: &CachedStruct) -> TokenStream {
    let private = table.private();
    let CachedStruct { table: name, key, filter, fields, .. } = table;
    let key = table.columns(key);
    let known = fields.iter().filter_map(StructField::column);
    let unknown = fields.iter().any(|field| matches!(field.origin, Origin::Unknown));
    let columns = if unknown { quote!(None) } else { quote!(Some(&[#(#known),*])) };
    let filter = optional(filter.as_ref());
    quote! {
        #private::Table {
            name: #name,
            key: &[#(#key),*],
            columns: ::core::option::Option::#columns,
            filter: #filter,
        }
    }
}

fn listed(table: &CachedStruct, list: &ListSource) -> TokenStream {
    let private = table.private();
    let ListSource { of, order, limit, filter, .. } = list;
    let columns = table.columns(of);
    let (by, ways): (Vec<_>, Vec<_>) = order.iter().map(|(at, way)| (table.column(*at), way)).unzip();
    let filter = optional(filter.as_ref());
    let limit = Literal::usize_unsuffixed(*limit);
    quote! {
        #private::Listed {
            of: &[#(#columns),*],
            order: &[#((#by, #ways)),*],
            limit: #limit,
            filter: #filter,
        }
    }
}

fn optional(text: Option<&syn::LitStr>) -> TokenStream {
    match text {
        Some(text) => quote!(::core::option::Option::Some(#text)),
        None => quote!(::core::option::Option::None),
    }
}

/// The type of a key of these fields.
fn key_type(table: &CachedStruct, of: &[usize]) -> TokenStream {
    let private = table.private();
    let types = of.iter().map(|at| table.fields[*at].key_type(&quote!(#private::mastaba)));
    let types: Vec<_> = types.collect();
    match &types[..] {
        [one] => quote!(#one),
        many => quote!((#(#many),*)),
    }
}

/// The key of a row.
fn key_of(table: &CachedStruct, of: &[usize], row: &TokenStream) -> TokenStream {
    let keys: Vec<_> = of.iter().map(|at| table.fields[*at].key_of(row)).collect();
    match &keys[..] {
        [one] => quote!(#one),
        many => quote!((#(#many),*)),
    }
}

/// Whether `row` says `key`.
fn is_key(table: &CachedStruct, of: &[usize]) -> TokenStream {
    if let [at] = of {
        return table.fields[*at].is_key(&quote!(row), &quote!(key));
    }
    let parts = of.iter().enumerate().map(|(nth, at)| {
        let nth = Literal::usize_unsuffixed(nth);
        table.fields[*at].is_key(&quote!(row), &quote!(&key.#nth))
    });
    quote!(#((#parts))&&*)
}

/// The type of a row of a select of `of` and the key, and what takes it apart.
fn split(table: &CachedStruct, of: &[usize]) -> (TokenStream, TokenStream) {
    let private = table.private();
    let types = of.iter().chain(&table.key).map(|at| table.fields[*at].key_type(&quote!(#private::mastaba)));
    let names: Vec<_> = (0..of.len() + table.key.len()).map(|nth| format_ident!("c{nth}")).collect();
    let (to, from) = names.split_at(of.len());
    let tuple = |names: &[Ident]| match names {
        [one] => quote!(#one),
        many => quote!((#(#many),*)),
    };
    let (to, from) = (tuple(to), tuple(from));
    (quote!((#(#types,)*)), quote!(|(#(#names,)*)| (#to, #from)))
}

/// The shape of a key.
fn shape(of: &[usize], private: &TokenStream) -> TokenStream {
    match of.len() {
        1 => quote!(#private::One),
        2 => quote!(#private::Two),
        3 => quote!(#private::Three),
        _ => quote!(#private::Four),
    }
}
