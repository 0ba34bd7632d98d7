//! A node's data directory: opened as it is, or, if what is in it cannot be used, cleared by moving
//! everything aside, for a new life of the node that gets its data from the others.

use super::damage;
use super::plan::Plan;
use super::storage;
use crate::failure::{Failure, Kind};
use raft_core::log_store::StorageError;
use raft_core::node::StartError;
use raft_core::raft::LoadError;
use raft_kv::store::KvStore;
use raft_storage_redb::{DirectoryLock, RedbLog};
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;
use tracing::error;

/// The state machine's checkpoint.
pub const CHECKPOINT_FILE: &str = "kv.redb";

/// What is in a node's directory.
#[expect(missing_debug_implementations, reason = "the store in it has none")]
pub struct Data {
    /// The log, which keeps others out of the directory.
    pub log: RedbLog,
    /// The state machine, as of its checkpoint.
    pub machine: KvStore,
    /// Whether data was once moved aside here: then this node forms no cluster.
    pub moved_aside: bool,
}

impl Data {
    /// Opens the directory of `plan`; moves aside what is damaged if that is allowed.
    ///
    /// # Errors
    /// Of kind `Local` if the directory is damaged and nothing is to be moved, is in use, or cannot
    /// be read.
    pub fn open(plan: &Plan) -> Result<Self, Failure> {
        match Self::try_open(&plan.data_dir) {
            Ok(data) => data.noted(plan),
            Err(StorageError::Corrupt(what)) => Self::replace(plan, &what),
            Err(error) => Err(storage(&plan.data_dir, &error)),
        }
    }

    /// Moves everything aside, because of `what`, and opens what is then blank.
    ///
    /// # Errors
    /// As [`Data::open`].
    pub fn replace(plan: &Plan, what: &str) -> Result<Self, Failure> {
        Self::give_up(plan, what)?;
        let dir = &plan.data_dir;
        Self::try_open(dir).map_err(|error| storage(dir, &error))?.noted(plan)
    }

    /// Moves everything aside, because of `what`; nothing of it is in use.
    ///
    /// # Errors
    /// As [`Data::open`].
    pub fn give_up(plan: &Plan, what: &str) -> Result<(), Failure> {
        let dir = &plan.data_dir;
        if !plan.rejoin {
            return Err(refused(plan, what));
        }
        let folder = damage::move_aside(dir)?;
        error!(
            "the data in {} cannot be used: {what}. All of it was moved to {}; {} starts blank, \
             as a new life that waits for a leader of cluster {} to take it back",
            dir.display(),
            folder.display(),
            plan.raft.id,
            plan.cluster,
        );
        Ok(())
    }

    fn try_open(dir: &Path) -> Result<Self, StorageError> {
        // Kept until both are done: who is let in before may move aside what is still being read.
        let lock = DirectoryLock::new(dir)?;
        // Either takes a second or so for a million keys, and neither needs the other.
        thread::scope(|scope| {
            let open = || KvStore::open(&dir.join(CHECKPOINT_FILE));
            let machine = thread::Builder::new().name("raft-load".into()).spawn_scoped(scope, open);
            let machine = machine.map_err(|error| StorageError::io("starting to load", error))?;
            let log = RedbLog::open_locked(lock.clone());
            let machine = machine.join();
            // What is wrong with the log is what matters, if both are damaged.
            let log = log?;
            let machine = machine.unwrap_or_else(|panic| resume_unwind(panic))?;
            Ok(Self { log, machine, moved_aside: false })
        })
    }

    /// Looked at only once the log holds the lock: nobody moves anything any more.
    fn noted(self, plan: &Plan) -> Result<Self, Failure> {
        let moved_aside = damage::was_moved_aside(&plan.data_dir)?;
        Ok(Self { moved_aside, ..self })
    }
}

fn refused(plan: &Plan, what: &str) -> Failure {
    let failure = Failure::new(Kind::Local, format!("{}: corrupt: {what}", plan.raft.id));
    if plan.single {
        let advice = "a cluster of one has nobody to get its data back from: put a copy back, or \
                      see with `raft recover plan` what can be made of what is left";
        return failure.advice(advice);
    }
    failure.advice("--on-damage rejoin moves it aside and gets the data from the others")
}

/// What is damaged or lost, if that is why a node does not start.
pub fn damage_of(error: &StartError) -> Option<String> {
    match error {
        StartError::Log(StorageError::Corrupt(what)) => Some(what.clone()),
        StartError::LogLost { applied } => {
            Some(format!("the log is missing, but the checkpoint covers entries up to {applied}"))
        }
        StartError::Load(LoadError::StateBehindLog { applied, log_start }) => Some(format!(
            "the checkpoint is missing or too old: it covers entries up to {applied}, and the log \
             starts after {log_start}"
        )),
        _ => None,
    }
}
