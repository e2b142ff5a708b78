//! What stands under the key of a miss in the shared tier, and the right to store what is loaded for it.
//!
//! Nothing here asks a tier: a [`Storable`] is what is known, and what it allows. Without a [`Right`] nothing is stored (`R1`).

use super::verdict::Footing;
use crate::entry::Fence;
use crate::source::Source;

/// What is known of a key's place in the shared tier, as far as storing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storable {
    /// Nothing that is known of: a lease may be placed there, or what is loaded without one.
    Nothing,
    /// A record that is over: a lease takes its place, or what is loaded without one, if it is still this.
    Outdated(Fence),
    /// Something that only a lease takes the place of, if it is still this: without a fence it has to be gone.
    Foreign(Option<Fence>),
    /// What is loaded may be stored.
    Right(Right),
    /// Whatever is loaded is not stored.
    Sealed(Seal),
}

/// What a fill has to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// A lease, of this read or of somebody who is slow (`R3`). Every byte of it is known.
    Lease(Fence),
    /// A record that stays there for others until it is replaced.
    Record(Fence),
    /// The write stamp that the read saw (`R15`), and nothing, or exactly the outdated record that the read saw.
    Stamp { stamp: u64, over: Option<Fence> },
}

/// Why nothing is stored. What comes later is the stronger reason: it stays when another one joins it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seal {
    /// The shared tier is out, the load is for this read alone, or the user's code panicked.
    Plain,
    /// The shared tier has it in another shape of the type, which is left alone: what is loaded goes into near.
    LeftAlone,
    /// Under a hold: to be loaded from the writer.
    Held,
}

impl Storable {
    /// Whether a lease would give a right that there is not yet.
    pub(super) fn wants_a_lease(self) -> bool {
        matches!(self, Self::Nothing | Self::Outdated(_) | Self::Foreign(_))
    }

    /// What a lease may take the place of, if it is still there.
    pub(super) fn over(self) -> Option<Fence> {
        match self {
            Self::Outdated(fence) => Some(fence),
            Self::Foreign(fence) => fence,
            Self::Nothing | Self::Right(_) | Self::Sealed(_) => None,
        }
    }

    /// The right to store, if there is one.
    pub(super) fn right(self) -> Option<Right> {
        match self {
            Self::Right(right) => Some(right),
            _ => None,
        }
    }

    pub(super) fn is_sealed(self) -> bool {
        matches!(self, Self::Sealed(_))
    }

    pub(super) fn is_held(self) -> bool {
        self == Self::Sealed(Seal::Held)
    }

    pub(super) fn is_left_alone(self) -> bool {
        self == Self::Sealed(Seal::LeftAlone)
    }

    pub(super) fn is_unleased(self) -> bool {
        matches!(self, Self::Right(Right::Stamp { .. }))
    }

    /// Nothing is to be stored from now on.
    pub(super) fn seal(&mut self, seal: Seal) {
        *self = match *self {
            Self::Sealed(before) => Self::Sealed(before.max(seal)),
            _ => Self::Sealed(seal),
        };
    }

    /// What was known does not count any longer, for it is looked at anew. A seal stays.
    pub(super) fn forget(&mut self) {
        if !self.is_sealed() {
            *self = Self::Nothing;
        }
    }

    /// The key was looked at. A seal stays.
    pub(super) fn learn<S: Source>(&mut self, footing: &Footing<S>) {
        let next = match footing {
            Footing::Foreign(fence) => Self::Foreign(*fence),
            Footing::Outdated(fence) => Self::Outdated(*fence),
            Footing::Lease(fence) => Self::Right(Right::Lease(*fence)),
            Footing::Replaced(fence, _) => Self::Right(Right::Record(*fence)),
            Footing::Held(_) => return self.seal(Seal::Held),
            Footing::LeftAlone => return self.seal(Seal::LeftAlone),
            Footing::Unknown => return self.seal(Seal::Plain),
        };
        if !self.is_sealed() {
            *self = next;
        }
    }

    /// No lease was granted: something came to stand there meanwhile. What is loaded may take its place, if it is still that.
    pub(super) fn go_without_lease(&mut self) {
        if let Some(fence) = self.over() {
            *self = Self::Right(Right::Record(fence));
        }
    }

    /// It is loaded without a lease: its fill has to meet this stamp. Not where only a lease would do, or none is needed.
    pub(super) fn go_by_stamp(&mut self, stamp: u64) {
        if matches!(self, Self::Nothing | Self::Outdated(_)) {
            *self = Self::Right(Right::Stamp { stamp, over: self.over() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::verdict::tests::Doubles;

    const FENCE: Fence = Fence(5);
    const OTHER: Fence = Fence(6);
    const LEASE: Storable = Storable::Right(Right::Lease(FENCE));

    /// Every footing, with what it makes of a key that nothing is known of.
    fn footings() -> [(Footing<Doubles>, Storable); 7] {
        [
            (Footing::Foreign(Some(FENCE)), Storable::Foreign(Some(FENCE))),
            (Footing::Outdated(FENCE), Storable::Outdated(FENCE)),
            (Footing::Lease(FENCE), LEASE),
            (Footing::Replaced(FENCE, None), Storable::Right(Right::Record(FENCE))),
            (Footing::Held(None), Storable::Sealed(Seal::Held)),
            (Footing::LeftAlone, Storable::Sealed(Seal::LeftAlone)),
            (Footing::Unknown, Storable::Sealed(Seal::Plain)),
        ]
    }

    #[test]
    fn what_is_seen_counts_until_it_is_sealed() {
        for (footing, becomes) in footings() {
            let mut storable = Storable::Right(Right::Record(OTHER));
            storable.learn(&footing);
            assert_eq!(storable, becomes);
            let mut storable = Storable::Sealed(Seal::Held);
            storable.learn(&footing);
            assert_eq!(storable, Storable::Sealed(Seal::Held));
        }
    }

    #[test]
    fn a_seal_stays_and_the_stronger_reason_wins() {
        let mut storable = LEASE;
        storable.seal(Seal::LeftAlone);
        storable.seal(Seal::Plain);
        assert!(storable.is_left_alone() && storable.right().is_none());
        storable.seal(Seal::Held);
        storable.forget();
        storable.go_by_stamp(1);
        storable.go_without_lease();
        assert_eq!(storable, Storable::Sealed(Seal::Held));
        assert!(!storable.wants_a_lease());
    }

    #[test]
    fn a_lease_is_wanted_where_there_is_no_right_and_takes_the_place_of_what_was_seen() {
        let wants = [
            (Storable::Nothing, Some(None)),
            (Storable::Outdated(FENCE), Some(Some(FENCE))),
            (Storable::Foreign(None), Some(None)),
            (Storable::Foreign(Some(FENCE)), Some(Some(FENCE))),
            (LEASE, None),
            (Storable::Sealed(Seal::Plain), None),
        ];
        for (storable, over) in wants {
            assert_eq!(storable.wants_a_lease().then(|| storable.over()), over, "{storable:?}");
        }
    }

    #[test]
    fn only_nothing_or_what_is_over_is_filled_by_a_stamp() {
        let stamp = |over| Some(Right::Stamp { stamp: 9, over });
        let go = [
            (Storable::Nothing, stamp(None)),
            (Storable::Outdated(FENCE), stamp(Some(FENCE))),
            (Storable::Foreign(Some(FENCE)), None),
            (LEASE, Some(Right::Lease(FENCE))),
        ];
        for (mut storable, right) in go {
            storable.go_by_stamp(9);
            assert_eq!(storable.right(), right, "{storable:?}");
        }
    }

    #[test]
    fn without_a_lease_only_a_record_with_a_fence_gives_a_right() {
        let go = [
            (Storable::Nothing, None),
            (Storable::Foreign(None), None),
            (Storable::Outdated(FENCE), Some(Right::Record(FENCE))),
            (LEASE, Some(Right::Lease(FENCE))),
        ];
        for (mut storable, right) in go {
            storable.go_without_lease();
            assert_eq!(storable.right(), right, "{storable:?}");
        }
    }
}
