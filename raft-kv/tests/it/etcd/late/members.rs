//! A node that hears late of changes of the members: it answers whoever asked it for one once it
//! knows of it.

use crate::cluster::{Cluster, initial_configs};
use crate::etcd::cluster::add;
use crate::etcd::{Connection, Doors};
use raft_core::raft::{AppendEntries, Envelope, Message};
use raft_core::state_machine::Snapshot;
use raft_core::transport::{Inbox, MemoryTransport, Transport};
use raft_core::types::{GroupId, Identity, NodeId, Payload, Sender, SnapshotMeta, Term};
use raft_kv::etcd::proto::etcdserverpb as pb;
use raft_kv::service::IntegrityConfig;
use raft_kv::store::KvStore;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::Status;

/// Where entries wait that a node is not to hear of yet: from a change of the members on.
#[derive(Default)]
struct Wait {
    closed: bool,
    waiting: Vec<Envelope>,
    inbox: Option<Arc<dyn Inbox>>,
}

/// A node's end of the network, at which entries may wait; what else is said comes through.
struct Waiting {
    inner: Arc<MemoryTransport>,
    wait: Arc<Mutex<Wait>>,
}

impl Transport for Waiting {
    fn open(&self, group: GroupId, identity: Identity, inbox: Arc<dyn Inbox>) {
        self.wait.lock().unwrap().inbox = Some(Arc::clone(&inbox));
        let wait = Arc::clone(&self.wait);
        self.inner.open(group, identity, Arc::new(WaitingInbox { inbox, wait }));
    }

    fn set_peers(&self, group: GroupId, peers: Vec<(NodeId, String)>) {
        self.inner.set_peers(group, peers);
    }

    fn send(&self, group: GroupId, envelope: Envelope) {
        self.inner.send(group, envelope);
    }

    fn send_snapshot(&self, group: GroupId, to: NodeId, term: Term, snapshot: Snapshot) {
        self.inner.send_snapshot(group, to, term, snapshot);
    }
}

struct WaitingInbox {
    inbox: Arc<dyn Inbox>,
    wait: Arc<Mutex<Wait>>,
}

impl Inbox for WaitingInbox {
    fn receive(&self, envelope: Envelope) {
        let mut wait = self.wait.lock().unwrap();
        // In order: what comes after one that waits does so, too.
        let is_due = !wait.waiting.is_empty() || changes_members(&envelope);
        if wait.closed && has_entries(&envelope) && is_due {
            wait.waiting.push(envelope);
            return;
        }
        drop(wait);
        self.inbox.receive(envelope);
    }

    fn receive_snapshot(&self, from: NodeId, sender: Sender, term: Term, snapshot: Snapshot) {
        self.inbox.receive_snapshot(from, sender, term, snapshot);
    }

    fn snapshot_sent(&self, to: NodeId, meta: SnapshotMeta, ok: bool) {
        self.inbox.snapshot_sent(to, meta, ok);
    }
}

fn has_entries(envelope: &Envelope) -> bool {
    matches!(&envelope.message, Message::AppendEntries(AppendEntries { entries: Some(_), .. }))
}

fn changes_members(envelope: &Envelope) -> bool {
    let Message::AppendEntries(AppendEntries { entries: Some(run), .. }) = &envelope.message else {
        return false;
    };
    run.entries().iter().any(|entry| matches!(entry.payload, Payload::Membership(_)))
}

/// Lets entries wait from the next change of the members on.
fn close(wait: &Mutex<Wait>) {
    wait.lock().unwrap().closed = true;
}

/// Lets them through.
fn open(wait: &Mutex<Wait>) {
    let (waiting, inbox) = {
        let mut wait = wait.lock().unwrap();
        wait.closed = false;
        (std::mem::take(&mut wait.waiting), wait.inbox.clone().unwrap())
    };
    waiting.into_iter().for_each(|envelope| inbox.receive(envelope));
}

/// Who is in the cluster, as a node itself knows it.
async fn local(connection: &Connection) -> Vec<u64> {
    let request = pb::MemberListRequest { linearizable: false };
    let list = connection.cluster().member_list(request).await.unwrap().into_inner();
    list.members.iter().map(|member| member.id).collect()
}

/// A node that hears late, and the leader.
struct Both {
    wait: Arc<Mutex<Wait>>,
    late: Connection,
    leader: Connection,
}

impl Both {
    async fn assert_answered_when_known<T>(
        &self,
        change: impl Future<Output = Result<T, Status>> + Send + 'static,
        members: &[u64],
    ) where
        T: std::fmt::Debug + Send + 'static,
    {
        close(&self.wait);
        let changing = tokio::spawn(change);
        while local(&self.leader).await != members {
            tokio::task::yield_now().await;
        }
        // Whoever waits for nothing has answered by then.
        for _ in 0..20 {
            self.leader.put("other", "").await;
        }
        assert_ne!(local(&self.late).await, members);
        assert!(!changing.is_finished(), "{members:?}: {:?}", changing.await);
        open(&self.wait);
        changing.await.unwrap().unwrap();
        assert_eq!(local(&self.late).await, members);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_changes_the_members_sees_it_where_it_was_asked() {
    let mut cluster = Cluster::empty();
    let mut waits = BTreeMap::new();
    for config in initial_configs(3) {
        let (id, store) = (config.raft.id, KvStore::in_memory());
        let wait = Arc::<Mutex<Wait>>::default();
        let inner = cluster.network.transport(id);
        let transport = Arc::new(Waiting { inner, wait: Arc::clone(&wait) });
        let (handle, integrity) =
            (store.handle(), IntegrityConfig { compare_every: None, scrub_every: None });
        cluster.run_over(transport, config, store, handle, integrity);
        waits.insert(id, wait);
    }
    let leader = cluster.leader().await;
    let late = cluster.other(leader);
    cluster.join(NodeId(4));
    let mut doors = Doors::of(cluster).await;
    doors.open_with(late, |config| config.request_timeout = Duration::from_secs(3600)).await;
    let both = Both {
        wait: Arc::clone(&waits[&late]),
        late: doors.connect(late).await,
        leader: doors.connect(leader).await,
    };
    let mut client = both.late.cluster();
    let adding = async move { client.member_add(add("http://n4:1", true)).await };
    both.assert_answered_when_known(adding, &[1, 2, 3, 4]).await;
    let mut client = both.late.cluster();
    let remove = pb::MemberRemoveRequest { id: 4 };
    let removing = async move { client.member_remove(remove).await };
    both.assert_answered_when_known(removing, &[1, 2, 3]).await;
}
