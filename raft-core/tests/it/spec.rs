//! The abstract Raft beside every simulated cluster: what no step of it explains is found, even
//! where nothing visible has gone wrong yet.
//!
//! Scripts and random runs are the other half: all of them are explained.

use raft_core::raft::{AppendEntries, Config, Envelope, Message};
use raft_core::testing::Cluster;
use raft_core::types::{Entry, Index, LogId, NodeId, Payload, Run, Sender, Term};

const FIRST: NodeId = NodeId(1);
const SECOND: NodeId = NodeId(2);
const THIRD: NodeId = NodeId(3);

fn cluster() -> Cluster {
    let config = Config {
        id: FIRST,
        election_ticks_min: 10,
        election_ticks_max: 20,
        heartbeat_ticks: 3,
        ..Config::default()
    };
    Cluster::new(3, &config, 1, false)
}

fn settle(cluster: &mut Cluster) {
    for _ in 0..20 {
        (1..=3).for_each(|id| cluster.persist(NodeId(id), None));
        (0..cluster.pool().len()).for_each(|_| cluster.deliver(0));
    }
}

/// A message of the first life of `from`, which it never sent.
fn forged(from: NodeId, to: NodeId, term: u64, message: Message) -> Envelope {
    let sender = Sender { incarnation: raft_core::types::Incarnation(from.0), ..Sender::default() };
    Envelope { from, to, term: Term(term), sender, message }
}

fn arrives(cluster: &mut Cluster, envelope: Envelope) {
    cluster.inject(envelope);
    let last = cluster.pool().len() - 1;
    cluster.deliver(last);
}

#[test]
fn a_cluster_takes_the_steps_of_the_paper() {
    let mut cluster = cluster();
    cluster.campaign(FIRST);
    settle(&mut cluster);
    cluster.propose(FIRST, &["x".into()]);
    settle(&mut cluster);
    let steps = cluster.spec().steps();
    let count = |step: &str| steps.get(step).copied().unwrap_or(0);
    // Three servers enter the term; two of them grant, and all of them take two entries.
    assert_eq!([count("adopt"), count("ask"), count("vote"), count("elect")], [3, 1, 2, 1]);
    assert_eq!([count("extend"), count("accept"), count("commit")], [1, 6, 2]);
    assert_eq!(count("install"), 0);
}

#[test]
#[should_panic(expected = "elect: n1 in 1 without a quorum")]
fn a_leader_without_votes_is_found() {
    let mut cluster = cluster();
    cluster.campaign(FIRST);
    let granted = |pre_vote| Message::RequestVoteResponse { granted: true, pre_vote };
    arrives(&mut cluster, forged(SECOND, FIRST, 0, granted(true)));
    cluster.persist(FIRST, None);
    arrives(&mut cluster, forged(SECOND, FIRST, 1, granted(false)));
}

#[test]
#[should_panic(expected = "vote: n2 has 0@0 and votes for n3, which asked with None")]
fn a_vote_for_who_did_not_ask_is_found() {
    let mut cluster = cluster();
    let last_log = LogId::new(9, 1);
    let message = Message::RequestVote { last_log, pre_vote: false, transfer: false };
    arrives(&mut cluster, forged(THIRD, SECOND, 1, message));
    cluster.persist(SECOND, None);
}

#[test]
#[should_panic(expected = "n2 appends [1@1], which no leader has")]
fn entries_of_nobody_are_found() {
    let mut cluster = cluster();
    let entry = Entry { id: LogId::new(1, 1), payload: Payload::Noop };
    let message = Message::AppendEntries(AppendEntries {
        prev_log: LogId::ZERO,
        entries: Run::new(vec![entry]),
        leader_commit: Index(0),
        read_seq: 0,
    });
    arrives(&mut cluster, forged(THIRD, SECOND, 1, message));
    cluster.persist(SECOND, None);
}
