//! The store in simulated clusters: nodes crash, restart from checkpoints, send each other
//! snapshots and change leaders, while clients put, delete, run transactions, compact, hold leases
//! and locks, and send again what was not answered, and watch. Every reply and every event is
//! compared with that of a simple reference store, and every node with the others wherever they
//! have applied equally far.
//!
//! `SIM_SEEDS=A..B` chooses the seeds; a failure prints the few events it takes, and always fails
//! the same way. `RUN_SLOW_TESTS=1` runs as many as it takes for a million operations.

mod requests;
mod watches;
mod workload;

use crate::reference;
use bytes::Bytes;
use raft_core::state_machine::StateMachine;
use raft_core::testing::linear::{Register, check_keys};
use raft_core::testing::{
    Event, Failure, Machines, Simulation, SimulationConfig, examine, seeds, sweep,
};
use raft_core::types::NodeId;
use raft_kv::api::*;
use raft_kv::codec;
use raft_kv::store::KvStore;
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::env;
use std::hash::{Hash, Hasher};
use std::sync::Mutex;
use watches::{Nodes, Watches};
use workload::{Kv, Named};

/// Seeds that make more than a million operations.
const SEEDS_SLOW: u64 = 2200;
const SEEDS_FAST: u64 = 8;
/// So many runs and more must between them have seen everything.
const SEEDS_TELLING: u64 = 50;
/// Events of a run before its faults end.
const EVENTS: usize = 10_000;
/// Of so many runs one has the stores in files.
const ON_DISK_ONCE_IN: u64 = 6;
/// Of so many indexes, one at which the whole contents are compared, and not only their hash.
const CONTENTS_ONCE_IN: u64 = 8;
/// Revisions that are compared on every node; on one of them all are.
const REVISIONS_COMPARED: u64 = 50;

type Run = Simulation<KvStore, Kv>;

/// How many seeds there is time for.
fn seeds_usual() -> u64 {
    let slow = env::var_os("RUN_SLOW_TESTS").is_some_and(|value| value == "1");
    if slow { SEEDS_SLOW } else { SEEDS_FAST }
}

fn config(seed: u64) -> SimulationConfig {
    let mut config = SimulationConfig { events: EVENTS, ..SimulationConfig::of(seed) };
    // One of a lonely node has no leader to change.
    config.nodes = config.nodes.max(3);
    config
}

fn make(config: SimulationConfig) -> Run {
    let folder = (config.seed % ON_DISK_ONCE_IN == ON_DISK_ONCE_IN - 1)
        .then(|| tempfile::tempdir().expect("a directory for files"));
    let nodes = Nodes::default();
    let watches = Watches::new(config.seed, nodes.clone());
    let machines = match &folder {
        None => Machines::in_memory(move |node, _| {
            let store = KvStore::in_memory();
            nodes.begin(node, &store);
            store
        }),
        Some(folder) => {
            let folder = folder.path().to_owned();
            Machines::durable(move |node, life| {
                let file = folder.join(format!("{node}-{life}"));
                let store = KvStore::open(&file).expect("the store opens");
                nodes.begin(node, &store);
                store
            })
        }
    };
    let workload = Kv::new(config.clients, folder, watches);
    Simulation::new(machines.hashed_by(hash_of), workload, config)
}

fn run(seed: u64) -> Result<Run, Box<Failure>> {
    examine(&config(seed), make, |run| {
        check_end(run);
        Ok(())
    })
}

/// The state hash, and every so often what it stands for.
fn hash_of(store: &KvStore) -> u64 {
    let summary = store.summary();
    if !summary.last_applied.0.is_multiple_of(CONTENTS_ONCE_IN) {
        return summary.state_hash;
    }
    let mut hasher = DefaultHasher::new();
    summary.state_hash.hash(&mut hasher);
    let all = Query::Range(Range::of(Keys::all()));
    for query in [all, Query::Leases] {
        store.query(&codec::encode(&query)).hash(&mut hasher);
    }
    // How much is purged depends on what watches have seen.
    codec::encode(&Summary { bytes: 0, ..summary }).hash(&mut hasher);
    hasher.finish()
}

#[test]
fn the_store_is_as_simple_as_it_seems() {
    let total: Mutex<BTreeMap<&str, u64>> = Mutex::default();
    let seeds = seeds(0..seeds_usual());
    let count = seeds.end - seeds.start;
    let counted = |seed| {
        let run = run(seed)?;
        self::count(&run, &mut total.lock().unwrap());
        Ok(run)
    };
    let covered = sweep(seeds, counted).unwrap_or_else(|failure| panic!("{failure}"));
    let total = total.into_inner().unwrap();
    println!("{covered}\n{total:?}");
    if count >= SEEDS_TELLING {
        // What never happens tests nothing.
        assert!(total.values().all(|count| *count > 0), "{total:?}");
        assert_eq!(covered.missing(), [], "{covered}");
    }
    if count >= SEEDS_SLOW {
        assert!(total["operations"] >= 1_000_000, "{total:?}");
    }
}

#[test]
fn a_seed_runs_alike_with_the_store() {
    let hash = |seed| {
        let mut run = make(config(seed));
        run.run();
        run.trace_hash()
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

fn count(run: &Run, total: &mut BTreeMap<&str, u64>) {
    let kv = run.workload();
    let event = |event| run.happened(event);
    let counts = [
        ("commands", kv.commands),
        ("operations", kv.commands + kv.reads),
        ("refused", kv.refused),
        ("reads", kv.reads),
        ("repeated", kv.repeated()),
        ("leases expired", kv.expired),
        ("fenced writes", kv.fences),
        ("compacted to", kv.reference.compacted),
        ("watches begun", kv.watches.counts.begun),
        ("watches canceled", kv.watches.counts.canceled),
        ("watches compacted", kv.watches.counts.compacted),
        ("watches moved", kv.watches.counts.moved),
        ("events told", kv.watches.counts.events),
        ("crashes", event(Event::Crash)),
        ("transfers", event(Event::Transfer)),
        ("restores", event(Event::Restore)),
        ("damaged snapshots", event(Event::Damage)),
        ("membership changes", event(Event::Change)),
    ];
    for (name, count) in counts {
        *total.entry(name).or_default() += count;
    }
}

/// Once all is quiet: every member has what the reference has, at every revision that can be read.
fn check_end(run: &mut Run) {
    let members = run.cluster().membership();
    let ids = run.cluster().servers().keys().copied();
    let ids: Vec<NodeId> = ids.filter(|id| members.contains(*id)).collect();
    run.workload_mut().finish_watches(&ids);
    let (kv, members) = (run.workload(), run.cluster().membership());
    for (at, (id, server)) in
        run.cluster().servers().iter().filter(|(id, _)| members.contains(**id)).enumerate()
    {
        check_store(*id, server.machine().machine(), kv, at == 0);
    }
    kv.check_counters();
    let registers = kv.history.operations();
    check_keys(&Named(Register(0)), registers, |op| op.0).expect("registers are linearizable");
}

fn check_store(id: NodeId, store: &KvStore, kv: &Kv, all: bool) {
    let reference = &kv.reference;
    let summary = store.summary();
    let found = (summary.revision.0, summary.compacted.0, summary.time_ms, summary.stamped.0);
    let revision = reference.revision();
    let known = (revision, reference.compacted, reference.time_ms, reference.stamped);
    assert_eq!((id, found), (id, known));
    assert_eq!(summary.keys, reference.now().len() as u64);
    let step = if all { 1 } else { (revision / REVISIONS_COMPARED).max(1) };
    for at in (reference.compacted..=revision).step_by(step as usize) {
        let range = Range { revision: Some(Revision(at)), ..Range::of(Keys::all()) };
        let answer: RangeAnswer = ask(store, &Query::Range(range.clone()));
        let expected = reference::read(reference.at(at), &range, revision);
        assert_eq!(answer, Ok(expected), "{id} at {at}");
    }
    let leases: Vec<LeaseId> = ask(store, &Query::Leases);
    assert_eq!(leases, reference.leases.keys().copied().collect::<Vec<_>>());
    for (lease, known) in &reference.leases {
        let answer: LeaseAnswer = ask(store, &Query::Lease { id: *lease, keys: true });
        let answer = answer.expect("it is listed");
        let of_it = |kv: &&KeyValue| kv.lease == Some(*lease);
        let keys: Vec<Bytes> =
            reference.now().values().filter(of_it).map(|kv| kv.key.clone()).collect();
        assert_eq!((answer.granted_ms, &answer.keys), (known.ttl_ms, &keys));
        let left = known.deadline_ms.map_or(known.ttl_ms, |it| it.saturating_sub(summary.time_ms));
        assert_eq!(answer.remaining_ms, left);
    }
}

fn ask<T: serde::de::DeserializeOwned>(store: &KvStore, query: &Query) -> T {
    codec::decode(&store.query(&codec::encode(query))).expect("an answer")
}
