//! The thesis: leadership transfer (3.10), steps down without a quorum (6.2), linearizable reads
//! (6.4), pre-vote (9.6), the leader's disk in parallel (10.2.1).

use super::{
    Alone, ELECTION_MAX, ELECTION_MIN, N1, N2, N3, cluster, command, isolate, nodes, persist, raft,
    settle, tick, tick_all,
};
use raft_core::raft::{AppendOutcome, Message, Raft, ReadRequestId, Refusal};
use raft_core::types::{Index, LogId, NodeId, Term};

const NOTHING: [&str; 0] = [];

// 3.10, leadership transfer.

/// The old leader takes no new requests until it is over.
#[test]
fn thesis_3_10_step_1_holds_proposals_off() {
    let mut node = Alone::established(&[(1, 1)], 1);
    node.act(|raft| raft.transfer_leadership(Some(N2))).expect("a voter");
    let refused = node.act(|raft| raft.propose(command("x")));
    assert_eq!(refused, Err(Refusal::Overloaded));
}

/// The old leader brings the target's log up to its own, as it always does; until then the target
/// hears nothing of the transfer.
#[test]
fn thesis_3_10_step_2_brings_the_target_up_to_date() {
    let mut node = Alone::established(&[(1, 1)], 1);
    node.act(|raft| raft.propose(command("x"))).expect("it leads");
    node.sent.clear();
    node.act(|raft| raft.transfer_leadership(Some(N2))).expect("a voter");
    node.matched(N2, 2);
    node.matched(N3, 3);
    assert_eq!(node.sent(), NOTHING);
    node.matched(N2, 3);
    let told = ["n2 Commit 3@2", "n3 Commit 3@2"];
    assert_eq!(node.sent(), [told[0], told[1], "n2 TimeoutNow"]);
}

/// The target, told so, begins an election at once: a new term and no poll before it, and the votes
/// come although the old leader was heard just now.
#[test]
fn thesis_3_10_step_3_the_target_campaigns_at_once() {
    let mut target = Alone::new(&[(1, 1)], 2);
    target.append(N2, 2, LogId::new(1, 1), &[(2, 2)], 1);
    target.persist();
    target.sent.clear();
    target.receive(N2, 2, Message::TimeoutNow);
    assert_eq!((target.role().as_str(), target.raft.term()), ("candidate", Term(3)));
    target.persist();
    let requests = ["n2 RequestVote last=2@2 transfer", "n3 RequestVote last=2@2 transfer"];
    assert_eq!(target.sent(), requests);

    let mut cluster = cluster(3);
    let term = raft(&cluster, N1).term();
    cluster.transfer(N1, Some(N3)).expect("up").expect("a voter");
    settle(&mut cluster);
    assert_eq!(cluster.leader(), Some(N3));
    assert_eq!(raft(&cluster, N3).term(), Term(term.0 + 1));
    assert!(!raft(&cluster, N1).is_leader());
}

/// A target that does not take over within an election timeout is given up, and the old leader
/// takes requests again.
#[test]
fn thesis_3_10_aborts_after_an_election_timeout() {
    let mut node = Alone::established(&[(1, 1)], 1);
    node.act(|raft| raft.transfer_leadership(Some(N2))).expect("a voter");
    node.matched(N3, 2);
    node.tick(ELECTION_MIN - 1);
    assert_eq!(node.act(|raft| raft.propose(command("x"))), Err(Refusal::Overloaded));
    node.tick(1);
    assert!(node.raft.is_leader());
    assert_eq!(node.act(|raft| raft.propose(command("x"))), Ok(LogId::new(3, 2)));
}

/// A request to take over that comes late, when there is another leader in a newer term, is void.
#[test]
fn thesis_3_10_a_late_request_is_void() {
    let mut target = Alone::new(&[(1, 1)], 2);
    target.append(N3, 3, LogId::new(1, 1), &[], 0);
    target.receive(N2, 2, Message::TimeoutNow);
    assert_eq!((target.role().as_str(), target.raft.term()), ("follower", Term(3)));
    assert_eq!(target.raft.leader(), Some(N3));
}

// 6.2, clients find the leader.

/// A node that does not lead refuses, and says who leads.
#[test]
fn thesis_6_2_refuses_with_the_leader() {
    let mut node = Alone::new(&[(1, 1)], 2);
    let refused = node.act(|raft| raft.propose(command("x")));
    assert_eq!(refused, Err(Refusal::NotLeader { leader: None }));
    node.append(N3, 2, LogId::new(1, 1), &[], 0);
    let refused = node.act(|raft| raft.propose(command("x")));
    assert_eq!(refused, Err(Refusal::NotLeader { leader: Some(N3) }));
}

/// A leader steps down when an election timeout passes without heartbeats answered by a majority,
/// so that its clients turn elsewhere.
#[test]
fn thesis_6_2_steps_down_without_a_quorum() {
    let mut node = Alone::established(&[(1, 1)], 1);
    // One other node of three is a quorum.
    for _ in 0..5 {
        node.matched(N3, 2);
        node.tick(ELECTION_MAX - 1);
        assert!(node.raft.is_leader());
    }
    node.tick(1);
    assert_eq!((node.role().as_str(), node.raft.leader()), ("follower", None));
    // It was not deposed: the term is its own still.
    assert_eq!(node.raft.term(), Term(2));
}

/// One that is heard but hears nobody steps down as well, and another is elected.
#[test]
fn thesis_6_2_a_leader_that_hears_nobody_is_replaced() {
    let mut cluster = cluster(3);
    cluster.cut(N2, N1);
    cluster.cut(N3, N1);
    tick_all(&mut cluster, 4 * ELECTION_MAX);
    assert!(!raft(&cluster, N1).is_leader());
    assert!(cluster.leader().is_some_and(|leader| leader != N1));
}

// 6.4, linearizable reads.

/// A read waits until the leader has committed an entry of its own term: before that it may not
/// know all that is committed.
#[test]
fn thesis_6_4_step_1_waits_for_an_entry_of_the_own_term() {
    let mut node = Alone::leader(&[(1, 1)], 1);
    node.act(Raft::read);
    node.tick(1);
    acknowledge_reads(&mut node, 1, 1);
    assert_eq!(node.reads, []);
    node.matched(N2, 2);
    // Now the leader asks for confirmation.
    let last = node.sent().pop();
    assert_eq!(last.as_deref(), Some("n3 AppendEntries prev=1@1 commit=1 read=1"));
    acknowledge_reads(&mut node, 2, 1);
    assert_eq!(node.reads.iter().map(|(_, index)| *index).collect::<Vec<_>>(), [Index(2)]);
}

/// Nodes 2 and 3 acknowledge the log up to `index`, and read `read_seq`.
fn acknowledge_reads(node: &mut Alone, index: u64, read_seq: u64) {
    for peer in [N2, N3] {
        node.acknowledge(peer, AppendOutcome::Matched(Index(index)), read_seq);
    }
}

/// The read index is the commit index when the read came, not when it is answered.
#[test]
fn thesis_6_4_step_2_notes_the_commit_index() {
    let mut node = Alone::established(&[(1, 1)], 1);
    let read = node.act(Raft::read);
    node.act(|raft| raft.propose(command("x"))).expect("it leads");
    node.persist();
    node.matched(N2, 3);
    assert_eq!(node.raft.commit_index(), Index(3));
    node.acknowledge(N2, AppendOutcome::Matched(Index(3)), 1);
    assert_eq!(node.reads, [(read, Index(2))]);
}

/// A majority confirms the leader in a round of heartbeats sent after the read came; an answer to
/// an earlier one is none.
#[test]
fn thesis_6_4_step_3_a_majority_confirms_the_leader() {
    let mut node = Alone::established(&[(1, 1)], 1);
    let read = node.act(Raft::read);
    let round =
        ["n2 AppendEntries prev=2@2 commit=2 read=1", "n3 AppendEntries prev=2@2 commit=2 read=1"];
    assert_eq!(node.sent(), round);
    acknowledge_reads(&mut node, 2, 0);
    assert_eq!(node.reads, []);
    node.acknowledge(N3, AppendOutcome::Matched(Index(2)), 1);
    assert_eq!(node.reads, [(read, Index(2))]);
}

/// Nothing confirms a leader that another has replaced.
#[test]
fn thesis_6_4_step_3_nobody_confirms_a_deposed_leader() {
    let mut cluster = cluster(3);
    isolate(&mut cluster, N1);
    cluster.read(N1);
    let others = [N2, N3];
    for _ in 0..3 * ELECTION_MAX {
        others.into_iter().for_each(|id| cluster.tick(id));
        settle(&mut cluster);
    }
    assert!(raft(&cluster, N1).is_leader());
    assert!(cluster.leader().is_some_and(|leader| leader != N1));
    assert_eq!(cluster.server(N1).reads(), 1);
}

/// What is answered is an index to wait for: the state machine may not have got there yet.
#[test]
fn thesis_6_4_step_4_the_state_machine_reaches_the_read_index() {
    let mut node = Alone::established(&[(1, 1)], 1);
    node.act(|raft| raft.propose(command("x"))).expect("it leads");
    // Committed by the others; this disk is slow.
    node.matched(N2, 3);
    node.matched(N3, 3);
    let read = node.act(Raft::read);
    acknowledge_reads(&mut node, 3, 1);
    assert_eq!(node.reads, [(read, Index(3))]);
    assert_eq!(node.status().handed_index, Index(2));
    node.persist();
    assert_eq!(node.status().handed_index, Index(3));
}

/// A follower asks the leader for the read index, and serves the read itself.
#[test]
fn thesis_6_4_a_follower_asks_the_leader() {
    let mut node = Alone::new(&[(1, 1)], 2);
    node.append(N2, 2, LogId::new(1, 1), &[(2, 2)], 1);
    node.persist();
    node.sent.clear();
    let read = node.act(Raft::read);
    let Some(Message::ReadIndex { request }) = node.sent.first().map(|sent| sent.message.clone())
    else {
        panic!("the leader was asked nothing: {:?}", node.sent())
    };
    // An answer to a question it never asked is none.
    let stranger = ReadRequestId { nonce: request.nonce.wrapping_add(1), ..request };
    node.receive(N2, 2, Message::ReadIndexResponse { request: stranger, index: Index(1) });
    assert_eq!(node.reads, []);
    node.receive(N2, 2, Message::ReadIndexResponse { request, index: Index(2) });
    assert_eq!(node.reads, [(read, Index(2))]);
}

/// The leader does for a follower's read what it does for its own.
#[test]
fn thesis_6_4_a_leader_confirms_itself_for_a_follower() {
    let mut node = Alone::established(&[(1, 1)], 1);
    let request = ReadRequestId { nonce: 7, seq: 1 };
    node.receive(N2, 2, Message::ReadIndex { request });
    let answered = |node: &mut Alone| {
        let sent = node.sent.drain(..).map(|envelope| envelope.message);
        sent.filter(|message| matches!(message, Message::ReadIndexResponse { .. })).count()
    };
    acknowledge_reads(&mut node, 2, 0);
    assert_eq!(answered(&mut node), 0);
    acknowledge_reads(&mut node, 2, 1);
    assert_eq!(answered(&mut node), 1);
}

// 9.6, pre-vote.

/// A candidate raises its term only once a majority would vote for it.
#[test]
fn thesis_9_6_raises_the_term_only_if_a_majority_would_vote() {
    let mut node = Alone::new(&[(1, 1)], 2);
    for _ in 0..10 {
        node.tick(ELECTION_MAX);
        node.vote_response(N2, 2, false, true);
        node.vote_response(N3, 2, false, true);
        assert_eq!((node.role().as_str(), node.raft.term()), ("pre-candidate", Term(2)));
        // Nothing of it reaches the disk either.
        assert!(node.writes.is_empty());
    }
    node.vote_response(N3, 2, true, true);
    assert_eq!((node.role().as_str(), node.raft.term()), ("candidate", Term(3)));
}

/// Whoever is asked would vote only for a log that is up-to-date.
#[test]
fn thesis_9_6_grants_only_an_up_to_date_log() {
    for (last_log, answer) in [(LogId::new(9, 1), "refused"), (LogId::new(2, 2), "granted")] {
        let mut node = Alone::new(&[(1, 1), (2, 2)], 3);
        node.request_pre_vote(N2, 3, last_log);
        assert_eq!(node.sent(), [format!("n2 RequestVoteResponse {answer} pre")]);
        // It binds nobody: not a term, not a vote.
        assert_eq!((node.raft.term(), node.status().vote), (Term(3), None));
    }
}

/// Whoever is asked would not vote if it has heard a leader within the shortest election timeout;
/// a leader least of all.
#[test]
fn thesis_9_6_refuses_while_a_leader_is_heard() {
    let last_log = LogId::new(1, 1);
    let mut node = Alone::new(&[(1, 1)], 2);
    node.append(N2, 2, last_log, &[], 0);
    node.tick(ELECTION_MIN - 1);
    node.sent.clear();
    node.request_pre_vote(N3, 2, last_log);
    assert_eq!(node.sent(), ["n3 RequestVoteResponse refused pre"]);
    node.tick(1);
    node.sent.clear();
    node.request_pre_vote(N3, 2, last_log);
    assert_eq!(node.sent(), ["n3 RequestVoteResponse granted pre"]);

    let mut leader = Alone::established(&[(1, 1)], 1);
    leader.request_pre_vote(N3, 2, LogId::new(9, 2));
    assert_eq!(leader.sent(), ["n3 RequestVoteResponse refused pre"]);
}

/// So a node that was cut off comes back in its old term, and disturbs nobody.
#[test]
fn thesis_9_6_a_node_that_was_cut_off_disturbs_nobody() {
    let mut cluster = cluster(3);
    let term = raft(&cluster, N1).term();
    isolate(&mut cluster, N3);
    tick_all(&mut cluster, 20 * ELECTION_MAX);
    cluster.heal();
    tick_all(&mut cluster, 2 * ELECTION_MAX);
    for id in nodes(&cluster) {
        assert_eq!((raft(&cluster, id).term(), raft(&cluster, id).leader()), (term, Some(N1)));
    }
}

// 10.2.1, the leader writes to its disk in parallel.

/// The leader sends entries before its own disk has them.
#[test]
fn thesis_10_2_1_sends_while_it_writes() {
    let mut node = Alone::established(&[(1, 1)], 1);
    node.act(|raft| raft.propose(command("x"))).expect("it leads");
    let appends =
        ["n2 AppendEntries prev=2@2 [3@2] commit=2", "n3 AppendEntries prev=2@2 [3@2] commit=2"];
    assert_eq!(node.sent(), appends);
    assert_eq!(node.writes.len(), 1);
}

/// Its own disk counts only once the entry is on it.
#[test]
fn thesis_10_2_1_counts_itself_once_durable() {
    let mut node = Alone::established(&[(1, 1)], 1);
    node.act(|raft| raft.propose(command("x"))).expect("it leads");
    node.matched(N2, 3);
    assert_eq!(node.raft.commit_index(), Index(2));
    node.persist();
    assert_eq!(node.raft.commit_index(), Index(3));
}

/// It may commit an entry before its own disk has it, if a majority of the others does; here it is
/// applied only after that.
#[test]
fn thesis_10_2_1_commits_without_its_own_disk() {
    let mut node = Alone::established(&[(1, 1)], 1);
    let id = node.act(|raft| raft.propose(command("x"))).expect("it leads");
    node.matched(N2, 3);
    node.matched(N3, 3);
    assert_eq!(node.raft.commit_index(), Index(3));
    assert!(!node.applied.contains(&id));
    node.persist();
    assert!(node.applied.contains(&id));
}

/// A leader that crashes before its disk had the entry, committed by the others, loses nothing.
#[test]
fn thesis_10_2_1_a_crash_before_the_own_disk_loses_nothing() {
    let mut cluster = cluster(3);
    let committed = cluster.checker().committed();
    cluster.propose(N1, &[command("x")]);
    for to in [N2, N3] {
        deliver_to(&mut cluster, to);
        cluster.persist(to, None);
    }
    deliver_to(&mut cluster, N1);
    assert_eq!(raft(&cluster, N1).commit_index(), Index(committed.0 + 1));
    cluster.crash(N1, None);
    cluster.restart(N1);
    persist(&mut cluster);
    tick(&mut cluster, N1, 1);
    tick_all(&mut cluster, 4 * ELECTION_MAX);
    let leader = cluster.leader().expect("all are connected");
    cluster.propose(leader, &[command("y")]);
    settle(&mut cluster);
    tick_all(&mut cluster, 1);
    // The checkers compare what everyone applies; here only that all got there.
    assert!(cluster.applied().0 >= Index(committed.0 + 2));
}

/// All that is under way to `to` arrives.
fn deliver_to(cluster: &mut raft_core::testing::Cluster, to: NodeId) {
    while let Some(position) = cluster.pool().iter().position(|envelope| envelope.to == to) {
        cluster.deliver(position);
    }
}
