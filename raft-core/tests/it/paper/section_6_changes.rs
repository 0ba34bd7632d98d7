//! Section 6, cluster membership changes: whole changes on a cluster, from the request to the last
//! configuration.

use super::{
    ELECTION_MAX, N1, N2, N3, cluster, command, isolate, nodes, persist, raft, settle, tick_all,
};
use raft_core::raft::ChangeRefusal;
use raft_core::testing::Cluster;
use raft_core::types::{Change, Index, LogId, Membership, NodeId};

const N4: NodeId = NodeId(4);

/// Ticks within which a change is done that nothing hinders: the new node is heard of, bound,
/// caught up and promoted, each an entry or two.
const CHANGE_TICKS_MAX: u32 = 10 * ELECTION_MAX;

fn add(node: NodeId, promote: bool) -> Change {
    Change::Add { node, address: String::new(), promote }
}

fn remove(node: NodeId) -> Change {
    Change::Remove { node }
}

fn change(cluster: &mut Cluster, id: NodeId, changes: &[Change]) -> Result<LogId, ChangeRefusal> {
    cluster.change(id, changes).expect("the node is up")
}

fn membership(cluster: &Cluster, id: NodeId) -> Membership {
    raft(cluster, id).status().membership
}

/// Ticks until `id` is of the configuration that `wanted` tells.
fn await_membership(cluster: &mut Cluster, id: NodeId, wanted: impl Fn(&Membership) -> bool) {
    for _ in 0..CHANGE_TICKS_MAX {
        if wanted(&membership(cluster, id)) {
            return;
        }
        tick_all(cluster, 1);
    }
    panic!("{id} is left with {}", membership(cluster, id));
}

/// What the highest commit index is.
fn committed(cluster: &Cluster) -> Index {
    cluster.checker().committed()
}

/// Once the joint configuration is committed the leader makes the new one, by itself, and then that
/// alone is in force.
#[test]
fn section_6_the_new_configuration_follows_the_joint_one() {
    let mut cluster = cluster(3);
    let id = change(&mut cluster, N1, &[remove(N3)]).expect("nothing hinders it");
    // In force at once, on the leader.
    assert!(membership(&cluster, N1).is_joint());
    assert_eq!(raft(&cluster, N1).last_log(), id);
    assert!(committed(&cluster) < id.index);
    settle(&mut cluster);
    tick_all(&mut cluster, 1);
    let reached = membership(&cluster, N1);
    assert!(!reached.is_joint() && reached.voters() == [N1, N2], "{reached}");
    assert!(committed(&cluster) > id.index);
    assert_eq!(membership(&cluster, N2), reached);
}

/// The new configuration is not made before the joint one is committed: neither half decides alone.
#[test]
fn section_6_the_joint_configuration_is_left_only_once_committed() {
    let mut cluster = cluster(3);
    isolate(&mut cluster, N2);
    isolate(&mut cluster, N3);
    let id = change(&mut cluster, N1, &[remove(N3)]).expect("nothing hinders it");
    tick_all(&mut cluster, ELECTION_MAX / 2);
    assert!(committed(&cluster) < id.index);
    assert!(membership(&cluster, N1).is_joint());
}

/// A new leader that finds a joint configuration in its log leaves it too.
#[test]
fn section_6_the_next_leader_leaves_the_joint_configuration() {
    let mut cluster = cluster(3);
    change(&mut cluster, N1, &[remove(N1)]).expect("nothing hinders it");
    for to in [N2, N3] {
        deliver_to(&mut cluster, to);
    }
    persist(&mut cluster);
    cluster.crash(N1, None);
    assert!(membership(&cluster, N2).is_joint());
    await_membership(&mut cluster, N2, |membership| !membership.is_joint());
    assert_eq!(membership(&cluster, N2).voters(), [N2, N3]);
}

/// New servers join without a vote, and get it by themselves once they have caught up.
#[test]
fn section_6_new_servers_catch_up_before_they_vote() {
    let mut cluster = cluster(3);
    (0..5).for_each(|_| drop(cluster.propose(N1, &[command("x")])));
    settle(&mut cluster);
    cluster.add_server(N4);
    change(&mut cluster, N1, &[add(N4, true)]).expect("nothing hinders it");
    let added = membership(&cluster, N1);
    assert!(added.contains(N4) && !added.is_voter(N4) && !added.is_joint(), "{added}");
    let voting = |membership: &Membership| !membership.is_joint() && membership.is_voter(N4);
    await_membership(&mut cluster, N1, voting);
    await_membership(&mut cluster, N4, voting);
    let last = raft(&cluster, N1).last_log();
    assert_eq!(raft(&cluster, N4).log_id_at(last.index), Some(last));
}

/// One that is to stay without a vote does, and never makes a majority.
#[test]
fn section_6_a_server_without_a_vote_makes_no_majority() {
    let mut cluster = cluster(3);
    cluster.add_server(N4);
    change(&mut cluster, N1, &[add(N4, false)]).expect("nothing hinders it");
    tick_all(&mut cluster, CHANGE_TICKS_MAX);
    let reached = membership(&cluster, N1);
    assert!(reached.contains(N4) && !reached.is_voter(N4), "{reached}");

    isolate(&mut cluster, N2);
    isolate(&mut cluster, N3);
    let id = cluster.propose(N1, &[command("x")])[0].expect("it leads");
    tick_all(&mut cluster, ELECTION_MAX / 2);
    assert_eq!(raft(&cluster, N4).log_id_at(id.index), Some(id));
    assert!(committed(&cluster) < id.index);
}

/// One change at a time.
#[test]
fn section_6_a_change_waits_for_the_one_before() {
    let mut cluster = cluster(5);
    let id = change(&mut cluster, N1, &[remove(N4)]).expect("nothing hinders it");
    let refused = change(&mut cluster, N1, &[remove(N3)]);
    assert_eq!(refused, Err(ChangeRefusal::Pending { index: id.index }));
    settle(&mut cluster);
    tick_all(&mut cluster, 1);
    assert!(!membership(&cluster, N1).is_joint());
    change(&mut cluster, N1, &[remove(N3)]).expect("the other is done");
}

/// A change waits for an entry of the leader's own term to be committed (thesis §4.1).
#[test]
fn section_6_a_change_waits_for_an_entry_of_the_own_term() {
    let mut cluster = cluster(3);
    cluster.transfer(N1, Some(N2)).expect("up").expect("a voter");
    while !raft(&cluster, N2).is_leader() {
        persist(&mut cluster);
        cluster.deliver(0);
    }
    assert_eq!(change(&mut cluster, N2, &[remove(N3)]), Err(ChangeRefusal::NotReady));
    settle(&mut cluster);
    change(&mut cluster, N2, &[remove(N3)]).expect("its entry is committed");
}

/// A leader that is not in the new configuration manages it until it is committed, then steps down.
#[test]
fn section_6_a_removed_leader_steps_down_once_that_is_committed() {
    let mut cluster = cluster(3);
    let joint = change(&mut cluster, N1, &[remove(N1)]).expect("nothing hinders it");
    for _ in 0..CHANGE_TICKS_MAX {
        if !raft(&cluster, N1).is_leader() {
            break;
        }
        tick_all(&mut cluster, 1);
    }
    assert!(!raft(&cluster, N1).is_leader());
    // Both configurations are committed: it did not give up earlier.
    assert!(raft(&cluster, N1).commit_index() > joint.index);
    tick_all(&mut cluster, 4 * ELECTION_MAX);
    let leader = cluster.leader().expect("two of two are there");
    assert!(leader == N2 || leader == N3);
    assert_eq!(membership(&cluster, leader).voters(), [N2, N3]);
    let id = cluster.propose(leader, &[command("x")])[0].expect("it leads");
    settle(&mut cluster);
    assert!(committed(&cluster) >= id.index);
}

/// Until then it leads, and does not count itself.
#[test]
fn section_6_a_removed_leader_does_not_count_itself() {
    let mut cluster = cluster(3);
    let joint = change(&mut cluster, N1, &[remove(N1)]).expect("nothing hinders it");
    // The joint configuration reaches everybody, the new one only n1 and n3: one of its two voters.
    for _ in 0..10 {
        if raft(&cluster, N1).last_log().index > joint.index {
            break;
        }
        deliver_to(&mut cluster, N2);
        deliver_to(&mut cluster, N3);
        persist(&mut cluster);
        deliver_to(&mut cluster, N1);
    }
    let left = raft(&cluster, N1).last_log().index;
    assert!(left > joint.index && raft(&cluster, N1).is_leader());
    isolate(&mut cluster, N2);
    tick_all(&mut cluster, ELECTION_MAX / 2);
    assert_eq!(raft(&cluster, N3).last_log().index, left);
    assert!(committed(&cluster) < left, "{} of {left}", committed(&cluster));
    // Until it is committed, it leads.
    assert!(raft(&cluster, N1).is_leader());
}

/// A server that was removed and does not know it disrupts nobody, however long it tries.
#[test]
fn section_6_a_removed_server_that_does_not_know_disrupts_nobody() {
    let mut cluster = cluster(4);
    let term = raft(&cluster, N1).term();
    isolate(&mut cluster, N4);
    change(&mut cluster, N1, &[remove(N4)]).expect("nothing hinders it");
    let gone = |membership: &Membership| !membership.is_joint() && !membership.contains(N4);
    await_membership(&mut cluster, N1, gone);
    // It can speak again, but nobody tells it anything.
    cluster.heal();
    for id in [N1, N2, N3] {
        cluster.cut(id, N4);
    }
    tick_all(&mut cluster, 20 * ELECTION_MAX);
    assert_eq!(cluster.leader(), Some(N1));
    for id in nodes(&cluster).into_iter().filter(|id| *id != N4) {
        assert_eq!(raft(&cluster, id).term(), term);
    }
}

/// All that is under way to `to` arrives.
fn deliver_to(cluster: &mut Cluster, to: NodeId) {
    while let Some(position) = cluster.pool().iter().position(|envelope| envelope.to == to) {
        cluster.deliver(position);
    }
}
