//! What the tests share: short constructors, a model of the log, and random operations on it.

use bytes::Bytes;
use raft_core::log_store::LogStore;
use raft_core::raft::{GroupOp, Loaded, LogOp};
use raft_core::types::{
    ClusterId, Entry, GroupId, HardState, Identity, Incarnation, Index, LogId, Member, Membership,
    NodeId, Payload, Run, SnapshotMeta, Term, Version,
};
use raft_storage_redb::RedbLog;
use std::collections::BTreeMap;

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

/// An operation without the details that depend on the state of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Identity,
    HardState {
        vote: u64,
    },
    /// Append `count` entries after dropping the last `back`.
    Append {
        back: u64,
        count: u64,
        size: usize,
    },
    /// Compact all but the last `kept` entries.
    Compact {
        kept: u64,
    },
    /// Compact beyond the end.
    CompactBeyond {
        beyond: u64,
    },
    Reset {
        index: u64,
    },
}

impl Action {
    /// The operation on `group` in the state `model`; `term` is that of new entries.
    pub(crate) fn op(self, model: &Model, group: u64, term: u64) -> GroupOp {
        let empty = Loaded::default();
        let log = model.groups.get(&GroupId(group)).unwrap_or(&empty);
        let (first, last) = (log.snapshot.last.index.0, log.last_index().0);
        match self {
            Self::Identity => identity(group, term),
            Self::HardState { vote } => hard_state(group, term, vote),
            Self::Append { back, count, size } => {
                let from = (last - back.min(last - first)) + 1;
                append(group, run(from, from + count, term, size))
            }
            Self::Compact { kept } => compact(group, last - kept.min(last - first), term),
            Self::CompactBeyond { beyond } => compact(group, last + beyond, term),
            Self::Reset { index } => reset(group, index, term),
        }
    }
}

/// A small generator of pseudo-random numbers, the same on every run.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    /// A random action with entries below `size` bytes.
    pub(crate) fn action(&mut self, size: usize) -> Action {
        match self.below(100) {
            0..2 => Action::Identity,
            2..20 => Action::HardState { vote: self.below(4) },
            20..75 => Action::Append {
                back: if self.below(4) == 0 { self.below(6) } else { 0 },
                count: self.below(4),
                size: self.below(size as u64) as usize,
            },
            75..96 => Action::Compact { kept: self.below(12) },
            96..98 => Action::CompactBeyond { beyond: self.below(5) },
            _ => Action::Reset { index: self.below(50) },
        }
    }

    /// A batch of operations on up to three groups, applied to `model`.
    pub(crate) fn batch(&mut self, model: &mut Model, term: u64, size: usize) -> Vec<GroupOp> {
        let count = 1 + self.below(3);
        let ops = (0..count).map(|_| {
            let op = self.action(size).op(model, self.below(3), term);
            model.apply(std::slice::from_ref(&op));
            op
        });
        ops.collect()
    }
}

/// Index of the last entry `model` has of `group`.
pub(crate) fn last_index(model: &Model, group: u64) -> Index {
    model.groups[&GroupId(group)].last_index()
}
