//! The conformance suites of the store traits, beside the traits: every backend passes them unchanged, with one macro call
//! ([`dataset_conformance`](crate::dataset_conformance), [`rollup_cache_conformance`](crate::rollup_cache_conformance),
//! [`best_effort_conformance`](crate::best_effort_conformance)). Wrappers of a store run through them too.
//!
//! A suite makes everything it reads, in stores that its factory made fresh, so that tests may run at the same time on one
//! server. What a backend lacks is said in the macro call (`token_reuse: no`); in place of the properties that do not apply
//! there is then one test by name that holds the backend to having said the same in its capabilities.

pub mod best_effort;
pub mod event_store;
mod fixtures;
pub mod rollup_cache;
pub mod rollup_store;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{BestEffortStore, EventStore, RollupCache, RollupStore};

/// The two stores of one dataset.
#[derive(Clone)]
pub struct Dataset {
    /// Its events.
    pub events: Arc<dyn EventStore>,
    /// Its rollup rows.
    pub rollups: Arc<dyn RollupStore>,
}

impl Dataset {
    /// The dataset of a backend whose handle is both stores.
    pub fn of<S: EventStore + RollupStore>(handle: S) -> Self {
        let handle = Arc::new(handle);
        Self { events: handle.clone(), rollups: handle }
    }
}

/// Makes a backend's datasets for the suites. It keeps alive whatever they live in.
#[async_trait]
pub trait DatasetFactory: Send + Sync {
    /// An empty dataset that shares nothing with any other.
    async fn fresh(&self) -> Dataset;

    /// Closes the stores that `dataset` lives in and opens them again, as a restart would. Only asked of backends that the
    /// macro call declares `durable: yes`.
    async fn reopen(&self, dataset: Dataset) -> Dataset;
}

/// Makes a backend's rollup caches for the suite.
#[async_trait]
pub trait RollupCacheFactory: Send + Sync {
    /// How long entries of its caches live.
    const EXPIRY: Duration;

    /// A cache that shares nothing with any other, or one shared by all: the suite's names are its own.
    async fn fresh(&self) -> Arc<dyn RollupCache>;

    /// Returns when the caches have seen `span` pass: at once where their clock can be set.
    async fn pass(&self, span: Duration);
}

/// Makes a backend's best-effort stores for the suite.
#[async_trait]
pub trait BestEffortFactory: Send + Sync {
    /// A store that shares nothing with any other, or one shared by all: the suite's names are its own.
    async fn fresh(&self) -> Arc<dyn BestEffortStore>;

    /// Returns when the stores have seen `span` pass: at once where their clock can be set.
    async fn pass(&self, span: Duration);
}

/// One `#[tokio::test]` for each property named, each with a factory of its own. The attributes go on every one of them, as
/// `#[ignore = "needs a server"]` would.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ([$($attribute:tt)*] $factory:expr => $($suite:ident)::+ { $($property:ident),* $(,)? }) => {
        $crate::conformance_tests! { @each [$($attribute)*] [$factory] [$($suite)::+] $($property)* }
    };
    (@each $attributes:tt $factory:tt $suite:tt $($property:ident)*) => {
        $( $crate::conformance_tests! { @one $attributes $factory $suite $property } )*
    };
    (@one [$($attribute:tt)*] [$factory:expr] [$($suite:ident)::+] $property:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $($attribute)*
        async fn $property() {
            let factory = $factory;
            $crate::store::conformance::$($suite)::+::$property(&factory).await;
        }
    };
}

/// The suites of [`EventStore`](crate::store::EventStore) and [`RollupStore`](crate::store::RollupStore), as tests of the
/// module it is called in. Attributes at the end go on every test:
///
/// ```text
/// dataset_conformance! { MyFactory::new().await; token_reuse: yes; behind_boundary: yes; durable: no; #[ignore = "why"] }
/// ```
#[macro_export]
macro_rules! dataset_conformance {
    ($factory:expr; token_reuse: $reuse:ident; behind_boundary: $boundary:ident; durable: $durable:ident $(; $(#[$attribute:meta])+)?) => {
        $crate::conformance_tests! { [$($(#[$attribute])+)?] $factory => event_store::append {
            an_event_appended_twice_is_there_once,
            results_stand_in_the_order_of_the_appends,
            any_delta_and_a_clear_come_back_as_they_were,
            what_is_acknowledged_is_in_every_later_scan,
            the_same_event_appended_by_many_at_once_is_there_once,
        } }
        $crate::conformance_tests! { [$($(#[$attribute])+)?] $factory => event_store::scan {
            pages_of_any_size_hold_every_event_once_newest_first,
            bounds_exclude_after_and_include_through,
            an_add_comes_before_the_clear_of_a_later_token_at_the_same_time,
            event_times_before_the_epoch_order_as_numbers,
            partitions_are_apart,
            odd_names_and_tokens_never_meet,
        } }
        $crate::conformance_tests! { [$($(#[$attribute])+)?] $factory => event_store::slices {
            the_first_record_of_a_start_wins,
            a_state_never_goes_back,
            a_slice_that_was_never_created_is_missing_not_empty,
            a_dropped_slice_is_missing_and_its_neighbours_are_not,
            a_dropped_slice_stays_dropped_when_it_is_created_again,
            a_closed_slice_is_still_read,
            slices_made_by_many_at_once_are_all_there,
            datasets_are_apart,
        } }
        $crate::conformance_tests! { [$($(#[$attribute])+)?] $factory => rollup_store::rows {
            a_counter_without_writes_has_no_row,
            touches_keep_the_latest_and_the_earliest_time,
            a_touch_of_nothing_changes_no_bound,
            the_greater_checkpoint_wins_whatever_the_order,
            at_equal_times_the_greater_count_wins,
            checkpoints_and_touches_leave_each_other_alone,
            counts_and_times_of_any_size_come_back,
            concurrent_touches_and_checkpoints_end_at_their_extremes,
            rows_of_odd_names_never_meet,
            rows_of_two_datasets_are_apart,
        } }
        $crate::conformance_tests! { [$($(#[$attribute])+)?] $factory => rollup_store::listing {
            an_empty_dataset_lists_nothing,
            pages_of_any_size_hold_every_row_once,
            shares_are_disjoint_and_complete,
            rows_written_during_a_listing_do_not_disturb_it,
        } }
        $crate::dataset_conformance! { @token_reuse $reuse [$($(#[$attribute])+)?] $factory }
        $crate::dataset_conformance! { @behind_boundary $boundary [$($(#[$attribute])+)?] $factory }
        $crate::dataset_conformance! { @durable $durable [$($(#[$attribute])+)?] $factory }
    };
    (@token_reuse yes $attributes:tt $factory:expr) => {
        $crate::conformance_tests! { $attributes $factory => event_store::refusals {
            claims_to_detect_token_reuse,
            a_token_with_another_delta_is_refused_and_changes_nothing,
            a_token_with_another_operation_is_refused_and_changes_nothing,
            a_token_reused_within_one_call_is_refused,
            of_many_different_writes_of_one_token_one_wins,
            a_token_of_another_counter_or_time_is_another_token,
        } }
    };
    (@token_reuse no $attributes:tt $factory:expr) => {
        $crate::conformance_tests! { $attributes $factory => event_store::refusals {
            does_not_claim_to_detect_token_reuse,
        } }
    };
    (@behind_boundary yes $attributes:tt $factory:expr) => {
        $crate::conformance_tests! { $attributes $factory => event_store::refusals {
            claims_to_refuse_behind_the_boundary,
            events_at_or_before_the_highest_checkpoint_are_refused,
            a_checkpoint_that_did_not_win_still_raises_the_boundary,
            no_event_is_accepted_behind_a_checkpoint_that_races_it,
        } }
    };
    (@behind_boundary no $attributes:tt $factory:expr) => {
        $crate::conformance_tests! { $attributes $factory => event_store::refusals {
            does_not_claim_to_refuse_behind_the_boundary,
        } }
    };
    (@durable yes $attributes:tt $factory:expr) => {
        $crate::conformance_tests! { $attributes $factory => event_store::durability {
            events_and_slices_are_there_after_a_restart,
            tokens_and_the_boundary_are_remembered_as_claimed_after_a_restart,
            a_drop_survives_a_restart,
        } }
        $crate::conformance_tests! { $attributes $factory => rollup_store::durability {
            rows_are_there_after_a_restart,
            a_listing_goes_on_after_a_restart,
        } }
    };
    (@durable no $attributes:tt $factory:expr) => {};
}

/// The suite of [`RollupCache`](crate::store::RollupCache), as tests of the module it is called in.
#[macro_export]
macro_rules! rollup_cache_conformance {
    ($factory:expr $(; $(#[$attribute:meta])+)?) => {
        $crate::conformance_tests! { [$($(#[$attribute])+)?] $factory => rollup_cache {
            what_was_never_offered_is_absent,
            what_is_offered_is_there,
            only_a_greater_checkpoint_replaces,
            racing_offers_end_with_the_greatest_and_readers_never_see_one_go_back,
            entries_expire,
            an_expired_entry_no_longer_outranks_an_offer,
            cached_odd_names_never_meet,
            cached_counts_and_times_of_any_size_come_back,
        } }
    };
}

/// The suite of [`BestEffortStore`](crate::store::BestEffortStore), as tests of the module it is called in.
#[macro_export]
macro_rules! best_effort_conformance {
    ($factory:expr $(; $(#[$attribute:meta])+)?) => {
        $crate::conformance_tests! { [$($(#[$attribute])+)?] $factory => best_effort {
            a_counter_never_added_to_is_absent,
            adds_accumulate_and_answer_the_new_count,
            counts_go_negative_and_come_back,
            counts_wrap_around_at_the_ends_of_64_bits,
            concurrent_adds_all_count,
            a_cleared_counter_is_absent_and_starts_anew,
            clearing_what_is_absent_is_fine,
            a_counter_lives_from_its_creation_not_from_its_last_add,
            best_effort_odd_names_never_meet,
        } }
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_property_of_a_suite_is_in_its_macros_list() {
        let lists = include_str!("conformance.rs");
        let suites = [
            include_str!("conformance/best_effort.rs"),
            include_str!("conformance/event_store/append.rs"),
            include_str!("conformance/event_store/durability.rs"),
            include_str!("conformance/event_store/refusals.rs"),
            include_str!("conformance/event_store/scan.rs"),
            include_str!("conformance/event_store/slices.rs"),
            include_str!("conformance/rollup_cache.rs"),
            include_str!("conformance/rollup_store/durability.rs"),
            include_str!("conformance/rollup_store/listing.rs"),
            include_str!("conformance/rollup_store/rows.rs"),
        ];
        let declared =
            suites.iter().flat_map(|suite| suite.lines()).filter_map(|line| line.strip_prefix("pub async fn "));
        let mut count = 0;
        for name in declared.filter_map(|rest| rest.split(['(', '<']).next()) {
            count += 1;
            assert!(lists.contains(&format!("            {name},\n")), "{name} runs for no backend");
        }
        assert!(count > 50, "the suites have moved: only {count} properties found");
    }
}
