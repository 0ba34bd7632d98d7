//! A backup of a cluster under load, and new clusters made of it.

use super::recover::{join, printed};
use super::support::{GUARD, TestCluster, ask, connector};
use futures_util::future::join_all;
use raft_core::testing::Random;
use raft_core::transport::{Channel, Connector};
use raft_core::types::NodeId;
use raft_kv::Client;
use raft_kv::api::{
    Consistency, Freshness, Keys, KvError, Position, Range, ReplyBody, RequestBody, Revision,
};
use raft_kv::store::HISTORY_REVISIONS;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const KEYS: usize = 300;

/// Three nodes with data.
async fn filled() -> TestCluster {
    let cluster = TestCluster::start().await;
    for number in 0..KEYS {
        cluster.put(&format!("key{number}"), &format!("value{number}")).await;
    }
    cluster
}

async fn all_there(cluster: &TestCluster) {
    for number in 0..KEYS {
        let value = cluster.value(&format!("key{number}")).await;
        assert_eq!(value.unwrap(), format!("value{number}"));
    }
}

/// Asks a node for everything as of `consistency` or a revision.
async fn read(
    cluster: &TestCluster,
    consistency: Consistency,
    revision: Option<Revision>,
) -> Result<ReplyBody, KvError> {
    let range = Range { revision, count_only: true, ..Range::of(Keys::all()) };
    let address = cluster.processes.folder().address(NodeId(1));
    let channel = connector(cluster.processes.folder().dir()).connect(address).await.unwrap();
    ask(channel, GUARD, RequestBody::DatedRead { range, consistency }).await
}

/// A client that reads on another node each time, with what it has seen.
struct Hopper {
    random: Random,
    client: Client,
    nodes: Vec<Arc<dyn Channel>>,
    token: Position,
    /// The newest revision of each key that it has seen or written.
    seen: BTreeMap<String, Revision>,
}

impl Hopper {
    const KEYS: u64 = 5;
    const STEPS: usize = 30;

    /// Some of them, that have seen what there is now.
    async fn some(cluster: &TestCluster) -> Vec<Self> {
        let mut hoppers = Vec::new();
        for seed in 0..6 {
            let (random, client) = (Random::new(seed), cluster.client());
            let (token, seen) = (Position::default(), BTreeMap::new());
            let mut hopper = Self { random, client, nodes: Vec::new(), token, seen };
            hopper.begin(cluster).await;
            hoppers.push(hopper);
        }
        hoppers
    }

    /// Begins with what there is now, and nothing seen.
    async fn begin(&mut self, cluster: &TestCluster) {
        self.nodes = join_all([1, 2, 3].map(|id| cluster.channel(NodeId(id)))).await;
        self.seen.clear();
        let (position, _) = self.read("hop", Consistency::Linearizable).await.unwrap();
        assert!(position >= self.token, "what comes later is later, also in another history");
        self.token = position;
    }

    /// Is told, whichever node it asks, that there is another history, and goes on in that.
    async fn begin_anew(&mut self, cluster: &TestCluster, current: u64) {
        self.nodes = join_all([1, 2, 3].map(|id| cluster.channel(NodeId(id)))).await;
        let asked = self.token.epoch;
        let refused = self.read("hop", Consistency::AtLeast(self.token)).await.unwrap_err();
        assert_eq!(refused, KvError::OtherHistory { asked, current });
        self.begin(cluster).await;
        self.hop().await;
    }

    async fn read(
        &mut self,
        key: &str,
        consistency: Consistency,
    ) -> Result<(Position, Revision), KvError> {
        let range = Range::of(Keys::One(key.to_owned().into()));
        let node = Arc::clone(self.random.choose(&self.nodes));
        match ask(node, GUARD, RequestBody::DatedRead { range, consistency }).await? {
            ReplyBody::Dated(Freshness { epoch, .. }, found) => {
                let changed = found.kvs.first().map_or(Revision(0), |pair| pair.mod_revision);
                Ok((Position { epoch, revision: found.revision }, changed))
            }
            other => panic!("{other:?}"),
        }
    }

    /// Reads and writes; what it has seen is never gone behind.
    async fn hop(&mut self) {
        for _ in 0..Self::STEPS {
            let key = format!("hop{}", self.random.below(Self::KEYS));
            if self.random.once_in(3) {
                let put = self.client.put(key.clone(), "").await.unwrap();
                assert!(put.revision > self.token.revision, "writes follow reads");
                self.token.revision = put.revision;
                self.seen.insert(key, put.revision);
                continue;
            }
            let (position, changed) =
                self.read(&key, Consistency::AtLeast(self.token)).await.unwrap();
            assert!(position >= self.token, "reads are monotonic");
            self.token = position;
            let before = self.seen.insert(key, changed).unwrap_or_default();
            assert!(changed >= before, "it was seen at {before}, and then at {changed}");
        }
    }
}

/// Saved while others write, and restored to three nodes under the old addresses: everything that
/// was acknowledged before the backup began is there, and whoever knew the old history is told.
#[tokio::test]
async fn a_backup_becomes_a_new_cluster_of_three() {
    let mut cluster = filled().await;
    let client = cluster.client();
    let stop = Arc::<AtomicBool>::default();
    let stopped = Arc::clone(&stop);
    let load = tokio::spawn(async move {
        let mut number = 0;
        while !stopped.load(Ordering::Relaxed) {
            client.put(format!("load{}", number % 50), "value").await.unwrap();
            number += 1;
        }
    });
    let folder = cluster.processes.folder().dir().display().to_string();
    let file = cluster.processes.folder().dir().join("backup.snap").display().to_string();
    let saved = printed(&cluster, &["--dir", &folder, "snapshot", "save", &file]).await;
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    let status = printed(&cluster, &["snapshot", "status", &file]).await;
    assert_eq!(saved, status);
    assert_eq!((&status["checksum"], &status["epoch"]), (&"ok".into(), &0.into()), "{status}");
    assert_eq!(status["bytes"].as_u64(), Some(fs::metadata(&file).unwrap().len()));
    assert!(status["keys"].as_u64().unwrap() >= KEYS as u64, "{status}");
    // What comes after the backup is not in it.
    cluster.put("key0", "later").await;
    cluster.put("later", "lost").await;
    let mut hoppers = Hopper::some(&cluster).await;
    join_all(hoppers.iter_mut().map(Hopper::hop)).await;
    let Ok(ReplyBody::Dated(freshness, now)) =
        read(&cluster, Consistency::Linearizable, None).await
    else {
        panic!("no read")
    };
    let token = Position { epoch: freshness.epoch, revision: now.revision };
    cluster.processes.stop_all().await;

    let to = cluster.processes.folder().dir().join("new");
    let members: Vec<String> = (1..=3)
        .map(|id| format!("n{id}={}", cluster.processes.folder().address(NodeId(id))))
        .collect();
    let members = members.join(",");
    let to_text = to.display().to_string();
    let args = ["snapshot", "restore", &file, "--to", &to_text, "--members", &members];
    let restored = printed(&cluster, &args).await;
    assert_eq!(restored["keys"], status["keys"]);
    let epoch = restored["epoch"].as_u64().unwrap();
    assert!(epoch > 1, "{restored}");
    let begins = status["revision"].as_u64().unwrap() + HISTORY_REVISIONS;
    assert_eq!(restored["revision"].as_u64(), Some(begins));
    let cluster_id = restored["cluster"].as_str().unwrap();
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let data = to.join(format!("n{id}"));
        nodes.push(join(&cluster, NodeId(id), &data, cluster_id).await);
    }
    all_there(&cluster).await;
    assert_eq!(cluster.value("later").await, None);
    let refused = read(&cluster, Consistency::AtLeast(token), None).await.unwrap_err();
    assert_eq!(refused, KvError::OtherHistory { asked: 0, current: epoch });
    let refused = read(&cluster, Consistency::Linearizable, Some(token.revision)).await;
    assert!(matches!(refused, Err(KvError::Compacted { .. })), "{refused:?}");
    join_all(hoppers.iter_mut().map(|hopper| hopper.begin_anew(&cluster, epoch))).await;
    cluster.put("after", "written").await;
    let status = cluster.observer.converged(GUARD).await.unwrap();
    assert_eq!(status.members.iter().filter(|member| member.voter).count(), 3);
    assert!(status.revision.0 > begins && status.cluster.to_string() == cluster_id);
    // Two are enough.
    nodes.pop();
    cluster.put("without the third", "written").await;
}

/// A node without a quorum gives what it has if that is asked for, and otherwise nothing.
#[tokio::test]
async fn a_backup_of_one_node_alone_is_made_only_if_asked_for() {
    let mut cluster = filled().await;
    cluster.observer.converged(GUARD).await.unwrap();
    let id = NodeId(1);
    for other in cluster.others(id) {
        cluster.processes.kill(other).await;
    }
    let folder = cluster.processes.folder().dir().display().to_string();
    let file = cluster.processes.folder().dir().join("backup.snap").display().to_string();
    let address = cluster.processes.folder().address(id);
    let save = ["--dir", &folder, "--endpoints", address, "snapshot", "save", &file];
    let failed = super::support::run(&save.map(str::to_owned)).await;
    assert_eq!(failed.code, 4, "{failed:?}");
    assert!(!Path::new(&file).exists());
    let left = fs::read_dir(cluster.processes.folder().dir()).unwrap();
    let temporary = |name: &str| name.starts_with(".tmp");
    assert!(!left.flatten().any(|entry| temporary(&entry.file_name().to_string_lossy())));
    printed(&cluster, &[&save[..], &["--local"]].concat()).await;

    let to = cluster.processes.folder().dir().join("one");
    let to_text = to.display().to_string();
    let members = format!("n1={address}");
    let args = ["snapshot", "restore", &file, "--to", &to_text, "--members", &members];
    let restored = printed(&cluster, &args).await;
    cluster.processes.stop_all().await;
    let cluster_id = restored["cluster"].as_str().unwrap();
    let _one = join(&cluster, id, &to, cluster_id).await;
    all_there(&cluster).await;
    cluster.put("after", "written").await;
}
