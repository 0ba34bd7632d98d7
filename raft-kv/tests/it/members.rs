//! Clusters that grow, shrink and take wiped nodes back, through the client alone.

use crate::cluster::Cluster;
use raft_core::types::{Change, NodeId};
use raft_kv::Client;
use raft_kv::api::{Consistency, Keys, KvError, Members, Position, Range, Revision};
use raft_kv::client::ClientError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Long enough for any machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn add(id: u64) -> Change {
    Change::Add { node: NodeId(id), address: format!("n{id}"), promote: true }
}

fn ids<const N: usize>(ids: [u64; N]) -> [NodeId; N] {
    ids.map(NodeId)
}

/// Waits until exactly these vote.
async fn until_voters(cluster: &Cluster, client: &Client, voters: &[NodeId]) -> Members {
    loop {
        let members = client.members().await.unwrap();
        if members.membership.voters() == voters && !members.membership.is_joint() {
            return members;
        }
        // The status is told with every tick.
        cluster.nodes.values().next().unwrap().status_changed().await;
    }
}

/// Writes from several tasks until told to stop, and then says how many keys there must be.
struct Load {
    stop: Arc<AtomicBool>,
    writers: JoinSet<u64>,
}

impl Load {
    fn on(client: &Client) -> Self {
        let (stop, mut writers) = (Arc::<AtomicBool>::default(), JoinSet::new());
        for writer in 0..8 {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            writers.spawn(async move {
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    client.put(format!("{writer}/{written}"), "value").await.unwrap();
                    written += 1;
                }
                written
            });
        }
        Self { stop, writers }
    }

    async fn ended(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.writers.join_all().await.iter().sum()
    }
}

async fn count_on(cluster: &Cluster, id: NodeId) -> (u64, Revision) {
    let client = cluster.client(id).with_deadline(PATIENCE);
    let mut range = Range::of(Keys::all());
    range.count_only = true;
    let reply = client.get(range, Consistency::Linearizable).await.unwrap();
    (reply.count, reply.revision)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_grows_to_three_under_writes() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client(NodeId(1)).with_deadline(PATIENCE);
    let load = Load::on(&client);
    for id in [2, 3] {
        cluster.join(NodeId(id));
        let members = client.change_members(vec![add(id)]).await.unwrap();
        assert!(members.membership.contains(NodeId(id)));
        let voters: Vec<_> = (1..=id).map(NodeId).collect();
        until_voters(&cluster, &client, &voters).await;
    }
    let written = load.ended().await;
    for id in [1, 2, 3] {
        // Every key is there and was written once.
        assert_eq!(count_on(&cluster, NodeId(id)).await, (written, Revision(written + 1)));
    }
    let members = client.members().await.unwrap();
    assert_eq!(members.summary(), "3 voters: a quorum is 2, 1 may fail");
    // They count: the first can go.
    cluster.kill(NodeId(1));
    let client = cluster.client(NodeId(2)).with_deadline(PATIENCE);
    client.put("after", "").await.unwrap();
    cluster.assert_equal_states().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_removed_through_a_follower_under_writes() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let follower = cluster.other(leader);
    let client = cluster.client(follower).with_deadline(PATIENCE);
    client.put("first", "").await.unwrap();
    let load = Load::on(&client);
    let members = client.change_members(vec![Change::Remove { node: leader }]).await.unwrap();
    assert!(!members.membership.contains(leader));
    assert_eq!(
        members.summary(),
        "2 voters: a quorum is 2, none may fail - as with 1; add or remove one"
    );
    client.put("after", "").await.unwrap();
    let written = load.ended().await + 2;
    let counted = count_on(&cluster, follower).await;
    assert_eq!(counted, (written, Revision(written + 1)));

    // Who was removed says so, to whoever asks nobody else.
    let removed = &cluster.nodes[&leader];
    while removed.status().membership.contains(leader) || removed.status().leader.is_some() {
        removed.status_changed().await;
    }
    cluster.kill(follower);
    for other in cluster.nodes.keys().filter(|id| **id != leader) {
        cluster.kill(*other);
    }
    let asked = cluster.client(leader).with_deadline(Duration::from_secs(2));
    let error = asked.put("key", "").await.unwrap_err();
    let text = format!("{leader} was removed from the cluster: ask another node");
    assert!(error.to_string().contains(&text), "{error}");
    cluster.assert_equal_states().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_comes_back_by_itself() {
    let mut cluster = Cluster::start(3);
    let lost = cluster.other(cluster.leader().await);
    let stays = cluster.nodes.keys().copied().find(|id| *id != lost).unwrap();
    let client = cluster.client(stays).with_deadline(PATIENCE);
    for number in 0..100 {
        client.put(format!("{number}"), "value").await.unwrap();
    }
    let before = until_voters(&cluster, &client, &ids([1, 2, 3])).await;
    cluster.wipe(lost).await;
    let load = Load::on(&client);
    loop {
        let members = until_voters(&cluster, &client, &ids([1, 2, 3])).await;
        let life = |members: &Members| members.membership.members()[&lost].incarnation;
        if life(&members) != life(&before) {
            break;
        }
    }
    let written = load.ended().await + 100;
    assert_eq!(count_on(&cluster, lost).await, (written, Revision(written + 1)));
    // It votes again.
    let third = cluster.nodes.keys().copied().find(|id| ![lost, stays].contains(id)).unwrap();
    cluster.kill(third);
    client.put("after", "").await.unwrap();
    cluster.assert_equal_states().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_with_the_reason() {
    let cluster = Cluster::start(1);
    let client = cluster.client(NodeId(1)).with_deadline(PATIENCE);
    let refused = async |change| match client.change_members(vec![change]).await {
        Err(ClientError::Refused(KvError::ChangeRefused { reason, .. })) => reason,
        other => panic!("{other:?}"),
    };
    let node = NodeId(1);
    assert_eq!(refused(Change::Remove { node }).await, "no voter would be left");
    assert_eq!(refused(add(1)).await, "n1 is a member already");
    client.change_members(vec![add(2)]).await.unwrap();
    let promote = Change::Promote { node: NodeId(2) };
    let unheard = "n2 was never heard of; start it before it is made a voter";
    assert_eq!(refused(promote).await, unheard);
    let prioritize = Change::Prioritize { node, priority: 9 };
    let members = client.change_members(vec![prioritize]).await.unwrap();
    assert_eq!(members.membership.priority(node), 9);
    cluster.assert_equal_states().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_causal_read_sees_an_own_write_on_any_node_without_a_quorum() {
    let cluster = Cluster::configured(3, |config| config.raft.lease_reads = true);
    let client = cluster.client(NodeId(1)).with_deadline(PATIENCE);
    let range = Range::of(Keys::all());
    let read = client.read(range.clone(), Consistency::Linearizable).await.unwrap();
    assert_eq!(read.staleness, Some(Duration::ZERO));
    let mut position = read.position;
    for number in 0..20 {
        let put = client.put("key", number.to_string()).await.unwrap();
        position = Position { revision: put.revision, ..position };
        for id in cluster.nodes.keys() {
            let client = cluster.client(*id).with_deadline(PATIENCE);
            let read = client.read(range.clone(), Consistency::AtLeast(position)).await.unwrap();
            assert!(read.position >= position && read.staleness.is_some(), "{read:?}");
            assert_eq!(read.range.kvs[0].value, number.to_string());
        }
    }
    for id in cluster.nodes.keys() {
        cluster.isolate(*id);
    }
    let client = cluster.client(NodeId(2)).with_deadline(Duration::from_millis(500));
    let read = client.read(range.clone(), Consistency::AtLeast(position)).await.unwrap();
    assert_eq!(read.position, position);
    let other = Position { epoch: 1, ..position };
    let refused = client.get(range.clone(), Consistency::AtLeast(other)).await.unwrap_err();
    let history = KvError::OtherHistory { asked: 1, current: 0 };
    assert_eq!(refused, ClientError::Refused(history));
    let ahead = Position { revision: Revision(position.revision.0 + 1), ..position };
    let late = client.get(range, Consistency::AtLeast(ahead)).await.unwrap_err();
    assert!(matches!(late, ClientError::NotDone { .. }), "{late:?}");
    cluster.assert_equal_states().await;
}
