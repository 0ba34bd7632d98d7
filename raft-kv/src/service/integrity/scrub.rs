//! The slow look at all data: the contents, part by part, and the checkpoint file.
//!
//! Each chunk is taken at the revision that is current then, which every member can still read, and
//! which shows what is there now: where keys change all the time, an older revision would be
//! compacted before a slow pass has come to its end.
//!
//! A part counts only if a quorum has answered for it. One that has not is tried again a few times,
//! and then left for the next pass, which comes sooner.

use super::super::replica::Replica;
use super::parts::{Compared, Look, Part};
use super::{Comparison, until};
use crate::api::{CHUNK_KEYS_MAX, Divergence, Place, Query, Revision, Summary};
use crate::codec;
use crate::store::StoreCheck;
use raft_core::log_store::StorageError;
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, warn};

/// Between chunks, at least and at most.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Before the first pass, at most.
const REST_MAX: Duration = Duration::from_secs(600);
/// Before the pass after one in which not all was compared, at most.
const INCOMPLETE_REST_MAX: Duration = Duration::from_secs(3600);
/// How often a part is tried again that too few have answered for, and all parts of a pass.
const TRIES_MAX: u32 = 4;
const TRIES_IN_PASS_MAX: u32 = 64;
/// Before the first such try; each later one comes after twice the time.
const TRY_PAUSE: Duration = Duration::from_millis(100);
/// How fast the file is read, in bytes a second.
const READ_RATE: u32 = 32 * 1024 * 1024;

/// Where the look at all data stands.
pub(super) struct Scrub {
    every: Option<Duration>,
    /// When the next pass begins by itself.
    begins: Option<Instant>,
    pass: Option<Pass>,
    /// Until then it rests, whoever asks: clients cannot keep members busy with nothing else.
    rests: Option<Instant>,
    /// Somebody has asked meanwhile.
    asked: bool,
    /// What the last whole pass, and the one under way, found that nobody can decide.
    split: Option<String>,
    /// What is wrong with the file.
    damaged: Option<String>,
}

/// A pass under way.
struct Pass {
    /// The next part; `None` if there is none.
    next: Option<Part>,
    /// When it is due.
    due: Instant,
    pause: Duration,
    began: Instant,
    /// It was asked for, and goes on without rests.
    urgent: bool,
    keys: u64,
    split: Option<String>,
    file: Reading,
    /// How often the next part was tried in vain, and all parts were tried again.
    tries: u32,
    tries_in_all: u32,
    /// Parts that were not compared by a quorum.
    missed: u64,
}

/// What comes of the file.
enum Reading {
    /// A thread reads it.
    UnderWay(oneshot::Receiver<Result<bool, StorageError>>),
    /// That has ended, unless with an answer, because the store is gone.
    Ended(Option<Result<bool, StorageError>>),
}

impl Pass {
    fn new(pause: Duration, urgent: bool, file: Reading) -> Self {
        let (now, next) = (Instant::now(), Some(Part::first()));
        let (tries, tries_in_all, missed) = (0, 0, 0);
        Self {
            next,
            due: now,
            pause,
            began: now,
            urgent,
            keys: 0,
            split: None,
            file,
            tries,
            tries_in_all,
            missed,
        }
    }

    /// Whether the part that too few have answered for is tried again; if so, says when.
    fn try_again(&mut self) -> bool {
        if self.tries == TRIES_MAX || self.tries_in_all == TRIES_IN_PASS_MAX {
            return false;
        }
        self.due = Instant::now() + TRY_PAUSE * (1 << self.tries);
        self.tries += 1;
        self.tries_in_all += 1;
        true
    }

    /// Goes on to what follows a part; `None` if not even this node's own was to be had.
    fn go_on(&mut self, look: Option<Look>) {
        if !look.as_ref().is_some_and(|look| look.by_quorum) {
            if self.try_again() {
                return;
            }
            self.missed += 1;
        }
        self.tries = 0;
        self.due = Instant::now() + self.pause;
        self.keys += look.as_ref().map_or(0, |look| look.keys);
        self.next = look.and_then(|look| look.next);
    }
}

impl Scrub {
    pub(super) fn new(every: Option<Duration>) -> Self {
        let begins = every.map(|every| Instant::now() + every.min(REST_MAX));
        let (pass, split, damaged) = (None, None, None);
        Self { every, begins, pass, rests: None, asked: false, split, damaged }
    }

    /// Waits until there is something to do.
    pub(super) async fn due(&mut self) {
        let Some(pass) = &mut self.pass else { return until(self.begins).await };
        if pass.next.is_some() {
            return sleep_until(pass.due).await;
        }
        if let Reading::UnderWay(outcome) = &mut pass.file {
            let outcome = outcome.await.ok();
            pass.file = Reading::Ended(outcome);
        }
    }

    /// Why there is an alarm.
    pub(super) fn alarms(&self) -> impl Iterator<Item = String> + use<> {
        let under_way = self.pass.as_ref().and_then(|pass| pass.split.clone());
        let split = under_way.or_else(|| self.split.clone());
        split.into_iter().chain(self.damaged.clone())
    }

    /// Whether a pass that is asked for now has to wait, until this has rested.
    fn put_off(&mut self) -> bool {
        let Some(rests) = self.rests.filter(|rests| *rests > Instant::now()) else { return false };
        self.asked = true;
        self.begins = Some(self.begins.map_or(rests, |begins| begins.min(rests)));
        true
    }

    /// The pass has come to its end.
    fn end(&mut self) -> Option<Pass> {
        let pass = self.pass.take()?;
        if pass.urgent {
            self.rests = Some(Instant::now() + pass.began.elapsed());
        }
        Some(pass)
    }

    /// Begins a pass: spread out, or as fast as nobody notices.
    fn begin(&mut self, keys: u64, urgent: bool, store: &StoreCheck) {
        let chunks = u32::try_from(keys / u64::from(CHUNK_KEYS_MAX) + 1).unwrap_or(u32::MAX);
        let spread = self.every.filter(|_| !urgent).map(|every| every / chunks);
        let pause = spread.unwrap_or_default().clamp(PAUSE_MIN, PAUSE_MAX);
        let now = Instant::now();
        self.begins = self.every.map(|every| now + every);
        self.pass = Some(Pass::new(pause, urgent, read_back(store.clone())));
        debug!(keys, ?pause, "all data is being looked at");
    }
}

/// Reads the file on a thread of its own, which ends early when nobody waits for it any more.
fn read_back(store: StoreCheck) -> Reading {
    let (outcome, receiver) = oneshot::channel();
    let read = move || {
        let found = store.read_back(|bytes| {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            thread::sleep(Duration::from_secs(1) * bytes / READ_RATE);
            if outcome.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        // Nobody waits if the node has stopped.
        let _ = outcome.send(found);
    };
    match thread::Builder::new().name("kv-read-back".into()).spawn(read) {
        Ok(_) => Reading::UnderWay(receiver),
        Err(error) => {
            warn!("the checkpoint is not read back: {error}");
            Reading::Ended(None)
        }
    }
}

impl<N: Replica> Comparison<N> {
    /// Has all data looked at soon: if that is under way, it goes on without rests. After a pass
    /// that did, the next one that is asked for begins as much later as that has taken.
    pub(super) async fn hurry(&mut self) {
        let Some(pass) = &mut self.scrub.pass else {
            if self.scrub.put_off() {
                // Whoever asked is to know that it will be done.
                return self.publish(|known| known.scrubbing = Some(0));
            }
            return self.begin_pass(true).await;
        };
        pass.urgent = true;
        pass.pause = PAUSE_MIN;
        pass.due = pass.due.min(Instant::now() + pass.pause);
    }

    /// Begins a look at all data.
    async fn begin_pass(&mut self, urgent: bool) {
        let keys = self.summary().await.map_or(0, |summary| summary.keys);
        self.scrub.begin(keys, urgent, &self.store);
        self.publish(|known| known.scrubbing = Some(0));
    }

    /// Does what is due; how this node differs, if it does.
    pub(super) async fn scrub_step(&mut self) -> Option<Divergence> {
        let Some(pass) = &mut self.scrub.pass else {
            let urgent = std::mem::take(&mut self.scrub.asked);
            self.begin_pass(urgent).await;
            return None;
        };
        match pass.next.clone() {
            Some(part) => self.look_at(part).await,
            None => self.end_pass().await,
        }
    }

    /// The pass has come to its end.
    async fn end_pass(&mut self) -> Option<Divergence> {
        let Pass { split, file, keys, missed, .. } = self.scrub.end()?;
        debug!(keys, missed, "all data was looked at");
        let is_complete = missed == 0;
        if is_complete || split.is_some() {
            self.scrub.split = split;
        }
        if !is_complete {
            warn!(missed, "parts of the data were not compared: fewer than a quorum answered");
            let soon = Instant::now() + INCOMPLETE_REST_MAX;
            self.scrub.begins = self.scrub.begins.map(|begins| begins.min(soon));
        }
        match file {
            Reading::Ended(Some(Err(
                error @ (StorageError::Corrupt(_) | StorageError::Io { .. }),
            ))) => {
                error!("the checkpoint cannot be read back: {error}");
                self.scrub.damaged = Some(error.to_string());
                self.distrust();
            }
            Reading::Ended(Some(Err(error))) => warn!("the checkpoint was not read back: {error}"),
            _ => {}
        }
        let alarm = self.alarm();
        self.publish(|known| {
            known.alarm = alarm;
            known.scrubbing = None;
            if is_complete {
                known.scrubs += 1;
                known.scrubs_incomplete = 0;
            } else {
                known.scrubs_incomplete += 1;
            }
        });
        self.damaged().await
    }

    /// Whether this node's file is damaged and others have all data: enough of them to go on
    /// without it. Two members that both gave their data up would be one too many.
    pub(super) async fn damaged(&self) -> Option<Divergence> {
        let why = self.scrub.damaged.clone()?;
        let membership = self.exchange.node.status().membership.clone();
        let agreeing = self.others_agreeing(&membership).await?;
        Some(Divergence { place: Place::File(why), agreeing })
    }

    /// Compares the part that is next.
    async fn look_at(&mut self, part: Part) -> Option<Divergence> {
        let look = self.compare_part(&part).await;
        let mut split = None;
        let divergence = match look.as_ref().map(|look| &look.found) {
            Some(Compared::Own(..)) => self.confirmed(&part).await,
            Some(Compared::Split(place)) => {
                error!("CORRUPT: the members' contents differ, and no quorum agrees: {place}");
                split = Some(place.clone());
                None
            }
            Some(Compared::Others(wrong, place)) => {
                warn!(?wrong, "other members differ from a quorum {place}");
                self.publish(|known| known.divergent.clone_from(wrong));
                None
            }
            Some(Compared::Equal) | None => None,
        };
        let pass = self.scrub.pass.as_mut()?;
        pass.split = pass.split.take().or(split);
        pass.go_on(look);
        let (alarm, keys) = (pass.split.is_some().then(|| self.alarm()), pass_keys(&self.scrub));
        self.publish(|known| {
            known.scrubbing = keys;
            if let Some(alarm) = alarm {
                known.alarm = alarm;
            }
        });
        divergence
    }

    /// Looks once more at a part that differs from a quorum's: this node may just have got another
    /// state. How it differs, if it still does.
    async fn confirmed(&self, part: &Part) -> Option<Divergence> {
        let Look { found: Compared::Own(agreeing, place), end, .. } =
            self.compare_part(part).await?
        else {
            return None;
        };
        let place = match (place, part) {
            (None, Part::Keys(start)) => {
                let revision = Revision(self.revision().await);
                self.narrowed(start.clone(), end, &agreeing, revision).await
            }
            (place, _) => place?,
        };
        Some(Divergence { place, agreeing })
    }

    async fn revision(&self) -> u64 {
        let summary = self.summary().await;
        summary.map_or(0, |summary| summary.revision.0)
    }

    async fn summary(&self) -> Option<Summary> {
        let (reply, _) = self.exchange.own_answer(&Query::Summary).await?;
        codec::decode(&reply).ok()
    }
}

fn pass_keys(scrub: &Scrub) -> Option<u64> {
    scrub.pass.as_ref().map(|pass| pass.keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    /// A pass that was asked for, or not, and took so long; then somebody asks.
    async fn after(urgent: bool, took: Duration) -> Scrub {
        let mut scrub = Scrub::new(None);
        scrub.pass = Some(Pass::new(PAUSE_MIN, urgent, Reading::Ended(None)));
        advance(took).await;
        assert!(scrub.end().is_some());
        scrub
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_all_the_time_leaves_a_member_half_of_it() {
        let took = Duration::from_secs(100);
        let mut scrub = after(true, took).await;
        let ended = Instant::now();
        for _ in 0..10 {
            assert!(scrub.put_off());
            advance(took / 20).await;
        }
        assert!(scrub.asked);
        // It begins by itself, though none would have.
        scrub.due().await;
        assert!(ended.elapsed() >= took);
        assert!(!scrub.put_off(), "it has rested");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_pass_of_its_own_a_member_looks_at_once() {
        assert!(!after(false, Duration::from_secs(100)).await.put_off());
    }
}
