//! What an API server of Kubernetes does with etcd: objects are created, changed and deleted by
//! transactions on the revision they were last changed at; caches list a prefix page by page, as of
//! one revision, and watch from there; history is compacted by one of several; events hang on
//! leases. Eight writers and three caches, each on a node of its own, go on while the leader is
//! killed again and again: every cache is told everything once and in order, and ends up with what
//! there is.

mod cache;
mod writer;

use super::grpc::Connection;
use super::side::free_ports;
use crate::cluster::support::{GUARD, TestCluster, slow};
use cache::Cache;
use raft_core::types::NodeId;
use raft_kv::etcd::proto::etcdserverpb as pb;
use raft_kv::etcd::proto::mvccpb::KeyValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::Status;

const WRITERS: usize = 8;
const CACHES: usize = 3;
const COMPACTORS: usize = 2;
/// What everything is below.
const REGISTRY: &str = "/registry/";
/// Objects of one page.
const PAGE: i64 = 7;

/// Objects by key.
type Objects = BTreeMap<Vec<u8>, KeyValue>;

/// What everybody knows.
struct Shared {
    addresses: Vec<String>,
    /// Up to which revision each cache has come.
    seen: [AtomicI64; CACHES],
    /// No more is written.
    done: AtomicBool,
    /// Where those who compact wait for each other.
    round: Barrier,
    /// What one of them has decided for both: that there is no other round.
    last_round: AtomicBool,
    /// The revision at which all leases had ended; 0 before that.
    last: AtomicI64,
}

impl Shared {
    /// A connection to a node that is there: that one, or another one.
    async fn connect(&self, preferred: usize) -> Connection {
        let reached = async {
            for number in preferred.. {
                let address = &self.addresses[number % self.addresses.len()];
                if let Some(connection) = Connection::open(address).await {
                    return connection;
                }
                sleep(Duration::from_millis(20)).await;
            }
            unreachable!("there is always another number")
        };
        timeout(GUARD, reached).await.expect("somebody is there")
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    /// What every cache has seen.
    fn seen_by_all(&self) -> i64 {
        self.seen.iter().map(|seen| seen.load(Ordering::SeqCst)).min().unwrap_or(0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_lose_nothing_while_leaders_are_killed() {
    let kills = if slow() { 20 } else { 2 };
    let mut cluster = TestCluster::new(3);
    let ids: Vec<NodeId> = cluster.processes.folder().ids().collect();
    let ports = free_ports(ids.len());
    let addresses: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    for (id, address) in ids.iter().zip(&addresses) {
        start(&mut cluster, *id, address).await;
    }
    let shared = Arc::new(Shared {
        addresses,
        seen: Default::default(),
        done: false.into(),
        round: Barrier::new(COMPACTORS),
        last_round: false.into(),
        last: 0.into(),
    });
    cluster.leader().await;
    let mut caches = JoinSet::new();
    for number in 0..CACHES {
        caches.spawn(Cache::new(Arc::clone(&shared), number).run());
    }
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        writers.spawn(writer::run(Arc::clone(&shared), number));
    }
    let mut compactors = JoinSet::new();
    for number in 0..COMPACTORS {
        compactors.spawn(compact(Arc::clone(&shared), number));
    }
    for _ in 0..kills {
        sleep(Duration::from_secs(1)).await;
        let leader = cluster.leader().await;
        cluster.processes.kill(leader).await;
        sleep(Duration::from_millis(1500)).await;
        let at = ids.iter().position(|id| *id == leader).unwrap();
        start(&mut cluster, leader, &shared.addresses[at]).await;
    }
    shared.done.store(true, Ordering::SeqCst);
    let acknowledged: Vec<(Vec<u8>, i64)> = writers.join_all().await.concat();
    let compacted = compactors.join_all().await;
    let compactions: usize = compacted.iter().map(|one| one.compactions).sum();
    let lost: usize = compacted.iter().map(|one| one.lost).sum();
    let mut won: Vec<i64> = compacted.into_iter().flat_map(|one| one.won).collect();
    let turns = won.len();
    won.sort_unstable();
    won.dedup();
    assert_eq!(won.len(), turns, "two have taken the same turn to compact");
    // In each round both want the turn, and one of them is late.
    assert!(lost > 0, "nobody was late");
    let (objects, revision) = settled(&shared).await;
    shared.last.store(revision, Ordering::SeqCst);
    let mut reconnections = 0;
    for cache in caches.join_all().await {
        let number = cache.number;
        reconnections += cache.reconnections;
        assert!(cache.revision >= revision, "cache {number} has come up to {}", cache.revision);
        assert_eq!(cache.objects, objects, "cache {number}");
        for change in &acknowledged {
            assert!(cache.told.contains(change), "cache {number} was not told of {change:?}");
        }
    }
    println!(
        "{} acknowledged writes, {compactions} compactions, {lost} times too late for one, {kills} \
         kills, {reconnections} reconnections, revision {revision}",
        acknowledged.len()
    );
    assert!(!acknowledged.is_empty() && compactions > 0 && reconnections > 0);
}

async fn start(cluster: &mut TestCluster, id: NodeId, address: &str) {
    let options = ["--etcd-listen", address, "--watch-progress-interval", "100ms"];
    cluster.processes.start_with(id, &options).await.unwrap();
}

/// What there is in the end, once all leases have ended.
async fn settled(shared: &Shared) -> (Objects, i64) {
    let gone = async {
        loop {
            let connection = shared.connect(0).await;
            if let Ok((objects, revision)) = list(&connection).await
                && !objects.keys().any(|key| key.starts_with(b"/registry/events/"))
            {
                return (objects, revision);
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(GUARD, gone).await.expect("leases end")
}

/// Everything page by page, as of the revision of the first one.
async fn list(connection: &Connection) -> Result<(Objects, i64), Status> {
    let mut objects = Objects::new();
    let (mut key, mut revision) = (REGISTRY.as_bytes().to_vec(), 0);
    loop {
        let request = pb::RangeRequest {
            key: key.clone().into(),
            range_end: end_of(REGISTRY.as_bytes()).into(),
            limit: PAGE,
            revision,
            ..Default::default()
        };
        let page = connection.kv().range(request).await?.into_inner();
        if revision == 0 {
            revision = page.header.expect("there is one").revision;
        }
        let last = page.kvs.last().map(|object| object.key.to_vec());
        objects.extend(page.kvs.into_iter().map(|object| (object.key.to_vec(), object)));
        let Some(last) = last.filter(|_| page.more) else { return Ok((objects, revision)) };
        key = [&last[..], &[0]].concat();
    }
}

fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    *end.last_mut().expect("it is not empty") += 1;
    end
}

/// How one of several who want to compact has fared.
#[derive(Default)]
struct Compacted {
    compactions: usize,
    /// The versions of the key from which on it was the first to go on.
    won: Vec<i64>,
    /// How often somebody else was first.
    lost: usize,
}

/// Compacts what all caches have seen, as one of several who want to at the same moment.
async fn compact(shared: Arc<Shared>, number: usize) -> Compacted {
    let (mut version, mut found) = (0, Compacted::default());
    loop {
        sleep(Duration::from_millis(100)).await;
        if shared.round.wait().await.is_leader() {
            shared.last_round.store(shared.is_done(), Ordering::SeqCst);
        }
        shared.round.wait().await;
        if shared.last_round.load(Ordering::SeqCst) {
            return found;
        }
        let connection = shared.connect(number).await;
        let put = pb::PutRequest {
            key: "compact_rev_key".into(),
            value: number.to_string().into(),
            ..Default::default()
        };
        let get = pb::RangeRequest { key: "compact_rev_key".into(), ..Default::default() };
        let compare = pb::Compare {
            target: pb::compare::CompareTarget::Version.into(),
            key: "compact_rev_key".into(),
            target_union: Some(pb::compare::TargetUnion::Version(version)),
            ..Default::default()
        };
        let txn = pb::TxnRequest {
            compare: vec![compare],
            success: vec![writer::op(pb::request_op::Request::RequestPut(put))],
            failure: vec![writer::op(pb::request_op::Request::RequestRange(get))],
        };
        let revision = shared.seen_by_all();
        let Ok(reply) = connection.kv().txn(txn).await else { continue };
        let mut reply = reply.into_inner();
        if !reply.succeeded {
            // Somebody else was first, and did it.
            found.lost += 1;
            let there = reply.responses.pop().and_then(|there| there.response);
            let Some(pb::response_op::Response::ResponseRange(there)) = there else {
                panic!("not what was asked: {there:?}")
            };
            version = there.kvs.first().map_or(0, |pair| pair.version);
            continue;
        }
        found.won.push(version);
        version += 1;
        let request = pb::CompactionRequest { revision, physical: true };
        let done = revision > 0 && connection.kv().compact(request).await.is_ok();
        found.compactions += usize::from(done);
    }
}
