//! The slow look at all data: the contents, chunk by chunk, and the checkpoint file.
//!
//! Each chunk is taken at the revision that is current then, which every member can still read, and
//! which shows what is there now: where keys change all the time, an older revision would be
//! compacted before a slow pass has come to its end.

use super::super::replica::Replica;
use super::{Comparison, camps_of, is_comparable, until};
use crate::api::{CHUNK_KEYS_MAX, Chunk, ChunkDigest, Divergence, Place, Query, Revision, Summary};
use crate::codec;
use crate::integrity::{Verdict, judge};
use crate::store::StoreCheck;
use bytes::Bytes;
use raft_core::log_store::StorageError;
use raft_core::types::NodeId;
use std::collections::BTreeMap;
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
/// How fast the file is read, in bytes a second.
const READ_RATE: u32 = 32 * 1024 * 1024;

/// Where the look at all data stands.
pub(super) struct Scrub {
    every: Option<Duration>,
    /// When the next pass begins by itself.
    begins: Option<Instant>,
    pass: Option<Pass>,
    /// What the last whole pass, and the one under way, found that nobody can decide.
    split: Option<String>,
    /// What is wrong with the file.
    damaged: Option<String>,
}

/// A pass under way.
struct Pass {
    /// Where the next chunk starts; `None` if there is none.
    next: Option<Bytes>,
    /// When it is due.
    due: Instant,
    pause: Duration,
    keys: u64,
    split: Option<String>,
    file: Reading,
}

/// What comes of the file.
enum Reading {
    /// A thread reads it.
    UnderWay(oneshot::Receiver<Result<bool, StorageError>>),
    /// That has ended, unless with an answer, because the store is gone.
    Ended(Option<Result<bool, StorageError>>),
}

/// What members must agree on: digest, number of keys, end.
type Part = (u64, u32, Option<Bytes>);

impl Scrub {
    pub(super) fn new(every: Option<Duration>) -> Self {
        let begins = every.map(|every| Instant::now() + every.min(REST_MAX));
        Self { every, begins, pass: None, split: None, damaged: None }
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

    /// Begins a pass: spread out, or as fast as nobody notices.
    fn begin(&mut self, keys: u64, urgent: bool, store: &StoreCheck) {
        let chunks = u32::try_from(keys / u64::from(CHUNK_KEYS_MAX) + 1).unwrap_or(u32::MAX);
        let spread = self.every.filter(|_| !urgent).map(|every| every / chunks);
        let pause = spread.unwrap_or_default().clamp(PAUSE_MIN, PAUSE_MAX);
        let now = Instant::now();
        self.begins = self.every.map(|every| now + every);
        let file = read_back(store.clone());
        let next = Some(Bytes::new());
        self.pass = Some(Pass { next, due: now, pause, keys: 0, split: None, file });
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
    /// Begins a look at all data, from the beginning if there is one under way.
    pub(super) async fn begin_pass(&mut self, urgent: bool) {
        let keys = self.summary().await.map_or(0, |summary| summary.keys);
        self.scrub.begin(keys, urgent, &self.store);
        self.publish(|known| known.scrubbing = Some(0));
    }

    /// Does what is due; how this node differs, if it does.
    pub(super) async fn scrub_step(&mut self) -> Option<Divergence> {
        let Some(pass) = &mut self.scrub.pass else {
            self.begin_pass(false).await;
            return None;
        };
        match pass.next.clone() {
            Some(start) => self.look_at(start).await,
            None => self.end_pass().await,
        }
    }

    /// The pass has come to its end.
    async fn end_pass(&mut self) -> Option<Divergence> {
        let Pass { split, file, keys, .. } = self.scrub.pass.take()?;
        debug!(keys, "all data was looked at");
        self.scrub.split = split;
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
            known.scrubs += 1;
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

    /// Compares the chunk that starts here.
    async fn look_at(&mut self, start: Bytes) -> Option<Divergence> {
        let (found, seen) = self.compare_chunk(&start).await;
        let mut split = None;
        let divergence = match found {
            Compared::Own(agreeing) => {
                // Once more: this node may just have got another state.
                let (again, _) = self.compare_chunk(&start).await;
                let end = seen.as_ref().and_then(|seen| seen.end.clone());
                match again {
                    Compared::Own(_) => {
                        let place = self.narrowed(start, end, &agreeing).await;
                        Some(Divergence { place, agreeing })
                    }
                    _ => None,
                }
            }
            Compared::Split(place) => {
                error!("CORRUPT: the members' contents differ, and no quorum agrees: {place}");
                split = Some(place);
                None
            }
            Compared::Others(wrong, place) => {
                warn!(?wrong, "other members differ from a quorum {place}");
                self.publish(|known| known.divergent = wrong);
                None
            }
            Compared::Equal => None,
        };
        let pass = self.scrub.pass.as_mut()?;
        pass.split = pass.split.take().or(split);
        pass.due = Instant::now() + pass.pause;
        // Where the chunk could not be taken, the same one is tried again.
        if let Some(seen) = seen {
            pass.keys += u64::from(seen.keys);
            pass.next = seen.end;
        }
        let (alarm, keys) = (pass.split.is_some().then(|| self.alarm()), pass_keys(&self.scrub));
        self.publish(|known| {
            known.scrubbing = keys;
            if let Some(alarm) = alarm {
                known.alarm = alarm;
            }
        });
        divergence
    }

    /// Compares the chunk that starts here, with this node's part of it.
    async fn compare_chunk(&self, start: &Bytes) -> (Compared, Option<ChunkDigest>) {
        let whole = Chunk { revision: None, start: start.clone(), end: None, keys: CHUNK_KEYS_MAX };
        let Some((own, applied)) = self.exchange.own_chunk(&whole).await else {
            return (Compared::Equal, None);
        };
        let status = self.exchange.node.status();
        let membership = &status.membership;
        if !is_comparable(&status) {
            return (Compared::Equal, Some(own));
        }
        let asked = Chunk { revision: Some(own.revision), end: own.end.clone(), ..whole };
        let others = self.exchange.others(membership);
        let others = self.exchange.chunks(others, &asked, applied).await;
        let mut parts: BTreeMap<NodeId, Part> =
            others.into_iter().map(|(node, digest)| (node, part(digest))).collect();
        parts.insert(status.identity.node, part(own.clone()));
        let place =
            || Place::Keys { revision: own.revision, start: start.clone(), end: own.end.clone() };
        let compared = match judge(membership, &parts) {
            Verdict::Equal => Compared::Equal,
            Verdict::Differ { right, wrong } if wrong.contains(&status.identity.node) => {
                Compared::Own(right)
            }
            Verdict::Differ { wrong, .. } => Compared::Others(wrong, place()),
            Verdict::Split(camps) => Compared::Split(format!("{}: {}", place(), camps_of(&camps))),
        };
        (compared, Some(own))
    }

    /// The first keys within a chunk that differ from those of another: as few as can be told.
    async fn narrowed(&self, start: Bytes, end: Option<Bytes>, agreeing: &[NodeId]) -> Place {
        let (mut start, mut end) = (start, end);
        let mut revision = Revision(self.revision().await);
        for keys in [CHUNK_KEYS_MAX / 32, 1] {
            let (mut from, last) = (start.clone(), end.clone());
            loop {
                let chunk = Chunk { revision: None, start: from.clone(), end: last.clone(), keys };
                let Some((own, applied)) = self.exchange.own_chunk(&chunk).await else { break };
                let (at, to) = (own.revision, own.end.clone());
                let asked = Chunk { revision: Some(at), end: to.clone(), ..chunk };
                let peers = agreeing.to_vec();
                let theirs = self.exchange.chunks(peers, &asked, applied).await;
                let Some(theirs) = theirs.into_values().next() else { break };
                if part(theirs) != part(own) {
                    (start, end, revision) = (from, to, at);
                    break;
                }
                match to {
                    Some(next) if Some(&next) != last.as_ref() => from = next,
                    _ => break,
                }
            }
        }
        Place::Keys { revision, start, end }
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

/// What one comparison of a chunk has found.
enum Compared {
    /// Nothing that differs, as far as members answer.
    Equal,
    /// Others differ from a quorum.
    Others(Vec<NodeId>, Place),
    /// This node does; those agree.
    Own(Vec<NodeId>),
    /// No quorum agrees: where, and who with whom.
    Split(String),
}

fn part(digest: ChunkDigest) -> Part {
    (digest.digest, digest.keys, digest.end)
}

fn pass_keys(scrub: &Scrub) -> Option<u64> {
    scrub.pass.as_ref().map(|pass| pass.keys)
}
