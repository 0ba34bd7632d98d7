//! The rules, one after the other.

use super::trial::{Subject, Trial};
use super::{Check, Report};
use crate::log_store::StorageError;
use crate::state_machine::{Snapshot, StateMachine};
use crate::testing::Random;
use crate::testing::breach::{Breach, contain};
use crate::types::SnapshotMeta;
use std::io::{self, Cursor, Read};
use std::thread;
use std::time::{Duration, Instant};

/// Machines that must do alike. A hash map of two keys has one order or the other.
const ALIKE: usize = 16;
/// Long enough for a clock of seconds to go on.
const LATER: Duration = Duration::from_millis(1100);
/// Damaged streams that are tried out.
const DAMAGED: usize = 40;

pub(super) fn run<M: StateMachine>(check: &Check<'_, M>) -> Result<Report, Breach> {
    let began = Instant::now();
    let mut trial = Trial::new(check)?;
    deterministic(&trial)?;
    // Only the clock can tell this machine from the first.
    thread::sleep(LATER.saturating_sub(began.elapsed()));
    let end = trial.entries.len();
    trial.follow(&mut trial.blank()?, end, 1, "clock", "a machine fed a second later")?;
    restore(&mut trial)?;
    damaged_streams(&mut trial)?;
    freeze(&mut trial)?;
    if trial.durable() {
        restart(&mut trial)?;
    }
    Ok(trial.finish())
}

fn deterministic<M: StateMachine>(trial: &Trial<'_, M>) -> Result<(), Breach> {
    let end = trial.entries.len();
    for number in 1..=ALIKE {
        let step = format!("machine {number} of {ALIKE}, in runs of {number}");
        trial.follow(&mut trial.blank()?, end, number, "deterministic", &step)?;
        // And without queries in between.
        let mut subject = trial.blank()?;
        trial.apply(&mut subject, end, &step)?;
        trial.compare(&subject, "deterministic", "a machine fed at once")?;
    }
    Ok(())
}

/// A snapshot that was read.
struct Taken {
    meta: SnapshotMeta,
    bytes: Vec<u8>,
}

impl Taken {
    fn read(snapshot: Snapshot, step: &str) -> Result<Self, Breach> {
        let Snapshot { meta, mut data } = snapshot;
        let mut bytes = Vec::new();
        let read = contain(step, || data.read_to_end(&mut bytes))?;
        read.map_err(|error| {
            Breach::new("snapshot", step, "the stream can be read", error.to_string())
        })?;
        Ok(Self { meta, bytes })
    }

    fn of(&self, bytes: Vec<u8>) -> Snapshot {
        Snapshot { meta: self.meta.clone(), data: Box::new(Cursor::new(bytes)) }
    }
}

/// Snapshot after every entry, read when the next one is applied, restored twice.
fn restore<M: StateMachine>(trial: &mut Trial<'_, M>) -> Result<(), Breach> {
    let mut source = trial.blank()?;
    let end = trial.entries.len();
    for applied in 0..=end {
        let step = format!("a snapshot after {applied} entries");
        let Some(snapshot) = trial.snapshot(&mut source)? else {
            trial.apply(&mut source, 1, &step)?;
            continue;
        };
        // The stream is read while the machine goes on, and makes its next checkpoint.
        if applied < end {
            trial.apply(&mut source, 1, &step)?;
            trial.checkpoint(&mut source)?;
        }
        let taken = Taken::read(snapshot, &step)?;
        let (new, other) = (trial.blank()?, other(trial)?);
        for (mut subject, into) in [(new, "a new machine"), (other, "one that held other data")] {
            let step = format!("{step}, restored in {into}");
            restored(trial, &mut subject, &taken, &step)?;
            if trial.durable() {
                subject = trial.reopened(subject)?;
                let covered = taken.meta.last.index.0 as usize;
                let meta = subject.machine.applied();
                let step = format!("{step}, which is started again");
                subject.applied = trial.covered(&meta, covered..=covered, "restore", &step)?;
            }
            trial.follow(&mut subject, end, 3, "restore", &step)?;
            trial.report.restores += 1;
        }
    }
    Ok(())
}

/// A machine that has applied other commands, and more of them.
fn other<M: StateMachine>(trial: &Trial<'_, M>) -> Result<Subject<M>, Breach> {
    let mut subject = trial.blank()?;
    let step = "a machine is fed with other data";
    trial.apply(&mut subject, trial.entries.len(), step)?;
    trial.checkpoint(&mut subject)?;
    Ok(subject)
}

fn restored<M: StateMachine>(
    trial: &Trial<'_, M>,
    subject: &mut Subject<M>,
    taken: &Taken,
    step: &str,
) -> Result<(), Breach> {
    let restored = contain(step, || subject.machine.restore(taken.of(taken.bytes.clone())))?;
    restored.map_err(|error| Breach::new("restore", step, "it is done", error.to_string()))?;
    subject.applied = taken.meta.last.index.0 as usize;
    // What was restored can be told on.
    let again = contain(step, || subject.machine.snapshot())?;
    let again = again.map_err(|error| {
        Breach::new("snapshot", step, "a snapshot of what was restored", error.to_string())
    })?;
    trial.covered(&again.meta, subject.applied..=subject.applied, "snapshot", step).map(drop)
}

/// A stream that breaks off with an error.
struct Broken(Cursor<Vec<u8>>);

impl Read for Broken {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out)? {
            0 if !out.is_empty() => Err(io::Error::other("the stream broke")),
            count => Ok(count),
        }
    }
}

fn damaged_streams<M: StateMachine>(trial: &mut Trial<'_, M>) -> Result<(), Breach> {
    let (end, mut random) = (trial.entries.len(), Random::new(1));
    let half = end / 2;
    let mut source = trial.blank()?;
    trial.apply(&mut source, half, "the source of snapshots to damage")?;
    let Some(snapshot) = trial.snapshot(&mut source)? else { return Ok(()) };
    let taken = Taken::read(snapshot, "a snapshot to damage")?;
    let length = taken.bytes.len();
    for number in 0..DAMAGED {
        let mut bytes = taken.bytes.clone();
        let at = random.below(length as u64 + 1) as usize;
        let broken = number % 3 == 0;
        let what = match number % 3 {
            1 if at < length => {
                bytes[at] ^= 1 << random.below(8);
                format!("with a bit of byte {at} of {length} flipped")
            }
            _ => {
                bytes.truncate(at);
                format!(
                    "{} after {at} of {length} bytes",
                    if broken { "broken" } else { "cut off" }
                )
            }
        };
        let step = format!("a machine with {} entries is to restore a snapshot {what}", half / 2);
        let mut subject = trial.blank()?;
        trial.apply(&mut subject, half / 2, &step)?;
        let mut snapshot = taken.of(bytes);
        if broken {
            let mut kept = Vec::new();
            snapshot.data.read_to_end(&mut kept).expect("memory can be read");
            snapshot.data = Box::new(Broken(Cursor::new(kept)));
        }
        match contain(&step, || subject.machine.restore(snapshot))? {
            Err(StorageError::Stream(_)) => {}
            Err(other) => {
                let expected = "StorageError::Stream: this storage is as good as before";
                return Err(Breach::new("stream", step, expected, format!("{other:?}")));
            }
            Ok(()) if broken && at < length => {
                let expected = "StorageError::Stream: it was not read to its end";
                return Err(Breach::new("stream", step, expected, "Ok"));
            }
            // It looks like another state.
            Ok(()) => continue,
        }
        trial.report.refused += 1;
        trial.follow(&mut subject, end, 4, "stream", &format!("{step}, refuses, and goes on"))?;
    }
    Ok(())
}

/// Checkpoints whose job runs later, or meanwhile.
fn freeze<M: StateMachine>(trial: &mut Trial<'_, M>) -> Result<(), Breach> {
    let end = trial.entries.len();
    for first in (1..end).step_by((end / 12).max(1)) {
        let mut subject = trial.blank()?;
        trial.apply(&mut subject, first, "a machine to freeze")?;
        let step = format!("a checkpoint begun after {first} entries, written after {end}");
        let Some(job) = contain(&step, || subject.machine.checkpoint())? else { return Ok(()) };
        let middle = first + (end - first) / 2;
        trial.follow(&mut subject, middle, 2, "freeze", &step)?;
        let written = contain(&step, job)?;
        frozen(trial, &subject, written, first, &step)?;

        let step = format!("a checkpoint begun after {middle} entries, written meanwhile");
        let Some(job) = contain(&step, || subject.machine.checkpoint())? else { continue };
        let written = thread::scope(|scope| {
            let writing = scope.spawn(|| contain(&step, job));
            let followed = trial.follow(&mut subject, end, 1, "freeze", &step);
            let written = writing.join().expect("its panics are contained");
            followed.and(written)
        })?;
        frozen(trial, &subject, written, middle, &step)?;
        trial.report.freezes += 2;
    }
    Ok(())
}

/// Whether the newest checkpoint covers `covered` entries, and nothing else.
fn frozen<M: StateMachine>(
    trial: &Trial<'_, M>,
    subject: &Subject<M>,
    written: Result<SnapshotMeta, StorageError>,
    covered: usize,
    step: &str,
) -> Result<(), Breach> {
    let failed = |error: StorageError| {
        Breach::new("freeze", step, "the checkpoint is written", error.to_string())
    };
    trial.covered(&written.map_err(failed)?, covered..=covered, "freeze", step)?;
    let snapshot = contain(step, || subject.machine.snapshot())?.map_err(failed)?;
    trial.covered(&snapshot.meta, covered..=covered, "freeze", step)?;
    let taken = Taken::read(snapshot, step)?;
    let mut other = trial.blank()?;
    restored(trial, &mut other, &taken, step)?;
    trial.follow(&mut other, trial.entries.len(), 2, "freeze", step)
}

/// The process ends after any entry.
fn restart<M: StateMachine>(trial: &mut Trial<'_, M>) -> Result<(), Breach> {
    let end = trial.entries.len();
    for applied in 0..=end {
        let mut subject = trial.blank()?;
        let step = format!("restarted after {applied} entries");
        let mut durable = 0;
        for checkpoint in [applied / 3, applied * 2 / 3] {
            let count = checkpoint - subject.applied;
            trial.apply(&mut subject, count, &step)?;
            durable = durable.max(trial.checkpoint(&mut subject)?);
        }
        let count = applied - subject.applied;
        trial.apply(&mut subject, count, &step)?;
        if applied.is_multiple_of(3) {
            // Begun, and never written.
            drop(contain(&step, || subject.machine.checkpoint())?);
        }
        let mut subject = trial.reopened(subject)?;
        let step = format!("{step}, with a checkpoint of {durable}");
        let meta = contain(&step, || subject.machine.applied())?;
        subject.applied = trial.covered(&meta, durable..=applied, "restart", &step)?;
        trial.follow(&mut subject, end, 2, "restart", &step)?;
        trial.report.restarts += 1;
    }
    Ok(())
}
