//! What is in the data directory of a stopped node. Reads only, and keeps nodes from starting on
//! the directory meanwhile.

use crate::directory::failed;
use crate::failure::{Failure, Kind};
use crate::serve::GROUP;
use crate::serve::data::CHECKPOINT_FILE;
use crate::verbs::snapshot;
use raft_core::log_store::StorageError;
use raft_core::raft::Loaded;
use raft_core::state_machine::StateMachine;
use raft_core::types::{
    ClusterId, Entry, HardState, Identity, Incarnation, Index, LogId, Membership, NodeId, Payload,
    SnapshotMeta, Term,
};
use raft_kv::store::{BackupInfo, KvStore};
use raft_storage_redb::{Change, FileLock, Inspection, LOCK_FILE, Overlay, Record, inspect};
use std::fs::{File, TryLockError};
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
    /// Whether it is no directory but a backup.
    pub is_backup: bool,
    /// Keeps nodes out.
    _lock: Lock,
}

/// What keeps nodes from starting on a directory.
#[derive(Debug)]
enum Lock {
    Log { _inspection: Inspection },
    File { _file: Option<FileLock> },
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
            is_backup: false,
            _lock: Lock::Log { _inspection: inspection },
        };
        survivor.joined()
    }

    /// Reads the directory `dir` as if its log ended with the checkpoint: for one whose log cannot
    /// be used.
    ///
    /// # Errors
    /// Of kind `Local` if a node runs on it, there is no checkpoint or it is damaged, or nothing
    /// that can be read tells whose it is.
    pub fn read_checkpoint(dir: &Path) -> Result<Self, Failure> {
        let (lock, identity) = match inspect(dir) {
            Ok(inspection) => {
                let identity = identity_in(&inspection);
                (Lock::Log { _inspection: inspection }, identity)
            }
            Err(error @ StorageError::InUse(_)) => return Err(Failure::new(Kind::Local, error)),
            Err(_) => (Lock::File { _file: lock(dir)? }, None),
        };
        let (checkpoint, keys) = read_checkpoint(&dir.join(CHECKPOINT_FILE))?;
        if checkpoint.last == LogId::ZERO {
            let text = format!("{}: there is no checkpoint", dir.display());
            return Err(Failure::new(Kind::Local, text));
        }
        let identity = identity.or_else(|| sole_member(&checkpoint.membership));
        let identity = identity.ok_or_else(|| {
            let text = format!("{}: nothing in it tells whose it is", dir.display());
            Failure::new(Kind::Local, text)
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            identity,
            hard_state: HardState::default(),
            boundary: checkpoint.clone(),
            entries: Vec::new(),
            checkpoint,
            keys,
            is_backup: false,
            _lock: lock,
        })
    }

    /// Reads the backup `file` as if it were the checkpoint of a node of whom nothing else is left.
    ///
    /// # Errors
    /// Of kind `Local` if it is damaged or cannot be read.
    pub fn of_backup(file: &Path) -> Result<(Self, BackupInfo), Failure> {
        let info = snapshot::read(file)?;
        let survivor = Self {
            dir: file.to_owned(),
            // Nobody's: whoever is made of it gets another.
            identity: Identity {
                cluster: ClusterId(0),
                node: NodeId(0),
                incarnation: Incarnation(0),
            },
            hard_state: HardState::default(),
            boundary: info.meta.clone(),
            entries: Vec::new(),
            checkpoint: info.meta.clone(),
            keys: info.keys,
            is_backup: true,
            _lock: Lock::File { _file: None },
        };
        Ok((survivor, info))
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

    /// Whether it has this entry, as far as can be told: what is before the boundary is not known.
    pub fn has(&self, id: LogId) -> bool {
        id.index < self.boundary.last.index || self.term_at(id.index) == Some(id.term)
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

/// The identity in the rows before the first bad one.
fn identity_in(inspection: &Inspection) -> Option<Identity> {
    let rows = inspection.rows().ok()?.map_while(Result::ok);
    let changes = rows.flat_map(|row| row.records).filter_map(|record| match record {
        Record::Group(GROUP, Change::Identity(identity)) => Some(identity),
        _ => None,
    });
    changes.last()
}

/// The node that was its cluster; the cluster's id and the life are not known.
fn sole_member(membership: &Membership) -> Option<Identity> {
    let mut members = membership.members().iter();
    let (Some((node, member)), None) = (members.next(), members.next()) else { return None };
    let incarnation = member.incarnation?;
    Some(Identity { cluster: ClusterId(0), node: *node, incarnation })
}

/// Keeps nodes out of a directory whose log cannot even be looked at; there may be no lock file.
fn lock(dir: &Path) -> Result<Option<FileLock>, Failure> {
    let path = dir.join(LOCK_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", &path, &error)),
    };
    match FileLock::shared(file) {
        Ok(lock) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => {
            let dir = dir.display().to_string();
            Err(Failure::new(Kind::Local, StorageError::InUse(dir)))
        }
        Err(TryLockError::Error(error)) => Err(failed("lock", &path, &error)),
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
        Err(error) => return Err(failed("read", path, &error)),
    };
    let store = KvStore::with_backend(path, overlay);
    let store = store.map_err(|error| Failure::new(Kind::Local, error))?;
    Ok((store.applied(), store.summary().keys))
}
