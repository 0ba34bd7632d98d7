//! What the examples show, they have to show in every run.
// Each example has the module that they share for itself.
#![allow(clippy::duplicate_mod)]

#[path = "../../examples/broadcast_from_counter.rs"]
mod broadcast_from_counter;
#[path = "../../examples/election.rs"]
mod election;
#[path = "../../examples/lock.rs"]
mod lock;
#[path = "../../examples/queue.rs"]
mod queue;
#[path = "../../examples/quorum_register.rs"]
mod quorum_register;
#[path = "../../examples/secondary_index.rs"]
mod secondary_index;
#[path = "../../examples/storage_from_broadcast.rs"]
mod storage_from_broadcast;
#[path = "../../examples/uniqueness.rs"]
mod uniqueness;
#[path = "../../examples/watch_cache.rs"]
mod watch_cache;

#[test]
fn a_counter_makes_a_total_order() {
    broadcast_from_counter::main().unwrap();
}

#[test]
fn one_candidate_leads_at_a_time() {
    election::main().unwrap();
}

#[test]
fn a_lock_is_safe_even_for_those_who_have_lost_it() {
    lock::main().unwrap();
}

#[test]
fn every_item_is_worked_off_once() {
    queue::main().unwrap();
}

#[test]
fn a_quorum_register_is_no_linearizable_storage() {
    quorum_register::main().unwrap();
}

#[test]
fn an_index_agrees_with_the_data_at_every_revision() {
    secondary_index::main().unwrap();
}

#[test]
fn a_total_order_makes_linearizable_storage_if_reads_take_care() {
    storage_from_broadcast::main().unwrap();
}

#[test]
fn a_name_is_given_out_by_the_log_and_not_by_time_stamps() {
    uniqueness::main().unwrap();
}

#[test]
fn a_cache_shows_every_change_once() {
    watch_cache::main().unwrap();
}
