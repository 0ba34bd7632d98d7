//! The paper's figure 13, installing snapshots, and what the paper leaves open: whom a node listens
//! to, heartbeats that overtake, names of questions.

use super::{
    Alone, HEARTBEAT, N1, N2, N3, cluster, command, ids, isolate, raft, settle, tick, voters,
};
use raft_core::raft::{AppendEntries, AppendOutcome, Envelope, Input, Message, Raft};
use raft_core::types::{Incarnation, Index, LogId, NodeId, Sender, SnapshotMeta, Term, Version};

const NOTHING: [&str; 0] = [];

fn snapshot(index: u64, term: u64) -> SnapshotMeta {
    SnapshotMeta { last: LogId::new(index, term), membership: voters() }
}

// Figure 13. Steps 2 to 5 are the transport's: the core hears of a snapshot once all of it is here.

/// Rule 1: A snapshot of an older term is refused.
#[test]
fn figure_13_install_snapshot_1_refuses_a_stale_term() {
    let mut node = Alone::new(&[(1, 1)], 3);
    node.receive(N2, 2, Message::InstallSnapshot { meta: snapshot(5, 2).into() });
    assert_eq!(node.sent[0].term, Term(3));
    assert_eq!(node.sent(), ["n2 AppendEntriesResponse conflict=5 hint=1@1"]);
    assert_eq!(node.restoring, None);
}

/// Rule 6: If the log has the last entry the snapshot covers, the entries behind it stay.
#[test]
fn figure_13_install_snapshot_6_keeps_what_follows() {
    let mut node = Alone::new(&[(1, 1), (2, 1), (3, 1)], 1);
    node.receive(N2, 1, Message::InstallSnapshot { meta: snapshot(2, 1).into() });
    assert_eq!(node.restoring, None);
    assert_eq!(node.sent(), ["n2 AppendEntriesResponse matched=2"]);
    assert_eq!(node.log(), ids(&[(1, 1), (2, 1), (3, 1)]));
    // What it covers is committed.
    assert_eq!(node.applied, ids(&[(1, 1), (2, 1)]));
}

/// Rules 7 and 8: Otherwise the log is discarded and the state machine becomes what the snapshot
/// holds. It is acknowledged once both are durable.
#[test]
fn figure_13_install_snapshot_7_8_replace_log_and_state() {
    let mut node = Alone::new(&[(1, 1), (2, 1), (3, 1)], 2);
    node.receive(N2, 2, Message::InstallSnapshot { meta: snapshot(3, 2).into() });
    let restoring = node.restoring.take().expect("entry 3 is of another term");
    assert_eq!(node.sent(), NOTHING);
    node.step(Input::Restored(restoring));
    assert_eq!(node.sent(), NOTHING);
    node.persist();
    assert_eq!(node.sent(), ["n2 AppendEntriesResponse matched=3"]);
    assert_eq!((node.raft.log_start(), node.log().len()), (LogId::new(3, 2), 0));
    assert_eq!(node.raft.commit_index(), Index(3));
}

/// A snapshot that cannot be restored leaves everything as it was, and the next one is taken.
#[test]
fn beyond_a_damaged_snapshot_changes_nothing() {
    let mut node = Alone::new(&[(1, 1)], 2);
    node.receive(N2, 2, Message::InstallSnapshot { meta: snapshot(3, 2).into() });
    let restoring = node.restoring.take().expect("the log lacks entry 3");
    node.step(Input::NotRestored(restoring));
    assert_eq!(node.log(), ids(&[(1, 1)]));
    assert_eq!(node.sent(), NOTHING);
    node.receive(N2, 2, Message::InstallSnapshot { meta: snapshot(3, 2).into() });
    assert!(node.restoring.is_some());
}

/// What is meant for another node, or pretends to come from this one, is not for it.
#[test]
fn beyond_a_misdirected_message_is_dropped() {
    let mut node = Alone::new(&[(1, 1)], 1);
    let before = node.raft.clone();
    for (from, to) in [(N2, N3), (N1, N1)] {
        let sender = Sender { incarnation: Incarnation(from.0), version: Version::CURRENT };
        let (entries, leader_commit) = (None, Index(1));
        let append =
            AppendEntries { prev_log: LogId::new(1, 1), entries, leader_commit, read_seq: 0 };
        let message = Message::AppendEntries(append);
        node.step(Input::Message(Envelope { from, to, term: Term(9), sender, message }));
        assert_eq!(node.sent(), NOTHING);
        assert!(node.raft == before, "{from} to {to} changed something");
    }
}

/// Nobody can tell of what is newer than its own term; nor acknowledge what was never sent.
#[test]
fn beyond_an_impossible_message_is_dropped() {
    let mut node = Alone::new(&[(1, 1)], 2);
    node.append(N2, 2, LogId::new(1, 1), &[(2, 3)], 0);
    node.request_vote(N2, 3, LogId::new(7, 4));
    assert_eq!(node.sent(), NOTHING);
    assert_eq!((node.raft.term(), node.log()), (Term(2), ids(&[(1, 1)])));

    let mut leader = Alone::established(&[(1, 1)], 1);
    leader.matched(N2, 9);
    assert_eq!(leader.progress(N2).0, 2);
}

/// A stranger, no member of the configuration, is no part of any quorum.
#[test]
fn beyond_a_stranger_does_not_count() {
    let stranger = NodeId(9);
    let mut candidate = Alone::new(&[(1, 1)], 1);
    candidate.act(Raft::campaign);
    candidate.vote_response(stranger, 1, true, true);
    assert_eq!(candidate.role(), "pre-candidate");

    let mut leader = Alone::established(&[(1, 1)], 1);
    leader.act(|raft| raft.propose(command("x"))).expect("it leads");
    leader.persist();
    leader.matched(stranger, 3);
    assert_eq!(leader.raft.commit_index(), Index(2));
}

/// A heartbeat begins where the follower is known to agree and commits no further, so that one
/// which overtakes appends meets no conflict and waits for no disk.
#[test]
fn beyond_a_heartbeat_is_capped_at_the_match_index() {
    let mut node = Alone::established(&[(1, 1)], 1);
    node.act(|raft| raft.propose(command("x"))).expect("it leads");
    node.persist();
    node.matched(N2, 3);
    assert_eq!(node.raft.commit_index(), Index(3));
    node.tick(HEARTBEAT);
    let sent = node.sent();
    assert!(sent.contains(&"n2 AppendEntries prev=3@2 commit=3".into()), "{sent:?}");
    assert!(sent.contains(&"n3 AppendEntries prev=2@2 commit=2".into()), "{sent:?}");
}

/// What is committed is told to an idle follower at once, by a message that nobody answers: it is
/// taken only by whoever holds that very entry.
#[test]
fn beyond_a_commit_that_is_told_is_taken_only_with_the_entry() {
    let mut node = Alone::established(&[(1, 1)], 1);
    node.act(|raft| raft.propose(command("x"))).expect("it leads");
    node.persist();
    node.sent.clear();
    node.matched(N2, 3);
    assert_eq!(node.sent(), ["n2 Commit 3@2"]);

    let mut node = Alone::new(&[(1, 1), (2, 1)], 1);
    let mut told = |index, term, commit| {
        node.receive(N2, 2, Message::Commit { entry: LogId::new(index, term) });
        assert_eq!(node.raft.commit_index(), Index(commit));
        assert_eq!(node.raft.status().leader, Some(N2));
    };
    told(2, 2, 0);
    told(3, 2, 0);
    told(2, 1, 2);
    told(1, 1, 2);
    // Late, of a leader that was deposed.
    node.receive(N3, 1, Message::Commit { entry: LogId::new(2, 1) });
    node.persist();
    assert_eq!((node.sent(), node.status().leader), (Vec::new(), Some(N2)));
}

/// A question is named by the start of the process that asks, and by its try.
#[test]
fn beyond_a_question_is_named_anew_for_every_start_and_try() {
    let mut cluster = cluster(3);
    let mut asked = Vec::new();
    for start in 0..2 {
        // Questions go unanswered, so they are asked again.
        cluster.read(N2);
        isolate(&mut cluster, N2);
        tick(&mut cluster, N2, 10);
        asked.extend(cluster.pool().iter().filter_map(|envelope| match envelope.message {
            Message::ReadIndex { request } => Some(request),
            _ => None,
        }));
        settle(&mut cluster);
        assert_eq!(asked.len(), 2 * (start + 1), "{asked:?}");
        cluster.crash(N2, None);
        cluster.restart(N2);
        cluster.heal();
        tick(&mut cluster, N1, HEARTBEAT);
        settle(&mut cluster);
        assert_eq!(raft(&cluster, N2).leader(), Some(N1));
    }
    let [first, again, restarted, _] = asked[..] else { panic!("two questions a start") };
    assert_eq!(first.nonce, again.nonce);
    assert_ne!(first.seq, again.seq);
    assert_ne!(first.nonce, restarted.nonce);
}

/// An answer that was under way when the leader changed confirms nobody.
#[test]
fn beyond_an_acknowledgement_of_another_term_does_not_count() {
    let mut node = Alone::established(&[(1, 1)], 1);
    node.act(|raft| raft.propose(command("x"))).expect("it leads");
    node.persist();
    let outcome = AppendOutcome::Matched(Index(3));
    let message = Message::AppendEntriesResponse { outcome, read_seq: 0, stalled_ticks: 0 };
    node.receive(N2, 1, message);
    assert_eq!(node.raft.commit_index(), Index(2));
}
