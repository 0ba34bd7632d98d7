//! The state machine of the store: etcd's data model in memory, checkpointed to one redb file.
//!
//! This module owns the replicated state and its two formats on disk and wire. It is
//! deterministic - no clock, no randomness, no hash-map order - and knows neither network nor
//! Raft's log: entries come in through `raft_core::state_machine::StateMachine`. [`KvStore`] is
//! all there is to use.
//!
//! # In memory
//!
//! A B-tree from key to the versions of that key, an only one inline. Each version is one immutable
//! record in one allocation: header, key and value as they are written to disk. What a command
//! brings is copied out of its frame, so no receive buffer is kept alive by a small value in it.
//! The state hash, the checkpoint, the snapshot and the history that watches are told from all take
//! the same bytes.
//!
//! # Compaction
//!
//! A compaction takes effect when it is applied: from then on nobody reads below its revision, nor
//! watches from there. What it has made useless is purged while further entries are applied, a
//! bounded number of changes with each run of them; the changes leave the history in order, each
//! taking out of the tree what it had replaced, and a deletion itself. Those of the very revision
//! that was compacted stay until the next compaction: it can still be watched from, on every member
//! and after every restart. The file follows with the
//! checkpoints: a row is written again, together with small neighbours, once half of it is useless.
//! How far purging has come is no part of the replicated state: it is in no reply but the number of
//! bytes held, and in no hash. Loading a checkpoint or a snapshot purges everything at once.
//!
//! # Versions
//!
//! A checkpoint file or snapshot stream has the version of the membership in its header, or the
//! lowest that has what it holds if that is higher. So an older program reads it until something is
//! in it that it does not know, and then refuses it as newer. Version 2 has brought memberships of
//! its own; version 3 leases and all that has to do with time, and compaction; version 4, which no
//! membership has, users and roles, and sessions that are theirs; version 5, alarms that were
//! raised. Commands and the replies kept in sessions carry the version of requests
//! ([`crate::api::VERSION`]) in their first byte; those of version 1 are still read, as logs and
//! sessions may hold them.
//!
//! # Checkpoint file
//!
//! A redb database of six tables. Integers are little-endian; *postcard* means the postcard
//! encoding of the named struct. Every row is `checksum u64, body`, the checksum being XXH3-64 of
//! the body.
//!
//! | table | key | body |
//! |---|---|---|
//! | `changes` | (revision `u64`, sub `u32`) of the first change | each: `length u32, record` |
//! | `useless` (since 3) | as a row of `changes` | its key, then postcard list of (`u64`, `u32`) |
//! | `sessions` | session id `u64` | id `u64`, then postcard `Session` |
//! | `leases` (since 3) | lease id `u64` | id `u64`, then postcard `LeaseTerm` |
//! | `auth` (since 4) | 0 | postcard `Auth`, if users or roles were ever changed |
//! | `meta` | `"checkpoint"` | version `u16`, then postcard `Meta` |
//!
//! - A *record* is `mod revision u64, create revision u64, version u64, sub u32, key length u32,
//!   lease, key, value`. The highest bit of the key length is set if there is a lease, and only
//!   then the lease follows, a `u64`. Create revision and version are 0, and value and lease
//!   missing, in a deletion. Records are in strictly ascending order of (mod revision, sub), within
//!   and across rows; rows are closed at 65,400 bytes, and one record may be longer. Some of them
//!   may be useless: below the revision compacted, all that the same key has a newer one of up to
//!   there, and deletions. Those that `useless` names count as if they were not there.
//! - `Session { last_used: u64, unanswered_from: u64, replies: map of u64 to optional bytes }`; one
//!   of a user is followed by the optional name (since 4).
//! - `LeaseTerm { granted_ms: u64, end }`, where `end` is `Pending(u64)`, with the index that
//!   granted it, or `At(u64)`, a time in milliseconds.
//! - `Meta { header: Header, sequence: u64, changes_digest: u64, sessions_digest: u64 }`, since
//!   version 3 followed by `Later`, `leases_digest: u64` and `Useless`, since version 4 by the
//!   checksum of the row of `auth`, a `u64`, since version 5 by `Alarms`. `sequence` counts the
//!   checkpoints written into the file, and a digest is the exclusive or of the checksums of all
//!   rows of a table: a row that is missing or was put back is noticed.
//! - `Header { applied: SnapshotMeta, revision: u64, state_hash: u64, records: u64,
//!   sessions: u64 }`.
//! - `Useless { changes: u64, digest: u64 }`: how many changes are useless, and the digest.
//! - `Later { compacted: u64, time: Time, leases: u64 }`, where
//!   `Time { now_ms: u64, stamped: u64, marks: list of (u64, u64) }`.
//! - `Alarms { changed: u64, raised: list of (kind, u64) }`, the kind being 0 for no space and 1
//!   for corrupt.
//!
//! A checkpoint is one durable transaction that appends rows of what has changed, writes rows again
//! of which half has become useless, replaces the rows of the sessions and leases that have
//! changed, and replaces the header. Opening reads everything and checks everything.
//!
//! # Snapshot stream
//!
//! `"raft-kv\n"`, version `u16`, then frames, each `kind u8, length u32, payload`:
//!
//! | kind | payload |
//! |---|---|
//! | 1 | `checksum u64`, postcard `Header`, and what later versions add to `Meta`; first, once |
//! | 2 | a row of `changes`, checksum and body, in order, without what is useless |
//! | 3 | a row of `sessions`, checksum and body, in order of id, after all changes |
//! | 4 | a row of `leases`, checksum and body, in order of id, after all sessions |
//! | 5 | the row of `auth`, checksum and body, after all leases |
//! | 0 | no length and no payload: the end |
//!
//! After the byte 0 follows XXH3-64 of every byte of the stream up to and including it, and nothing
//! else. A receiver writes the rows to a new file, checks all of the above, and only then puts the
//! file in the place of the old one.

mod advance;
mod alarms;
#[cfg_attr(not(feature = "service"), expect(dead_code, reason = "only the service asks"))]
mod auth;
mod backup;
mod budget;
mod changes;
mod check;
mod checkpoint;
mod counts;
mod epoch;
mod format;
mod handle;
mod history;
mod key;
mod lease;
mod legacy;
mod loading;
mod mvcc;
mod paced;
mod quick;
mod range;
mod record;
mod rows;
mod run;
mod scan;
mod session;
mod snapshot;
mod state;
mod time;
mod validate;

#[cfg(feature = "service")]
pub(crate) use auth::{Auth, User as AuthUser};
pub use backup::BackupInfo;
pub use check::StoreCheck;
pub use counts::Counts;
pub use epoch::HISTORY_REVISIONS;
pub use handle::{Gauges, StoreHandle};
#[cfg(feature = "service")]
pub(crate) use history::{Change, History, Observer};
pub use lease::LEASES_MAX;
#[cfg(feature = "service")]
pub(crate) use run::grows;
pub use scan::{FIRST_PART_KEYS_MAX, PART_KEYS_MAX, Scan};
pub use session::{
    REPLY_BYTES_TOTAL_MAX, REPLY_OVERHEAD, SESSION_BYTES_MAX, SESSION_IDLE_MS, SESSIONS_MAX,
};
#[cfg(feature = "client")]
pub(crate) use validate::validate_lists;
pub use validate::{validate, validate_keys};

use crate::api::{
    HASHES_MAX, Hashes, INTEGRITY_VERSION, LeaseAnswer, Query, RangeAnswer, Revision, Summary,
};
use crate::codec;
use bytes::{Bytes, BytesMut};
use checkpoint::CheckpointFile;
use raft_core::log_store::StorageError;
use raft_core::state_machine::{CheckpointJob, Snapshot, StateMachine};
use raft_core::types::{Index, LogId, Run, SnapshotMeta};
use redb::StorageBackend;
use snapshot::{MemoryFrames, SnapshotReader, SnapshotStream};
use state::State;
use std::path::Path;
use std::sync::Arc;

/// Most compacted changes purged from memory with a compaction or a stamp of time, which leaders
/// also make for that alone: a few milliseconds, so that nobody notices a stop.
const PURGE_AT_ONCE: usize = 4096;
/// Most compacted changes purged with every run of entries, whatever its length.
const PURGE_PER_RUN: usize = 256;
/// And for each entry of it. An entry makes one change as a rule: purging gains on it.
const PURGE_PER_ENTRY: usize = 8;

/// The replicated store. Commands are encoded [`crate::api::Command`]s, replies encoded
/// [`crate::api::CommandReply`]s, queries encoded [`Query`]s; see [`crate::codec`].
pub struct KvStore {
    state: State,
    /// `None` if the state is not to survive the process.
    file: Option<Arc<CheckpointFile>>,
    /// Checkpoints begun in the file.
    checkpoints: u64,
    /// What the last of them covers.
    frozen: LogId,
    handle: StoreHandle,
    /// Up to where the history is compacted.
    compacted: u64,
    /// The last stamp of time.
    stamped: u64,
    /// How many compacted changes are still to be purged from memory.
    purge_pending: usize,
}

impl KvStore {
    /// Opens the store whose checkpoint file is at `path`; makes the file if there is none. The
    /// directory must exist. Takes about a second for a million small keys.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the file is damaged, naming the revision; `InUse` if another
    /// process has it open; `Format` if a newer version wrote it; `Io` for what the system says.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        Self::load(CheckpointFile::open(path)?, StoreHandle::default())
    }

    /// Opens the store whose checkpoint file, called `path` in messages, is in `backend`: to look
    /// at a file without changing it.
    ///
    /// # Errors
    /// As [`KvStore::open`].
    pub fn with_backend(path: &Path, backend: impl StorageBackend) -> Result<Self, StorageError> {
        Self::load(CheckpointFile::with_backend(path, backend)?, StoreHandle::default())
    }

    /// An empty store that makes no checkpoints. Its snapshots are of the state as it is.
    pub fn in_memory() -> Self {
        Self::of(State::new(false), None, 0, StoreHandle::default())
    }

    /// The store from outside whoever works on it.
    pub fn handle(&self) -> StoreHandle {
        self.handle.clone()
    }

    /// The applied state in numbers; also what [`Query::Summary`] answers.
    pub fn summary(&self) -> Summary {
        Summary {
            revision: Revision(self.state.mvcc.revision()),
            keys: self.state.mvcc.live(),
            state_hash: self.state.mvcc.hash(),
            last_applied: self.state.applied.last.index,
            compacted: Revision(self.state.mvcc.compacted()),
            bytes: self.state.mvcc.bytes(),
            leases: self.state.leases.len() as u64,
            time_ms: self.state.time.now_ms(),
            stamped: Index(self.state.time.stamped()),
            sessions: self.state.sessions.len() as u64,
            auth_enabled: self.state.auth.is_enabled(),
            auth_revision: self.state.auth.revision(),
        }
    }

    fn load(file: CheckpointFile, handle: StoreHandle) -> Result<Self, StorageError> {
        let (state, checkpoints) = match file.load()? {
            Some((state, meta)) => (state, meta.sequence),
            None => (State::new(true), 0),
        };
        Ok(Self::of(state, Some(Arc::new(file)), checkpoints, handle))
    }

    /// A store of a state that was just made.
    fn of(
        mut state: State,
        file: Option<Arc<CheckpointFile>>,
        checkpoints: u64,
        handle: StoreHandle,
    ) -> Self {
        let changes = state.mvcc.take_changes();
        handle.set_auth(&state.auth);
        handle.set_alarms(&state.alarms);
        handle.history().reset(changes, state.mvcc.revision(), state.mvcc.compacted());
        let frozen = state.applied.last;
        handle.check().follow(file.as_ref());
        let compacted = state.mvcc.compacted();
        let (stamped, purge_pending) = (state.time.stamped(), 0);
        let store =
            Self { state, file, checkpoints, frozen, handle, compacted, stamped, purge_pending };
        store.tell();
        store
    }

    /// Tells watches what has changed, and purges some of what was compacted.
    fn publish(&mut self, entries: usize) {
        let Self {
            state: State { mvcc, time, auth, alarms, .. }, handle, compacted, stamped, ..
        } = self;
        // Rights first: what is told is held against those of when it was done.
        handle.set_auth(auth);
        handle.set_alarms(alarms);
        let history = handle.history();
        let changes = mvcc.take_changes();
        if !changes.is_empty() || mvcc.revision() != history.extent().0 {
            history.publish(changes, mvcc.revision());
        }
        let mut most = PURGE_PER_RUN + PURGE_PER_ENTRY * entries;
        if mvcc.compacted() > *compacted {
            *compacted = mvcc.compacted();
            history.compact(*compacted);
            self.purge_pending = history.compacted_left();
            most += PURGE_AT_ONCE;
        }
        if time.stamped() > *stamped {
            *stamped = time.stamped();
            most += PURGE_AT_ONCE;
        }
        if self.purge_pending > 0 {
            let changes = history.take_compacted(most);
            self.purge_pending -= changes.len().min(self.purge_pending);
            changes.iter().for_each(|change| mvcc.purge(&change.record));
        }
        self.tell();
    }

    fn tell(&self) {
        self.handle.set(&self.summary(), self.purge_pending as u64);
    }

    fn hashes(&self, at: &[Index]) -> Hashes {
        let ring = &self.state.hashes;
        Hashes {
            version: INTEGRITY_VERSION,
            sound: !self.handle.check().is_distrusted(),
            oldest: ring.oldest(),
            dense: ring.dense_from(),
            newest: ring.newest(),
            at: at.iter().take(HASHES_MAX).map(|index| ring.at(*index)).collect(),
        }
    }

    fn answer(&self, query: Query) -> Bytes {
        match query {
            Query::Range(range) => {
                let mut keys = 0;
                self.handle.count(Counts { ranges: 1, ..Counts::default() });
                let answer = run::read(&self.state.mvcc, &range, &mut keys);
                self.handle.note_keys(keys);
                codec::encode(&answer)
            }
            Query::Scan(id) => {
                let (answer, keys) = self.handle.scans().go_on(id, &self.state.mvcc);
                self.handle.note_keys(keys);
                answer
            }
            Query::Summary => codec::encode(&self.summary()),
            Query::Lease { id, keys } => {
                let State { leases, time, .. } = &self.state;
                codec::encode::<LeaseAnswer>(&leases.describe(id, time.now_ms(), keys))
            }
            Query::Leases => codec::encode(&self.state.leases.ids()),
            Query::Hashes(at) => codec::encode(&self.hashes(&at)),
            Query::Chunk(chunk) => codec::encode(&check::digest(&self.state.mvcc, &chunk)),
            Query::Roll(part) => codec::encode(&check::roll(&self.state, &part)),
        }
    }
}

impl StateMachine for KvStore {
    fn applied(&self) -> SnapshotMeta {
        self.state.applied.clone()
    }

    fn apply(&mut self, run: &Run) -> Vec<Bytes> {
        let mut out = BytesMut::with_capacity(16 * run.len());
        let entries = run.entries();
        let replies = entries.iter().map(|entry| self.state.apply(entry, &mut out)).collect();
        self.handle.count(std::mem::take(&mut self.state.counts));
        self.publish(entries.len());
        replies
    }

    fn is_quick(&self, run: &Run) -> bool {
        // What was compacted is purged with the runs that follow, some with each.
        self.purge_pending == 0 && quick::is_quick(&self.state.mvcc, run)
    }

    fn query(&self, query: &[u8]) -> Bytes {
        match codec::decode(query) {
            Ok(query) => self.answer(query),
            Err(error) => codec::encode(&RangeAnswer::Err(error.into())),
        }
    }

    fn quick_query(&self, query: &[u8]) -> Option<Bytes> {
        let query = codec::decode(query).ok()?;
        quick::is_quick_query(&self.state.mvcc, &query).then(|| self.answer(query))
    }

    fn checkpoint(&mut self) -> Option<CheckpointJob> {
        let file = Arc::clone(self.file.as_ref()?);
        if self.state.applied.last == self.frozen {
            return None;
        }
        let frozen = self.state.freeze_changes();
        let follows = self.checkpoints;
        self.checkpoints += 1;
        self.frozen = frozen.applied.last;
        Some(Box::new(move || file.write(follows, &frozen)))
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        if self.handle.check().is_distrusted() {
            let text = "this store's data is not to be trusted: it makes no snapshots";
            return Err(StorageError::Engine(text.into()));
        }
        let Some(file) = &self.file else {
            let (header, frames) = MemoryFrames::of(&self.state);
            let data = Box::new(SnapshotStream::new(&header, frames));
            return Ok(Snapshot { meta: header.applied, data });
        };
        let none = || StorageError::Engine("there is no checkpoint yet".into());
        file.snapshot()?.ok_or_else(none)
    }

    /// As the trait says: for whatever is wrong with the stream, [`StorageError::Stream`], and the
    /// state and the file are as they were. A store that holds nothing makes its state of the
    /// stream while the file is written. One that holds something lets go of that and reads the
    /// new file: if it cannot be read, the store is left empty; like every other error that is
    /// final.
    fn restore(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        let (reader, header) = SnapshotReader::open(snapshot.data)?;
        if header.applied != snapshot.meta {
            let (found, announced) = (header.applied.last, snapshot.meta.last);
            return Err(snapshot::damage(&format!("it covers {found}, not {announced}")));
        }
        let handle = self.handle();
        let Some(file) = &self.file else {
            *self = Self::of(reader.into_state(header)?, None, 0, handle);
            return Ok(());
        };
        if self.state.applied.last == LogId::default() {
            // It holds nothing, so that there is room for the state while the file is written.
            let (file, state, meta) = CheckpointFile::receive_state(file.path(), &header, reader)?;
            *self = Self::of(state, Some(Arc::new(file)), meta.sequence, handle);
            return Ok(());
        }
        let file = CheckpointFile::receive(file.path(), &header, reader)?;
        // The old state goes first: there may not be room for two. Only what watches are still to
        // be told of stays until the new one takes its place.
        *self = Self::in_memory();
        *self = Self::load(file, handle)?;
        Ok(())
    }
}
