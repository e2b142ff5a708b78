//! The fields of the struct, and the columns that sqlx reads them from.

use darling::FromField;
use darling::util::{Flag, Override};
use heck::{ToKebabCase, ToLowerCamelCase, ToPascalCase, ToShoutySnakeCase, ToSnakeCase};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::{Attribute, GenericArgument, Ident, LitStr, PathArguments, Type, TypePath};

/// A field, as `#[derive(FromRow)]` sees it.
#[derive(FromField)]
#[darling(attributes(sqlx), allow_unknown_fields)]
struct Raw {
    ident: Option<Ident>,
    ty: Type,
    #[darling(default)]
    rename: Option<String>,
    skip: Flag,
    default: Flag,
    flatten: Flag,
    #[darling(default)]
    try_from: Option<LitStr>,
    /// `json`, or `json(nullable)`.
    #[darling(default)]
    json: Option<Override<Json>>,
}

#[derive(Default, darling::FromMeta)]
struct Json {
    nullable: Flag,
}

/// A field of the struct.
pub(crate) struct StructField {
    pub(crate) ident: Ident,
    /// The type of the field.
    pub(crate) ty: Type,
    pub(crate) origin: Origin,
}

/// Where a field comes from.
pub(crate) enum Origin {
    /// A column, which is decoded as this type.
    Column { name: String, decoded: Box<Type> },
    /// Columns that only its type knows, or one that may be missing.
    Unknown,
    /// No column.
    Skipped,
}

/// How a field says a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    /// It may be missing: `Option`.
    pub(crate) optional: bool,
    /// It is a relation: `Lazy`.
    pub(crate) lazy: bool,
}

impl StructField {
    /// `private` is where the library is.
    pub(crate) fn of(
        field: &syn::Field,
        rename_all: Option<&str>,
        private: &dyn ToTokens,
    ) -> syn::Result<Self> {
        let raw = Raw::from_field(field)?;
        let ident = raw.ident.expect("a field with a name");
        let name = raw.rename.unwrap_or_else(|| renamed(&ident.unraw().to_string(), rename_all));
        let origin = if raw.skip.is_present() {
            Origin::Skipped
        } else if raw.flatten.is_present() || raw.default.is_present() {
            Origin::Unknown
        } else {
            let ty = &raw.ty;
            let decoded = match (&raw.try_from, &raw.json) {
                (Some(from), _) => from.parse()?,
                (None, None) => ty.clone(),
                (None, Some(Override::Explicit(json))) if json.nullable.is_present() => {
                    let inner = argument(ty, "Option").unwrap_or(ty);
                    syn::parse_quote!(::core::option::Option<#private::sqlx::types::Json<#inner>>)
                }
                (None, Some(_)) => syn::parse_quote!(#private::sqlx::types::Json<#ty>),
            };
            Origin::Column { name, decoded: Box::new(decoded) }
        };
        Ok(Self { ident, ty: raw.ty, origin })
    }

    pub(crate) fn column(&self) -> Option<&str> {
        match &self.origin {
            Origin::Column { name, .. } => Some(name),
            Origin::Unknown | Origin::Skipped => None,
        }
    }

    /// The list that is kept in it: `L` of `Children<L>`.
    pub(crate) fn embedded(&self) -> Option<&Type> {
        argument(&self.ty, "Children")
    }

    pub(crate) fn said(&self) -> Said {
        let inner = argument(&self.ty, "Option");
        let ty = inner.unwrap_or(&self.ty);
        Said { optional: inner.is_some(), lazy: argument(ty, "Lazy").is_some() }
    }

    /// The type of the key that it says.
    pub(crate) fn key_type(&self, mastaba: &dyn ToTokens) -> Type {
        let ty = argument(&self.ty, "Option").unwrap_or(&self.ty);
        match argument(ty, "Lazy") {
            Some(source) => syn::parse_quote!(<#source as #mastaba::Source>::Key),
            None => ty.clone(),
        }
    }

    /// The key of a row; with a `?` where it may be missing.
    pub(crate) fn key_of(&self, row: &dyn ToTokens) -> proc_macro2::TokenStream {
        let ident = &self.ident;
        match self.said() {
            Said { optional: false, lazy: false } => quote!(::core::clone::Clone::clone(&#row.#ident)),
            Said { optional: false, lazy: true } => quote!(::core::clone::Clone::clone(#row.#ident.key())),
            Said { optional: true, lazy: false } => {
                quote!(::core::clone::Clone::clone(#row.#ident.as_ref()?))
            }
            Said { optional: true, lazy: true } => {
                quote!(::core::clone::Clone::clone(#row.#ident.as_ref()?.key()))
            }
        }
    }

    /// Whether a row says this key.
    pub(crate) fn is_key(&self, row: &dyn ToTokens, key: &dyn ToTokens) -> proc_macro2::TokenStream {
        let ident = &self.ident;
        match self.said() {
            Said { optional: false, lazy: false } => quote!(#row.#ident == *#key),
            Said { optional: false, lazy: true } => quote!(*#row.#ident.key() == *#key),
            Said { optional: true, lazy: false } => {
                quote!(#row.#ident.as_ref() == ::core::option::Option::Some(#key))
            }
            Said { optional: true, lazy: true } => {
                quote!(#row.#ident.as_ref().map(|lazy| lazy.key()) == ::core::option::Option::Some(#key))
            }
        }
    }
}

/// The `T` of `Option<T>`.
fn argument<'t>(ty: &'t Type, of: &str) -> Option<&'t Type> {
    let Type::Path(TypePath { qself: None, path }) = ty else { return None };
    let last = path.segments.last().filter(|last| last.ident == of)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }
}

/// `#[sqlx(rename_all = "..")]` of the struct.
pub(crate) fn rename_all(attributes: &[Attribute]) -> syn::Result<Option<String>> {
    let mut found = None;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("sqlx")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("rename_all") {
                found = Some(meta.value()?.parse::<LitStr>()?.value());
            } else if meta.input.peek(syn::Token![=]) {
                meta.value()?.parse::<syn::Expr>()?;
            }
            Ok(())
        })?;
    }
    Ok(found)
}

/// A name as sqlx makes it.
fn renamed(name: &str, how: Option<&str>) -> String {
    match how {
        Some("lowercase") => name.to_lowercase(),
        Some("snake_case") => name.to_snake_case(),
        Some("UPPERCASE") => name.to_uppercase(),
        Some("SCREAMING_SNAKE_CASE") => name.to_shouty_snake_case(),
        Some("kebab-case") => name.to_kebab_case(),
        Some("camelCase") => name.to_lower_camel_case(),
        Some("PascalCase") => name.to_pascal_case(),
        _ => name.to_owned(),
    }
}
