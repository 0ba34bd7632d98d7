//! What is in the data directory of a stopped node. Reads only, and keeps nodes from starting on
//! the directory meanwhile.

use crate::failure::{Failure, Kind};
use crate::serve::GROUP;
use crate::serve::data::CHECKPOINT_FILE;
use raft_core::log_store::StorageError;
use raft_core::raft::Loaded;
use raft_core::state_machine::StateMachine;
use raft_core::types::{
    Entry, HardState, Identity, Index, LogId, Membership, Payload, SnapshotMeta, Term,
};
use raft_kv::store::KvStore;
use raft_storage_redb::{Inspection, Overlay, inspect};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A node's data.
#[derive(Debug)]
pub struct Survivor {
    /// Its directory.
    pub dir: PathBuf,
    /// Whose it is.
    pub identity: Identity,
    /// Term and vote.
    pub hard_state: HardState,
    /// Where the entries begin: with these and what is before, everything the node has.
    pub boundary: SnapshotMeta,
    /// The entries after the boundary.
    pub entries: Vec<Entry>,
    /// What its checkpoint covers; nothing, if it has none.
    pub checkpoint: SnapshotMeta,
    /// Keys in the checkpoint.
    pub keys: u64,
    /// Keeps nodes out.
    _inspection: Inspection,
}

impl Survivor {
    /// Reads the directory `dir`.
    ///
    /// # Errors
    /// Of kind `Local` if a node runs on it, or there is nothing or nothing whole to read.
    pub fn read(dir: &Path) -> Result<Self, Failure> {
        let failed = |error: StorageError| Failure::new(Kind::Local, error);
        let inspection = inspect(dir).map_err(failed)?;
        let Loaded { identity, hard_state, snapshot, entries } =
            inspection.load(GROUP).map_err(failed)?;
        let identity = identity.ok_or_else(|| {
            Failure::new(Kind::Local, format!("{}: the log is blank", dir.display()))
        })?;
        let (checkpoint, keys) = read_checkpoint(&dir.join(CHECKPOINT_FILE))?;
        let entries = entries.iter().flat_map(|run| run.entries().iter().cloned()).collect();
        let dir = dir.to_owned();
        let survivor = Self {
            dir,
            identity,
            hard_state,
            boundary: snapshot,
            entries,
            checkpoint,
            keys,
            _inspection: inspection,
        };
        survivor.joined()
    }

    /// Joins log and checkpoint as a node does at its start.
    fn joined(mut self) -> Result<Self, Failure> {
        let (applied, start) = (self.checkpoint.last, self.boundary.last);
        if applied.index < start.index {
            let dir = self.dir.display();
            let text = format!(
                "{dir}: the checkpoint is missing or too old: it covers entries up to {applied}, \
                 and the log starts after {start}"
            );
            return Err(Failure::new(Kind::Local, text));
        }
        if self.term_at(applied.index) != Some(applied.term) {
            // The log was about to start anew after a snapshot.
            self.boundary = self.checkpoint.clone();
            self.entries.clear();
        }
        Ok(self)
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        let LogId { index: start, term } = self.boundary.last;
        let Some(place) = index.0.checked_sub(start.0 + 1) else {
            return (index == start).then_some(term);
        };
        self.entries.get(usize::try_from(place).ok()?).map(|entry| entry.id.term)
    }

    /// Its last entry.
    pub fn last(&self) -> LogId {
        self.entries.last().map_or(self.boundary.last, |entry| entry.id)
    }

    /// The membership in force at its last entry; empty if it never belonged to a cluster.
    pub fn membership(&self) -> &Membership {
        let memberships = self.entries.iter().rev().filter_map(|entry| match &entry.payload {
            Payload::Membership(membership) => Some(&**membership),
            _ => None,
        });
        let mut memberships = memberships;
        memberships.next().unwrap_or(&self.boundary.membership)
    }

    /// The term it has reached: no leader of a term above ever heard of it.
    pub fn term(&self) -> Term {
        self.hard_state.term.max(self.last().term)
    }

    /// Whether both have the same entries wherever both have one of the same index and term: so it
    /// is in one cluster with one history (Log Matching).
    pub fn agrees_with(&self, other: &Self) -> bool {
        let Some(first) = other.entries.first() else { return true };
        let at = |entry: &Entry| {
            let place = entry.id.index.0.checked_sub(first.id.index.0)?;
            other.entries.get(usize::try_from(place).ok()?)
        };
        self.entries.iter().all(|entry| match at(entry) {
            Some(theirs) if theirs.id == entry.id => theirs.payload == entry.payload,
            _ => true,
        })
    }
}

/// What a checkpoint file covers, and its keys; all of it is read and checked.
fn read_checkpoint(path: &Path) -> Result<(SnapshotMeta, u64), Failure> {
    let opened = File::open(path).and_then(Overlay::new);
    let overlay = match opened {
        Ok(overlay) => overlay,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((SnapshotMeta::default(), 0));
        }
        Err(error) => return Err(crate::directory::failed("read", path, &error)),
    };
    let store = KvStore::with_backend(path, overlay);
    let store = store.map_err(|error| Failure::new(Kind::Local, error))?;
    Ok((store.applied(), store.summary().keys))
}
