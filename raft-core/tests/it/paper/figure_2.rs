//! The paper's figure 2: state, the two requests, the rules for servers.
//!
//! Where it says candidate, a node first asks whether it would be elected (thesis §9.6); the rules
//! for candidates begin once a majority said so.

use super::{
    Alone, ELECTION_MAX, ELECTION_MIN, HEARTBEAT, N1, N2, N3, cluster, command, ids, loaded, raft,
    tick_all,
};
use raft_core::raft::{AppendOutcome, Message, Raft};
use raft_core::types::{HardState, Index, LogId, SnapshotMeta, Term};

const NOTHING: [&str; 0] = [];

// State.

/// What a node promises is on its disk before it answers a request.
#[test]
fn figure_2_state_is_durable_before_the_answer() {
    let mut node = Alone::new(&[(1, 1)], 1);
    node.request_vote(N2, 2, LogId::new(1, 1));
    assert_eq!(node.sent(), NOTHING);
    node.persist();
    assert_eq!(node.sent(), ["n2 RequestVoteResponse granted"]);

    node.append(N2, 2, LogId::new(1, 1), &[(2, 2)], 0);
    assert_eq!(node.sent(), NOTHING);
    node.persist();
    assert_eq!(node.sent(), ["n2 AppendEntriesResponse matched=2"]);
}

/// `currentTerm` is 0 on first boot and only rises.
#[test]
fn figure_2_state_current_term_only_rises() {
    let blank = Alone::load(loaded(&[], HardState::default()), 1);
    assert_eq!(blank.raft.term(), Term(0));

    let mut node = Alone::new(&[(1, 1)], 3);
    node.append(N2, 2, LogId::new(1, 1), &[], 0);
    node.request_vote(N2, 1, LogId::new(1, 1));
    assert_eq!(node.raft.term(), Term(3));
    node.append(N2, 5, LogId::new(1, 1), &[], 0);
    assert_eq!(node.raft.term(), Term(5));
}

/// `votedFor` is null in a new term, and then one candidate for the whole of it.
#[test]
fn figure_2_state_voted_for_is_of_the_current_term() {
    let mut node = Alone::new(&[(1, 1)], 1);
    assert_eq!(node.status().vote, None);
    node.request_vote(N2, 2, LogId::new(1, 1));
    assert_eq!(node.status().vote, Some(N2));
    // The leader of the term turns out to be another: the vote stays what it was.
    node.append(N3, 2, LogId::new(1, 1), &[], 0);
    assert_eq!(node.status().vote, Some(N2));
    node.append(N3, 3, LogId::new(1, 1), &[], 0);
    assert_eq!(node.status().vote, None);
}

/// The first entry of `log[]` has index 1.
#[test]
fn figure_2_state_log_begins_at_1() {
    let mut node = Alone::load(loaded(&[], HardState::default()), 1);
    node.append(N2, 1, LogId::ZERO, &[(1, 1)], 0);
    assert_eq!(node.log(), ids(&[(1, 1)]));
}

/// `commitIndex` begins at 0 and never falls.
#[test]
fn figure_2_state_commit_index_only_rises() {
    let mut node = Alone::new(&[(1, 1), (2, 1)], 1);
    assert_eq!(node.raft.commit_index(), Index(0));
    node.append(N2, 1, LogId::new(2, 1), &[], 2);
    assert_eq!(node.raft.commit_index(), Index(2));
    node.append(N2, 1, LogId::new(2, 1), &[], 1);
    node.append(N3, 2, LogId::new(2, 1), &[], 0);
    assert_eq!(node.raft.commit_index(), Index(2));
}

/// `lastApplied` begins at 0 and rises with each entry: none is applied twice or left out.
#[test]
fn figure_2_state_last_applied_counts_every_entry_once() {
    let mut node = Alone::new(&[(1, 1), (2, 1), (3, 1)], 1);
    assert_eq!(node.status().handed_index, Index(0));
    for commit in [1, 1, 3, 2] {
        node.append(N2, 1, LogId::new(3, 1), &[], commit);
    }
    assert_eq!(node.applied, ids(&[(1, 1), (2, 1), (3, 1)]));
    assert_eq!(node.status().handed_index, Index(3));
}

/// A new leader's `nextIndex` is the index after its last entry, for everyone.
#[test]
fn figure_2_state_next_index_begins_behind_the_log() {
    let node = Alone::leader(&[(1, 1), (2, 1), (3, 1)], 1);
    // Entry 4 is what the leader's own term begins with.
    assert_eq!((node.progress(N2).1, node.progress(N3).1), (4, 4));
}

/// A new leader's `matchIndex` is 0 for everyone, and never falls.
#[test]
fn figure_2_state_match_index_begins_at_0_and_only_rises() {
    let mut node = Alone::leader(&[(1, 1), (2, 1), (3, 1)], 1);
    assert_eq!((node.progress(N2).0, node.progress(N3).0), (0, 0));
    node.matched(N2, 3);
    assert_eq!(node.progress(N2).0, 3);
    node.matched(N2, 2);
    assert_eq!(node.progress(N2).0, 3);
}

// AppendEntries, what the receiver does.

/// Rule 1: An append of an older term is refused.
#[test]
fn figure_2_append_entries_1_refuses_a_stale_term() {
    let mut node = Alone::new(&[(1, 1)], 3);
    node.append(N2, 2, LogId::new(1, 1), &[(2, 2)], 1);
    // The answer carries the newer term, so that the sender steps down.
    assert_eq!(node.sent[0].term, Term(3));
    assert_eq!(node.sent(), ["n2 AppendEntriesResponse conflict=1 hint=1@1"]);
    assert_eq!(node.log(), ids(&[(1, 1)]));
    assert_eq!(node.raft.commit_index(), Index(0));
    assert_eq!(node.raft.leader(), None);
}

/// Rule 2: An append is refused unless the log holds the entry before it, of the same term.
#[test]
fn figure_2_append_entries_2_refuses_what_does_not_follow() {
    let mut node = Alone::new(&[(1, 1), (2, 1)], 2);
    // No entry 5 at all.
    node.append(N2, 2, LogId::new(5, 2), &[(6, 2)], 0);
    assert_eq!(node.sent(), ["n2 AppendEntriesResponse conflict=5 hint=2@1"]);
    // Entry 2 is of another term.
    node.append(N2, 2, LogId::new(2, 2), &[(3, 2)], 0);
    assert_eq!(node.sent(), ["n2 AppendEntriesResponse conflict=2 hint=1@1"]);
    assert_eq!(node.log(), ids(&[(1, 1), (2, 1)]));
}

/// Rule 3: An entry that conflicts with a new one, of the same index but another term, is deleted,
/// and all that follow it. One that does not conflict is not.
#[test]
fn figure_2_append_entries_3_deletes_what_conflicts() {
    let mut node = Alone::new(&[(1, 1), (2, 1), (3, 1), (4, 1)], 2);
    node.append(N2, 2, LogId::ZERO, &[(1, 1), (2, 1)], 0);
    assert_eq!(node.log(), ids(&[(1, 1), (2, 1), (3, 1), (4, 1)]));
    node.append(N2, 2, LogId::new(2, 1), &[(3, 2)], 0);
    assert_eq!(node.log(), ids(&[(1, 1), (2, 1), (3, 2)]));
}

/// Rule 4: Entries that are not in the log yet are appended, and only those.
#[test]
fn figure_2_append_entries_4_appends_what_is_new() {
    let mut node = Alone::new(&[(1, 1), (2, 1)], 1);
    node.append(N2, 1, LogId::ZERO, &[(1, 1), (2, 1), (3, 1), (4, 1)], 0);
    assert_eq!(node.log(), ids(&[(1, 1), (2, 1), (3, 1), (4, 1)]));
    let written: Vec<String> = node.writes.iter().map(ToString::to_string).collect();
    assert_eq!(written, ["#1 [3@1 4@1]"]);
    // Once more, as the network may have it: nothing is new.
    node.persist();
    node.append(N2, 1, LogId::ZERO, &[(1, 1), (2, 1), (3, 1), (4, 1)], 0);
    assert!(node.writes.is_empty());
}

/// Rule 5: The commit index follows the leader's, but not beyond the last entry the message vouches
/// for.
#[test]
fn figure_2_append_entries_5_commits_up_to_the_last_new_entry() {
    let mut node = Alone::new(&[(1, 1), (2, 1), (3, 1)], 2);
    // Entries 2 and 3 may be a stale suffix: the heartbeat says nothing of them.
    node.append(N2, 2, LogId::new(1, 1), &[], 3);
    assert_eq!(node.raft.commit_index(), Index(1));
    node.append(N2, 2, LogId::new(1, 1), &[(2, 2)], 9);
    assert_eq!(node.raft.commit_index(), Index(2));
    node.append(N2, 2, LogId::new(2, 2), &[(3, 2), (4, 2)], 3);
    assert_eq!(node.raft.commit_index(), Index(3));
}

// RequestVote, what the receiver does.

/// Rule 1: A candidate of an older term is refused.
#[test]
fn figure_2_request_vote_1_refuses_a_stale_term() {
    let mut node = Alone::new(&[(1, 1)], 3);
    node.request_vote(N2, 2, LogId::new(9, 2));
    assert_eq!(node.sent[0].term, Term(3));
    assert_eq!(node.sent(), ["n2 RequestVoteResponse refused"]);
    assert_eq!(node.status().vote, None);
}

/// Rule 2: The vote is granted if it is free or was this candidate's already ...
#[test]
fn figure_2_request_vote_2_grants_one_candidate_a_term() {
    let mut node = Alone::new(&[(1, 1)], 1);
    for (from, answer) in [(N2, "granted"), (N3, "refused"), (N2, "granted")] {
        node.request_vote(from, 2, LogId::new(1, 1));
        node.persist();
        assert_eq!(node.sent(), [format!("{from} RequestVoteResponse {answer}")]);
    }
}

/// Rule 2: ... and the candidate's log is at least as up-to-date: a later last term, or the same
/// and as long (§5.4.1).
#[test]
fn figure_2_request_vote_2_grants_an_up_to_date_log() {
    let cases = [
        ((9, 1), "refused"),
        ((1, 2), "refused"),
        ((2, 2), "granted"),
        ((3, 2), "granted"),
        ((1, 3), "granted"),
    ];
    for ((index, term), answer) in cases {
        let mut node = Alone::new(&[(1, 1), (2, 2)], 3);
        node.request_vote(N2, 4, LogId::new(index, term));
        node.persist();
        let expected = [format!("n2 RequestVoteResponse {answer}")];
        assert_eq!(node.sent(), expected, "of a candidate whose last entry is {index}@{term}");
    }
}

// Rules for servers: all servers.

/// Rule 1: While the commit index is beyond `lastApplied`, the next entry is applied.
#[test]
fn figure_2_all_servers_1_apply_what_is_committed() {
    let mut node = Alone::new(&[(1, 1), (2, 1), (3, 1)], 1);
    assert_eq!(node.applied, []);
    node.append(N2, 1, LogId::new(3, 1), &[], 2);
    assert_eq!(node.applied, ids(&[(1, 1), (2, 1)]));
}

/// Rule 2: A newer term, in a request or in an answer, is adopted, and makes its receiver a
/// follower. (But see thesis §4.2.3: a vote request is not, while a leader lives.)
#[test]
fn figure_2_all_servers_2_follow_a_newer_term() {
    let mut follower = Alone::new(&[(1, 1)], 1);
    follower.request_vote(N2, 4, LogId::ZERO);
    assert_eq!((follower.role().as_str(), follower.raft.term()), ("follower", Term(4)));

    let mut candidate = candidate();
    candidate.vote_response(N2, 4, false, false);
    assert_eq!((candidate.role().as_str(), candidate.raft.term()), ("follower", Term(4)));

    let mut leader = Alone::established(&[(1, 1)], 1);
    leader.append(N2, 4, LogId::new(1, 1), &[], 0);
    assert_eq!((leader.role().as_str(), leader.raft.term()), ("follower", Term(4)));

    let mut leader = Alone::established(&[(1, 1)], 1);
    let (refused, hint) = (Index(2), LogId::new(1, 1));
    let outcome = AppendOutcome::Conflict { refused, hint };
    let message = Message::AppendEntriesResponse { outcome, read_seq: 0, stalled_ticks: 0 };
    leader.receive(N2, 4, message);
    assert_eq!((leader.role().as_str(), leader.raft.term()), ("follower", Term(4)));
}

// Rules for servers: followers.

/// Rule 1: A follower answers candidates and leaders.
#[test]
fn figure_2_followers_1_answer_candidates_and_leaders() {
    let mut node = Alone::new(&[(1, 1)], 1);
    node.request_pre_vote(N3, 1, LogId::new(1, 1));
    node.request_vote(N3, 2, LogId::new(1, 1));
    node.persist();
    node.append(N3, 2, LogId::new(1, 1), &[], 0);
    let answers = [
        "n3 RequestVoteResponse granted pre",
        "n3 RequestVoteResponse granted",
        "n3 AppendEntriesResponse matched=1",
    ];
    assert_eq!(node.sent(), answers);
}

/// Rule 2: A follower campaigns when an election timeout passes in which no leader of the term was
/// heard and no vote granted.
#[test]
fn figure_2_followers_2_campaign_when_nothing_is_heard() {
    let mut lonely = Alone::new(&[(1, 1)], 1);
    lonely.tick(ELECTION_MAX);
    assert_eq!(lonely.role(), "pre-candidate");

    let mut follower = Alone::new(&[(1, 1)], 1);
    let mut voter = Alone::new(&[(1, 1)], 1);
    let last = LogId::new(1, 1);
    for term in 2..8 {
        follower.append(N2, 1, last, &[], 0);
        voter.request_vote(N2, term, last);
        follower.tick(ELECTION_MIN - 1);
        voter.tick(ELECTION_MIN - 1);
        assert_eq!((follower.role().as_str(), voter.role().as_str()), ("follower", "follower"));
    }
}

/// Rule 2: Neither a stale leader nor a candidate that gets no vote puts a campaign off.
#[test]
fn figure_2_followers_2_only_a_leader_or_a_vote_puts_a_campaign_off() {
    let mut node = Alone::new(&[(1, 1)], 3);
    let mut ticks = 0;
    while node.role() == "follower" {
        node.append(N2, 2, LogId::new(1, 1), &[], 0);
        node.request_vote(N3, 3, LogId::ZERO);
        node.tick(1);
        ticks += 1;
        assert!(ticks <= ELECTION_MAX, "it should have campaigned");
    }
    assert_eq!(node.role(), "pre-candidate");
}

// Rules for servers: candidates.

/// n1 as a candidate of term 2, its own vote not yet on disk.
fn candidate() -> Alone {
    let mut node = Alone::new(&[(1, 1)], 1);
    node.act(Raft::campaign);
    node.vote_response(N2, 1, true, true);
    assert_eq!(node.role(), "candidate");
    node.sent.clear();
    node
}

/// Rule 1: An election begins with a new term, the own vote, a new election timeout, and a request
/// to everyone.
#[test]
fn figure_2_candidates_1_begin_an_election() {
    let mut node = candidate();
    assert_eq!(node.raft.term(), Term(2));
    assert_eq!(node.status().vote, Some(N1));
    node.persist();
    assert_eq!(node.sent(), ["n2 RequestVote last=1@1", "n3 RequestVote last=1@1"]);
    node.tick(ELECTION_MIN - 1);
    assert_eq!(node.role(), "candidate");
    assert_eq!(node.sent(), NOTHING);
}

/// Rule 2: Votes of a majority make a leader.
#[test]
fn figure_2_candidates_2_lead_with_a_majority() {
    let mut node = candidate();
    // Even its own vote counts only once it is durable.
    node.vote_response(N2, 2, true, false);
    assert_eq!(node.role(), "candidate");
    node.persist();
    assert_eq!(node.role(), "leader");

    let mut refused = candidate();
    refused.persist();
    refused.vote_response(N2, 2, false, false);
    assert_eq!(refused.role(), "candidate");
    // Granted, but in the poll before.
    refused.vote_response(N3, 2, true, true);
    assert_eq!(refused.role(), "candidate");
    refused.vote_response(N3, 2, true, false);
    assert_eq!(refused.role(), "leader");
}

/// Rule 3: A candidate that hears from the leader of its term follows it.
#[test]
fn figure_2_candidates_3_follow_a_new_leader() {
    let mut node = candidate();
    node.persist();
    node.append(N3, 2, LogId::new(1, 1), &[], 0);
    assert_eq!((node.role().as_str(), node.raft.leader()), ("follower", Some(N3)));
    assert_eq!(node.status().vote, Some(N1));
    // The vote that would have made it a leader comes too late.
    node.vote_response(N2, 2, true, false);
    assert_eq!(node.role(), "follower");
}

/// Rule 4: When the election timeout passes without a result, a new election begins.
#[test]
fn figure_2_candidates_4_begin_anew_after_a_timeout() {
    let mut node = candidate();
    node.persist();
    node.tick(ELECTION_MAX);
    assert_eq!((node.role().as_str(), node.raft.term()), ("pre-candidate", Term(2)));
    node.vote_response(N2, 2, true, true);
    assert_eq!((node.role().as_str(), node.raft.term()), ("candidate", Term(3)));
}

// Rules for servers: leaders.

/// Rule 1: A new leader sends everyone an empty append at once, and again whenever it is idle, so
/// that nobody's election timeout passes.
#[test]
fn figure_2_leaders_1_send_heartbeats() {
    let mut node = candidate();
    node.persist();
    node.sent.clear();
    node.vote_response(N2, 2, true, false);
    let heartbeats = ["n2 AppendEntries prev=1@1 commit=0", "n3 AppendEntries prev=1@1 commit=0"];
    assert_eq!(node.sent(), heartbeats);

    let mut node = Alone::established(&[(1, 1)], 1);
    node.tick(HEARTBEAT);
    node.sent.clear();
    for _ in 0..5 {
        node.tick(HEARTBEAT);
        let heartbeats =
            ["n2 AppendEntries prev=2@2 commit=2", "n3 AppendEntries prev=2@2 commit=2"];
        assert_eq!(node.sent(), heartbeats);
        node.matched(N2, 2);
    }

    let mut cluster = cluster(5);
    let term = raft(&cluster, N1).term();
    tick_all(&mut cluster, 10 * ELECTION_MAX);
    assert_eq!((cluster.leader(), raft(&cluster, N1).term()), (Some(N1), term));
}

/// Rule 2: A command is appended to the leader's log, and done once it is applied.
#[test]
fn figure_2_leaders_2_append_commands() {
    let mut node = Alone::established(&[(1, 1)], 1);
    let id = node.act(|raft| raft.propose(command("x"))).expect("it leads");
    assert_eq!(id, LogId::new(3, 2));
    assert_eq!(node.log(), ids(&[(1, 1), (2, 2), (3, 2)]));
    node.persist();
    assert!(!node.applied.contains(&id));
    node.matched(N2, 3);
    assert!(node.applied.contains(&id));
}

/// Rule 3: A follower is sent the entries from its `nextIndex` on.
#[test]
fn figure_2_leaders_3_send_entries_from_next_index() {
    let mut node = Alone::leader(&[(1, 1), (2, 1)], 1);
    // Node 2 has all but what the term begins with, node 3 half of it.
    node.matched(N2, 2);
    let (refused, hint) = (Index(2), LogId::new(1, 1));
    node.acknowledge(N3, AppendOutcome::Conflict { refused, hint }, 0);
    node.matched(N3, 1);
    let sent = node.sent();
    assert!(sent.contains(&"n2 AppendEntries prev=2@1 [3@2] commit=0".into()), "{sent:?}");
    assert!(sent.contains(&"n3 AppendEntries prev=1@1 [2@1 3@2] commit=0".into()), "{sent:?}");
}

/// Rule 3: If that succeeds, `nextIndex` and `matchIndex` of the follower move on.
#[test]
fn figure_2_leaders_3_success_moves_on() {
    let mut node = Alone::established(&[(1, 1)], 1);
    assert_eq!(node.progress(N2), (2, 3));
    node.act(|raft| raft.propose(command("x"))).expect("it leads");
    assert_eq!(node.progress(N2).0, 2);
    node.matched(N2, 3);
    assert_eq!(node.progress(N2), (3, 4));
    // Only of that follower.
    assert_eq!(node.progress(N3).0, 2);
}

/// Rule 3: If it fails because the logs differ, `nextIndex` goes back and the leader tries again.
/// It goes back to where the logs can agree, as the paper proposes (§5.3).
#[test]
fn figure_2_leaders_3_failure_goes_back() {
    let mut node = Alone::leader(&[(1, 1), (2, 1), (3, 2), (4, 2)], 3);
    assert_eq!(node.progress(N2), (0, 5));
    let (refused, hint) = (Index(4), LogId::new(3, 1));
    node.acknowledge(N2, AppendOutcome::Conflict { refused, hint }, 0);
    assert_eq!(node.progress(N2), (0, 3));
    assert_eq!(node.sent(), ["n2 AppendEntries prev=2@1 commit=0"]);
    // An answer to an earlier try changes nothing.
    node.acknowledge(N2, AppendOutcome::Conflict { refused, hint }, 0);
    assert_eq!(node.progress(N2), (0, 3));
    assert_eq!(node.sent(), NOTHING);
}

/// Rule 4: What a majority has is committed, if it is of the leader's own term (§5.3, §5.4.2).
#[test]
fn figure_2_leaders_4_commit_what_a_majority_has() {
    let mut node = Alone::leader(&[(1, 1), (2, 1)], 1);
    node.matched(N2, 2);
    node.matched(N3, 2);
    // Everybody has entry 2, of an earlier term.
    assert_eq!(node.raft.commit_index(), Index(0));
    node.matched(N2, 3);
    assert_eq!(node.raft.commit_index(), Index(3));
    node.act(|raft| raft.propose(command("x"))).expect("it leads");
    node.persist();
    assert_eq!(node.raft.commit_index(), Index(3));
    node.matched(N3, 4);
    assert_eq!(node.raft.commit_index(), Index(4));
}

/// A node starts with what its state machine has applied as committed, not with 0: what was applied
/// was committed. The paper leaves this to the state machine's persistence.
#[test]
fn figure_2_state_a_restart_goes_on_behind_what_was_applied() {
    let log = [(1, 1), (2, 1), (3, 1)];
    let disk = loaded(&log, HardState { term: Term(1), vote: None });
    let applied = SnapshotMeta { last: LogId::new(2, 1), ..disk.snapshot.clone() };
    let raft = Raft::new(super::config(N1), disk, applied, 1).expect("log and state agree");
    assert_eq!(raft.commit_index(), Index(2));
    assert_eq!(raft.status().handed_index, Index(2));
}
