//! Finds out what a type looks like by asking it to be deserialized from nothing.
//!
//! Each round makes one value. An option is `Some`, a sequence has one item, and of an enum the next variant is
//! taken that was not made yet, until every variant of every enum in the type was made. Parts that check what they
//! are given (a date, a number that is not zero) refuse the first sample; the round is then made again with
//! another one. A type that is not made in the end is not an error: it is stored with its field names.
//!
//! `serde-reflection` does the same but recurses until the stack ends where the first variant of an enum
//! contains the enum, and does not find the variants of an enum inside an option or a sequence.

use std::collections::HashMap;

use serde::de::DeserializeOwned;

use super::shape::{Body, Id, NamedType, Shape, Shapes, Stop, TypeKind, Variant};

mod visit;

use visit::{Trace, TracedItems};

const MOST_STEPS: usize = 100_000;
const MOST_DEPTH: usize = 64;
const MOST_ROUNDS: usize = 2_000;

/// Notes the shapes of `V`, and gives values that together have every variant in them.
///
/// It stops at what it cannot know; what was noted up to there is the same in every process. A recursive type is
/// refused: a few damaged bytes could nest it until the stack ends.
///
/// Implementations by hand may panic on samples: to be [tried](super::quiet).
pub(super) fn trace<V: DeserializeOwned>(shapes: &mut Shapes) -> Result<Vec<V>, Stop> {
    let mut tracer = Tracer::new(shapes);
    let mut values = Vec::new();
    for _ in 0..MOST_ROUNDS {
        let before = tracer.made;
        tracer.begin_round();
        match V::deserialize(Trace { tracer: &mut tracer, at: Shapes::ROOT }) {
            Ok(value) => values.push(value),
            Err(stop) if stop.refused && tracer.other_sample() => continue,
            Err(stop) => return Err(stop),
        }
        if !tracer.shapes.is_open(Shapes::ROOT) {
            tracer.shapes.check()?;
            return Ok(values);
        }
        if tracer.made == before {
            return Err(Stop::new("a variant cannot be reached"));
        }
    }
    Err(Stop::new("it takes too long"))
}

struct Tracer<'s> {
    shapes: &'s mut Shapes,
    /// Types by their path in Rust, because serde's names are not unique (`Page<User>`, `Page<Post>`).
    known: HashMap<(&'static str, &'static str), usize>,
    /// Types that are being made now.
    open: Vec<usize>,
    depth: usize,
    steps: usize,
    /// How many variants were made.
    made: usize,
    /// Which of its samples a node takes.
    sample: HashMap<Id, usize>,
    /// The nodes that took a sample in this round, and how many samples there are for it.
    taken: Vec<(Id, usize)>,
    /// The variants that this round began to make.
    begun: Vec<(usize, usize)>,
}

impl<'s> Tracer<'s> {
    fn new(shapes: &'s mut Shapes) -> Self {
        Self {
            shapes,
            known: HashMap::new(),
            open: Vec::new(),
            depth: 0,
            steps: 0,
            made: 0,
            sample: HashMap::new(),
            taken: Vec::new(),
            begun: Vec::new(),
        }
    }

    fn begin_round(&mut self) {
        self.open.clear();
        self.taken.clear();
        self.begun.clear();
        self.depth = 0;
    }

    /// The last sample was refused, or one before it: takes the next one there.
    fn other_sample(&mut self) -> bool {
        for (named, variant) in std::mem::take(&mut self.begun) {
            if let TypeKind::Enum(variants) = &mut self.shapes.named[named].kind {
                variants[variant].made = false;
                self.made -= 1;
            }
        }
        while let Some((node, samples)) = self.taken.pop() {
            let sample = self.sample.entry(node).or_default();
            if *sample + 1 < samples {
                *sample += 1;
                return true;
            }
        }
        false
    }

    fn take(&mut self, node: Id, samples: usize) -> usize {
        self.taken.push((node, samples));
        self.sample.get(&node).copied().unwrap_or(0)
    }

    fn nodes(&mut self, count: usize) -> Vec<Id> {
        (0..count).map(|_| self.shapes.node()).collect()
    }

    /// What `node` is known to be, or what it is from now on.
    fn settle(&mut self, node: Id, new: impl FnOnce(&mut Self) -> Shape) -> Result<Shape, Stop> {
        self.steps += 1;
        if self.steps > MOST_STEPS || self.depth > MOST_DEPTH {
            return Err(Stop::new("it is too large"));
        }
        if self.shapes.nodes[node] == Shape::Unknown {
            self.shapes.nodes[node] = new(self);
        }
        Ok(self.shapes.nodes[node].clone())
    }

    /// Enters a named type, which must not be under way already.
    fn enter(
        &mut self,
        node: Id,
        rust: &'static str,
        name: &'static str,
        kind: impl FnOnce(&mut Self) -> TypeKind,
    ) -> Result<usize, Stop> {
        let index = match self.known.get(&(rust, name)) {
            Some(index) => *index,
            None => {
                let kind = kind(self);
                self.shapes.named.push(NamedType { name, kind });
                self.known.insert((rust, name), self.shapes.named.len() - 1);
                self.shapes.named.len() - 1
            }
        };
        if self.settle(node, |_| Shape::Named(index))? != Shape::Named(index) {
            return Err(unsteady());
        }
        if self.open.contains(&index) {
            return Err(Stop::new(format!("`{name}` contains itself")));
        }
        self.open.push(index);
        Ok(index)
    }

    /// Visits what is one level down.
    fn below<T>(
        &mut self,
        nodes: Vec<Id>,
        visit: impl FnOnce(TracedItems<'_, 's>) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        self.depth += 1;
        let made = visit(TracedItems { tracer: self, nodes: nodes.into_iter() })?;
        self.depth -= 1;
        Ok(made)
    }

    /// The variant to make now: one that was not made, or leads to one that was not.
    fn choose(&self, index: usize) -> usize {
        let TypeKind::Enum(variants) = &self.shapes.named[index].kind else { return 0 };
        let leads_on = |variant: &Variant| {
            variant.body.iter().flat_map(Body::nodes).any(|node| self.shapes.is_open(*node))
        };
        let new = variants.iter().position(|variant| !variant.made);
        new.or_else(|| variants.iter().position(leads_on)).unwrap_or(0)
    }
}

fn unsteady() -> Stop {
    Stop::new("it does not ask for the same thing twice")
}
