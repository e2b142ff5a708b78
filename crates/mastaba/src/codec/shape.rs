//! What serde says about a type: a tree of nodes, in which a named type stands once however often it is used.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};

use serde::de;

/// The place of a node in [`Shapes`].
pub(super) type Id = usize;

/// A primitive of serde's data model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Unit,
    Bool,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    Str,
    Bytes,
}

/// One place in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Unknown,
    Scalar(Scalar),
    Option(Id),
    Seq(Id),
    /// Key and value.
    Map([Id; 2]),
    Tuple(Vec<Id>),
    /// An index of [`Shapes::named`].
    Named(usize),
}

/// A struct or an enum.
#[derive(Debug)]
pub(super) struct NamedType {
    /// Its serde name; not unique.
    pub(super) name: &'static str,
    pub(super) kind: TypeKind,
}

/// What a named type is.
#[derive(Debug)]
pub(super) enum TypeKind {
    Struct(Body),
    Enum(Vec<Variant>),
}

/// One variant of an enum; its place in the list is its number.
#[derive(Debug)]
pub(super) struct Variant {
    pub(super) name: &'static str,
    /// `None` until it was asked for.
    pub(super) body: Option<Body>,
    /// Whether a value of this variant was made.
    pub(super) made: bool,
}

/// What a struct or a variant holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Unit,
    NewType(Id),
    Tuple(Vec<Id>),
    Struct(&'static [&'static str], Vec<Id>),
}

impl Body {
    /// The nodes in it, in order.
    pub(super) fn nodes(&self) -> &[Id] {
        match self {
            Self::Unit => &[],
            Self::NewType(node) => std::slice::from_ref(node),
            Self::Tuple(nodes) | Self::Struct(_, nodes) => nodes,
        }
    }
}

/// All nodes of a type. The first one is the type itself.
#[derive(Debug)]
pub(super) struct Shapes {
    pub(super) nodes: Vec<Shape>,
    pub(super) named: Vec<NamedType>,
}

impl Default for Shapes {
    /// A type of which nothing is known.
    fn default() -> Self {
        Self { nodes: vec![Shape::Unknown], named: Vec::new() }
    }
}

impl Shapes {
    /// The type itself.
    pub(super) const ROOT: Id = 0;

    /// A new node of which nothing is known.
    pub(super) fn node(&mut self) -> Id {
        self.nodes.push(Shape::Unknown);
        self.nodes.len() - 1
    }

    /// Whether a variant below `node` was never made.
    pub(super) fn is_open(&self, node: Id) -> bool {
        self.open(node, &mut HashSet::new())
    }

    fn open(&self, node: Id, met: &mut HashSet<usize>) -> bool {
        match &self.nodes[node] {
            Shape::Unknown | Shape::Scalar(_) => false,
            Shape::Option(inner) | Shape::Seq(inner) => self.open(*inner, met),
            Shape::Map([key, value]) => self.open(*key, met) || self.open(*value, met),
            Shape::Tuple(nodes) => nodes.iter().any(|node| self.open(*node, met)),
            Shape::Named(index) if !met.insert(*index) => false,
            Shape::Named(index) => match &self.named[*index].kind {
                TypeKind::Struct(body) => body.nodes().iter().any(|node| self.open(*node, met)),
                TypeKind::Enum(variants) => variants.iter().any(|variant| {
                    let mut nodes = variant.body.iter().flat_map(Body::nodes);
                    !variant.made || nodes.any(|node| self.open(*node, met))
                }),
            },
        }
    }

    /// Whether everything is known, and a sequence's items take up bytes.
    ///
    /// Items of no size would let a few damaged bytes ask for 2^64 of them.
    pub(super) fn check(&self) -> Result<(), Stop> {
        self.size(Self::ROOT, &mut HashMap::new()).map(|_| ())
    }

    /// The least number of bytes of a postcard value, or rather whether it is above zero.
    fn size(&self, node: Id, met: &mut HashMap<usize, usize>) -> Result<usize, Stop> {
        Ok(match &self.nodes[node] {
            Shape::Unknown => return Err(Stop::new("a part of it was never asked for")),
            Shape::Scalar(Scalar::Unit) => 0,
            Shape::Scalar(_) => 1,
            Shape::Option(inner) => self.size(*inner, met).map(|_| 1)?,
            Shape::Seq(item) => self.item(self.size(*item, met)?)?,
            Shape::Map([key, value]) => {
                let (key, value) = (self.size(*key, met)?, self.size(*value, met)?);
                self.item(key + value)?
            }
            Shape::Tuple(nodes) => self.sum(nodes, met)?,
            Shape::Named(index) => {
                if let Some(size) = met.get(index) {
                    return Ok(*size);
                }
                let size = match &self.named[*index].kind {
                    TypeKind::Struct(body) => self.sum(body.nodes(), met)?,
                    TypeKind::Enum(variants) => {
                        for variant in variants {
                            let body = variant.body.as_ref();
                            let body = body.ok_or_else(|| Stop::new("a variant could not be made"))?;
                            self.sum(body.nodes(), met)?;
                        }
                        1
                    }
                };
                met.insert(*index, size);
                size
            }
        })
    }

    fn sum(&self, nodes: &[Id], met: &mut HashMap<usize, usize>) -> Result<usize, Stop> {
        nodes.iter().try_fold(0, |sum: usize, node| Ok(sum.saturating_add(self.size(*node, met)?).min(1)))
    }

    fn item(&self, size: usize) -> Result<usize, Stop> {
        if size == 0 { Err(Stop::new("it has a sequence of items without size")) } else { Ok(1) }
    }

    /// A text that is equal for equal types, in every process and with every compiler.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.describe(Self::ROOT, &mut HashMap::new(), &mut out);
        out
    }

    fn describe(&self, node: Id, met: &mut HashMap<usize, usize>, out: &mut String) {
        match &self.nodes[node] {
            Shape::Unknown => out.push('?'),
            Shape::Scalar(scalar) => write!(out, "{scalar:?}").unwrap_or_default(),
            Shape::Option(inner) => self.list("Option", "", &[], &[*inner], met, out),
            Shape::Seq(item) => self.list("Seq", "", &[], &[*item], met, out),
            Shape::Map(pair) => self.list("Map", "", &[], pair, met, out),
            Shape::Tuple(nodes) => self.list("Tuple", "", &[], nodes, met, out),
            Shape::Named(index) => {
                // Numbered by where it is met first: Rust's own paths are not promised to stay.
                let next = met.len();
                if let Some(number) = met.get(index) {
                    return write!(out, "#{number}").unwrap_or_default();
                }
                met.insert(*index, next);
                let named = &self.named[*index];
                match &named.kind {
                    TypeKind::Struct(body) => self.body("Struct", named.name, body, met, out),
                    TypeKind::Enum(variants) => {
                        write!(out, "Enum {:?}{{", named.name).unwrap_or_default();
                        for variant in variants {
                            match &variant.body {
                                Some(body) => self.body("", variant.name, body, met, out),
                                None => out.push('?'),
                            }
                            out.push(',');
                        }
                        out.push('}');
                    }
                }
            }
        }
    }

    fn body(&self, what: &str, name: &str, body: &Body, met: &mut HashMap<usize, usize>, out: &mut String) {
        match body {
            Body::Unit => self.list(&format!("{what}Unit"), name, &[], &[], met, out),
            Body::NewType(_) => self.list(&format!("{what}New"), name, &[], body.nodes(), met, out),
            Body::Tuple(nodes) => self.list(&format!("{what}Tuple"), name, &[], nodes, met, out),
            Body::Struct(fields, nodes) => self.list(&format!("{what}Fields"), name, fields, nodes, met, out),
        }
    }

    fn list(
        &self,
        what: &str,
        name: &str,
        fields: &[&str],
        nodes: &[Id],
        met: &mut HashMap<usize, usize>,
        out: &mut String,
    ) {
        out.push_str(what);
        if !name.is_empty() {
            write!(out, " {name:?}").unwrap_or_default();
        }
        out.push('(');
        for (place, node) in nodes.iter().enumerate() {
            if let Some(field) = fields.get(place) {
                write!(out, "{field:?}:").unwrap_or_default();
            }
            self.describe(*node, met, out);
            out.push(',');
        }
        out.push(')');
    }
}

/// Why a type cannot be traced. Also the error of every `Deserialize` implementation on the way.
#[derive(Debug)]
pub(super) struct Stop {
    why: String,
    /// An implementation refused a value; another one may please it.
    pub(super) refused: bool,
}

impl Stop {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), refused: false }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(said: T) -> Self {
        Self { why: said.to_string(), refused: true }
    }
}
