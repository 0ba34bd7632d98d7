//! The simulator with log stores of a user: right ones pass, wrong ones are found out.

use raft_core::log_store::{LogStore, MemoryLog, StorageError};
use raft_core::raft::{GroupOp, Loaded};
use raft_core::testing::{
    CellClients, Cells, Failure, Simulation, SimulationConfig, Stores, examine,
};
use raft_core::types::GroupId;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

/// How a store behaves.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Right,
    /// Some writes fail, and every other one of those is durable nevertheless.
    Fails,
    /// The last write is lost with power.
    AcknowledgesTooEarly,
    /// The vote is not kept.
    ForgetsTheVote,
}

/// What survives, and how often it was written.
#[derive(Default)]
struct Disk {
    durable: MemoryLog,
    before: MemoryLog,
    writes: u64,
}

struct Shelf {
    disk: Arc<Mutex<Disk>>,
    kind: Kind,
}

impl LogStore for Shelf {
    fn load(&mut self, group: GroupId) -> Result<Loaded, StorageError> {
        let mut disk = self.disk.lock().unwrap();
        if self.kind == Kind::AcknowledgesTooEarly {
            disk.durable = disk.before.clone();
        }
        let mut loaded = disk.durable.load(group)?;
        if self.kind == Kind::ForgetsTheVote {
            loaded.hard_state.vote = None;
        }
        Ok(loaded)
    }

    fn write(&mut self, ops: &[GroupOp]) -> Result<(), StorageError> {
        let mut disk = self.disk.lock().unwrap();
        disk.writes += 1;
        let fails = self.kind == Kind::Fails && disk.writes.is_multiple_of(50);
        disk.before = disk.durable.clone();
        if !fails || disk.writes.is_multiple_of(100) {
            disk.durable.write(ops)?;
        }
        match fails {
            true => Err(StorageError::io("flush", io::Error::other("the disk fails"))),
            false => Ok(()),
        }
    }
}

fn run(seed: u64, kind: Kind) -> Result<(), Box<Failure>> {
    let make = |config: SimulationConfig| {
        let disks: Mutex<BTreeMap<_, Arc<Mutex<Disk>>>> = Mutex::default();
        let stores = Stores::opened_by(move |node, life| {
            let disk = Arc::clone(disks.lock().unwrap().entry((node, life)).or_default());
            Ok(Shelf { disk, kind })
        });
        let clients = CellClients::new(config.clients);
        Simulation::with_stores(Cells::machines(), stores, clients, config)
    };
    let config = SimulationConfig { events: 3000, ..SimulationConfig::of(seed) };
    let judge = |run: &mut Simulation<Cells, CellClients>| {
        run.workload().judge().map_err(|failure| failure.to_string())
    };
    examine(&config, make, judge).map(drop)
}

#[test]
fn right_stores_pass_even_if_their_disks_fail() {
    for kind in [Kind::Right, Kind::Fails] {
        for seed in 0..12 {
            run(seed, kind).unwrap_or_else(|failure| panic!("{failure}"));
        }
    }
}

#[test]
fn wrong_stores_are_found_out() {
    for kind in [Kind::AcknowledgesTooEarly, Kind::ForgetsTheVote] {
        let failure = (0..12).find_map(|seed| run(seed, kind).err()).expect("the bug shows");
        assert!(failure.shrunk.contains("the log holds"), "{failure}");
        assert!(failure.steps.len() < 100, "{failure}");
    }
}
