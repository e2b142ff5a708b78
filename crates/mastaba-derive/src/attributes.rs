//! What stands in `#[cached(..)]`.

use darling::ast::NestedMeta;
use darling::{Error, FromDeriveInput, FromMeta};
use syn::{DeriveInput, Expr, ExprLit, Ident, Lit, LitStr, Meta, Path};

/// `#[cached(..)]` of the struct.
#[derive(FromDeriveInput)]
#[darling(attributes(cached), supports(struct_named))]
pub(crate) struct Attributes {
    pub(crate) table: LitStr,
    pub(crate) key: Columns,
    #[darling(default)]
    pub(crate) region: Option<LitStr>,
    /// What the names of its sources begin with.
    #[darling(default)]
    pub(crate) name: Option<LitStr>,
    #[darling(default)]
    pub(crate) version: Option<u32>,
    #[darling(default)]
    pub(crate) filter: Option<LitStr>,
    /// Its keys are shown to nobody.
    #[darling(default)]
    pub(crate) hidden: bool,
    #[darling(default, multiple, rename = "index")]
    pub(crate) indexes: Vec<IndexSpec>,
    #[darling(default, multiple, rename = "list")]
    pub(crate) lists: Vec<ListSpec>,
    #[darling(default, rename = "crate")]
    pub(crate) path: Option<Path>,
}

impl Attributes {
    pub(crate) fn read(input: &DeriveInput) -> syn::Result<Self> {
        if !input.attrs.iter().any(|attribute| attribute.path().is_ident("cached")) {
            let sentence = "say where its rows are, and what they are found by: `#[cached(table = \"..\", key = \"..\")]`";
            return Err(syn::Error::new(input.ident.span(), sentence));
        }
        Self::from_derive_input(input).map_err(Into::into)
    }
}

/// One or more columns: `key = "id"`, or `key(tenant_id, id)`.
pub(crate) struct Columns(pub(crate) Vec<Ident>);

impl FromMeta for Columns {
    fn from_value(value: &Lit) -> darling::Result<Self> {
        let Lit::Str(text) = value else {
            return Err(Error::custom("names of fields go here: `key = \"id\"`").with_span(value));
        };
        let parse = |name: &str| {
            let ident = syn::parse_str::<Ident>(name.trim());
            ident
                .map(|mut ident| {
                    ident.set_span(text.span());
                    ident
                })
                .map_err(|_| {
                    Error::custom(format!("`{}` is no name of a field", name.trim())).with_span(value)
                })
        };
        text.value().split(',').map(parse).collect::<Result<_, _>>().map(Self)
    }

    fn from_list(items: &[NestedMeta]) -> darling::Result<Self> {
        let mut columns = Vec::new();
        for item in items {
            match item {
                NestedMeta::Meta(Meta::Path(path)) => columns.push(ident(path)?),
                other => {
                    return Err(
                        Error::custom("names of fields go here: `key(tenant_id, id)`").with_span(other)
                    );
                }
            }
        }
        Ok(Self(columns))
    }
}

/// `index(slug, unique)`.
pub(crate) struct IndexSpec {
    pub(crate) columns: Vec<Ident>,
    pub(crate) name: Option<Ident>,
    pub(crate) hidden: bool,
}

impl FromMeta for IndexSpec {
    fn from_list(items: &[NestedMeta]) -> darling::Result<Self> {
        let (mut unique, mut hidden, mut name) = (false, false, None);
        let mut columns = Vec::new();
        let mut errors = Error::accumulator();
        for item in items {
            errors.handle_in(|| {
                match item {
                    NestedMeta::Meta(Meta::Path(path)) if path.is_ident("unique") => unique = true,
                    NestedMeta::Meta(Meta::Path(path)) if path.is_ident("hidden") => hidden = true,
                    NestedMeta::Meta(Meta::Path(path)) => columns.push(ident(path)?),
                    NestedMeta::Lit(quoted) => columns.extend(Columns::from_value(quoted)?.0),
                    NestedMeta::Meta(Meta::NameValue(pair)) if pair.path.is_ident("name") => {
                        name = Some(text(&pair.value)?.parse().map_err(Error::from)?);
                    }
                    other => {
                        return Err(Error::custom(
                            "an index takes names of fields, `unique`, `hidden` and `name = \"..\"`",
                        )
                        .with_span(other));
                    }
                }
                Ok(())
            });
        }
        if errors.finish().map(|()| unique)? {
            return Ok(Self { columns, name, hidden });
        }
        Err(Error::custom(
            "an index leads to one row: say `unique` where the database sees to that, and make a list of it where it \
             does not: `list(..)`",
        ))
    }
}

/// `list(author_id, order = "created_at desc", limit = 100)`.
pub(crate) struct ListSpec {
    pub(crate) columns: Vec<Ident>,
    pub(crate) name: Option<Ident>,
    pub(crate) order: Option<LitStr>,
    pub(crate) limit: Option<usize>,
    pub(crate) filter: Option<LitStr>,
    pub(crate) hidden: bool,
    /// The struct in whose rows its own are kept, and how many at most.
    pub(crate) embed: Option<Path>,
    pub(crate) cap: Option<usize>,
}

impl FromMeta for ListSpec {
    fn from_list(items: &[NestedMeta]) -> darling::Result<Self> {
        let mut list = Self {
            columns: Vec::new(),
            name: None,
            order: None,
            limit: None,
            filter: None,
            hidden: false,
            embed: None,
            cap: None,
        };
        let mut errors = Error::accumulator();
        for item in items {
            errors.handle_in(|| list.take(item));
        }
        errors.finish_with(list)
    }
}

impl ListSpec {
    fn take(&mut self, item: &NestedMeta) -> darling::Result<()> {
        match item {
            NestedMeta::Meta(Meta::Path(path)) if path.is_ident("hidden") => self.hidden = true,
            NestedMeta::Meta(Meta::Path(path)) => self.columns.push(ident(path)?),
            NestedMeta::Lit(quoted) => self.columns.extend(Columns::from_value(quoted)?.0),
            NestedMeta::Meta(Meta::NameValue(pair)) if pair.path.is_ident("order") => {
                self.order = Some(text(&pair.value)?.clone());
            }
            NestedMeta::Meta(Meta::NameValue(pair)) if pair.path.is_ident("filter") => {
                self.filter = Some(text(&pair.value)?.clone());
            }
            NestedMeta::Meta(Meta::NameValue(pair)) if pair.path.is_ident("name") => {
                self.name = Some(text(&pair.value)?.parse().map_err(Error::from)?);
            }
            NestedMeta::Meta(Meta::NameValue(pair)) if pair.path.is_ident("limit") => {
                self.limit = Some(above_zero(&pair.value)?);
            }
            NestedMeta::Meta(Meta::NameValue(pair)) if pair.path.is_ident("cap") => {
                self.cap = Some(above_zero(&pair.value)?);
            }
            NestedMeta::Meta(Meta::NameValue(pair)) if pair.path.is_ident("embed") => {
                self.embed = Some(text(&pair.value)?.parse().map_err(Error::from)?);
            }
            other => {
                return Err(Error::custom(
                    "a list takes names of fields, `order = \"..\"`, `limit = 100`, `filter = \"..\"`, `name = \"..\"`, \
                     `hidden`, `embed = \"Parent\"` and `cap = 20`",
                )
                .with_span(other));
            }
        }
        Ok(())
    }
}

fn above_zero(value: &Expr) -> darling::Result<usize> {
    match usize::from_expr(value)? {
        0 => Err(Error::custom("a list of 0 rows is always empty").with_span(value)),
        number => Ok(number),
    }
}

fn ident(path: &Path) -> darling::Result<Ident> {
    path.get_ident().cloned().ok_or_else(|| Error::custom("a name of a field goes here").with_span(path))
}

fn text(value: &Expr) -> darling::Result<&LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text),
        other => Err(Error::custom("a text in quotes goes here").with_span(other)),
    }
}
