//! What is known of a key, as readers and flights share it.

use std::sync::Arc;

use crate::answer::Known;
use crate::entry::Format;
use crate::error::Error;
use crate::source::Source;

/// What is known of a key, as readers share it.
pub(crate) enum Carried<S: Source> {
    /// The value itself.
    Live(Arc<S::Value>),
    /// Its encoding: the source has a hook that changes the value for each request.
    Encoded(Arc<Encoded>),
    /// There is no row.
    Absent,
}

impl<S: Source> Clone for Carried<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Live(value) => Self::Live(value.clone()),
            Self::Encoded(encoded) => Self::Encoded(encoded.clone()),
            Self::Absent => Self::Absent,
        }
    }
}

impl<S: Source> Carried<S> {
    /// What is known, where that is shared as such: an encoding has to be decoded for each request.
    pub(crate) fn known(self) -> Option<Known<S::Value>> {
        match self {
            Self::Live(value) => Some(Known::Value(value)),
            Self::Absent => Some(Known::Absent),
            Self::Encoded(_) => None,
        }
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// An encoded value, not compressed.
pub(crate) struct Encoded {
    pub(crate) format: Format,
    pub(crate) payload: Vec<u8>,
}

/// What a flight brings for a key.
pub(crate) enum Landed<S: Source> {
    Found(Carried<S>),
    Failed(Error),
    /// It cannot be shared: whoever joined loads for himself.
    Lost,
}

impl<S: Source> Clone for Landed<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Found(carried) => Self::Found(carried.clone()),
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Lost => Self::Lost,
        }
    }
}
