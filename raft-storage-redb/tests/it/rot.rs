//! Bits that rot in the log of one node of a simulated cluster: as long as a majority is well,
//! nothing that was committed is lost, and no client sees anything else.
//!
//! `RUN_SLOW_TESTS=1` does that in 400 clusters instead of 10.

use crate::disk::OnDisk;
use raft_core::log_store::{LogStore, StorageError};
use raft_core::testing::log_store::Disk;
use raft_core::testing::{
    CellClients, Cells, Event, Random, Simulation, SimulationConfig, Stores, examine,
};
use raft_core::types::{Entry, GroupId, NodeId, Payload, Run, Version};
use raft_storage_redb::{LOG_FILE, TAIL_FILE};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Events that leave no majority well if another node rots at the same time.
const OTHER_LOSSES: [Event; 3] = [Event::Wipe, Event::BitRot, Event::Change];

/// The disks of a cluster, of which that of `victim` rots.
struct Disks {
    disks: BTreeMap<(NodeId, u64), Disk>,
    victim: NodeId,
    random: Random,
    /// How often the victim is still opened before a bit rots.
    opens_left: u64,
    rot: Option<Rot>,
}

/// What became of the bit.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Rot {
    /// The log said so.
    Noticed,
    /// It was opened; what it holds is compared by the simulator.
    Opened,
}

impl Disks {
    fn open(&mut self, node: NodeId, life: u64) -> Result<OnDisk, StorageError> {
        let disk = self.disks.entry((node, life)).or_default();
        if node != self.victim || self.rot.is_some() || disk.file(LOG_FILE).is_empty() {
            return OnDisk::open(disk);
        }
        let disk = disk.clone();
        if self.opens_left > 0 || !self.is_known_without(node) {
            self.opens_left = self.opens_left.saturating_sub(1);
            return OnDisk::open(&disk);
        }
        let random = &mut self.random;
        let file = if random.below(2) == 0 { LOG_FILE } else { TAIL_FILE };
        disk.damage(file, |bytes| {
            // The tail is mostly blank.
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
            let bit = random.below(used as u64 * 8);
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        });
        let opened = OnDisk::open(&disk);
        let noticed = matches!(opened, Err(StorageError::Corrupt(_)));
        self.rot = Some(if noticed { Rot::Noticed } else { Rot::Opened });
        opened
    }

    /// Whether the two others know the cluster. Before that it may end with the one that founds it.
    fn is_known_without(&self, victim: NodeId) -> bool {
        let newest = |node| self.disks.range((node, 0)..=(node, u64::MAX)).next_back();
        let others = (1..=3).map(NodeId).filter(|node| *node != victim);
        others.filter_map(newest).filter(|(_, disk)| knows_cluster(disk)).count() == 2
    }
}

/// Whether the log on `disk` has a configuration.
fn knows_cluster(disk: &Disk) -> bool {
    let Ok(loaded) = OnDisk::open(&disk.copy()).and_then(|mut log| log.load(GroupId(0))) else {
        return false;
    };
    let is_membership = |entry: &Entry| matches!(entry.payload, Payload::Membership(_));
    !loaded.snapshot.membership.is_empty()
        || loaded.entries.iter().flat_map(Run::entries).any(is_membership)
}

/// Runs a cluster of three; what became of the bit that rotted, if it came to that.
fn run(seed: u64) -> Option<Rot> {
    let disks = Rc::new(RefCell::new(None));
    let kept = Rc::clone(&disks);
    let make = move |config: SimulationConfig| {
        let mut random = Random::new(seed);
        let (victim, opens_left) = (NodeId(1 + random.below(3)), random.below(4));
        let new = Disks { disks: BTreeMap::new(), victim, random, opens_left, rot: None };
        *kept.borrow_mut() = Some(new);
        let opened = Rc::clone(&kept);
        let stores = Stores::opened_by(move |node, life| {
            opened.borrow_mut().as_mut().expect("they were just made").open(node, life)
        });
        let clients = CellClients::new(config.clients);
        Simulation::with_stores(Cells::machines(), stores, clients, config)
    };
    let mut config = SimulationConfig {
        nodes: 3,
        spares: 0,
        events: 3000,
        ..SimulationConfig::of(seed).without(&OTHER_LOSSES)
    };
    // Before that version nobody is taken back whose log is gone.
    config.raft.version = config.raft.version.max(Version(2));
    let judge = |run: &mut Simulation<Cells, CellClients>| {
        run.workload().judge().map_err(|failure| failure.to_string())
    };
    examine(&config, make, judge).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
    disks.borrow().as_ref().expect("the run has made them").rot
}

#[test]
fn a_bit_that_rots_in_one_log_loses_nothing_committed() {
    let slow = std::env::var_os("RUN_SLOW_TESTS").is_some_and(|value| value == "1");
    let seeds = if slow { 400 } else { 10 };
    let rotten: Vec<Rot> = (0..seeds).filter_map(run).collect();
    let noticed = rotten.iter().filter(|rot| **rot == Rot::Noticed).count();
    println!("{seeds} clusters: {} bits rotted, {noticed} were noticed at once", rotten.len());
    assert!(rotten.len() as u64 >= seeds / 2, "too few bits rotted: {}", rotten.len());
    assert!(noticed > 0 || !slow, "none was noticed");
}
