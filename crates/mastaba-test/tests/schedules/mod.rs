//! The schedules that break a protocol which lacks one of the rules, step by step through the public interface and over
//! any backend.
//!
//! A model checker of the protocol found each of them as the shortest one; it is named after its row there. Processes are
//! caches over one store: one reads, two write. What has to stand still waits at a gate.

pub(crate) mod rows;
mod stage;
pub(crate) mod unleased;

use std::time::Duration;

use mastaba::shared::Shared;

/// Where the processes of a schedule meet.
pub(crate) trait Store {
    type Backend: Shared;

    /// One more process at a place. What is stored at one place is not seen at another one.
    async fn connect(&self, place: usize) -> Self::Backend;

    /// Whether it can lose what is stored while it is open.
    const FORGETS: bool;

    /// For how much longer it may keep what is to expire.
    const LINGERS: Duration = Duration::ZERO;

    /// Loses everything that is stored at a place.
    async fn forget(&self, place: usize);
}

/// No schedule takes so long.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Makes a test of each row, over the store that an expression opens: nothing where its server is not installed. With the
/// name of a test before it, all rows become that one.
macro_rules! every_row {
    ($(as $test:ident,)? $open:expr) => {
        $crate::schedules::every_row! {
            @ $($test)? { $open }
            [rows:
                a1_a_fill_replaces_nothing_that_came_after_an_invalidation
                a4_a_fill_is_not_stored_where_nothing_stands
                a6_a_fill_is_refused_when_what_voided_its_lease_is_gone_too
                b5_what_an_older_transaction_reads_is_not_stored
                c3r_a_hold_whose_commit_may_still_come_is_not_released
                c5_what_was_stored_in_the_place_of_a_lost_hold_is_void_when_the_write_is_acknowledged
                c6_each_of_two_writers_ends_its_own_hold
                a_hold_is_renewed_for_as_long_as_its_transaction_is_open
                c7u_a_rollback_brings_nothing_back_after_the_commit_of_another_writer
                n1_an_inner_object_is_voided_before_what_is_derived_from_it
                n4_holds_over_inner_and_derived_objects_may_end_in_any_order
                n6_what_a_request_remembers_is_not_stored_in_what_is_derived_from_it]
            [unleased:
                v1_a_cheap_load_goes_without_a_lease_and_is_stored
                v4_what_was_voided_since_the_read_is_not_stored
                o13r_what_a_relay_has_voided_since_the_read_is_not_stored
                v5_stamps_that_are_gone_and_made_anew_are_others
                v5m_without_a_stamp_a_load_takes_a_lease
                u2_a_fill_carries_the_stamps_of_its_read
                m2_what_is_derived_from_what_was_voided_is_not_stored
                pv1n_a_hold_renews_the_stamp_before_commit
                v9n_the_end_of_a_hold_renews_the_stamp
                v10_a_late_reader_joins_what_was_stored_and_nothing_else]
        }
    };
    (@ { $open:expr } $([$module:ident: $($row:ident)*])*) => {
        $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $row() {
            let Some(store) = $open.await else { return };
            let row = crate::schedules::$module::$row(&store);
            tokio::time::timeout(crate::schedules::LIMIT, row).await.expect(stringify!($row));
        })*)*
    };
    (@ $test:ident { $open:expr } $([$module:ident: $($row:ident)*])*) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let Some(store) = $open.await else { return };
            $($(
                let row = crate::schedules::$module::$row(&store);
                tokio::time::timeout(crate::schedules::LIMIT, row).await.expect(stringify!($row));
            )*)*
        }
    };
}
pub(crate) use every_row;
