//! A small state machine, in memory or in a file, which is sound unless it is told to have a bug.
//!
//! A command is `key=value`; the reply says the former value and how many keys there are. A query
//! is a key, and answers its value.

use bytes::{Bytes, BytesMut};
use raft_core::codec;
use raft_core::log_store::StorageError;
use raft_core::raft::LogOp;
use raft_core::state_machine::{CheckpointJob, Snapshot, StateMachine};
use raft_core::types::{Entry, Payload, Run, SnapshotMeta};
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::BuildHasher;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bug {
    None,
    RepliesInSeconds,
    RepliesInNanoseconds,
    RepliesByHashMapOrder,
    RepliesAtRandom,
    RepliesToNoops,
    SkipsReplies,
    CountsRuns,
    QueriesCount,
    AnswersQuicklyAndWrong,
    KeepsOldDataInRestore,
    LosesDataInRestore,
    ClearsBeforeItReads,
    IgnoresReadErrors,
    CallsADamagedStreamAnEngineError,
    SnapshotsHaveTheNewestMembership,
    SnapshotsClaimLess,
    SnapshotsFollowTheMachine,
    CheckpointsAreLate,
    /// The data is in the file with every entry, what is applied only with checkpoints.
    AppliesTwice,
    /// The other way round.
    AppliesNever,
    LosesTheCheckpoint,
}

#[derive(Clone, Default)]
struct State {
    applied: SnapshotMeta,
    data: BTreeMap<String, String>,
    count: u64,
}

pub(super) struct Ledger {
    bug: Bug,
    state: Arc<Mutex<State>>,
    /// The newest checkpoint; in a file, if there is one.
    checkpoint: Arc<Mutex<Option<State>>>,
    path: Option<PathBuf>,
}

impl Ledger {
    pub(super) fn in_memory(bug: Bug) -> Self {
        Self { bug, state: Arc::default(), checkpoint: Arc::default(), path: None }
    }

    pub(super) fn open(directory: &Path, bug: Bug) -> Self {
        let path = directory.join("ledger");
        let found = fs::read(&path).ok().and_then(|bytes| State::decode(&bytes).ok());
        let mut state = found.clone().unwrap_or_default();
        if let Ok(bytes) = fs::read(path.with_extension("each")) {
            let each = State::decode(&bytes).unwrap();
            match bug {
                Bug::AppliesTwice => (state.data, state.count) = (each.data, each.count),
                Bug::AppliesNever => state.applied = each.applied,
                _ => {}
            }
        }
        let (state, checkpoint) = (Arc::new(Mutex::new(state)), Arc::new(Mutex::new(found)));
        Self { bug, state, checkpoint, path: Some(path) }
    }

    fn apply_entry(&self, entry: &Entry) -> Bytes {
        let mut state = self.state.lock().unwrap();
        state.applied.last = entry.id;
        let command = match &entry.payload {
            Payload::Noop if self.bug == Bug::RepliesToNoops => return "noop".into(),
            Payload::Noop => return Bytes::new(),
            Payload::Membership(membership) => {
                state.applied.membership = (**membership).clone();
                return Bytes::new();
            }
            Payload::Command(command) => String::from_utf8(command.to_vec()).unwrap(),
        };
        let (key, value) = command.split_once('=').unwrap();
        let old = state.data.insert(key.into(), value.into()).unwrap_or_default();
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let more = match self.bug {
            Bug::RepliesInSeconds => now().as_secs(),
            Bug::RepliesInNanoseconds => now().as_nanos() as u64,
            Bug::RepliesAtRandom => RandomState::new().hash_one(0),
            Bug::RepliesByHashMapOrder => {
                let map: HashMap<_, _> = state.data.iter().collect();
                map.keys().next().map_or(0, |key| key.len() as u64)
            }
            Bug::CountsRuns | Bug::QueriesCount => state.count,
            _ => state.data.len() as u64,
        };
        format!("{old} {more}").into()
    }

    fn write_each(&self) {
        if let (Some(path), Bug::AppliesTwice | Bug::AppliesNever) = (&self.path, self.bug) {
            let state = self.state.lock().unwrap().encode();
            fs::write(path.with_extension("each"), state).unwrap();
        }
    }
}

impl State {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        codec::encode_op(&LogOp::Reset(self.applied.clone()), &mut bytes);
        codec::put(&(self.count, &self.data), &mut bytes);
        bytes.to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StorageError> {
        let damaged = |error: codec::CodecError| StorageError::Stream(error.to_string());
        let frame = Bytes::copy_from_slice(bytes);
        let mut rest = frame.as_ref();
        let LogOp::Reset(applied) = codec::decode_op(&frame, &mut rest).map_err(damaged)? else {
            return Err(StorageError::Stream("not a ledger".into()));
        };
        let (count, data) = codec::take(&mut rest).map_err(damaged)?;
        Ok(Self { applied, data, count })
    }

    fn write(&self, path: Option<&Path>) -> Result<(), StorageError> {
        let Some(path) = path else { return Ok(()) };
        let partial = path.with_extension("new");
        let written = fs::write(&partial, self.encode());
        let written = written.and_then(|()| fs::rename(&partial, path));
        written.map_err(|error| StorageError::io("writing a checkpoint", error))
    }
}

/// Reads the state only when it is asked to.
struct Following(Arc<Mutex<State>>, Option<Cursor<Vec<u8>>>);

impl Read for Following {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let state = &self.0;
        self.1.get_or_insert_with(|| Cursor::new(state.lock().unwrap().encode())).read(out)
    }
}

impl StateMachine for Ledger {
    fn applied(&self) -> SnapshotMeta {
        self.state.lock().unwrap().applied.clone()
    }

    fn apply(&mut self, run: &Run) -> Vec<Bytes> {
        if self.bug == Bug::CountsRuns {
            self.state.lock().unwrap().count += 1;
        }
        let mut replies: Vec<_> = run.entries().iter().map(|it| self.apply_entry(it)).collect();
        if self.bug == Bug::SkipsReplies {
            replies.retain(|reply| !reply.is_empty());
        }
        self.write_each();
        replies
    }

    fn query(&self, query: &[u8]) -> Bytes {
        let mut state = self.state.lock().unwrap();
        state.count += u64::from(self.bug == Bug::QueriesCount);
        let value = str::from_utf8(query).ok().and_then(|key| state.data.get(key));
        value.cloned().unwrap_or_default().into()
    }

    fn quick_query(&self, query: &[u8]) -> Option<Bytes> {
        let state = self.state.lock().unwrap();
        let value = state.data.get(str::from_utf8(query).ok()?)?;
        let stale = self.bug == Bug::AnswersQuicklyAndWrong;
        Some(if stale { Bytes::new() } else { value.clone().into() })
    }

    fn checkpoint(&mut self) -> Option<CheckpointJob> {
        let path = self.path.clone()?;
        let (state, checkpoint) = (Arc::clone(&self.state), Arc::clone(&self.checkpoint));
        let mut frozen = state.lock().unwrap().clone();
        let bug = self.bug;
        Some(Box::new(move || {
            let meta = frozen.applied.clone();
            if bug == Bug::CheckpointsAreLate {
                frozen = State { applied: meta.clone(), ..state.lock().unwrap().clone() };
            }
            if bug != Bug::LosesTheCheckpoint || meta.last.index.0 < 20 {
                frozen.write(Some(&path))?;
            }
            *checkpoint.lock().unwrap() = Some(frozen);
            Ok(meta)
        }))
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        let state = match &self.path {
            None => self.state.lock().unwrap().clone(),
            Some(_) => {
                let checkpoint = self.checkpoint.lock().unwrap().clone();
                checkpoint.ok_or_else(|| StorageError::Engine("no checkpoint yet".into()))?
            }
        };
        let mut meta = state.applied.clone();
        match self.bug {
            Bug::SnapshotsHaveTheNewestMembership => {
                meta.membership = self.state.lock().unwrap().applied.membership.clone();
                meta.membership = meta.membership.upgraded(raft_core::types::Version(1));
                meta.membership = Default::default();
            }
            Bug::SnapshotsClaimLess if meta.last.index.0 > 2 => {
                meta.last.index = meta.last.index.previous();
            }
            _ => {}
        }
        let data: Box<dyn Read + Send> = match self.bug {
            Bug::SnapshotsFollowTheMachine => Box::new(Following(Arc::clone(&self.state), None)),
            _ => Box::new(Cursor::new(state.encode())),
        };
        Ok(Snapshot { meta, data })
    }

    fn restore(&mut self, mut snapshot: Snapshot) -> Result<(), StorageError> {
        if self.bug == Bug::ClearsBeforeItReads {
            *self.state.lock().unwrap() = State::default();
        }
        let mut bytes = Vec::new();
        if let Err(error) = snapshot.data.read_to_end(&mut bytes)
            && self.bug != Bug::IgnoresReadErrors
        {
            return Err(StorageError::Stream(error.to_string()));
        }
        let mut new = match (State::decode(&bytes), self.bug) {
            (Err(error), Bug::CallsADamagedStreamAnEngineError) => {
                return Err(StorageError::Engine(error.to_string()));
            }
            (Err(_), Bug::IgnoresReadErrors) => self.state.lock().unwrap().clone(),
            (new, _) => new?,
        };
        new.applied = snapshot.meta;
        match self.bug {
            Bug::KeepsOldDataInRestore => {
                let mut all = self.state.lock().unwrap().data.clone();
                all.extend(new.data);
                new.data = all;
            }
            Bug::LosesDataInRestore => drop(new.data.pop_last()),
            _ => {}
        }
        new.write(self.path.as_deref())?;
        *self.checkpoint.lock().unwrap() = Some(new.clone());
        *self.state.lock().unwrap() = new;
        self.write_each();
        Ok(())
    }
}
