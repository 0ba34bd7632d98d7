//! Formation and membership changes through the driver.

use super::*;
use raft_core::node::{ChangeError, Changed};
use raft_core::raft::Envelope;
use raft_core::transport::{Inbox, MemoryTransport, Transport};
use raft_core::types::{Change, Identity, InvalidChange, Term};

pub(super) fn add(id: u64) -> Change {
    Change::Add { node: NodeId(id), address: format!("n{id}:1"), promote: true }
}

fn learn(id: u64) -> Change {
    Change::Add { node: NodeId(id), address: format!("n{id}:1"), promote: false }
}

fn remove(id: u64) -> Change {
    Change::Remove { node: NodeId(id) }
}

fn voters(status: &Status) -> Vec<u64> {
    let membership = &status.membership;
    if membership.is_joint() {
        return Vec::new();
    }
    membership.voters().iter().map(|node| node.0).collect()
}

/// Makes the change, as often as the cluster is busy with one of its own.
pub(super) async fn change(node: &Node, changes: &[Change]) -> Result<Changed, ChangeError> {
    loop {
        match node.change_membership(changes.to_vec()).await {
            Err(ChangeError::Pending { .. } | ChangeError::NotReady) => {
                node.status_changed().await;
            }
            outcome => return outcome,
        }
    }
}

pub(super) async fn lead(node: &Node) {
    let own = node.status().identity.node;
    shows(node, |status| status.leader == Some(own)).await;
}

#[tokio::test]
async fn a_cluster_forms_when_all_its_members_are_there() {
    let network = MemoryNetwork::new();
    let start = |id| {
        let transport = network.transport(NodeId(id));
        Node::start(config(id, 3), MemoryLog::new(), Journal::new(), transport).unwrap()
    };
    let early = [start(1), start(2)];
    shows(&early[0], |status| status.missing == [NodeId(3)]).await;
    assert_eq!(early[0].status().leader, None);
    assert!(early[0].status().membership.is_empty());
    let late = start(3);
    for node in early.iter().chain([&late]) {
        shows(node, |status| voters(status) == [1, 2, 3] && status.bound).await;
        assert_eq!(node.status().missing, []);
    }
}

#[tokio::test]
async fn one_node_grows_to_three() {
    let cluster = Cluster::start_one_of(3);
    let first = cluster.node(NodeId(1));
    lead(first).await;
    first.propose("one".into()).await.unwrap();
    assert!(!cluster.nodes[1].status().bound);
    let changed = change(first, &[add(2), add(3)]).await.unwrap();
    let learners: Vec<NodeId> = changed.membership.learners().collect();
    assert_eq!(learners, [NodeId(2), NodeId(3)]);
    for node in &cluster.nodes {
        shows(node, |status| voters(status) == [1, 2, 3] && status.bound).await;
        let read = node.query(number(1), ReadMode::Linearizable).await.unwrap().reply;
        assert_eq!(read, Bytes::from_static(b"one"));
    }
}

#[tokio::test]
async fn a_leader_that_removes_itself_is_answered_and_goes() {
    let cluster = Cluster::start(3);
    let old = cluster.leader(&[]).await;
    let changed = change(cluster.node(old), &[remove(old.0)]).await.unwrap();
    assert!(!changed.membership.contains(old));
    assert!(!changed.membership.is_joint());
    let new = cluster.leader(&[old]).await;
    cluster.node(new).propose("two".into()).await.unwrap();
    shows(cluster.node(new), |status| status.membership == changed.membership).await;
    shows(cluster.node(old), |status| status.leader != Some(old)).await;
    let refused = change(cluster.node(old), &[add(4)]).await;
    assert_eq!(refused, Err(ChangeError::NotLeader { leader: None }));
}

#[tokio::test]
async fn changes_that_cannot_be_are_refused() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader(&[]).await;
    let follower = [1, 2, 3].map(NodeId).into_iter().find(|id| *id != leader).unwrap();
    shows(cluster.node(follower), |status| status.leader == Some(leader)).await;
    let refused = change(cluster.node(follower), &[remove(1)]).await;
    assert_eq!(refused, Err(ChangeError::NotLeader { leader: Some(leader) }));
    let refused = change(cluster.node(leader), &[remove(9)]).await;
    assert_eq!(refused, Err(ChangeError::Invalid(InvalidChange::NotMember(NodeId(9)))));
    cluster.node(leader).shutdown().await;
    assert_eq!(change(cluster.node(leader), &[remove(1)]).await, Err(ChangeError::Stopped));
}

/// The leader is cut off: what it begins is never committed, and it says that it does not know.
#[tokio::test]
async fn a_leader_that_loses_its_office_does_not_know_what_became_of_a_change() {
    let cluster = Cluster::start(3);
    let old = cluster.leader(&[]).await;
    change(cluster.node(old), &[add(4)]).await.unwrap();
    cluster.network.isolate(old, true);
    let outcome = change(cluster.node(old), &[remove(4)]).await;
    assert_eq!(outcome, Err(ChangeError::LeadershipLost));
}

type Peers = Vec<(NodeId, String)>;

/// Remembers where it was told to reach whom.
struct Told {
    inner: Arc<MemoryTransport>,
    told: Arc<Mutex<Vec<Peers>>>,
}

impl Transport for Told {
    fn open(&self, group: GroupId, identity: Identity, inbox: Arc<dyn Inbox>) {
        self.inner.open(group, identity, inbox);
    }
    fn set_peers(&self, _group: GroupId, peers: Peers) {
        self.told.lock().unwrap().push(peers);
    }
    fn send(&self, group: GroupId, envelope: Envelope) {
        self.inner.send(group, envelope);
    }
    fn send_snapshot(&self, group: GroupId, to: NodeId, term: Term, snapshot: Snapshot) {
        self.inner.send_snapshot(group, to, term, snapshot);
    }
}

/// Without knowing the others a blank node could not say hello to them.
#[tokio::test]
async fn before_there_is_a_cluster_the_transport_is_told_of_its_initial_members() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let inner = MemoryNetwork::new().transport(NodeId(1));
    let transport = Arc::new(Told { inner, told: Arc::clone(&told) });
    let node = Node::start(config(1, 3), MemoryLog::new(), Journal::new(), transport).unwrap();
    shows(&node, |status| status.missing.len() == 2).await;
    for _ in 0..20 {
        node.status_changed().await;
    }
    let others = vec![(NodeId(2), String::new()), (NodeId(3), String::new())];
    assert_eq!(*told.lock().unwrap(), [others], "once");
}

/// A cluster of one, a node that waits to be added, and what the transport of the first is told.
async fn one_and_a_newcomer() -> (Node, Node, impl Fn() -> Vec<Peers>) {
    let network = MemoryNetwork::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let inner = network.transport(NodeId(1));
    let transport = Arc::new(Told { inner, told: Arc::clone(&told) });
    let node = Node::start(config(1, 1), MemoryLog::new(), Journal::new(), transport).unwrap();
    let transport = network.transport(NodeId(2));
    let other = Node::start(config(2, 0), MemoryLog::new(), Journal::new(), transport).unwrap();
    lead(&node).await;
    (node, other, move || told.lock().unwrap().clone())
}

#[tokio::test]
async fn the_transport_is_told_of_everybody_who_must_be_reached() {
    let (node, other, told) = one_and_a_newcomer().await;
    change(&node, &[add(2)]).await.unwrap();
    shows(&other, |status| voters(status) == [1, 2]).await;
    change(&node, &[remove(2)]).await.unwrap();
    // It is told that it was removed before it is forgotten.
    while told().last().is_none_or(|last| !last.is_empty()) {
        node.status_changed().await;
    }
    let second = vec![(NodeId(2), "n2:1".to_owned())];
    assert_eq!(told(), [vec![], second, vec![]]);
    shows(&other, |status| voters(status) == [1]).await;
}

/// Whoever comes in the place of one that is gone is another process, perhaps at the same address.
#[tokio::test]
async fn who_is_removed_and_added_again_is_reached_anew() {
    let (node, other, told) = one_and_a_newcomer().await;
    change(&node, &[learn(2)]).await.unwrap();
    shows(&node, |status| status.membership.members()[&NodeId(2)].incarnation.is_some()).await;
    // It cannot be told that it is removed, so it is still to be reached when it is added.
    other.shutdown().await;
    change(&node, &[remove(2)]).await.unwrap();
    change(&node, &[learn(2)]).await.unwrap();
    let second = vec![(NodeId(2), "n2:1".to_owned())];
    while told().len() < 4 {
        node.status_changed().await;
    }
    assert_eq!(told(), [vec![], second.clone(), vec![], second]);
}
