//! Section 6, cluster membership changes: what two configurations at once ask of votes and of
//! replication. n2 and n3 are being replaced by n4 and n5, and n1 stays.

use super::{Alone, ELECTION_MAX, N1, N2, N3, command, entries, ids, loaded, voters};
use raft_core::raft::{AppendEntries, Config, Input, Loaded, LogOp, Message, Raft};
use raft_core::types::{
    Change, Entry, HardState, Incarnation, Index, LogId, Member, Membership, NodeId, Payload, Run,
    SnapshotMeta, Term,
};

const N4: NodeId = NodeId(4);
const N5: NodeId = NodeId(5);

/// n1, n2 and n3 vote; n4 and n5 only receive the log.
fn with_learners() -> Membership {
    let add = |node: NodeId| Change::Add { node, address: String::new(), promote: false };
    let added = voters().changed(&[add(N4), add(N5)]).expect("they are new");
    [N4, N5].into_iter().fold(added, |added, id| added.bound(id, Incarnation(id.0)))
}

/// From n1, n2 and n3 to n1, n4 and n5.
fn joint() -> Membership {
    let changes = [
        Change::Promote { node: N4 },
        Change::Promote { node: N5 },
        Change::Remove { node: N2 },
        Change::Remove { node: N3 },
    ];
    with_learners().changed(&changes).expect("a change of voters")
}

fn entry(index: u64, term: u64, membership: Membership) -> Entry {
    Entry { id: LogId::new(index, term), payload: Payload::Membership(membership.into()) }
}

/// The disk of n1 in term 1: the first configuration, and that of entry 2.
fn disk(second: Membership) -> Loaded {
    let mut disk = loaded(&[(1, 1)], HardState { term: Term(1), vote: None });
    disk.entries.extend(Run::new(vec![entry(2, 1, second)]));
    disk
}

/// n1 in term 1, the configuration of entry 2 in force.
fn node(second: Membership) -> Alone {
    Alone::start(&disk(second))
}

/// n1 as the leader of term 2, elected by `voters`; entry 3 begins its term.
fn leader(second: Membership, voters: &[NodeId]) -> Alone {
    let mut node = node(second);
    node.act(Raft::campaign);
    voters.iter().for_each(|voter| node.vote_response(*voter, 1, true, true));
    node.persist();
    voters.iter().for_each(|voter| node.vote_response(*voter, 2, true, false));
    assert!(node.raft.is_leader());
    node.persist();
    node
}

/// Who was sent something since the last look.
fn receivers(node: &mut Alone) -> Vec<NodeId> {
    let mut receivers: Vec<NodeId> = node.sent.drain(..).map(|envelope| envelope.to).collect();
    receivers.sort_unstable();
    receivers.dedup();
    receivers
}

/// Entries are replicated to all servers of both configurations.
#[test]
fn section_6_entries_go_to_the_servers_of_both_configurations() {
    let mut node = leader(joint(), &[N2, N4]);
    node.sent.clear();
    let peers = [N2, N3, N4, N5];
    peers.iter().for_each(|peer| node.matched(*peer, 2));
    assert_eq!(receivers(&mut node), peers);
    assert!(peers.iter().all(|peer| node.progress(*peer).1 == 4));
}

/// A server of either configuration may lead: here one that is only in the old.
#[test]
fn section_6_a_server_of_the_old_configuration_may_lead() {
    let changes = [
        Change::Promote { node: N4 },
        Change::Promote { node: N5 },
        Change::Remove { node: N1 },
        Change::Remove { node: N2 },
    ];
    let joint = with_learners().changed(&changes).expect("a change of voters");
    assert_eq!(joint.voters(), [N3, N4, N5]);
    leader(joint, &[N2, N4, N5]);
}

/// A server of either configuration may lead: here one that is only in the new.
#[test]
fn section_6_a_server_of_the_new_configuration_may_lead() {
    let member = |id: NodeId| Member { incarnation: Some(Incarnation(id.0)), ..Member::default() };
    let old = Membership::of_voters([N2, N3, N4].map(|id| (id, member(id))).into());
    let added = old.changed(&[Change::Add { node: N1, address: String::new(), promote: false }]);
    let joint = added.expect("it is new").bound(N1, Incarnation(1));
    let joint = joint.changed(&[Change::Promote { node: N1 }]).expect("a change of voters");
    assert_eq!((joint.voters(), joint.outgoing()), (&[N1, N2, N3, N4][..], &[N2, N3, N4][..]));
    leader(joint, &[N2, N3]);
}

/// An election takes a majority of each configuration.
#[test]
fn section_6_elections_need_both_majorities() {
    for (voters, elected) in
        [(&[N2, N3][..], false), (&[N4, N5], false), (&[N2, N4], true), (&[N3, N5], true)]
    {
        let mut node = node(joint());
        node.act(Raft::campaign);
        [N2, N4].into_iter().for_each(|voter| node.vote_response(voter, 1, true, true));
        assert_eq!(node.raft.term(), Term(2));
        node.persist();
        voters.iter().for_each(|voter| node.vote_response(*voter, 2, true, false));
        assert_eq!(node.raft.is_leader(), elected, "with votes of {voters:?}");
    }
}

/// The poll before it does as well (thesis §9.6).
#[test]
fn section_6_pre_votes_need_both_majorities() {
    for voters in [[N2, N3], [N4, N5]] {
        let mut node = node(joint());
        node.act(Raft::campaign);
        voters.into_iter().for_each(|voter| node.vote_response(voter, 1, true, true));
        assert_eq!((node.role().as_str(), node.raft.term()), ("pre-candidate", Term(1)));
    }
}

/// Agreement on an entry takes a majority of each configuration.
#[test]
fn section_6_commitment_needs_both_majorities() {
    for (acknowledging, committed) in
        [(&[N2, N3][..], false), (&[N4, N5], false), (&[N2, N4], true), (&[N3, N5], true)]
    {
        let mut node = leader(joint(), &[N2, N4]);
        acknowledging.iter().for_each(|peer| node.matched(*peer, 3));
        let commit = node.raft.commit_index();
        assert_eq!(commit >= Index(3), committed, "acknowledged by {acknowledging:?}");
    }
}

/// So does the confirmation of a leader: one that hears only half of it steps down (thesis §6.2).
#[test]
fn section_6_a_leader_needs_to_hear_both_majorities() {
    let mut node = leader(joint(), &[N2, N4]);
    for _ in 0..ELECTION_MAX {
        node.matched(N4, 1);
        node.matched(N5, 1);
        node.tick(1);
    }
    assert!(!node.raft.is_leader());
}

/// A server uses the latest configuration in its log, committed or not ...
#[test]
fn section_6_the_latest_configuration_in_the_log_is_in_force() {
    let mut node = node(with_learners());
    let append = |prev_log, entries| {
        let (entries, leader_commit) = (Run::new(entries), Index(0));
        Message::AppendEntries(AppendEntries { prev_log, entries, leader_commit, read_seq: 0 })
    };
    node.receive(N2, 1, append(LogId::new(2, 1), vec![entry(3, 1, joint())]));
    assert_eq!(node.raft.commit_index(), Index(0));
    assert_eq!(node.status().membership, joint());
    node.persist();
    node.sent.clear();

    // It campaigns in that configuration.
    node.tick(ELECTION_MAX);
    assert_eq!(receivers(&mut node), [N2, N3, N4, N5]);

    // ... so when the entry is replaced, it goes back to the one before.
    node.receive(N3, 2, append(LogId::new(2, 1), entries(&[(3, 2)])));
    assert_eq!(node.log(), ids(&[(1, 1), (2, 1), (3, 2)]));
    assert_eq!(node.status().membership, with_learners());
}

/// ... and so after a restart.
#[test]
fn section_6_a_restart_finds_the_latest_configuration() {
    let applied = disk(joint()).snapshot;
    let raft = Raft::new(super::config(N1), disk(joint()), applied, 1).expect("the log is whole");
    assert_eq!((raft.commit_index(), raft.status().membership), (Index(0), joint()));
}

/// What is compacted away leaves its last entry's configuration behind, not a later one.
#[test]
fn section_6_a_boundary_keeps_the_configuration_of_its_entry() {
    let mut disk = disk(with_learners());
    disk.entries.extend(Run::new(vec![entry(3, 1, joint())]));
    let config = Config { log_trailing_bytes: 0, ..super::config(N1) };
    let boundary = SnapshotMeta { last: LogId::new(2, 1), membership: with_learners() };
    let mut raft = Raft::new(config, disk, boundary.clone(), 1).expect("log and state agree");
    raft.step(Input::Flushed(boundary.clone()));
    let write = raft.take_output().write.expect("entries 1 and 2 are not needed");
    assert_eq!(write.ops, [LogOp::Compact(boundary)]);
    assert_eq!(raft.status().membership, joint());
}

/// New servers join without a vote: they receive entries, but no majority asks for them ...
#[test]
fn section_6_new_servers_receive_entries_but_do_not_count() {
    let mut node = leader(with_learners(), &[N2]);
    node.act(|raft| raft.propose(command("x"))).expect("it leads");
    node.persist();
    node.sent.clear();
    for learner in [N4, N5] {
        node.matched(learner, 2);
        assert_eq!(receivers(&mut node), [learner]);
        node.matched(learner, 4);
    }
    assert_eq!(node.raft.commit_index(), Index(0));
    node.matched(N3, 4);
    assert_eq!(node.raft.commit_index(), Index(4));
}

/// ... and they are asked for no vote and give none that counts.
#[test]
fn section_6_new_servers_are_asked_for_no_vote() {
    let mut node = node(with_learners());
    node.act(Raft::campaign);
    assert_eq!(receivers(&mut node), [N2, N3]);
    node.vote_response(N4, 1, true, true);
    node.vote_response(N5, 1, true, true);
    assert_eq!(node.role(), "pre-candidate");
}

/// A server that has lost its vote for good, the entry that says so being committed, does not
/// campaign, however long it hears nothing.
#[test]
fn section_6_a_server_without_a_vote_does_not_campaign() {
    let demoted = voters().changed(&[Change::Demote { node: N1 }]).expect("it votes").left();
    assert_eq!(demoted.voters(), [N2, N3]);
    let mut node = node(demoted);
    node.append(N2, 1, LogId::new(2, 1), &[], 2);
    node.persist();
    node.sent.clear();
    node.tick(10 * ELECTION_MAX);
    assert_eq!((node.role().as_str(), node.raft.term()), ("follower", Term(1)));
    assert_eq!(node.sent().len(), 0);
}

/// Until that entry is committed it does, for the others may need it to commit the entry; but it
/// does not count itself (thesis §4.2.2).
#[test]
fn section_6_a_server_about_to_lose_its_vote_campaigns() {
    let demoted = voters().changed(&[Change::Demote { node: N1 }]).expect("it votes").left();
    let mut node = node(demoted);
    node.tick(ELECTION_MAX);
    assert_eq!(node.role(), "pre-candidate");
    node.vote_response(N2, 1, true, true);
    assert_eq!(node.role(), "pre-candidate");
    node.vote_response(N3, 1, true, true);
    assert_eq!(node.role(), "candidate");
}

/// A vote request is disregarded while a leader is heard, so that servers which were removed, and
/// hear nothing any more, depose nobody; not even their term is taken (thesis §4.2.3).
#[test]
fn section_6_removed_servers_disrupt_nobody() {
    let mut follower = node(joint().left());
    follower.append(N4, 1, LogId::new(2, 1), &[], 2);
    follower.persist();
    follower.sent.clear();
    let mut leader = leader(joint().left(), &[N4]);
    leader.sent.clear();
    for node in [&mut follower, &mut leader] {
        let term = node.raft.term();
        node.request_vote(N2, 90, LogId::new(9, 89));
        assert_eq!(node.raft.term(), term);
        node.request_pre_vote(N2, 90, LogId::new(9, 89));
        assert_eq!(node.raft.term(), term);
        assert!(node.sent().iter().all(|sent| sent.contains("refused")));
    }
}
