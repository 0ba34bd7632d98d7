//! What may befall a store: loss of power, a disk that fails, a disk that rots.

use super::contract::Place;
use super::disk::{CrashPoint, Loss};
use super::history::{History, Model, append, hard_state, reset, run};
use super::{Disk, Extent, Report, Store};
use crate::log_store::{LogStore, StorageError};
use crate::raft::GroupOp;
use crate::testing::Random;
use crate::testing::breach::{Breach, contain};

/// Of so many power losses, one is followed by another during the recovery.
const AGAIN_ONCE_IN: u64 = 6;
/// Of so many kinds of damage, one is not a flipped bit.
const GROSS_ONCE_IN: u64 = 10;
/// Writes of the histories on disks that fail.
const FAILING_WRITES: usize = 30;

impl<L: LogStore> Store<'_, Disk, L> {
    /// Power loss after every change of the disk.
    pub(super) fn crashes(&self, extent: &Extent, report: &mut Report) -> Result<(), Breach> {
        if extent.crash_every == 0 {
            return Ok(());
        }
        let history = History::random(extent.seed, extent.writes);
        let disk = Disk::new();
        let recording = disk.record();
        let mut store = self.open(&disk, "durable", "an empty place")?;
        history.states[0].compare(&mut store, "durable", "a new store is loaded")?;
        for (number, batch) in history.batches.iter().enumerate() {
            let written = contain("writing", || store.write(batch))?;
            let step = || format!("write {} of seed {}", number + 1, extent.seed);
            written
                .map_err(|error| Breach::new("write", step(), "it is done", error.to_string()))?;
            recording.mark(number + 1);
        }
        drop(store);
        let mut random = Random::new(extent.seed);
        recording.replay(|point| {
            if !point.number().is_multiple_of(extent.crash_every) {
                return Ok(());
            }
            report.crash_points += 1;
            let losses = if point.is_settled() { &Loss::EACH[..1] } else { &Loss::EACH };
            for loss in losses {
                report.crashes += 1;
                self.crash(&history, point, *loss, &mut random).map_err(|breach| {
                    let (seed, number) = (extent.seed, point.number());
                    let after = format!("seed {seed}, power lost after {number} changes");
                    breach.during(format_args!("{after} of the disk, {loss:?} of what was left"))
                })?;
            }
            Ok(())
        })
    }

    /// One crash: what was acknowledged is there, and of the write under way all or nothing.
    fn crash(
        &self,
        history: &History,
        point: &CrashPoint,
        loss: Loss,
        random: &mut Random,
    ) -> Result<(), Breach> {
        let done = point.mark().unwrap_or(0);
        let allowed = &history.states[done..history.states.len().min(done + 2)];
        let step = format!("{done} writes were acknowledged");
        let disk = point.image(loss, random);
        if !random.once_in(AGAIN_ONCE_IN) {
            return self.goes_on(&disk, allowed, "durable", &step);
        }
        let recording = disk.record();
        drop(contain(&step, || self.recovered(&disk, allowed, "durable", &step))??);
        // One point of the recovery, each as likely as the others.
        let (mut points, mut chosen) = (0, None);
        recording.replay(|point| {
            points += 1;
            if random.once_in(points) {
                let loss = *random.choose(&Loss::EACH);
                chosen = Some(point.image(loss, random));
            }
            Ok::<_, Breach>(())
        })?;
        let step = format!("{step}, and the power went again during the recovery");
        chosen.iter().try_for_each(|disk| self.goes_on(disk, allowed, "durable", &step))
    }

    /// Opens `disk`, which must hold one of `allowed`; the store, and which it was.
    fn recovered<'a>(
        &self,
        disk: &Disk,
        allowed: &'a [Model],
        rule: &'static str,
        step: &str,
    ) -> Result<(L, &'a Model), Breach> {
        let mut store = self.open(disk, rule, step)?;
        // All models of a history have the groups that the last one has, or the new one.
        let widest = allowed.last().expect("there is one");
        let found = widest.load(&mut store);
        let found =
            found.map_err(|error| Breach::new(rule, step, "the store loads", error.to_string()))?;
        let mut differences = allowed.iter().map(|model| model.difference(&found));
        match differences.position(|difference| difference.is_none()) {
            Some(which) => Ok((store, &allowed[which])),
            None => {
                let (expected, found) =
                    allowed[0].difference(&found).expect("none was equal, nor the first");
                let expected =
                    format!("what was acknowledged, {expected}, or the next write whole");
                Err(Breach::new(rule, step, expected, found))
            }
        }
    }

    /// Opens `disk`, which must hold one of `allowed`, writes on, and opens it again.
    fn goes_on(
        &self,
        disk: &Disk,
        allowed: &[Model],
        rule: &'static str,
        step: &str,
    ) -> Result<(), Breach> {
        contain(step, || {
            let (mut store, model) = self.recovered(disk, allowed, rule, step)?;
            let (mut model, more) = (model.clone(), more());
            model.apply(&more);
            let step = format!("{step}; more is written after the recovery");
            let written = store.write(&more);
            written.map_err(|error| Breach::new(rule, &step, "it is done", error.to_string()))?;
            drop(store);
            model.compare(&mut self.open(disk, rule, &step)?, rule, &step)
        })?
    }

    /// Operations of the disk that fail, one in each of many runs.
    pub(super) fn failures(&self, extent: &Extent, report: &mut Report) -> Result<(), Breach> {
        let history = History::random(extent.seed, FAILING_WRITES);
        let total = {
            let disk = Disk::new();
            self.until_failure(&disk, &history, || {})?;
            disk.operations()
        };
        let places = (extent.failures as u64).min(total);
        let mut random = Random::new(extent.seed);
        for number in 0..places {
            let failing = number * total / places;
            let disk = Disk::new();
            let mut recording = None;
            disk.fail_once(failing);
            let step = format!("operation {failing} of {total} of the disk failed");
            let run = self.until_failure(&disk, &history, || recording = Some(disk.record()));
            let done = contain(&step, || run)?.map_err(|breach| breach.during(&step))?;
            report.failures += 1;
            disk.heal();
            let allowed = &history.states[done..history.states.len().min(done + 2)];
            let step = format!("{step} after {done} writes were acknowledged");
            self.goes_on(&disk.copy(), allowed, "failure", &step)?;
            // And if the power goes as well.
            let Some(recording) = recording else { continue };
            let mut images = Vec::new();
            recording.replay(|point| {
                images = Loss::EACH.map(|loss| point.image(loss, &mut random)).into();
                Ok::<_, Breach>(())
            })?;
            let step = format!("{step}, and then the power");
            images.iter().try_for_each(|disk| self.goes_on(disk, allowed, "failure", &step))?;
        }
        Ok(())
    }

    /// Writes the history until something fails, after which nothing may succeed; how many writes
    /// were acknowledged. Calls `opened` once the store is open.
    fn until_failure(
        &self,
        disk: &Disk,
        history: &History,
        opened: impl FnOnce(),
    ) -> Result<usize, Breach> {
        let Ok(mut store) = (self.open)(disk) else { return Ok(0) };
        if history.states[0].load(&mut store).is_err() {
            return Ok(0);
        }
        opened();
        for (number, batch) in history.batches.iter().enumerate() {
            let Err(first) = store.write(batch) else { continue };
            let changes = disk.changes();
            for _ in 0..2 {
                if store.write(&[reset(9, 9, 9)]).is_ok() {
                    let step = format!("a write after one that failed ({first})");
                    return Err(Breach::new("failure", step, "an error: nothing is retried", "Ok"));
                }
            }
            if disk.changes() != changes {
                let step = format!("a write after one that failed ({first})");
                return Err(Breach::new(
                    "failure",
                    step,
                    "the disk is left alone",
                    "it is changed",
                ));
            }
            return Ok(number);
        }
        Ok(history.batches.len())
    }

    /// Damage at rest: noticed, or without effect.
    pub(super) fn damage(&self, extent: &Extent, report: &mut Report) -> Result<(), Breach> {
        let history = History::random(extent.seed, extent.writes);
        let last = history.states.last().expect("there is a first state");
        let disk = Disk::new();
        let mut store = self.open(&disk, "damage", "an empty place")?;
        history.states[0].compare(&mut store, "damage", "a new store is loaded")?;
        for batch in &history.batches {
            let written = store.write(batch);
            written.map_err(|error| {
                Breach::new("damage", "preparing a log", "it is written", error.to_string())
            })?;
        }
        // As the end of the process leaves it, and as closing it does.
        let ended = disk.copy();
        drop(store);
        let mut random = Random::new(extent.seed);
        while report.flips < extent.flips {
            let (whole, which) =
                if random.once_in(2) { (&disk, "closed") } else { (&ended, "not closed") };
            let disk = Place::copy(whole).expect("memory can be copied");
            let (what, is_flip) = spoil(&disk, &mut random);
            let step = format!("seed {}, a log that was {which}, {what}", extent.seed);
            let noticed = contain(&step, || self.spoilt(&disk, last, &step))??;
            report.flips += usize::from(is_flip);
            report.flips_noticed += usize::from(is_flip && noticed);
            report.gross += usize::from(!is_flip);
        }
        Ok(())
    }

    /// Whether the damage was noticed.
    fn spoilt(&self, disk: &Disk, model: &Model, step: &str) -> Result<bool, Breach> {
        let asked = "an error that says corrupt or format, or everything that was acknowledged";
        let breach = |found: String| Err(Breach::new("damage", step, asked, found));
        let noticed = |error: StorageError| match error {
            StorageError::Corrupt(_) | StorageError::Format(_) => Ok(true),
            other => breach(format!("{other:?}")),
        };
        let mut store = match (self.open)(disk) {
            Ok(store) => store,
            Err(error) => return noticed(error),
        };
        let found = match model.load(&mut store) {
            Ok(found) => found,
            Err(error) => return noticed(error),
        };
        if let Some((_, found)) = model.difference(&found) {
            return breach(found);
        }
        // What had no effect must have none later.
        let (mut after, more) = (model.clone(), more());
        after.apply(&more);
        let written = store.write(&more).is_ok();
        drop(store);
        let mut store = match (self.open)(disk) {
            Ok(store) => store,
            Err(error) => return noticed(error),
        };
        match after.load(&mut store) {
            Err(error) => noticed(error),
            Ok(found) => match after.difference(&found) {
                None => Ok(false),
                // A write that failed is there as a whole or not at all.
                Some(_) if !written && model.difference(&found).is_none() => Ok(true),
                Some((_, found)) => breach(found),
            },
        }
    }
}

/// What is written to see that a store goes on, whatever it holds.
fn more() -> Vec<GroupOp> {
    vec![hard_state(0, 1_000_000, 2), append(9, run(1, 1, 1, 3))]
}

/// Damages the disk somewhere; says how, and whether it was the flip of one bit.
fn spoil(disk: &Disk, random: &mut Random) -> (String, bool) {
    let files: Vec<_> = disk.files().into_iter().filter(|(_, len)| *len > 0).collect();
    let total: u64 = files.iter().map(|(_, len)| len).sum();
    // Small files get their share.
    let (name, len) = if random.once_in(8) {
        random.choose(&files)
    } else {
        let mut at = random.below(total);
        let mut holds = |len: u64| match at.checked_sub(len) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        };
        files.iter().find(|(_, len)| holds(*len)).expect("it lies in one of them")
    };
    let at = random.below(*len) as usize;
    if !random.once_in(GROSS_ONCE_IN) {
        let bit = random.below(8);
        disk.damage(name, |bytes| bytes[at] ^= 1 << bit);
        return (format!("bit {bit} of byte {at} of {name}, {len} bytes, flipped"), true);
    }
    let sector = at / 512 * 512;
    let end = (sector + 512).min(*len as usize);
    match random.below(3) {
        0 => {
            disk.damage(name, |bytes| bytes[sector..end].fill(0));
            (format!("the sector at byte {sector} of {name} zeroed"), false)
        }
        1 => {
            let other = random.below(len.div_ceil(512)) as usize * 512;
            let length = (end - sector).min(*len as usize - other);
            disk.damage(name, |bytes| bytes.copy_within(other..other + length, sector));
            (format!("the sector at byte {other} of {name} written to {sector}, too"), false)
        }
        _ => {
            disk.damage(name, |bytes| bytes.truncate(at));
            (format!("{name} cut off at byte {at} of {len}"), false)
        }
    }
}
