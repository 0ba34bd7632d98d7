//! Operations to write, and what a store must hold after them.

use crate::log_store::{LogStore, StorageError};
use crate::raft::{GroupOp, Loaded, LogGap, LogOp};
use crate::testing::Random;
use crate::testing::breach::Breach;
use crate::types::{
    ClusterId, Entry, GroupId, HardState, Identity, Incarnation, LogId, Member, Membership, NodeId,
    Payload, Run, SnapshotMeta, Term,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Groups that random histories write to.
const GROUPS: u64 = 3;

/// Command entries `first..=last` of `term`, `size` bytes each.
pub(super) fn run(first: u64, last: u64, term: u64, size: usize) -> Run {
    let entry = |index: u64| {
        let byte = (index ^ term ^ size as u64) as u8;
        let payload = Payload::Command(Bytes::from(vec![byte; size]));
        Entry { id: LogId::new(index, term), payload }
    };
    Run::new((first..=last).map(entry).collect()).expect("last is not below first")
}

pub(super) const fn op(group: u64, op: LogOp) -> GroupOp {
    GroupOp { group: GroupId(group), op }
}

pub(super) fn append(group: u64, run: Run) -> GroupOp {
    op(group, LogOp::Append(run))
}

/// Term and vote; no vote if `vote` is 0.
pub(super) fn hard_state(group: u64, term: u64, vote: u64) -> GroupOp {
    let vote = (vote > 0).then_some(NodeId(vote));
    op(group, LogOp::HardState(HardState { term: Term(term), vote }))
}

pub(super) fn compact(group: u64, index: u64, term: u64) -> GroupOp {
    op(group, LogOp::Compact(boundary(index, term)))
}

pub(super) fn reset(group: u64, index: u64, term: u64) -> GroupOp {
    op(group, LogOp::Reset(boundary(index, term)))
}

pub(super) const fn identity(group: u64, incarnation: u64) -> GroupOp {
    let (cluster, incarnation) = (ClusterId(7), Incarnation(incarnation));
    op(group, LogOp::Identity(Identity { cluster, node: NodeId(1), incarnation }))
}

/// A boundary with a membership of three.
pub(super) fn boundary(index: u64, term: u64) -> SnapshotMeta {
    let member = |id: u64| (NodeId(id), Member::new(format!("node{id}.of.{term}:7000")));
    let membership = Membership::of_voters((1..=3).map(member).collect());
    SnapshotMeta { last: LogId::new(index, term), membership }
}

/// What a store must hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    groups: BTreeMap<GroupId, Loaded>,
}

impl Model {
    pub(super) fn apply(&mut self, ops: &[GroupOp]) {
        for GroupOp { group, op } in ops {
            let applied: Result<(), LogGap> = self.groups.entry(*group).or_default().apply(op);
            applied.expect("the kit writes no gaps");
        }
    }

    fn group(&self, group: GroupId) -> Loaded {
        self.groups.get(&group).cloned().unwrap_or_default()
    }

    /// The first group in which the two differ, and how the first and the second have it.
    pub(super) fn difference(&self, other: &Self) -> Option<(String, String)> {
        let groups = self.groups.keys().chain(other.groups.keys());
        groups.into_iter().find_map(|group| {
            let (expected, found) = (self.group(*group), other.group(*group));
            let texts = || (describe(*group, &expected), describe(*group, &found));
            (!same(&expected, &found)).then(texts)
        })
    }

    /// What `store`, just opened, says of the groups of this model, and of one more.
    pub(super) fn load(&self, store: &mut impl LogStore) -> Result<Self, StorageError> {
        let none = GroupId(u64::MAX - 1);
        let load = |group: GroupId| Ok((group, store.load(group)?));
        let groups = self.groups.keys().copied().chain([none]).map(load);
        let groups = groups.collect::<Result<BTreeMap<_, _>, StorageError>>()?;
        Ok(Self { groups })
    }

    /// Fails if `store`, just opened, does not hold exactly this.
    pub(super) fn compare(
        &self,
        store: &mut impl LogStore,
        rule: &'static str,
        step: &str,
    ) -> Result<(), Breach> {
        let found = self
            .load(store)
            .map_err(|error| Breach::new(rule, step, "every group is loaded", error.to_string()))?;
        self.difference(&found)
            .map_or(Ok(()), |(expected, found)| Err(Breach::new(rule, step, expected, found)))
    }
}

/// Whether both say the same, however the entries are cut into runs.
fn same(a: &Loaded, b: &Loaded) -> bool {
    let head = |it: &Loaded| (it.identity, it.hard_state, it.snapshot.clone());
    head(a) == head(b) && entries(a).eq(entries(b))
}

fn entries(loaded: &Loaded) -> impl Iterator<Item = &Entry> {
    loaded.entries.iter().flat_map(|run| run.entries())
}

/// One line: identity, term and vote, boundary, and entries with their sizes.
fn describe(group: GroupId, loaded: &Loaded) -> String {
    let Loaded { identity, hard_state, snapshot, .. } = loaded;
    let mut text = format!("{group} term {}", hard_state.term);
    let _ = match hard_state.vote {
        Some(vote) => write!(text, " vote {vote}"),
        None => write!(text, " no vote"),
    };
    if let Some(identity) = identity {
        let _ = write!(text, " life {:?}", identity.incarnation);
    }
    let _ = write!(text, " after {} [", snapshot.last);
    let entries: Vec<_> = entries(loaded).collect();
    for (position, entry) in entries.iter().enumerate() {
        match position {
            0..4 => {}
            _ if position + 4 >= entries.len() => {}
            4 => text.push_str(" .."),
            _ => continue,
        }
        let space = if position == 0 { "" } else { " " };
        let _ = write!(text, "{space}{}:{}B", entry.id, entry.size() - Entry::OVERHEAD);
    }
    text.push(']');
    text
}

/// Batches to write and what must be there after each: `states[n]` after the first `n`.
pub(super) struct History {
    pub(super) batches: Vec<Vec<GroupOp>>,
    pub(super) states: Vec<Model>,
}

impl History {
    /// A history that follows from `seed`, of as many batches as `writes`.
    pub(super) fn random(seed: u64, writes: usize) -> Self {
        let mut random = Random::new(seed);
        let mut model = Model::default();
        let (mut batches, mut states) = (Vec::new(), vec![model.clone()]);
        for term in 1..=writes as u64 {
            let mut batch = Vec::new();
            for _ in 0..=random.below(3) {
                let group = random.below(GROUPS);
                let op = match model.groups.get(&GroupId(group)) {
                    None => identity(group, term),
                    Some(log) => any(log, group, term, &mut random),
                };
                model.apply(std::slice::from_ref(&op));
                batch.push(op);
            }
            batches.push(batch);
            states.push(model.clone());
        }
        Self { batches, states }
    }
}

/// Any operation that may follow on `log`; new entries and votes are of `term`.
fn any(log: &Loaded, group: u64, term: u64, random: &mut Random) -> GroupOp {
    let (first, last) = (log.snapshot.last.index.0, log.last_index().0);
    match random.below(100) {
        0..20 => hard_state(group, term, random.below(4)),
        20..75 => {
            let back = if random.once_in(4) { random.below(6) } else { 0 };
            let from = last - back.min(last - first) + 1;
            let size = match random.below(40) {
                0 => 150_000,
                1..10 => 20_000,
                _ => 300,
            };
            let last = from + random.below(4);
            append(group, run(from, last, term, random.below(size) as usize))
        }
        75..96 => compact(group, last - random.below(12).min(last - first), term),
        96..98 => compact(group, last + random.below(5), term),
        _ => reset(group, random.below(50), term),
    }
}
