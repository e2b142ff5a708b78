//! The struct as a table, checked: every mistake is found, and all are reported together.

use heck::{ToPascalCase, ToSnakeCase};
use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{DeriveInput, Fields, Ident, LitStr, Path, Visibility};

use crate::attributes::{self, Attributes};
use crate::fields::{Origin, StructField, rename_all};

/// How many rows a list has that does not say so.
const LIMIT: usize = 1000;
/// How many rows are kept in the record of a parent, where nothing else is said.
const CAP: usize = 100;
/// How many columns a key may have.
const COLUMNS: usize = 4;

pub(crate) struct CachedStruct {
    pub(crate) ident: Ident,
    pub(crate) vis: Visibility,
    pub(crate) path: Path,
    pub(crate) fields: Vec<StructField>,
    pub(crate) table: LitStr,
    pub(crate) region: String,
    pub(crate) version: u32,
    pub(crate) filter: Option<LitStr>,
    pub(crate) hidden: bool,
    pub(crate) key: Vec<usize>,
    /// The type of its source.
    pub(crate) source: Ident,
    /// The name of its source.
    pub(crate) source_name: String,
    pub(crate) indexes: Vec<IndexSource>,
    pub(crate) lists: Vec<ListSource>,
}

pub(crate) struct IndexSource {
    /// The fields that it goes by.
    pub(crate) of: Vec<usize>,
    pub(crate) source: Ident,
    pub(crate) source_name: String,
    /// The function that finds by it.
    pub(crate) function: Ident,
    pub(crate) hidden: bool,
}

pub(crate) struct ListSource {
    pub(crate) of: Vec<usize>,
    pub(crate) source: Ident,
    pub(crate) source_name: String,
    pub(crate) function: Ident,
    pub(crate) hidden: bool,
    /// A field, and what follows its column: ` desc`.
    pub(crate) order: Vec<(usize, String)>,
    pub(crate) limit: usize,
    pub(crate) filter: Option<LitStr>,
    /// The struct in whose rows its own are kept, and how many at most.
    pub(crate) embed: Option<(Path, usize)>,
}

/// Mistakes, reported together.
#[derive(Default)]
struct Mistakes(Option<syn::Error>);

impl Mistakes {
    fn add(&mut self, span: Span, sentence: impl std::fmt::Display) {
        self.combine(syn::Error::new(span, sentence));
    }

    fn combine(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }
}

impl CachedStruct {
    pub(crate) fn new(input: &DeriveInput, attributes: Attributes) -> syn::Result<Self> {
        let mut mistakes = Mistakes::default();
        if !input.generics.params.is_empty() {
            mistakes
                .add(input.ident.span(), "a table has rows of one type: a generic struct cannot be cached");
        }
        let syn::Data::Struct(syn::DataStruct { fields: Fields::Named(named), .. }) = &input.data else {
            return Err(syn::Error::new(input.ident.span(), "a struct with named fields is needed"));
        };
        let path = attributes.path.clone().unwrap_or_else(|| syn::parse_quote!(::mastaba_sqlx));
        let rename_all = rename_all(&input.attrs)?;
        let mut fields = Vec::new();
        for field in &named.named {
            match StructField::of(field, rename_all.as_deref(), &private(&path)) {
                Ok(field) => fields.push(field),
                Err(error) => mistakes.combine(error),
            }
        }
        if let Some(error) = mistakes.0 {
            return Err(error);
        }
        let Attributes { table, key, region, name, version, filter, hidden, indexes, lists, .. } = attributes;
        let struct_name = input.ident.to_string();
        let prefix = name.map_or_else(|| struct_name.to_snake_case(), |name| name.value());
        let look = FieldsByName { fields: &fields };
        let key = look.columns(&key.0, "key", table.span(), &mut mistakes);
        for field in key.iter().map(|at| &fields[*at]).filter(|field| field.said().optional) {
            mistakes.add(field.ident.span(), "a key is never missing: an `Option` cannot be part of it");
        }
        let by = |of: &[usize]| {
            of.iter().map(|at| fields[*at].ident.to_string()).collect::<Vec<_>>().join("_and_")
        };
        let indexes: Vec<_> = indexes
            .into_iter()
            .map(|index: attributes::IndexSpec| {
                let of = look.columns(&index.columns, "index", table.span(), &mut mistakes);
                let by = format!("by_{}", by(&of));
                IndexSource {
                    source: Ident::new(
                        &format!("{struct_name}{}", by.to_pascal_case()),
                        span(&index.columns, &table),
                    ),
                    source_name: format!("{prefix}.{by}"),
                    function: index.name.unwrap_or_else(|| Ident::new(&by, span(&index.columns, &table))),
                    hidden: hidden || index.hidden,
                    of,
                }
            })
            .collect();
        let keys = match key[..] {
            [at] if fields[at].ident == "id" => "ids",
            _ => "keys",
        };
        let lists: Vec<_> = lists
            .into_iter()
            .map(|list: attributes::ListSpec| {
                let of = look.columns(&list.columns, "list", table.span(), &mut mistakes);
                let order = list.order.map_or_else(Vec::new, |order| look.order(&order, &mut mistakes));
                let full = format!("{keys}_by_{}", by(&of));
                // two lists by one column have two names
                let full = match &list.name {
                    Some(name) => format!("{keys}_{name}"),
                    None => full,
                };
                let short = of.iter().map(|at| fields[*at].ident.to_string());
                let short: Vec<_> =
                    short.map(|name| name.strip_suffix("_id").map_or(name.clone(), str::to_owned)).collect();
                if let (Some(_), None) = (list.cap, &list.embed) {
                    mistakes.add(
                        span(&list.columns, &table),
                        "`cap` is of a list with `embed`; `limit` is of any list",
                    );
                }
                if let (Some(cap), Some(limit)) = (list.cap, list.limit)
                    && cap > limit
                {
                    mistakes.add(
                        span(&list.columns, &table),
                        format!("a list of {limit} rows has no {cap} to keep: make `cap` smaller"),
                    );
                }
                let limit = list.limit.unwrap_or(LIMIT);
                let function =
                    Ident::new(&format!("by_{}", short.join("_and_")), span(&list.columns, &table));
                ListSource {
                    source: Ident::new(&format!("{struct_name}{}", full.to_pascal_case()), function.span()),
                    source_name: format!("{prefix}.{full}"),
                    function: list.name.unwrap_or(function),
                    hidden: hidden || list.hidden,
                    order,
                    limit,
                    filter: list.filter,
                    embed: list.embed.map(|parent| (parent, list.cap.unwrap_or(CAP.min(limit)))),
                    of,
                }
            })
            .collect();
        let source = Ident::new(
            &format!("{struct_name}{}", format!("by_{}", by(&key)).to_pascal_case()),
            input.ident.span(),
        );
        // what was not found has no name
        let told = mistakes.0.is_some();
        let mut functions: Vec<&Ident> = Vec::new();
        let all = indexes.iter().map(|index| (&index.function, &index.source));
        for (function, made) in all.chain(lists.iter().map(|list| (&list.function, &list.source))) {
            if !told && (functions.contains(&function) || *made == source) {
                mistakes.add(
                    function.span(),
                    format!(
                        "two of this struct would be called `{function}`; give one of them `name = \"..\"`"
                    ),
                );
            }
            functions.push(function);
        }
        if let Some(error) = mistakes.0 {
            return Err(error);
        }
        Ok(Self {
            ident: input.ident.clone(),
            vis: input.vis.clone(),
            path,
            source_name: format!("{prefix}.by_{}", by(&key)),
            fields,
            table,
            region: region.map_or_else(|| "objects".to_owned(), |region| region.value()),
            version: version.unwrap_or(0),
            filter,
            hidden,
            key,
            source,
            indexes,
            lists,
        })
    }

    /// Where the library is.
    pub(crate) fn private(&self) -> TokenStream {
        private(&self.path)
    }

    pub(crate) fn column(&self, at: usize) -> &str {
        self.fields[at].column().expect("a field that is looked for has a column")
    }

    pub(crate) fn columns(&self, of: &[usize]) -> Vec<&str> {
        of.iter().map(|at| self.column(*at)).collect()
    }
}

fn private(path: &Path) -> TokenStream {
    quote!(#path::__private)
}

/// Looks for fields by their names.
struct FieldsByName<'f> {
    fields: &'f [StructField],
}

impl FieldsByName<'_> {
    fn columns(&self, names: &[Ident], what: &str, place: Span, mistakes: &mut Mistakes) -> Vec<usize> {
        if names.is_empty() {
            mistakes.add(place, format!("`{what}` needs the name of a field: `{what}({})`", self.example()));
        }
        if let Some(more) = names.get(COLUMNS) {
            mistakes.add(
                more.span(),
                format!("at most {COLUMNS} columns: a longer key is one for a source of your own"),
            );
        }
        names.iter().filter_map(|name| self.field(&name.to_string(), name.span(), mistakes)).collect()
    }

    /// A field by its name, or by that of its column.
    fn field(&self, name: &str, span: Span, mistakes: &mut Mistakes) -> Option<usize> {
        let name = name.strip_prefix("r#").unwrap_or(name);
        let is_it = |field: &StructField| field.ident == name || field.column() == Some(name);
        let Some(at) = self.fields.iter().position(is_it) else {
            let names = self.fields.iter().map(|field| field.ident.to_string());
            let near = names
                .clone()
                .filter(|other| strsim::damerau_levenshtein(other, name) <= 2)
                .min_by_key(|other| strsim::damerau_levenshtein(other, name));
            mistakes.add(
                span,
                match near {
                    Some(near) => format!("there is no field `{name}`; did you mean `{near}`?"),
                    None => format!(
                        "there is no field `{name}`; there are {}",
                        names.collect::<Vec<_>>().join(", ")
                    ),
                },
            );
            return None;
        };
        if matches!(self.fields[at].origin, Origin::Unknown | Origin::Skipped) {
            mistakes.add(
                span,
                format!(
                    "`{name}` is not known to be a column: it is skipped, flattened or optional for sqlx"
                ),
            );
            return None;
        }
        Some(at)
    }

    /// `created_at desc, title`.
    fn order(&self, order: &LitStr, mistakes: &mut Mistakes) -> Vec<(usize, String)> {
        let mut parts = Vec::new();
        for part in order.value().split(',') {
            let mut words = part.split_whitespace();
            let column = words.next().unwrap_or_default();
            let rest: Vec<_> = words.map(str::to_ascii_lowercase).collect();
            let rest: Vec<_> = rest.iter().map(String::as_str).collect();
            let way = match rest[..] {
                [] => "",
                ["asc"] => " asc",
                ["desc"] => " desc",
                ["nulls", "first"] => " nulls first",
                ["nulls", "last"] => " nulls last",
                ["asc", "nulls", "first"] => " asc nulls first",
                ["asc", "nulls", "last"] => " asc nulls last",
                ["desc", "nulls", "first"] => " desc nulls first",
                ["desc", "nulls", "last"] => " desc nulls last",
                _ => {
                    mistakes.add(order.span(), format!(
                        "`{}` is no order: a field, and `asc` or `desc`, go here; for an expression write a source with \
                         a `Select` of your own",
                        part.trim()
                    ));
                    continue;
                }
            };
            let found = self.field(column, order.span(), mistakes);
            parts.extend(found.map(|at| (at, way.to_owned())));
        }
        parts
    }

    fn example(&self) -> String {
        self.fields.first().map_or_else(|| "id".to_owned(), |field| field.ident.to_string())
    }
}

fn span(columns: &[Ident], table: &LitStr) -> Span {
    columns.first().map_or_else(|| table.span(), Ident::span)
}
