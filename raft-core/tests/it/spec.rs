//! The abstract Raft beside every simulated cluster: what no step of it explains is found, even
//! where nothing visible has gone wrong yet.
//!
//! Scripts and random runs are the other half: all of them are explained.

use raft_core::raft::{AppendEntries, AppendOutcome, Config, Envelope, Loaded, Message};
use raft_core::testing::Cluster;
use raft_core::types::{
    Change, Entry, HardState, Index, LogId, NodeId, Payload, Run, Sender, Term,
};

const FIRST: NodeId = NodeId(1);
const SECOND: NodeId = NodeId(2);
const THIRD: NodeId = NodeId(3);

fn cluster(nodes: u64) -> Cluster {
    let config = Config {
        id: FIRST,
        election_ticks_min: 10,
        election_ticks_max: 20,
        heartbeat_ticks: 3,
        ..Config::default()
    };
    Cluster::new(nodes, &config, 1, false)
}

fn settle(cluster: &mut Cluster) {
    settle_but(cluster, |_| false);
}

/// Lets everything happen but for the arrival of messages that are `held`, which stay under way.
fn settle_but(cluster: &mut Cluster, held: impl Fn(&Envelope) -> bool) {
    let ids: Vec<NodeId> = cluster.servers().keys().copied().collect();
    for _ in 0..20 {
        ids.iter().for_each(|id| cluster.persist(*id, None));
        let mut at = 0;
        for _ in 0..cluster.pool().len() {
            match held(&cluster.pool()[at]) {
                true => at += 1,
                false => cluster.deliver(at),
            }
        }
    }
}

/// `id` campaigns once the others believe no leader alive any more.
fn campaigns(cluster: &mut Cluster, id: NodeId, held: impl Fn(&Envelope) -> bool) {
    for other in cluster.servers().keys().copied().collect::<Vec<_>>() {
        let silent = cluster.leader() != Some(other);
        (0..10).filter(|_| silent).for_each(|_| cluster.tick(other));
    }
    cluster.campaign(id);
    settle_but(cluster, held);
    assert_eq!(cluster.leader(), Some(id));
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
    let mut cluster = cluster(3);
    cluster.campaign(FIRST);
    settle(&mut cluster);
    cluster.propose(FIRST, &["x".into()]);
    settle(&mut cluster);
    let steps = cluster.spec().steps();
    let count = |step: &str| steps.get(step).copied().unwrap_or(0);
    // Three servers enter the term; two of them grant, and all of them take two entries.
    assert_eq!([count("adopt"), count("ask"), count("vote"), count("elect")], [3, 1, 2, 1]);
    assert_eq!([count("extend"), count("accept"), count("commit")], [2, 6, 2]);
    assert_eq!(count("install"), 0);
}

#[test]
#[should_panic(expected = "elect: n1 in 1 without a quorum")]
fn a_leader_without_votes_is_found() {
    let mut cluster = cluster(3);
    cluster.campaign(FIRST);
    let granted = |pre_vote| Message::RequestVoteResponse { granted: true, pre_vote };
    arrives(&mut cluster, forged(SECOND, FIRST, 0, granted(true)));
    cluster.persist(FIRST, None);
    arrives(&mut cluster, forged(SECOND, FIRST, 1, granted(false)));
}

#[test]
#[should_panic(expected = "vote: n2 has 0@0 and votes for n3, which asked with None")]
fn a_vote_for_who_did_not_ask_is_found() {
    let mut cluster = cluster(3);
    let last_log = LogId::new(9, 1);
    let message = Message::RequestVote { last_log, pre_vote: false, transfer: false };
    arrives(&mut cluster, forged(THIRD, SECOND, 1, message));
    cluster.persist(SECOND, None);
}

#[test]
#[should_panic(expected = "n2 appends [1@1], which no leader has")]
fn entries_of_nobody_are_found() {
    let mut cluster = cluster(3);
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

/// `id` tells others that `entry` is committed; its disk is in that term.
fn tells_of_a_commit(cluster: &Cluster, id: NodeId, term: u64, entry: LogId) {
    let disk =
        Loaded { hard_state: HardState { term: Term(term), vote: None }, ..Loaded::default() };
    let mut checker = cluster.checker().clone();
    checker.on_send(&forged(id, FIRST, term, Message::Commit { entry }), &disk);
}

#[test]
#[should_panic(expected = "the leader of the term is Some(n2)")]
fn who_tells_of_a_commit_and_does_not_lead_is_found() {
    let mut cluster = cluster(3);
    campaigns(&mut cluster, SECOND, |_| false);
    let term = cluster.server(SECOND).raft().unwrap().term().0;
    let entry = cluster.checker().committed_id(Index(1)).unwrap();
    // That one may.
    tells_of_a_commit(&cluster, SECOND, term, entry);
    tells_of_a_commit(&cluster, THIRD, term, entry);
}

#[test]
#[should_panic(expected = "Commit 99@1: committed is None")]
fn a_leader_that_tells_of_what_is_not_committed_is_found() {
    let mut cluster = cluster(3);
    campaigns(&mut cluster, SECOND, |_| false);
    let term = cluster.server(SECOND).raft().unwrap().term();
    tells_of_a_commit(&cluster, SECOND, term.0, LogId::new(99, term.0));
}

/// A leader may learn only after it was deposed that its entries are committed, when a later one
/// has committed more already. It goes on from there, as it must: it leaves a joint configuration.
#[test]
fn a_deposed_leader_that_commits_late_is_explained() {
    let [fourth, fifth] = [NodeId(4), NodeId(5)];
    let mut cluster = cluster(5);
    campaigns(&mut cluster, SECOND, |_| false);
    // Everybody has the joint configuration, and the second node does not learn it.
    let joint = cluster.change(SECOND, &[Change::Remove { node: fifth }]).unwrap().unwrap();
    settle_but(&mut cluster, |it| it.to == SECOND);
    (0..cluster.pool().len()).for_each(|_| cluster.drop_message(0));
    // The first one leads next, and does not learn that its first entry is on all disks.
    let acknowledges = |it: &Envelope| match it.message {
        Message::AppendEntriesResponse { outcome: AppendOutcome::Matched(index), .. } => {
            index > joint.index
        }
        _ => false,
    };
    campaigns(&mut cluster, FIRST, |it| it.to == FIRST && acknowledges(it));
    campaigns(&mut cluster, fourth, |it| it.to == FIRST);
    let own = joint.index.next();
    assert!(cluster.checker().committed() > own);
    let raft = |cluster: &Cluster| cluster.server(FIRST).raft().unwrap().clone();
    assert!(raft(&cluster).is_leader() && raft(&cluster).commit_index() < joint.index);
    let late = |it: &Envelope| it.to == FIRST && it.term == Term(2);
    settle_but(&mut cluster, |it| !late(it));
    assert!(raft(&cluster).is_leader() && raft(&cluster).commit_index() >= own);
    assert!(!raft(&cluster).membership().is_joint());
}
