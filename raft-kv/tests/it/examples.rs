//! What the examples show, they have to show in every run.
// Each example has the module that they share for itself.
#![allow(clippy::duplicate_mod)]

/// An example is a module, and its `main` a test.
macro_rules! shows {
    ($($example:ident $path:literal $claim:ident)*) => {$(
        #[path = $path]
        mod $example;

        #[test]
        fn $claim() {
            $example::main().unwrap();
        }
    )*};
}

shows! {
    broadcast_from_counter "../../examples/broadcast_from_counter.rs"
        a_counter_makes_a_total_order
    election "../../examples/election.rs"
        one_candidate_leads_at_a_time
    lock "../../examples/lock.rs"
        a_lock_is_safe_even_for_those_who_have_lost_it
    queue "../../examples/queue.rs"
        every_item_is_worked_off_once
    quorum_register "../../examples/quorum_register.rs"
        a_quorum_register_is_no_linearizable_storage
    storage_from_broadcast "../../examples/storage_from_broadcast.rs"
        a_total_order_makes_linearizable_storage_if_reads_take_care
    uniqueness "../../examples/uniqueness.rs"
        a_name_is_given_out_by_the_log_and_not_by_time_stamps
    watch_cache "../../examples/watch_cache.rs"
        a_cache_shows_every_change_once
}
