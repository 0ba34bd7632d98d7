//! A small log store on a disk of the kit, which is sound unless it is told to have a bug.
//!
//! The file `log` holds one record per write: length, checksum, operations. The file `acknowledged`
//! holds how many bytes of it were acknowledged, written without a flush: what is broken below that
//! is damage, above it a write that the power cut short.

use bytes::{Bytes, BytesMut};
use raft_core::codec;
use raft_core::log_store::{LogStore, StorageError};
use raft_core::raft::{GroupOp, Loaded, LogOp};
use raft_core::testing::log_store::{Disk, DiskFile};
use raft_core::types::GroupId;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io;

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bug {
    None,
    AcknowledgesBeforeFlush,
    FlushesEverySecondWrite,
    TruncatesOnAnyAppend,
    ForgetsTheVote,
    ForgetsTheVoteOnReset,
    KeepsATruncatedSuffix,
    /// Of two writes the second is done first.
    ReordersWrites,
    ReordersOperations,
    /// Each operation is a record of its own.
    WritesInParts,
    MixesUpGroups,
    LosesTheBoundary,
    AcceptsGaps,
    RetriesAfterAFailure,
    /// What is broken is taken for a write cut short, wherever it is.
    CutsOffWhatIsBroken,
    HasNoChecksum,
    TrustsLengths,
    CallsDamageAnEngineError,
}

#[derive(Debug)]
pub(super) struct PlainLog {
    bug: Bug,
    log: DiskFile,
    acknowledged: DiskFile,
    groups: BTreeMap<GroupId, Loaded>,
    end: u64,
    writes: u64,
    held_back: Option<Vec<u8>>,
    failed: bool,
}

impl PlainLog {
    pub(super) fn open(disk: &Disk, bug: Bug) -> Result<Self, StorageError> {
        let (log, acknowledged) = (disk.file("log"), disk.file("acknowledged"));
        let bytes = Bytes::from(log.contents().map_err(failed)?);
        let (mut groups, mut rest) = (BTreeMap::new(), bytes.as_ref());
        while let Some(record) = take_record(&mut rest, bug) {
            replay(&bytes, record, &mut groups, bug).map_err(|what| corrupt(bug, what))?;
        }
        let end = (bytes.len() - rest.len()) as u64;
        let known = match &acknowledged.contents().map_err(failed)?[..] {
            [] => 0,
            bytes => number(bytes).ok_or_else(|| corrupt(bug, "`acknowledged` is broken"))?,
        };
        if end < known && bug != Bug::CutsOffWhatIsBroken {
            return Err(corrupt(bug, "an acknowledged record is broken"));
        }
        log.set_len(end).map_err(failed)?;
        let (writes, held_back, failed) = (0, None, false);
        Ok(Self { bug, log, acknowledged, groups, end, writes, held_back, failed })
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        self.log.write(self.end, record)?;
        self.end += record.len() as u64;
        self.writes += 1;
        let flushes = match self.bug {
            Bug::AcknowledgesBeforeFlush => false,
            Bug::FlushesEverySecondWrite => self.writes.is_multiple_of(2),
            _ => true,
        };
        if flushes {
            self.log.flush()?;
        }
        let known = [&self.end.to_le_bytes()[..], &checksum(&self.end.to_le_bytes())].concat();
        self.acknowledged.write(0, &known)
    }

    fn records(&mut self, ops: &[GroupOp]) -> Vec<Vec<u8>> {
        let mut ops = ops.to_vec();
        match self.bug {
            Bug::ReordersOperations => ops.reverse(),
            Bug::MixesUpGroups => ops.iter_mut().for_each(|op| op.group.0 %= 4),
            Bug::LosesTheBoundary => {
                for op in &mut ops {
                    if let LogOp::Compact(meta) = &mut op.op {
                        meta.membership = Default::default();
                    }
                }
            }
            Bug::ForgetsTheVote => {
                for op in &mut ops {
                    if let LogOp::HardState(state) = &mut op.op {
                        state.vote = None;
                    }
                }
            }
            _ => {}
        }
        if self.bug == Bug::WritesInParts {
            return ops.iter().map(|op| record(std::slice::from_ref(op))).collect();
        }
        let whole = record(&ops);
        if self.bug == Bug::ReordersWrites {
            return match self.held_back.take() {
                Some(first) => vec![whole, first],
                None => {
                    self.held_back = Some(whole);
                    Vec::new()
                }
            };
        }
        vec![whole]
    }
}

impl LogStore for PlainLog {
    fn load(&mut self, group: GroupId) -> Result<Loaded, StorageError> {
        Ok(self.groups.get(&group).cloned().unwrap_or_default())
    }

    fn write(&mut self, ops: &[GroupOp]) -> Result<(), StorageError> {
        if self.failed && self.bug != Bug::RetriesAfterAFailure {
            return Err(StorageError::Engine("closed after an earlier failure".into()));
        }
        self.failed = true;
        let mut groups = self.groups.clone();
        for GroupOp { group, op } in ops {
            let applied = groups.entry(*group).or_default().apply(op);
            if self.bug != Bug::AcceptsGaps {
                applied.map_err(|gap| StorageError::Corrupt(gap.to_string()))?;
            }
        }
        for record in self.records(ops) {
            self.append(&record).map_err(failed)?;
        }
        self.groups = groups;
        self.failed = false;
        Ok(())
    }
}

fn failed(error: io::Error) -> StorageError {
    StorageError::io("using the disk", error)
}

fn corrupt(bug: Bug, what: &str) -> StorageError {
    match bug {
        Bug::CallsDamageAnEngineError => StorageError::Engine(what.into()),
        _ => StorageError::Corrupt(what.into()),
    }
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish().to_le_bytes()
}

/// The number in front of its checksum.
fn number(bytes: &[u8]) -> Option<u64> {
    let (number, check) = bytes.split_first_chunk::<8>()?;
    (checksum(number) == check).then(|| u64::from_le_bytes(*number))
}

fn record(ops: &[GroupOp]) -> Vec<u8> {
    let mut body = BytesMut::new();
    for GroupOp { group, op } in ops {
        codec::put(group, &mut body);
        codec::encode_op(op, &mut body);
    }
    let len = (body.len() as u64).to_le_bytes();
    let checked = [&len[..], &body].concat();
    [&checksum(&checked)[..], &checked].concat()
}

/// The operations of the next record, if it is whole.
fn take_record<'a>(rest: &mut &'a [u8], bug: Bug) -> Option<&'a [u8]> {
    let (check, checked) = rest.split_first_chunk::<8>()?;
    let (len, body) = checked.split_first_chunk::<8>()?;
    let len = u64::from_le_bytes(*len) as usize;
    let body = if bug == Bug::TrustsLengths { &body[..len] } else { body.get(..len)? };
    if bug != Bug::HasNoChecksum && checksum(&checked[..8 + len]) != *check {
        return None;
    }
    *rest = &checked[8 + len..];
    Some(body)
}

fn replay(
    frame: &Bytes,
    mut record: &[u8],
    groups: &mut BTreeMap<GroupId, Loaded>,
    bug: Bug,
) -> Result<(), &'static str> {
    while !record.is_empty() {
        let group = codec::take(&mut record).map_err(|_| "no group")?;
        let op = codec::decode_op(frame, &mut record).map_err(|_| "no operation")?;
        let log: &mut Loaded = groups.entry(group).or_default();
        let before = log.clone();
        let applied = log.apply(&op);
        if bug != Bug::AcceptsGaps && bug != Bug::ReordersWrites && bug != Bug::ReordersOperations {
            applied.map_err(|_| "a gap")?;
        }
        match (bug, &op) {
            (Bug::TruncatesOnAnyAppend, LogOp::Append(run)) => log.entries = vec![run.clone()],
            (Bug::ForgetsTheVoteOnReset, LogOp::Reset(_)) => log.hard_state.vote = None,
            (Bug::KeepsATruncatedSuffix, LogOp::Append(run)) => {
                let after = |old: &_| {
                    let old: &raft_core::types::Run = old;
                    old.slice(run.last().index.next(), old.last().index)
                };
                log.entries.extend(before.entries.iter().filter_map(after));
            }
            _ => {}
        }
    }
    Ok(())
}
