//! What the tests share: short constructors, and a model of the log.

use bytes::Bytes;
use raft_core::log_store::LogStore;
use raft_core::raft::{GroupOp, Loaded, LogOp};
use raft_core::types::{
    ClusterId, Entry, GroupId, HardState, Identity, Incarnation, Index, LogId, Member, Membership,
    NodeId, Payload, Run, SnapshotMeta, Term, Version,
};
use raft_storage_redb::{RedbLog, TAIL_FILE};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A command entry whose payload is `size` bytes.
pub(crate) fn entry(index: u64, term: u64, size: usize) -> Entry {
    let byte = (index ^ term ^ size as u64) as u8;
    let payload = Payload::Command(Bytes::from(vec![byte; size]));
    Entry { id: LogId::new(index, term), payload }
}

/// Command entries `first..=last` of `term`, `size` bytes each.
pub(crate) fn run(first: u64, last: u64, term: u64, size: usize) -> Run {
    Run::new((first..=last).map(|index| entry(index, term, size)).collect()).unwrap()
}

pub(crate) fn append(group: u64, run: Run) -> GroupOp {
    GroupOp { group: GroupId(group), op: LogOp::Append(run) }
}

pub(crate) fn hard_state(group: u64, term: u64, vote: u64) -> GroupOp {
    let vote = (vote > 0).then_some(NodeId(vote));
    let op = LogOp::HardState(HardState { term: Term(term), vote });
    GroupOp { group: GroupId(group), op }
}

pub(crate) fn compact(group: u64, index: u64, term: u64) -> GroupOp {
    GroupOp { group: GroupId(group), op: LogOp::Compact(boundary(index, term)) }
}

pub(crate) fn reset(group: u64, index: u64, term: u64) -> GroupOp {
    GroupOp { group: GroupId(group), op: LogOp::Reset(boundary(index, term)) }
}

pub(crate) fn identity(group: u64, incarnation: u64) -> GroupOp {
    let incarnation = Incarnation(incarnation);
    let identity = Identity { cluster: ClusterId(7), node: NodeId(1), incarnation };
    GroupOp { group: GroupId(group), op: LogOp::Identity(identity) }
}

/// A boundary at `index@term` with a membership of three, of version 1.
pub(crate) fn boundary(index: u64, term: u64) -> SnapshotMeta {
    let member = |id: u64| (NodeId(id), Member::new(format!("node{id}:7000")));
    let membership = Membership::of_voters((1..=3).map(member).collect()).upgraded(Version(1));
    SnapshotMeta { last: LogId::new(index, term), membership }
}

/// The entries of a loaded log, however it is cut into runs.
pub(crate) fn entries(loaded: &Loaded) -> Vec<Entry> {
    loaded.entries.iter().flat_map(|run| run.entries().to_vec()).collect()
}

/// What the log must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) groups: BTreeMap<GroupId, Loaded>,
}

impl Model {
    pub(crate) fn apply(&mut self, ops: &[GroupOp]) {
        for GroupOp { group, op } in ops {
            self.groups.entry(*group).or_default().apply(op).unwrap();
        }
    }

    /// The first difference to what `log` holds.
    pub(crate) fn difference(&self, log: &mut RedbLog) -> Option<String> {
        self.groups.iter().find_map(|(group, expected)| {
            let found = log.load(*group).unwrap();
            let same = found.identity == expected.identity
                && found.hard_state == expected.hard_state
                && found.snapshot == expected.snapshot
                && entries(&found) == entries(expected);
            let text = |loaded: &Loaded| {
                let ids = entries(loaded).iter().map(|e| e.id).collect::<Vec<_>>();
                format!("{:?} {:?} {ids:?}", loaded.hard_state, loaded.snapshot.last)
            };
            (!same).then(|| format!("{group}: {} instead of {}", text(&found), text(expected)))
        })
    }

    pub(crate) fn check(&self, log: &mut RedbLog) {
        assert_eq!(self.difference(log), None);
    }
}

/// Has all rows of a closed log be in its database, and none in its tail.
pub(crate) fn settle(dir: &Path) {
    drop(RedbLog::open(dir).unwrap());
    let path = dir.join(TAIL_FILE);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0);
    fs::write(path, bytes).unwrap();
}

/// Makes a tail one that was made with `len` bytes, cut off or filled up.
pub(crate) fn resize_tail(tail: &mut Vec<u8>, len: usize) {
    tail.resize(len, 0xaa);
    tail[16..24].copy_from_slice(&(len as u64).to_le_bytes());
    let checksum = crc32c::crc32c(&tail[..24]);
    tail[24..28].copy_from_slice(&checksum.to_le_bytes());
}

/// Index of the last entry `model` has of `group`.
pub(crate) fn last_index(model: &Model, group: u64) -> Index {
    model.groups[&GroupId(group)].last_index()
}
