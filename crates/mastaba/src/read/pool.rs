//! What several sources ask of one trip, and which part of it each asked.

use std::ops::Range;

use smallvec::SmallVec;

use super::OnTheWay;

/// Gathered before the trip, and scattered after it.
pub(super) struct Pool<T> {
    /// What all of them ask.
    pub(super) asks: Vec<T>,
    /// The tags of the sources that take part, each once.
    pub(super) tags: Vec<&'static str>,
    /// Whose is what.
    pub(super) shares: Shares,
}

/// For each claim, if it takes part, where what it asked stands.
pub(super) struct Shares(SmallVec<[Option<Range<usize>>; 4]>);

impl<T> Pool<T> {
    /// Has each claim add what it asks, and say whether it takes part: that it does even if it asks nothing.
    pub(super) fn gather<C, D>(claims: &mut [C], mut ask: impl FnMut(&mut D, &mut Vec<T>) -> bool) -> Self
    where
        C: std::ops::DerefMut<Target = D>,
        D: OnTheWay + ?Sized,
    {
        let (mut asks, mut tags, mut shares) = (Vec::new(), Vec::<&'static str>::new(), SmallVec::new());
        for claim in claims {
            let from = asks.len();
            let takes_part = ask(&mut **claim, &mut asks);
            if takes_part {
                tags.extend(claim.tags());
            }
            shares.push(takes_part.then_some(from..asks.len()));
        }
        Self { asks, tags: distinct(tags), shares: Shares(shares) }
    }
}

impl Shares {
    /// Whether nobody takes part.
    pub(super) fn are_none(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Gives each claim that takes part what came of its share.
    pub(super) fn scatter<C, D>(self, claims: &mut [C], mut give: impl FnMut(&mut D, Range<usize>))
    where
        C: std::ops::DerefMut<Target = D>,
        D: ?Sized,
    {
        for (claim, share) in claims.iter_mut().zip(self.0) {
            if let Some(share) = share {
                give(&mut **claim, share);
            }
        }
    }
}

/// Each once.
pub(super) fn distinct<T: Ord>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.into_iter().collect();
    all.sort_unstable();
    all.dedup();
    all
}
