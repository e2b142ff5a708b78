//! Values as readers and flights share them.

use std::sync::Arc;

use crate::entry::Format;
use crate::error::Error;
use crate::source::Source;

/// A value as readers share it.
pub(crate) enum Carried<S: Source> {
    /// The value itself.
    Live(Arc<S::Value>),
    /// Its encoding: the source has a hook that changes the value for each request.
    Packed(Arc<Packed>),
}

impl<S: Source> Clone for Carried<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Live(value) => Self::Live(value.clone()),
            Self::Packed(packed) => Self::Packed(packed.clone()),
        }
    }
}

impl<S: Source> Carried<S> {
    /// The value, where it is shared as such.
    pub(crate) fn live(self) -> Option<Arc<S::Value>> {
        match self {
            Self::Live(value) => Some(value),
            Self::Packed(_) => None,
        }
    }
}

/// An encoded value, not compressed.
pub(crate) struct Packed {
    pub(crate) format: Format,
    pub(crate) payload: Vec<u8>,
}

/// What a flight brings for a key.
pub(crate) enum Landed<S: Source> {
    Value(Carried<S>),
    Absent,
    Failed(Error),
    /// It cannot be shared: whoever joined loads for himself.
    Lost,
}

impl<S: Source> Clone for Landed<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Value(carried) => Self::Value(carried.clone()),
            Self::Absent => Self::Absent,
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Lost => Self::Lost,
        }
    }
}
