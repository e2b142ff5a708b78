//! How long a trip takes.

use std::time::Duration;

use mastaba::Fault;

/// The first trips show what a connection costs.
const WARM_UP: u32 = 5;

/// How long trips took, the shortest first; nothing where nobody answers, or the user may not ping.
pub(super) struct Trips(Vec<Duration>);

impl Trips {
    /// Pings so many times.
    pub(super) async fn take<F>(pings: u32, mut ping: impl FnMut() -> F) -> Self
    where
        F: Future<Output = Result<Vec<Duration>, Fault>>,
    {
        let mut all = Vec::new();
        for number in 0..pings + WARM_UP {
            let Ok(took) = ping().await else { return Self(Vec::new()) };
            if number >= WARM_UP {
                all.extend(took);
            }
        }
        all.sort_unstable();
        Self(all)
    }

    /// In microseconds.
    pub(super) fn percentile(&self, percent: usize) -> Option<u64> {
        let at = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(at).map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_trips() {
        let trips = Trips((1..=200).map(Duration::from_micros).collect());
        assert_eq!([50, 99, 100].map(|percent| trips.percentile(percent)), [100, 198, 200].map(Some));
        assert_eq!(Trips(trips.0[..1].to_vec()).percentile(99), Some(1));
        assert_eq!(Trips(Vec::new()).percentile(50), None);
    }
}
