//! Reads of every freshness through the driver.

use super::*;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A journal whose queries, once it is armed, say that they have read, and wait before they answer.
struct Gate {
    journal: Journal,
    /// How many queries there were.
    asked: Arc<AtomicUsize>,
    armed: Arc<AtomicUsize>,
    entered: tokio::sync::mpsc::UnboundedSender<()>,
    open: Mutex<Receiver<()>>,
}

impl StateMachine for Gate {
    fn applied(&self) -> SnapshotMeta {
        self.journal.applied()
    }
    fn apply(&mut self, run: &Run) -> Vec<Bytes> {
        self.journal.apply(run)
    }
    fn query(&self, query: &[u8]) -> Bytes {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let reply = self.journal.query(query);
        if self.armed.swap(0, Ordering::SeqCst) > 0 {
            self.entered.send(()).unwrap();
            self.open.lock().unwrap().recv().unwrap();
        }
        reply
    }
    fn checkpoint(&mut self) -> Option<CheckpointJob> {
        None
    }
    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.journal.snapshot()
    }
    fn restore(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        self.journal.restore(snapshot)
    }
}

/// A gate, and what works it: to arm it, to see that a query waits at it, to open it.
type Works = (Arc<AtomicUsize>, tokio::sync::mpsc::UnboundedReceiver<()>, Sender<()>);

fn gate() -> (Gate, Works) {
    let (entered, seen) = tokio::sync::mpsc::unbounded_channel();
    let (opener, open) = channel();
    let armed = Arc::new(AtomicUsize::new(0));
    let (journal, open) = (Journal::new(), Mutex::new(open));
    let gate = Gate { journal, asked: Arc::default(), armed: Arc::clone(&armed), entered, open };
    (gate, (armed, seen, opener))
}

fn with_lease(id: u64, count: u64) -> NodeConfig {
    let config = config(id, count);
    NodeConfig { raft: Config { lease_reads: true, ..config.raft }, ..config }
}

/// The applier reads under a lease and is then held up, as a paused process is, until another node
/// has been elected and has answered a write: the old leader must not answer what it read.
#[tokio::test]
async fn a_lease_that_ends_while_reading_is_not_relied_on() {
    let network = MemoryNetwork::new();
    let mut cluster = Cluster { network, logs: Vec::new(), nodes: Vec::new() };
    let mut gates = Vec::new();
    for id in 1..=3 {
        let (machine, works) = gate();
        cluster.logs.push(SharedLog::default());
        let node = cluster.start_node(with_lease(id, 3), machine);
        cluster.nodes.push(node);
        gates.push(works);
    }
    let (old, reading) = loop {
        let old = cluster.leader(&[]).await;
        let node = cluster.node(old).clone();
        // Whoever is stopped at the gate while the leader is cut off has read under a lease.
        cluster.network.isolate(old, true);
        let (armed, seen, _) = &mut gates[old.0 as usize - 1];
        armed.store(1, Ordering::SeqCst);
        let reader = node.clone();
        let reading = tokio::spawn(async move { reader.query(number(2), ReadMode::Lease).await });
        tokio::select! {
            _ = seen.recv() => break (old, reading),
            () = shows(&node, |status| status.leader != Some(old)) => {}
        }
        // There was no lease at that moment.
        armed.store(0, Ordering::SeqCst);
        cluster.network.isolate(old, false);
        let _ = reading.await.unwrap();
    };
    let new = cluster.leader(&[old]).await;
    for command in ["one", "two"] {
        cluster.node(new).propose(command.into()).await.unwrap();
    }
    cluster.network.isolate(old, false);
    gates[old.0 as usize - 1].2.send(()).unwrap();
    let read = reading.await.unwrap().unwrap();
    assert_eq!(read.reply, Bytes::from_static(b"two"));
    assert_eq!(read.staleness, Some(Duration::ZERO));
}

#[tokio::test]
async fn without_a_lease_a_quorum_is_asked() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader(&[]).await;
    cluster.node(leader).propose("one".into()).await.unwrap();
    for node in &cluster.nodes {
        let read = node.query(number(1), ReadMode::Lease).await.unwrap();
        assert_eq!(read.reply, Bytes::from_static(b"one"));
        assert_eq!(read.staleness, Some(Duration::ZERO));
    }
}

#[tokio::test]
async fn a_causal_read_waits_for_what_its_token_names() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader(&[]).await;
    let proposed = cluster.node(leader).propose("one".into()).await.unwrap();
    for node in &cluster.nodes {
        let mode = ReadMode::AtLeast(proposed.id.index);
        let read = node.query(number(1), mode).await.unwrap();
        assert_eq!(read.reply, Bytes::from_static(b"one"));
        assert!(read.applied >= proposed.id.index);
        assert!(read.staleness.is_some());
    }
    // Even without a leader: the others are gone.
    let alone = cluster.nodes.iter().find(|node| node.status().identity.node != leader).unwrap();
    cluster.network.isolate(alone.status().identity.node, true);
    shows(alone, |status| status.leader.is_none()).await;
    let read = alone.query(number(1), ReadMode::AtLeast(proposed.id.index)).await.unwrap();
    assert_eq!(read.reply, Bytes::from_static(b"one"));
    // What was never written is waited for until one gives up.
    let never = alone.query(number(1), ReadMode::AtLeast(Index(1_000_000)));
    tokio::select! {
        read = never => panic!("answered {read:?}"),
        () = alone.status_changed() => {}
    }
}

#[tokio::test]
async fn a_local_read_says_how_stale_it_may_be() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader(&[]).await;
    let node = cluster.node(leader);
    node.propose("one".into()).await.unwrap();
    cluster.network.isolate(leader, true);
    let before = node.query(number(1), ReadMode::Local).await.unwrap();
    shows(node, |status| status.leader.is_none()).await;
    let after = node.query(number(1), ReadMode::Local).await.unwrap();
    assert!(after.staleness > before.staleness);
    // A node that never heard a leader cannot tell.
    let transport = cluster.network.transport(NodeId(9));
    let lone = Node::start(config(9, 0), MemoryLog::new(), Journal::new(), transport).unwrap();
    assert_eq!(lone.query(number(1), ReadMode::Local).await.unwrap().staleness, None);
}

/// What nobody waits for any more is not read: not even if it was handed to the state machine.
#[tokio::test]
async fn a_query_that_was_given_up_is_not_asked() {
    let mut cluster = Cluster { network: MemoryNetwork::new(), logs: vec![], nodes: vec![] };
    let (gate, (armed, mut seen, open)) = gate();
    let asked = Arc::clone(&gate.asked);
    cluster.logs.push(SharedLog::default());
    let node = cluster.start_node(config(1, 1), gate);
    cluster.nodes.push(node.clone());
    cluster.leader(&[]).await;
    armed.store(1, Ordering::SeqCst);
    let reader = node.clone();
    let first = tokio::spawn(async move { reader.query(number(0), ReadMode::Local).await });
    seen.recv().await.unwrap();
    // Behind it many more wait that are given up, and one that is not.
    let mut many = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let node = node.clone();
        many.spawn(async move { node.query(number(0), ReadMode::Local).await });
    }
    let reader = node.clone();
    let last = tokio::spawn(async move { reader.query(number(0), ReadMode::Local).await });
    tokio::task::yield_now().await;
    many.shutdown().await;
    open.send(()).unwrap();
    first.await.unwrap().unwrap();
    last.await.unwrap().unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}
