//! What the examples show, they have to show in every run.

#[path = "../../examples/quorum_register.rs"]
mod quorum_register;
#[path = "../../examples/uniqueness.rs"]
mod uniqueness;

#[test]
fn a_quorum_register_is_no_linearizable_storage() {
    quorum_register::main().unwrap();
}

#[test]
fn a_name_is_given_out_by_the_log_and_not_by_time_stamps() {
    uniqueness::main().unwrap();
}
