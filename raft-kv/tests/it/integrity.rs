//! Members whose state differs: found, named, and kept apart.

use crate::alike;
use crate::cluster::{Cluster, GROUP, initial_configs};
use bytes::Bytes;
use raft_core::log_store::StorageError;
use raft_core::state_machine::{CheckpointJob, Snapshot, StateMachine};
use raft_core::transport::{BoxFuture, Caller, ConnectionId, Service};
use raft_core::types::{Entry, Index, LogId, NodeId, Payload, Run, SnapshotMeta};
use raft_kv::api::{
    Action, Alarm, Command, Divergence, Finding, Hashes, Health, INTEGRITY_VERSION, Inquiry, Keys,
    KvError, Op, Place, Put, Reply, ReplyBody, Request, RequestBody,
};
use raft_kv::service::{IntegrityConfig, KvService};
use raft_kv::store::KvStore;
use raft_kv::{codec, wire};
use std::fs;
use std::io::{Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;
use xxhash_rust::xxh3::xxh3_64;

const GUARD: Duration = Duration::from_secs(60);
/// What is changed where something is.
const NEEDLE: &[u8] = b"a value that is found again";

/// A store that is not like the others.
struct Odd {
    store: KvStore,
    how: Oddity,
}

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq)]
enum Oddity {
    None,
    /// It applies another value where the needle is put.
    Applies,
    /// A byte of the needle flips in memory once this key is put.
    Rots(&'static str),
    /// It grants leases for a second longer.
    Grants,
    /// It keeps the replies that clients have.
    Remembers,
}

impl StateMachine for Odd {
    fn applied(&self) -> SnapshotMeta {
        self.store.applied()
    }

    fn apply(&mut self, run: &Run) -> Vec<Bytes> {
        match self.how {
            Oddity::Applies | Oddity::Grants | Oddity::Remembers => {
                let replaced =
                    |entry: &Entry| self.how.replaced(entry).unwrap_or_else(|| entry.clone());
                let entries = run.entries().iter().map(replaced).collect();
                self.store.apply(&Run::new(entries).unwrap())
            }
            Oddity::Rots(key) if run.entries().iter().any(|entry| puts(entry, key)) => {
                let replies = self.store.apply(run);
                flip(&mut self.store);
                replies
            }
            _ => self.store.apply(run),
        }
    }

    fn query(&self, query: &[u8]) -> Bytes {
        self.store.query(query)
    }

    fn checkpoint(&mut self) -> Option<CheckpointJob> {
        self.store.checkpoint()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.store.snapshot()
    }

    fn restore(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        self.store.restore(snapshot)
    }
}

fn command_of(entry: &Entry) -> Option<Command> {
    let Payload::Command(command) = &entry.payload else { return None };
    codec::decode(command).ok()
}

fn puts(entry: &Entry, key: &str) -> bool {
    match command_of(entry).map(|command| command.action) {
        Some(Action::Op(Op::Put(put))) => put.key == key,
        _ => false,
    }
}

impl Oddity {
    /// What it applies in place of an entry; `None` for the entry.
    fn replaced(self, entry: &Entry) -> Option<Entry> {
        let mut command = command_of(entry)?;
        match (self, &mut command.action) {
            (Self::Applies, Action::Op(Op::Put(put))) if put.value.as_deref() == Some(NEEDLE) => {
                put.value = Some("other".into());
            }
            (Self::Grants, Action::Grant { ttl_ms, .. }) => *ttl_ms += 1000,
            (Self::Remembers, _) => command.request.as_mut()?.unanswered_from = 1,
            _ => return None,
        }
        let payload = Payload::Command(codec::encode(&command));
        Some(Entry { id: entry.id, payload })
    }
}

/// Flips a bit of the needle in a store that lives in memory, and leaves everything else as it is:
/// by its own snapshot, with all checksums made right again.
fn flip(store: &mut KvStore) {
    let Snapshot { meta, mut data } = store.snapshot().unwrap();
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).unwrap();
    let needle = bytes.windows(NEEDLE.len()).position(|window| window == NEEDLE).unwrap();
    bytes[needle] ^= 1;
    // Magic and version, then frames: kind, length, and a payload that begins with its checksum.
    let mut at = 10;
    while bytes[at] != 0 {
        let length = u32::from_le_bytes(bytes[at + 1..at + 5].try_into().unwrap()) as usize;
        let payload = &mut bytes[at + 5..at + 5 + length];
        let checksum = xxh3_64(&payload[8..]);
        payload[..8].copy_from_slice(&checksum.to_le_bytes());
        at += 5 + length;
    }
    let checksum = xxh3_64(&bytes[..=at]).to_le_bytes();
    bytes[at + 1..].copy_from_slice(&checksum);
    store.restore(Snapshot { meta, data: Box::new(Cursor::new(bytes)) }).unwrap();
}

fn often() -> IntegrityConfig {
    let compare_every = Some(Duration::from_millis(20));
    IntegrityConfig { compare_every, scrub_every: None }
}

/// A cluster whose nodes are as odd as this says.
fn cluster(oddities: &[Oddity], integrity: &IntegrityConfig) -> Cluster {
    let mut cluster = Cluster::empty();
    for (config, how) in initial_configs(oddities.len() as u64).zip(oddities) {
        let store = KvStore::in_memory();
        let handle = store.handle();
        cluster.run_on(config, Odd { store, how: *how }, handle, integrity.clone());
    }
    cluster
}

async fn ask(service: &KvService, body: RequestBody) -> Reply {
    let request = wire::encode_request(&Request { deadline_ms: 10_000, body });
    wire::decode_reply(&service.call(Caller::Client(ConnectionId(0)), request).await).unwrap()
}

async fn health(service: &KvService) -> Health {
    match ask(service, RequestBody::Health).await {
        Ok(ReplyBody::Health(health)) => *health,
        other => panic!("{other:?}"),
    }
}

/// Asks a node how it is until that is found.
async fn until(service: &KvService, mut found: impl FnMut(&Health) -> bool) -> Health {
    let look = async {
        loop {
            let health = health(service).await;
            if found(&health) {
                return health;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(GUARD, look).await.expect("what is waited for comes")
}

async fn divergence(service: &KvService) -> Divergence {
    timeout(GUARD, service.divergence()).await.expect("the difference is found")
}

/// Waits until every node has applied what is committed now.
async fn applied_by_all(cluster: &Cluster) {
    let nodes = || cluster.nodes.values();
    let committed = nodes().map(|node| node.status().commit_index).max().unwrap();
    for node in nodes() {
        while node.status().last_applied < committed {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn scrub(service: &KvService) {
    let begun = ask(service, RequestBody::Integrity(Inquiry::Scrub)).await;
    assert_eq!(begun, Ok(ReplyBody::Integrity(Finding::Begun)));
}

/// The same where one pass may not be enough: a cluster that has just begun may not be comparable
/// yet, and nodes may be slow to answer.
async fn found_by_scrubs(service: &KvService) -> Divergence {
    with_scrubs(service, divergence(service)).await
}

/// Has the node look at all data again and again until that has come.
async fn with_scrubs<T>(service: &KvService, found: impl Future<Output = T>) -> T {
    let again = async {
        loop {
            scrub(service).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        found = found => found,
        () = again => unreachable!("it goes on"),
    }
}

/// Three nodes, of which the second is odd; the leader if it is to be.
async fn three(how: Oddity, leads: bool) -> Cluster {
    let cluster = cluster(&[Oddity::None, how, Oddity::None], &often());
    let odd = NodeId(2);
    while (cluster.leader().await == odd) != leads {
        let leader = cluster.leader().await;
        let to = leads.then_some(odd);
        // It may have changed by itself.
        let _ = cluster.nodes[&leader].transfer_leadership(to).await;
    }
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_applied_something_else_is_told_exactly_where() {
    for leads in [false, true] {
        let cluster = three(Oddity::Applies, leads).await;
        let client = cluster.client(NodeId(1));
        for number in 0..20 {
            client.put(format!("{number}"), "value").await.unwrap();
        }
        cluster.assert_equal_states().await;
        until(&cluster.services[&NodeId(2)], |health| health.integrity.compared.0 > 0).await;
        let before = cluster.nodes[&NodeId(1)].status().commit_index;
        client.put("needle", NEEDLE).await.unwrap();
        for number in 0..20 {
            client.put(format!("{number}"), "other").await.unwrap();
        }
        let found = divergence(&cluster.services[&NodeId(2)]).await;
        assert_eq!(found.agreeing, [NodeId(1), NodeId(3)]);
        let Place::Entry { first, after } = found.place else { panic!("{found:?}") };
        assert_eq!(after.map(Index::next), Some(first), "not exactly");
        assert!(first > before, "{first} where {before} was equal");
        // It serves nobody, and leads nobody; the others do.
        let served = ask(&cluster.services[&NodeId(2)], RequestBody::Members).await.unwrap_err();
        let text = served.to_string();
        assert!(text.contains("not to be trusted") && text.contains("from entry "), "{text}");
        let own = health(&cluster.services[&NodeId(2)]).await;
        assert!(matches!(own.integrity.alarm, Some(Alarm::Divergent(_))), "{own:?}");
        let told = until(&cluster.services[&NodeId(1)], |health| {
            health.integrity.alarm.is_none() && health.members.leader != Some(NodeId(2))
        });
        told.await;
        client.put("after", "value").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_that_flips_in_memory_is_found_by_one_scrub() {
    let odd = Oddity::Rots("last");
    let integrity = IntegrityConfig { compare_every: None, ..often() };
    let cluster = cluster(&[Oddity::None, Oddity::None, odd], &integrity);
    let client = cluster.client(NodeId(1));
    for number in 0..3000 {
        let value = if number == 2345 { NEEDLE } else { &b"value"[..] };
        client.put(format!("key{number:04}"), value).await.unwrap();
    }
    client.put("last", "").await.unwrap();
    applied_by_all(&cluster).await;
    // No entry made the difference, so no hash tells of it.
    cluster.assert_equal_states().await;
    for id in [1, 3] {
        scrub(&cluster.services[&NodeId(id)]).await;
    }
    let found = divergence(&cluster.services[&NodeId(3)]).await;
    assert_eq!(found.agreeing, [NodeId(1), NodeId(2)]);
    let Place::Keys { start, end, .. } = &found.place else { panic!("{found:?}") };
    assert_eq!((&start[..], end.as_deref()), (&b"key2345"[..], Some(&b"key2346"[..])));
    let text = found.to_string();
    assert!(text.contains("n1, n2") && text.contains("\"key2345\""), "{text}");
    // Node 1 has seen that another differs, and that it does not itself.
    let whole = until(&cluster.services[&NodeId(1)], |health| health.integrity.scrubs == 1).await;
    assert_eq!(whole.integrity.alarm, None);
    // The store sends no snapshots any more.
    let health = health(&cluster.services[&NodeId(3)]).await;
    assert!(matches!(health.integrity.alarm, Some(Alarm::Divergent(_))));
}

/// Nobody reads it now, but whoever reads at an earlier revision would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_version_that_rots_is_found() {
    let integrity = IntegrityConfig { compare_every: None, ..often() };
    let cluster = cluster(&[Oddity::None, Oddity::None, Oddity::Rots("last")], &integrity);
    let client = cluster.client(NodeId(1));
    for (key, value) in [("a", &b"1"[..]), ("needle", NEEDLE), ("needle", b"newer"), ("last", b"")]
    {
        client.put(key, value).await.unwrap();
    }
    applied_by_all(&cluster).await;
    cluster.assert_equal_states().await;
    let found = found_by_scrubs(&cluster.services[&NodeId(3)]).await;
    let Place::Keys { start, end, .. } = &found.place else { panic!("{found:?}") };
    assert_eq!((&start[..], end.is_some()), (&b"needle"[..], false), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_or_a_session_that_differs_is_found() {
    for odd in [Oddity::Grants, Oddity::Remembers] {
        let integrity = IntegrityConfig { compare_every: None, ..often() };
        let cluster = cluster(&[Oddity::None, Oddity::None, odd], &integrity);
        let client = cluster.client(NodeId(1));
        let lease = client.lease(Duration::from_secs(60)).await.unwrap();
        for number in 0..10 {
            client.put("key", format!("{number}")).await.unwrap();
        }
        // What changes just while members are asked is left for another pass.
        let found = found_by_scrubs(&cluster.services[&NodeId(3)]).await;
        assert_eq!(found.agreeing, [NodeId(1), NodeId(2)]);
        match odd {
            Oddity::Grants => assert_eq!(found.place, Place::Lease(lease.id())),
            _ => assert!(matches!(found.place, Place::Session(_)), "{found:?}"),
        }
        scrub(&cluster.services[&NodeId(1)]).await;
        let first = &cluster.services[&NodeId(1)];
        let told = until(first, |health| health.integrity.scrubs == 1).await;
        assert_eq!(told.integrity.alarm, None);
    }
}

/// A node that does not tell about its data, so many times.
struct Silent {
    inner: Arc<KvService>,
    left: Arc<AtomicUsize>,
}

impl Service for Silent {
    fn call(&self, caller: Caller, request: Bytes) -> BoxFuture<Bytes> {
        let asks = matches!(
            wire::decode_request(&request),
            Ok(Request {
                body: RequestBody::Integrity(Inquiry::Chunk(..) | Inquiry::Roll(..)),
                ..
            })
        );
        let less = |left: usize| left.checked_sub(1);
        if asks && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            let answer = wire::encode_reply(&Err(KvError::Overloaded));
            return Box::pin(async move { answer });
        }
        self.inner.call(caller, request)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_counts_only_if_a_quorum_was_compared() {
    let cluster = cluster(&[Oddity::None; 3], &often());
    let left = [Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(usize::MAX))];
    for (id, left) in [NodeId(2), NodeId(3)].into_iter().zip(&left) {
        let (inner, left) = (Arc::clone(&cluster.services[&id]), Arc::clone(left));
        cluster.network.serve(GROUP, id, Arc::new(Silent { inner, left }));
    }
    cluster.client(NodeId(1)).put("key", "value").await.unwrap();
    let first = &cluster.services[&NodeId(1)];
    scrub(first).await;
    let told = until(first, |health| health.integrity.scrubs_incomplete == 1).await.integrity;
    assert_eq!((told.scrubs, told.scrubbing, told.alarm), (0, None, None));
    // Two tries in vain, and then both answer.
    for left in &left {
        left.store(2, Ordering::Relaxed);
    }
    scrub(first).await;
    let told = until(first, |health| health.integrity.scrubs == 1).await.integrity;
    assert_eq!((told.scrubs_incomplete, told.alarm), (0, None));
    // One beside this one is a quorum.
    left[0].store(usize::MAX, Ordering::Relaxed);
    scrub(first).await;
    let told = until(first, |health| health.integrity.scrubs == 2).await.integrity;
    assert_eq!(told.scrubs_incomplete, 0);
}

/// However often somebody asks, a pass comes to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrub_asked_for_while_one_is_under_way_joins_it() {
    let cluster = cluster(&[Oddity::None], &often());
    let client = cluster.client(NodeId(1));
    for number in 0..8 {
        client.put(format!("{number}"), vec![7; 900_000]).await.unwrap();
    }
    let service = &cluster.services[&NodeId(1)];
    // Much more often than one part follows the other.
    let again = async {
        loop {
            scrub(service).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = until(service, |health| health.integrity.scrubs > 0) => {}
        () = again => unreachable!("it goes on"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nobody_is_trusted() {
    for odd in [Oddity::Applies, Oddity::Rots("needle")] {
        let cluster = cluster(&[Oddity::None, odd], &often());
        let client = cluster.client(NodeId(1));
        client.put("needle", NEEDLE).await.unwrap();
        for service in cluster.services.values() {
            // A node that has not applied what was put finds nothing, and looks again.
            let told = until(service, |health| health.integrity.alarm.is_some());
            let told = with_scrubs(service, told).await;
            let Some(Alarm::Corrupt(text)) = told.integrity.alarm else { panic!("{told:?}") };
            assert!(text.contains("n1 alone; n2 alone"), "{text}");
        }
        // It is for people to decide; meanwhile both go on.
        client.put("after", "value").await.unwrap();
        client.get_one("after").await.unwrap().unwrap();
    }
}

/// What every test of a cluster looks at last finds a member that differs, and who looks for
/// himself; two that differ are both in doubt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_look_at_a_cluster_finds_who_differs() {
    let never = IntegrityConfig { compare_every: None, scrub_every: None };
    for how in [Oddity::None, Oddity::Applies] {
        let cluster = cluster(&[Oddity::None, how, Oddity::None], &never);
        let client = cluster.client(NodeId(1));
        client.put("before", "value").await.unwrap();
        client.put("needle", NEEDLE).await.unwrap();
        let found = alike::compare(cluster.nodes.values(), []).await;
        assert_eq!(found.is_ok(), how == Oddity::None, "{found:?}");
        assert!(found.err().is_none_or(|why| why.contains("n2 and n1 after entry")));
    }
    // Of this no hash tells.
    let how = Oddity::Rots("trigger");
    let cluster = cluster(&[Oddity::None, how], &never);
    let client = cluster.client(NodeId(1));
    for (key, value) in [("needle", NEEDLE), ("trigger", b"")] {
        client.put(key, value).await.unwrap();
    }
    applied_by_all(&cluster).await;
    assert_eq!(alike::compare(cluster.nodes.values(), services(&cluster)).await, Ok(()));
    for service in cluster.services.values() {
        with_scrubs(service, until(service, |health| health.integrity.alarm.is_some())).await;
    }
    let found = alike::compare(cluster.nodes.values(), services(&cluster)).await.unwrap_err();
    assert!(found.contains("n1 alone; n2 alone"), "{found}");
}

fn services(cluster: &Cluster) -> impl Iterator<Item = &KvService> {
    cluster.services.values().map(|service| &**service)
}

/// A node of another version, which answers what it understands.
struct Other {
    inner: Arc<KvService>,
    answer: Reply,
}

impl Service for Other {
    fn call(&self, caller: Caller, request: Bytes) -> BoxFuture<Bytes> {
        match wire::decode_request(&request) {
            Ok(Request { body: RequestBody::Integrity(_), .. }) => {
                let answer = wire::encode_reply(&self.answer);
                Box::pin(async move { answer })
            }
            _ => self.inner.call(caller, request),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_another_version_are_left_out() {
    let newer = Hashes {
        version: INTEGRITY_VERSION + 1,
        sound: true,
        oldest: Index(1),
        dense: Index(1),
        newest: Index(3),
        at: vec![Some(1); 3],
    };
    let malformed = KvError::Malformed("malformed bytes".into());
    for answer in [Err(malformed), Ok(ReplyBody::Integrity(Finding::Hashes(newer)))] {
        let cluster = cluster(&[Oddity::None; 3], &often());
        let inner = Arc::clone(&cluster.services[&NodeId(3)]);
        let other = Arc::new(Other { inner, answer });
        cluster.network.serve(raft_core::types::GroupId(0), NodeId(3), other);
        cluster.client(NodeId(1)).put("key", "value").await.unwrap();
        let at = cluster.nodes[&NodeId(1)].status().commit_index;
        let equal = until(&cluster.services[&NodeId(1)], |health| health.integrity.compared >= at);
        assert_eq!(equal.await.integrity.alarm, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_begin_by_themselves_and_go_on_where_keys_change() {
    let scrub_every = Some(Duration::from_millis(50));
    let integrity = IntegrityConfig { scrub_every, ..often() };
    let cluster = cluster(&[Oddity::None; 3], &integrity);
    let client = cluster.client(NodeId(1));
    let _lease = client.lease(Duration::from_secs(3)).await.unwrap();
    let mut number = 0;
    while health(&cluster.services[&NodeId(2)]).await.integrity.scrubs < 3 {
        number += 1;
        client.put(format!("key{}", number % 100), format!("{number}")).await.unwrap();
        client.delete(Keys::One(format!("key{}", number % 70).into())).await.unwrap();
    }
    for service in cluster.services.values() {
        let integrity = health(service).await.integrity;
        assert_eq!((integrity.alarm, integrity.divergent), (None, vec![]));
    }
    cluster.assert_equal_states().await;
}

/// A store whose file rots once it was loaded: larger than what the engine keeps in memory.
fn rotten() -> (tempfile::TempDir, KvStore) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let mut store = KvStore::open(&path).unwrap();
    for number in 1..=48 {
        let put = Put::new(format!("{number}"), vec![number as u8; 1024 * 1024]);
        let action = Action::Op(Op::Put(put));
        let command = codec::encode(&Command { request: None, fence: None, action });
        let entry = Entry { id: LogId::new(number, 1), payload: Payload::Command(command) };
        store.apply(&Run::new(vec![entry]).unwrap());
    }
    store.checkpoint().unwrap()().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    for part in bytes.chunks_exact_mut(256 * 1024) {
        if part[0] != 0 && part[..8] == [part[0]; 8] {
            part[4] ^= 1;
        }
    }
    fs::write(&path, bytes).unwrap();
    (directory, store)
}

/// A member whose file rots gives its data up where a quorum of others has it, and only then: of
/// two such members of three the second keeps what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_rots_is_given_up_only_where_others_have_the_data() {
    let (_directory, rotten) = rotten();
    let mut cluster = Cluster::empty();
    for config in initial_configs(3) {
        let store = KvStore::in_memory();
        let whole = config.raft.id == NodeId(3);
        let handle = if whole { store.handle() } else { rotten.handle() };
        // All that is taken of the other store is its file; sound or not is its own business.
        cluster.run_on(config, store, handle, often());
    }
    cluster.client(NodeId(3)).put("key", "value").await.unwrap();
    scrub(&cluster.services[&NodeId(1)]).await;
    let found = divergence(&cluster.services[&NodeId(1)]).await;
    assert_eq!(found.agreeing, [NodeId(2), NodeId(3)]);
    assert!(matches!(&found.place, Place::File(why) if why.contains("kv.redb")), "{found:?}");
    assert!(found.to_string().contains("n2, n3 have the data"), "{found}");
    let second = &cluster.services[&NodeId(2)];
    scrub(second).await;
    let told = until(second, |health| health.integrity.alarm.is_some()).await;
    let alarm = told.integrity.alarm;
    assert!(matches!(&alarm, Some(Alarm::Corrupt(why)) if why.contains("kv.redb")), "{alarm:?}");
    cluster.client(NodeId(2)).put("key", "other").await.unwrap();
}
