//! What takes no time is done by the loop: writes of a log that never waits, what the state machine
//! calls quick. Everything else, and what comes behind it, is done by the node's threads.

use super::*;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A journal that notes which thread applies and answers. What is called slow is not quick, and
/// waits to be let go; what is called a bomb panics.
struct Noted {
    journal: Journal,
    threads: Arc<Mutex<Vec<String>>>,
    entered: tokio::sync::mpsc::UnboundedSender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl Noted {
    fn note(&self) {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        self.threads.lock().unwrap().push(name);
    }

    fn has(run: &Run, what: &str) -> bool {
        let is = |entry: &Entry| matches!(&entry.payload, Payload::Command(is) if is == what);
        run.entries().iter().any(is)
    }
}

impl StateMachine for Noted {
    fn applied(&self) -> SnapshotMeta {
        self.journal.applied()
    }
    fn apply(&mut self, run: &Run) -> Vec<Bytes> {
        self.note();
        assert!(!Self::has(run, "bomb"), "the state machine of a test");
        if Self::has(run, "slow") {
            self.entered.send(()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
        }
        self.journal.apply(run)
    }
    fn is_quick(&self, run: &Run) -> bool {
        !Self::has(run, "slow")
    }
    fn query(&self, query: &[u8]) -> Bytes {
        self.note();
        self.journal.query(query)
    }
    fn quick_query(&self, query: &[u8]) -> Option<Bytes> {
        (query != number(2)).then(|| self.query(query))
    }
    fn checkpoint(&mut self) -> Option<CheckpointJob> {
        let meta = self.journal.snapshot().unwrap().meta;
        Some(Box::new(move || Ok(meta)))
    }
    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.journal.snapshot()
    }
    fn restore(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        self.journal.restore(snapshot)
    }
}

/// A node on its own, and what its state machine tells and waits for.
struct Alone {
    node: Node,
    threads: Arc<Mutex<Vec<String>>>,
    entered: tokio::sync::mpsc::UnboundedReceiver<()>,
    let_go: Sender<()>,
}

impl Alone {
    async fn start(config: NodeConfig, log: impl LogStore) -> Self {
        let (told, entered) = tokio::sync::mpsc::unbounded_channel();
        let (let_go, go_on) = channel();
        let threads = Arc::<Mutex<Vec<String>>>::default();
        let machine = Noted {
            journal: Journal::new(),
            threads: Arc::clone(&threads),
            entered: told,
            go_on: Mutex::new(go_on),
        };
        let transport = MemoryNetwork::new().transport(NodeId(1));
        let node = Node::start(config, log, machine, transport).unwrap();
        shows(&node, |status| status.last_applied > Index::ZERO).await;
        Self { node, threads, entered, let_go }
    }

    /// Whether the applier thread has done the last of what was done.
    fn by_applier(&self) -> bool {
        self.threads.lock().unwrap().last().unwrap() == "raft-applier"
    }
}

#[tokio::test]
async fn the_loop_does_what_is_quick() {
    let alone = Alone::start(config(1, 1), MemoryLog::new()).await;
    alone.node.propose("one".into()).await.unwrap();
    assert!(!alone.by_applier());
    let read = alone.node.query(number(1), ReadMode::Linearizable).await.unwrap();
    assert_eq!(read.reply, Bytes::from_static(b"one"));
    assert!(!alone.by_applier());
    alone.node.query(number(2), ReadMode::Linearizable).await.unwrap();
    assert!(alone.by_applier());
}

#[tokio::test]
async fn nothing_overtakes_what_is_slow() {
    let mut alone = Alone::start(config(1, 1), MemoryLog::new()).await;
    let propose = |what: &'static str| {
        let node = alone.node.clone();
        tokio::spawn(async move { node.propose(what.into()).await.unwrap().reply })
    };
    let slow = propose("slow");
    alone.entered.recv().await.unwrap();
    let quick = propose("quick");
    let committed = |status: &Status| status.commit_index > status.last_applied.next();
    shows(&alone.node, committed).await;
    let node = alone.node.clone();
    let reads = tokio::spawn(async move { node.query(number(2), ReadMode::Local).await });
    // A tick later both have reached the loop, and would be answered if they did not wait.
    alone.node.status_changed().await;
    assert!(!quick.is_finished() && !reads.is_finished());
    alone.let_go.send(()).unwrap();
    assert_eq!((slow.await.unwrap(), quick.await.unwrap()), (number(1), number(2)));
    assert_eq!(reads.await.unwrap().unwrap().reply, Bytes::from_static(b"quick"));
    assert!(alone.by_applier());
    // The thread has nothing to do any more.
    alone.node.propose("three".into()).await.unwrap();
    assert!(!alone.by_applier());
}

#[tokio::test]
async fn a_panic_on_the_loop_stops_the_node() {
    let alone = Alone::start(config(1, 1), MemoryLog::new()).await;
    let outcome = alone.node.propose("bomb".into()).await;
    assert!(!alone.by_applier());
    assert!(matches!(outcome, Err(ProposeError::Stopped)), "{outcome:?}");
    let cause = alone.node.stopped().await;
    assert_eq!(cause, StopCause::Internal("the state machine panicked".into()));
}

#[tokio::test]
async fn checkpoints_become_due_by_what_the_loop_applies() {
    let base = config(1, 1);
    let raft = Config { log_trailing_entries: 0, ..base.raft };
    let config = NodeConfig { raft, checkpoint_entries: 10, ..base };
    let alone = Alone::start(config, MemoryLog::new()).await;
    while alone.node.status().log_start.index < Index(20) {
        alone.node.propose("x".into()).await.unwrap();
    }
    // Only behind a checkpoint may something have been queued.
    assert_ne!(alone.threads.lock().unwrap()[0], "raft-applier");
}

/// Much of what is quick is not quick any more: the loop does some of it, the thread the rest.
#[tokio::test]
async fn the_loop_does_not_do_much_at_once() {
    let alone = Alone::start(config(1, 1), MemoryLog::new()).await;
    alone.node.propose("one".into()).await.unwrap();
    alone.threads.lock().unwrap().clear();
    let reads: Vec<_> = (0..1000)
        .map(|_| {
            let node = alone.node.clone();
            tokio::spawn(async move { node.query(number(1), ReadMode::Local).await })
        })
        .collect();
    for read in reads {
        assert_eq!(read.await.unwrap().unwrap().reply, Bytes::from_static(b"one"));
    }
    let threads = alone.threads.lock().unwrap();
    assert_eq!(threads.len(), 1000);
    let on_loop = threads.iter().take_while(|name| *name != "raft-applier").count();
    assert!(on_loop > 0 && on_loop < 1000, "{on_loop}");
}

/// A log in memory that can be made to fail, by an error or by a panic.
#[derive(Clone, Default)]
struct Fragile {
    log: MemoryLog,
    fails: Arc<AtomicUsize>,
}

impl LogStore for Fragile {
    fn blocks(&self) -> bool {
        false
    }
    fn load(&mut self, group: GroupId) -> Result<Loaded, StorageError> {
        self.log.load(group)
    }
    fn write(&mut self, ops: &[GroupOp]) -> Result<(), StorageError> {
        match self.fails.load(Ordering::SeqCst) {
            0 => self.log.write(ops),
            1 => Err(StorageError::Engine("no space left on device".into())),
            _ => panic!("the log of a test"),
        }
    }
}

#[tokio::test]
async fn a_log_that_fails_on_the_loop_stops_the_node() {
    let errors = [
        StopCause::Storage("no space left on device".into()),
        StopCause::Internal("the log store panicked".into()),
    ];
    for (fails, expected) in (1..).zip(errors) {
        let log = Fragile::default();
        let alone = Alone::start(config(1, 1), log.clone()).await;
        log.fails.store(fails, Ordering::SeqCst);
        let outcome = alone.node.propose("one".into()).await;
        assert!(matches!(outcome, Err(ProposeError::Stopped)), "{outcome:?}");
        assert_eq!(alone.node.stopped().await, expected);
    }
}
