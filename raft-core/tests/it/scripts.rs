//! Runs every file of `tests/scripts`. `UPDATE_GOLDENFILES=1 cargo test -p raft-core` writes what
//! comes out; read the diff before you believe it.

use goldenscript::{Argument as Golden, Command, Context, Runner};
use raft_core::testing::{Argument, Script};
use std::error::Error;
use std::path::Path;

struct ScriptRunner(Script);

impl Runner for ScriptRunner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let arguments: Vec<Argument> = command
            .args
            .iter()
            .map(|argument| match argument {
                Golden::Positional(value) => Argument::Positional(value.clone()),
                Golden::KeyValue(key, value) => Argument::Keyed(key.clone(), value.clone()),
                other => panic!("unknown argument {other}"),
            })
            .collect();
        Ok(self.0.run(&command.name, &arguments)?)
    }
}

/// The text of a script.
pub(crate) fn text(name: &str) -> String {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    std::fs::read_to_string(scripts.join(format!("{name}.txt"))).expect("a script")
}

/// One test per file, and a list of the files.
macro_rules! scripts {
    ($($name:ident)*) => {
        /// Every script that is run.
        pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
                let path = scripts.join(concat!(stringify!($name), ".txt"));
                goldenscript::run(&mut ScriptRunner(Script::new()), path).expect("the script runs");
            }
        )*
    };
}

scripts! {
    append_ack_is_durable
    append_conflict_back_off
    append_late_and_doubled
    append_lost_in_full_window
    append_message_limit
    append_pipeline
    append_prev_below_boundary
    append_replaced_after_its_write
    append_stale_suffix_not_committed
    append_truncate
    append_window
    append_window_bytes
    commit_after_its_leader
    commit_figure_8
    commit_leader_disk
    commit_needs_quorum
    commit_two_halves
    compaction_trailing
    compaction_trailing_entries
    compaction_waits_for_snapshot
    election_candidate_steps_down
    election_check_quorum
    election_clock_jumps
    election_crash_before_vote_is_durable
    election_higher_term_deposes
    election_hint
    election_hint_both
    election_hint_early
    election_hint_false
    election_hint_five
    election_hint_lease
    election_hint_lease_untold
    election_hint_longer_log
    election_hint_no_candidate
    election_hint_priority
    election_hint_unanswered
    election_leader_completeness
    election_leader_hears_nobody
    election_leader_stickiness
    election_longer_log_lower_term
    election_one_vote_a_term
    election_pre_vote_isolated
    election_priority
    election_rejoin_with_higher_term
    election_request_waits_for_own_vote
    election_restarted_leader
    election_restoring_node_votes
    election_simple
    election_single_node
    election_split_vote
    election_up_to_date
    election_vote_kept_within_a_term
    formation
    formation_crash_after_founding
    formation_crash_of_the_founder
    formation_founder_is_lost
    formation_hello_to_an_earlier_life
    formation_needs_everyone
    formation_restart
    formation_single_node
    formation_sole_founder_is_wiped
    heartbeat_overtakes
    lease
    lease_restarted_voter
    life_that_does_not_answer
    life_wiped_voter
    membership_add_voter
    membership_joint_needs_both
    membership_leave_after_crash
    membership_not_before_own_term
    membership_observer
    membership_one_at_a_time
    membership_remove_follower
    membership_remove_leader
    membership_truncated
    membership_version
    overload_compacts_without_flush
    overload_follower
    overload_full_log_takes_noop
    overload_inherited_entries
    overload_refused_at_the_door
    read_follower
    read_leader
    read_old_ack_not_counted
    read_paused_leader
    read_retry_has_new_id
    read_stale_leader
    read_waits_for_own_term
    restart_after_truncation
    restart_applies_nothing_twice
    restart_recovers
    snapshot_crash_before_reset
    snapshot_crash_before_term
    snapshot_failed
    snapshot_keeps_suffix
    snapshot_lagging_follower
    snapshot_of_a_deposed_leader
    snapshot_older_after_newer
    snapshot_stale_and_doubled
    transfer
    transfer_catches_up_first
    transfer_disk_stalled
    transfer_late_request
    transfer_not_if_all_disks_stall
    transfer_times_out
    transfer_to_priority
}
