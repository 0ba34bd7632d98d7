//! What the trait asks of a store, scenario by scenario, on a disk that works.

use super::history::{
    History, Model, append, boundary, compact, hard_state, identity, op, reset, run,
};
use super::{Disk, Store};
use crate::log_store::LogStore;
use crate::raft::{GroupOp, LogOp};
use crate::testing::breach::{Breach, contain};
use crate::types::{Entry, GroupId, HardState, LogId, NodeId, Payload, Run, Term};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, io, process};

/// Where a store lives.
pub(super) trait Place: Sized {
    fn blank() -> io::Result<Self>;
    /// A place of its own with the same contents: what the end of a process leaves behind.
    fn copy(&self) -> io::Result<Self>;
}

impl Place for Disk {
    fn blank() -> io::Result<Self> {
        Ok(Self::new())
    }

    fn copy(&self) -> io::Result<Self> {
        Ok(Self::copy(self))
    }
}

/// A directory that is removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// An empty one, among the system's temporary files.
    pub(crate) fn new() -> io::Result<Self> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("raft-conformance-{}-{number}", process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Another one with the same files.
    pub(crate) fn copied(&self) -> io::Result<Self> {
        let copy = Self::new()?;
        copy_files(&self.0, &copy.0)?;
        Ok(copy)
    }
}

impl Place for Scratch {
    fn blank() -> io::Result<Self> {
        Self::new()
    }

    fn copy(&self) -> io::Result<Self> {
        self.copied()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind lies where the system clears up.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_files(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Every scenario; how many there are.
pub(super) fn check<P: Place, L: LogStore>(store: &Store<'_, P, L>) -> Result<usize, Breach> {
    let scenarios = scenarios();
    for (rule, batches) in &scenarios {
        contain(rule, || store.scenario(rule, batches))??;
    }
    let history = History::random(0, 120);
    contain("a random history", || store.scenario("write", &history.batches))??;
    contain("gap", || store.gap())??;
    Ok(scenarios.len() + 2)
}

impl<P: Place, L: LogStore> Store<'_, P, L> {
    fn blank(&self, rule: &'static str) -> Result<P, Breach> {
        P::blank().map_err(|error| {
            Breach::new(rule, "making an empty place for a store", "one", error.to_string())
        })
    }

    pub(super) fn open(&self, place: &P, rule: &'static str, step: &str) -> Result<L, Breach> {
        (self.open)(place)
            .map_err(|error| Breach::new(rule, step, "the store opens", error.to_string()))
    }

    /// Writes the batches into a new store. After each, the end of the process is tried out on a
    /// copy; after all of them the store is closed and opened twice.
    fn scenario(&self, rule: &'static str, batches: &[Vec<GroupOp>]) -> Result<(), Breach> {
        let place = self.blank(rule)?;
        let mut model = Model::default();
        let mut store = self.open(&place, rule, "an empty place")?;
        model.compare(&mut store, rule, "a new store is loaded")?;
        for (number, batch) in batches.iter().enumerate() {
            let step = || format!("write {} of {}, {batch:?}", number + 1, batches.len());
            let step = || step().chars().take(400).collect::<String>();
            let written = store.write(batch);
            written.map_err(|error| Breach::new(rule, step(), "it is done", error.to_string()))?;
            model.apply(batch);
            let copy = place.copy();
            let copy = copy.map_err(|error| {
                Breach::new(rule, step(), "its files can be copied", error.to_string())
            })?;
            let after = format!("the process ends right after {}", step());
            model.compare(&mut self.open(&copy, rule, &after)?, rule, &after)?;
        }
        drop(store);
        for step in ["the store is closed and opened again", "it is opened once more"] {
            model.compare(&mut self.open(&place, rule, step)?, rule, step)?;
        }
        Ok(())
    }

    /// An append that does not continue the log is refused, and nothing beside it is done.
    fn gap(&self) -> Result<(), Breach> {
        let before = [append(0, run(1, 5, 1, 10)), compact(0, 3, 1), hard_state(0, 1, 2)];
        let mut model = Model::default();
        model.apply(&before);
        for bad in [append(0, run(7, 7, 1, 1)), append(0, run(2, 3, 1, 1))] {
            let place = self.blank("gap")?;
            let mut store = self.open(&place, "gap", "an empty place")?;
            let step = format!("after entries 1 to 5 and a compaction to 3, {bad:?}");
            let written = store.write(&before);
            written.map_err(|error| Breach::new("gap", &step, "it is done", error.to_string()))?;
            if store.write(&[hard_state(0, 9, 1), bad]).is_ok() {
                return Err(Breach::new("gap", step, "an error", "Ok"));
            }
            drop(store);
            model.compare(&mut self.open(&place, "gap", &step)?, "gap", &step)?;
        }
        Ok(())
    }
}

type Scenario = (&'static str, Vec<Vec<GroupOp>>);

fn scenarios() -> Vec<Scenario> {
    let group = |group: u64| append(group, run(1, 3, 1, 10));
    vec![
        ("empty", vec![vec![]]),
        ("identity", vec![vec![identity(0, 5)], vec![hard_state(0, 1, 1)], vec![group(0)]]),
        ("append", (1..12).map(|index| vec![append(0, run(index, index, 1, 10))]).collect()),
        ("append", vec![vec![append(0, run(1, 5, 1, 10))], vec![append(0, run(6, 9, 2, 10))]]),
        ("truncate", truncations()),
        ("term and vote", votes()),
        ("compact", compactions()),
        ("reset", resets()),
        ("order", vec![one_long_batch()]),
        ("groups", (1..4).map(|index| every_group(index, 200)).collect()),
        ("sizes", sizes()),
        ("sizes", vec![vec![append(0, run(1, 3, 1, 2 << 20))], vec![append(0, run(4, 999, 1, 9))]]),
        ("payloads", vec![vec![append(0, payloads())]]),
        ("numbers", numbers()),
    ]
}

fn truncations() -> Vec<Vec<GroupOp>> {
    vec![
        vec![append(0, run(1, 9, 1, 10))],
        vec![append(0, run(6, 6, 2, 20))],
        // The same entries again drop what follows them, too: the core asks for what it means.
        vec![append(0, run(1, 4, 1, 10))],
        vec![append(0, run(5, 7, 3, 10))],
        vec![append(0, run(1, 1, 4, 10))],
    ]
}

fn votes() -> Vec<Vec<GroupOp>> {
    vec![
        vec![hard_state(0, 1, 1)],
        vec![hard_state(0, 2, 0)],
        vec![hard_state(0, 2, 3)],
        vec![append(0, run(1, 4, 2, 10))],
        vec![compact(0, 3, 2)],
        vec![hard_state(1, 7, 2)],
        vec![reset(0, 20, 2)],
        vec![hard_state(0, 3, 0)],
        vec![hard_state(0, 4, 1)],
    ]
}

fn compactions() -> Vec<Vec<GroupOp>> {
    vec![
        vec![append(0, run(1, 9, 1, 10))],
        vec![compact(0, 4, 1)],
        vec![append(0, run(8, 12, 2, 10))],
        vec![compact(0, 12, 2)],
        vec![append(0, run(13, 14, 3, 10))],
        vec![compact(0, 20, 4)],
        vec![append(0, run(21, 22, 5, 10))],
    ]
}

fn resets() -> Vec<Vec<GroupOp>> {
    vec![
        vec![identity(0, 3), hard_state(0, 2, 1), append(0, run(1, 9, 1, 10))],
        vec![reset(0, 50, 2)],
        vec![append(0, run(51, 53, 2, 10))],
        vec![reset(0, 52, 3)],
        vec![append(0, run(53, 53, 3, 5))],
        vec![reset(0, 7, 4)],
        vec![append(0, run(8, 9, 4, 10))],
    ]
}

fn one_long_batch() -> Vec<GroupOp> {
    vec![
        append(0, run(1, 9, 1, 10)),
        append(0, run(3, 4, 2, 10)),
        append(0, run(4, 6, 3, 10)),
        compact(0, 2, 1),
        hard_state(0, 1, 0),
        hard_state(0, 3, 2),
        append(1, run(1, 1, 1, 1)),
        reset(1, 7, 1),
        append(1, run(8, 9, 2, 2)),
    ]
}

fn every_group(index: u64, groups: u64) -> Vec<GroupOp> {
    (0..groups).map(|group| append(group, run(index, index, group + 1, 16))).collect()
}

/// Around the sizes of sectors, pages and usual blocks.
fn sizes() -> Vec<Vec<GroupOp>> {
    let around = |size: usize| [size - 20, size, size + 1];
    let sizes = [512, 4096, 16_384, 65_536, 131_072].into_iter().flat_map(around);
    let sizes = [0, 1].into_iter().chain(sizes);
    sizes.zip(1..).map(|(size, at)| vec![append(0, run(at, at, 1, size))]).collect()
}

fn payloads() -> Run {
    let payloads = [
        Payload::Noop,
        Payload::Command(Bytes::new()),
        Payload::Command((0..=255).collect()),
        Payload::Membership(boundary(1, 1).membership.into()),
    ];
    let entries = payloads.into_iter().zip(1..);
    let entries = entries.map(|(payload, index)| Entry { id: LogId::new(index, 1), payload });
    Run::new(entries.collect()).expect("there are some")
}

fn numbers() -> Vec<Vec<GroupOp>> {
    // Terms and indexes beyond 2^62 are refused wherever they are read.
    let (group, index, term) = (u64::MAX, 1 << 61, 1 << 62);
    let hard_state = HardState { term: Term(term), vote: Some(NodeId(u64::MAX)) };
    vec![
        vec![op(group, LogOp::HardState(hard_state))],
        vec![reset(group, index, term)],
        vec![append(group, run(index + 1, index + 4, term, 10))],
        vec![GroupOp { group: GroupId(1 << 40), op: LogOp::Append(run(1, 1, term, 10)) }],
    ]
}
