//! Wherever the power goes, the log holds what was acknowledged.

use crate::disk::{self, Disk, Event, Loss, Operation, PANIC};
use crate::support::{Model, Rng, append, hard_state, run};
use raft_core::log_store::{LogStore, StorageError};
use raft_storage_redb::{ACK_FILE, RedbLog};
use std::io::ErrorKind;
use std::path::Path;
use std::{env, fs};

/// A history on a recording disk: after write `n` the log held `states[n]` and the side file
/// `acks[n]`.
struct History {
    states: Vec<Model>,
    acks: Vec<Vec<u8>>,
    trace: Vec<Event>,
}

impl History {
    fn record(seed: u64, writes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::recording();
        let mut log = RedbLog::with_backend(dir.path(), disk.clone()).unwrap();
        let mut rng = Rng::new(seed);
        let mut model = Model::default();
        let side_file = || fs::read(dir.path().join(ACK_FILE)).unwrap();
        let (mut states, mut acks) = (vec![model.clone()], vec![side_file()]);
        disk.acknowledged(0);
        for write in 1..=writes {
            let ops = rng.batch(&mut model, write as u64, 20_000);
            log.write(&ops).unwrap();
            disk.acknowledged(write);
            states.push(model.clone());
            acks.push(side_file());
        }
        assert!(log.usage().first_row > 1, "the history is to include purges");
        Self { states, acks, trace: disk.take_trace() }
    }

    /// Opens what a crash left, and says whether it holds what it must: every acknowledged write,
    /// and of the one under way all or nothing.
    fn check(&self, image: Vec<u8>, acknowledged: usize, side_file: usize) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(ACK_FILE), &self.acks[side_file]).unwrap();
        let disk = Disk::of(image);
        let mut log = RedbLog::with_backend(dir.path(), disk.clone()).map_err(|e| e.to_string())?;
        let now = self.states[acknowledged].difference(&mut log);
        let next = self.states.get(acknowledged + 1);
        let state = match (now, next.map(|next| next.difference(&mut log))) {
            (None, _) => &self.states[acknowledged],
            (Some(_), Some(None)) => &self.states[acknowledged + 1],
            (Some(difference), _) => return Err(difference),
        };
        // It goes on from there.
        let more = [hard_state(0, 1_000_000, 2), append(9, run(1, 1, 1, 3))];
        let mut state = state.clone();
        state.apply(&more);
        log.write(&more).map_err(|e| e.to_string())?;
        drop(log);
        let mut log = RedbLog::with_backend(dir.path(), disk).map_err(|e| e.to_string())?;
        state.difference(&mut log).map_or(Ok(()), Err)
    }
}

#[test]
fn every_crash_keeps_what_was_acknowledged() {
    let slow = env::var_os("RUN_SLOW_TESTS").is_some();
    let (seeds, writes, tries) = if slow { (8, 600, 8) } else { (1, 300, 1) };
    for seed in 1..=seeds {
        let history = History::record(seed, writes);
        let mut rng = Rng::new(seed + 1000);
        let (mut durable, mut pending) = (Vec::new(), Vec::new());
        let mut acknowledged = None;
        for event in &history.trace {
            match event {
                Event::Acknowledged(write) => acknowledged = Some(*write),
                Event::Sync => {
                    if let Some(acknowledged) = acknowledged {
                        for _ in 0..tries {
                            crash_here(&history, &durable, &pending, acknowledged, &mut rng);
                        }
                    }
                    disk::flush(&mut durable, &mut pending);
                }
                event => pending.push(event.clone()),
            }
        }
    }
}

fn crash_here(
    history: &History,
    durable: &[u8],
    pending: &[Event],
    acknowledged: usize,
    rng: &mut Rng,
) {
    for loss in [Loss::All, Loss::Tail, Loss::Some] {
        let image = disk::crash(durable, pending, loss, rng);
        // The side file is not flushed: it may be any older one.
        let older = rng.below(acknowledged as u64 + 1) as usize;
        let side_file = if rng.below(3) == 0 { older } else { acknowledged };
        if let Err(error) = history.check(image, acknowledged, side_file) {
            panic!("after write {acknowledged}, {loss:?} lost, side file {side_file}: {error}");
        }
    }
}

#[test]
fn a_lost_flush_is_noticed() {
    // The disk confirmed a flush and forgot it: redb rolls back, and all is well but for the vote
    // that was promised.
    let history = History::record(77, 200);
    let (mut durable, mut pending) = (Vec::new(), Vec::new());
    let mut checked = 0;
    for event in &history.trace {
        match event {
            Event::Acknowledged(write) => {
                if *write > 1
                    && let Some(before) = before_last_flush(&durable, &pending)
                {
                    let lost = history.check(before, *write, *write).unwrap_err();
                    assert!(lost.contains("was acknowledged, but the log ends at row"), "{lost}");
                    checked += 1;
                }
                disk::flush(&mut durable, &mut pending);
            }
            event => pending.push(event.clone()),
        }
    }
    assert!(checked > 150, "{checked}");
}

/// The disk without everything since the last acknowledged write, if that was flushed.
fn before_last_flush(durable: &[u8], pending: &[Event]) -> Option<Vec<u8>> {
    pending.iter().any(|event| matches!(event, Event::Sync)).then(|| durable.to_vec())
}

#[test]
fn the_first_failure_is_the_last_write() {
    let failures = [
        (Operation::Sync, ErrorKind::Other),
        (Operation::Write, ErrorKind::StorageFull),
        (Operation::Grow, ErrorKind::StorageFull),
    ];
    for (operation, kind) in failures {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let mut log = RedbLog::with_backend(dir.path(), disk.clone()).unwrap();
        let mut model = Model::default();
        let first = [hard_state(0, 1, 2), append(0, run(1, 3, 1, 100))];
        log.write(&first).unwrap();
        model.apply(&first);

        disk.fail(operation, kind);
        // Large enough that the file has to grow.
        let second = [append(0, run(4, 70, 1, 60_000))];
        match log.write(&second) {
            Err(StorageError::Io { source, context }) => {
                assert_eq!(source.kind(), kind, "{context}");
            }
            other => panic!("{operation:?}: {other:?}"),
        }
        disk.heal();
        let writes = disk.writes();
        let refused = log.write(&[hard_state(0, 2, 3)]).unwrap_err().to_string();
        assert!(refused.contains("closed after an earlier failure"), "{refused}");
        assert!(log.load(raft_core::types::GroupId(0)).is_err());
        assert_eq!(disk.writes(), writes, "nothing is written after a failure");

        drop(log);
        reopens_to_either(dir.path(), disk, &model, &second);
    }
}

/// Nobody knows whether a failed write is on the disk, only that it is there as a whole or not.
fn reopens_to_either(dir: &Path, disk: Disk, model: &Model, second: &[raft_core::raft::GroupOp]) {
    let mut log = RedbLog::with_backend(dir, disk).unwrap();
    let mut after = model.clone();
    after.apply(second);
    if model.difference(&mut log).is_some() {
        after.check(&mut log);
    }
}

#[test]
fn a_panic_of_the_engine_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let mut log = RedbLog::with_backend(dir.path(), disk.clone()).unwrap();
    disk.fail(Operation::Write, PANIC);
    let error = log.write(&[hard_state(0, 1, 1)]).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt(_)), "{error:?}");
    assert!(error.to_string().contains("Write is to panic"), "{error}");
    disk.heal();
    assert!(log.write(&[hard_state(0, 1, 1)]).is_err());
    drop(log);
    drop(RedbLog::with_backend(dir.path(), disk).unwrap());

    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    drop(RedbLog::with_backend(dir.path(), disk.clone()).unwrap());
    disk.fail(Operation::Write, PANIC);
    let error = RedbLog::with_backend(dir.path(), disk).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt(_)), "{error:?}");
}
