//! What every backend of the shared tier has to do: a suite for the authors of backends.
//!
//! ```
//! use mastaba::shared::memory::Memory;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! mastaba_test::conformance::run(|| async { Memory::default() }).await;
//! # });
//! ```
//!
//! Each check gets a store from the closure and keys that nobody else has, so that all checks may run against
//! one server. The checks need a real clock: some wait until a short time to live is over. Those on holds are
//! left out where [`Abilities::holds`](mastaba::shared::Abilities::holds) of the store is false, and those on fills without a lease pass
//! where [`Shared::stamps`] is.

mod fills;
mod holds;
mod model;
mod races;
mod reads;
mod stamps;
mod trial;
mod unleased;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mastaba::shared::Shared;

use self::trial::Trial;

/// How long one check may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The check.
    pub check: &'static str,
    /// What was seen.
    pub sentence: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.sentence)
    }
}

macro_rules! checks {
    ($($module:ident { $($name:ident),* $(,)? })*) => {
        /// The names of all checks, in the order in which they run.
        pub const CHECKS: &[&str] = &[$($(stringify!($name)),*),*];

        const ABOUT_HOLDS: &[(&str, bool)] =
            &[$($((stringify!($name), trial::about_holds(stringify!($module), stringify!($name)))),*),*];

        async fn one<B: Shared>(name: &str, trial: &Trial<B>) -> Result<(), String> {
            match name {
                $($(stringify!($name) => $module::$name(trial).await,)*)*
                _ => Err("there is no such check".to_owned()),
            }
        }
    };
}

checks! {
    reads {
        a_missing_key_is_none,
        empty_calls_have_empty_answers,
        answers_come_in_the_order_of_the_keys,
        a_key_may_be_asked_for_twice,
        keys_and_payloads_may_be_any_bytes,
        a_thousand_keys_travel_together,
        large_values_come_back_whole,
        a_value_expires,
        a_lease_expires,
    }
    fills {
        a_lease_is_granted_once,
        a_lease_finds_the_value_that_is_there,
        a_lease_replaces_only_the_record_that_it_is_over,
        a_fill_on_its_lease_is_stored,
        an_absence_is_stored,
        a_fill_under_another_fence_is_refused,
        a_fill_on_nothing_is_refused,
        the_same_fill_again_is_refused,
        a_value_is_refreshed_under_its_own_fence,
        a_fill_of_another_incarnation_is_refused,
        each_fill_of_a_batch_has_its_own_answer,
        an_invalidation_removes_values,
        an_invalidation_voids_leases,
        a_fill_from_before_an_invalidation_never_meets_a_later_lease,
    }
    stamps {
        a_missing_stamp_becomes_the_one_given,
        a_stamp_is_read_like_a_record,
        stamps_are_answered_in_order_beside_leases,
        an_invalidation_sets_stamps,
        a_stamp_expires,
    }
    holds {
        a_hold_refuses_leases_and_fills,
        a_hold_voids_the_lease,
        an_end_removes_only_its_own_hold,
        an_end_without_a_hold_is_gone,
        a_commit_restores_nothing,
        a_rollback_restores_what_was_kept,
        a_refresh_from_before_the_hold_does_not_meet_the_restored_value,
        a_hold_that_keeps_nothing_restores_nothing,
        a_rollback_after_another_commit_restores_nothing,
        an_invalidation_under_a_hold_forgets_what_was_kept,
        a_hold_expires,
        nothing_comes_back_after_a_hold_expired,
        a_late_commit_voids_what_came_since,
        a_late_rollback_leaves_alone_what_came_since,
    }
    unleased {
        a_record_of_stamps_is_made_once_and_says_something_of_every_key,
        a_record_of_another_length_or_with_a_zero_is_made_anew,
        a_fill_without_a_lease_is_stored_where_nothing_stands,
        a_fill_without_a_lease_replaces_only_the_record_that_the_read_saw,
        a_fill_under_another_stamp_or_none_is_refused,
        an_invalidation_renews_the_stamps_of_its_keys_and_no_other,
        an_invalidation_removes_what_is_no_record_of_stamps,
        each_fill_of_a_batch_without_leases_has_its_own_answer,
        a_fill_without_a_lease_of_another_incarnation_is_refused,
        no_fill_without_a_lease_survives_an_invalidation_at_the_same_time,
        a_hold_and_the_end_of_a_commit_renew_the_stamp,
    }
    races {
        of_fifty_leases_one_is_granted,
        of_fifty_fills_under_one_fence_one_is_stored,
        fifty_askers_of_a_missing_stamp_get_the_same,
        no_fill_survives_an_invalidation_at_the_same_time,
        twenty_holds_at_the_same_time_all_count,
    }
    model {
        random_operations_do_what_the_transitions_say,
        random_operations_with_holds_do_what_the_transitions_say,
    }
}

/// Runs all checks.
///
/// # Panics
///
/// With the names of the checks that failed, and what they saw.
pub async fn run<B, F, Fut>(make: F)
where
    B: Shared,
    F: Fn() -> Fut,
    Fut: Future<Output = B>,
{
    let failures = failures(make).await;
    let lines: Vec<_> = failures.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "the backend {} does not conform:\n{}", B::ABILITIES.name, lines.join("\n"));
}

/// Runs all checks and says which failed.
pub async fn failures<B, F, Fut>(make: F) -> Vec<Failure>
where
    B: Shared,
    F: Fn() -> Fut,
    Fut: Future<Output = B>,
{
    let mut failures = Vec::new();
    if !B::ABILITIES.stores {
        let sentence = "it keeps nothing, so there is nothing to check".to_owned();
        return vec![Failure { check: "abilities", sentence }];
    }
    for (check, about_holds) in ABOUT_HOLDS.iter().copied() {
        let store = Arc::new(make().await);
        if about_holds && !store.abilities().holds {
            continue;
        }
        let trial = Trial::new(store, check);
        let outcome = tokio::time::timeout(LIMIT, one(check, &trial)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(format!("it did not end within {LIMIT:?}")));
        if let Err(sentence) = outcome {
            failures.push(Failure { check, sentence });
        }
    }
    failures
}
