//! The user's own log store under a simulated node.
//!
//! The cluster knows what every node was promised to be durable. Whenever a node starts, what the
//! store loads must be exactly that. It never repairs anything.

use crate::log_store::{LogStore, StorageError};
use crate::raft::{GroupOp, Loaded, LogOp, Write};
use crate::types::{Entry, GroupId, NodeId, Run};
use std::fmt;
use std::rc::Rc;

type Open = dyn Fn(NodeId, u64) -> Result<Box<dyn LogStore>, StorageError>;

/// The group that a simulated cluster is.
const GROUP: GroupId = GroupId(0);

/// What the logs of a simulated cluster are kept in.
#[derive(Clone, Default)]
pub struct Stores(Option<Rc<Open>>);

impl Stores {
    /// In memory, by the cluster itself.
    pub const fn simulated() -> Self {
        Self(None)
    }

    /// In the user's own stores: `open` opens that of a node whenever it starts, after the one
    /// before was dropped, with what a loss of power left of it; the second argument counts how
    /// often the node lost its directory.
    ///
    /// Whatever a write returned for must be there, and nothing else but a write that failed. A
    /// store that fails to write stops its node. One that reports [`StorageError::Corrupt`] when
    /// it is opened or loaded makes the node go on as if its directory was lost; any other error
    /// keeps it down until it is started again.
    pub fn opened_by<L: LogStore>(
        open: impl Fn(NodeId, u64) -> Result<L, StorageError> + 'static,
    ) -> Self {
        let boxed = move |node, life| {
            let store: Box<dyn LogStore> = Box::new(open(node, life)?);
            Ok(store)
        };
        Self(Some(Rc::new(boxed)))
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Stores(own)" } else { "Stores(simulated)" })
    }
}

/// The store of one node. Without a user's own it does nothing.
pub(super) struct Store {
    stores: Stores,
    node: NodeId,
    opened: Option<Box<dyn LogStore>>,
    /// A write that failed: it is durable, or it is not.
    failed: Option<Write>,
}

/// What came of loading a log.
pub(super) enum Loading {
    /// It is what was promised.
    Whole,
    /// So it is, and the write that failed is durable after all.
    With(Write),
    /// Something is missing or altered, and the store says so.
    Corrupt,
    /// It cannot be read now.
    Unreadable,
}

impl Store {
    pub(super) const fn new(stores: Stores, node: NodeId) -> Self {
        Self { stores, node, opened: None, failed: None }
    }

    /// Begins with `disk`, in a new directory.
    pub(super) fn begin(&mut self, disk: &Loaded, lives: u64) {
        let Some(open) = self.stores.0.clone() else { return };
        self.close();
        self.failed = None;
        let mut store = open(self.node, lives).expect("a new store opens");
        let loaded = store.load(GROUP).expect("a new store can be read");
        assert!(loaded == Loaded::default(), "{}: a new store holds {loaded:?}", self.node);
        let mut ops: Vec<LogOp> = disk.identity.map(LogOp::Identity).into_iter().collect();
        if !disk.snapshot.membership.is_empty() {
            ops.push(LogOp::Reset(disk.snapshot.clone()));
        }
        store.write(&grouped(&ops)).expect("a new store can be written");
        self.opened = Some(store);
    }

    /// What it holds must be `promised`.
    pub(super) fn load(&mut self, promised: &Loaded, lives: u64) -> Loading {
        let Some(open) = &self.stores.0 else { return Loading::Whole };
        self.opened = None;
        let opened = open(self.node, lives).and_then(|mut store| {
            let loaded = store.load(GROUP)?;
            Ok((store, loaded))
        });
        let (store, loaded) = match opened {
            Ok(opened) => opened,
            Err(StorageError::Corrupt(_)) => return Loading::Corrupt,
            Err(_) => return Loading::Unreadable,
        };
        self.opened = Some(store);
        let failed = self.failed.take();
        if same(&loaded, promised) {
            return Loading::Whole;
        }
        if let Some(write) = failed {
            let mut with = promised.clone();
            let applied = write.ops.iter().all(|op| with.apply(op).is_ok());
            if applied && same(&loaded, &with) {
                return Loading::With(write);
            }
        }
        panic!("{}: the log holds {loaded:?}, promised was {promised:?}", self.node);
    }

    /// Whether `write` is durable.
    pub(super) fn write(&mut self, write: &Write) -> bool {
        let Some(store) = &mut self.opened else { return true };
        let written = store.write(&grouped(&write.ops)).is_ok();
        if !written {
            self.failed = Some(write.clone());
        }
        written
    }

    /// The node stops.
    pub(super) fn close(&mut self) {
        self.opened = None;
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stores.fmt(f)
    }
}

fn grouped(ops: &[LogOp]) -> Vec<GroupOp> {
    ops.iter().map(|op| GroupOp { group: GROUP, op: op.clone() }).collect()
}

/// Whether two logs are alike, in whatever runs they hold their entries.
fn same(a: &Loaded, b: &Loaded) -> bool {
    fn entries(disk: &Loaded) -> impl Iterator<Item = &Entry> {
        disk.entries.iter().flat_map(Run::entries)
    }
    let head = |disk: &Loaded| (disk.identity, disk.hard_state, disk.snapshot.clone());
    head(a) == head(b) && entries(a).eq(entries(b))
}
