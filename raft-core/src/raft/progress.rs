//! The leader's view of one follower: how far its log is known to agree, and what is under way.

use crate::types::{Incarnation, Index, LogId};
use std::collections::VecDeque;

/// Election timeouts a follower is given to install a snapshot before it is probed again.
const INSTALL_PATIENCE: u64 = 20;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Progress {
    /// The follower's log equals ours up to here, durably. Never falls.
    pub(super) match_index: Index,
    /// Next entry to send. Invariant: > `match_index`.
    pub(super) next_index: Index,
    pub(super) flow: Flow,
    /// The commit index the follower was last told.
    pub(super) commit_told: Index,
    /// The newest read sequence the follower has confirmed (thesis §6.4).
    pub(super) read_seq: u64,
    /// The life of the follower that all this is about. Nothing another life says changes it: a
    /// node that lost its log must not be taken to have what it had.
    pub(super) life: Option<Incarnation>,
    /// Smoothed ticks from sending to the answer, in eighths; 0 as long as nothing was measured.
    round_trip_eighths: u64,
    /// How well a learner keeps up; `None` for who is not to become a voter.
    pub(super) round: Option<Round>,
}

/// A round of a learner's catching up (thesis §4.2.1): it is to get everything that was in the log
/// when the round began. Who does so within an election timeout is fit to vote.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Round {
    target: Index,
    began: u64,
    pub(super) caught_up: bool,
}

/// What may be sent now.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Flow {
    /// One empty append at a time, until the logs agree somewhere.
    Probe {
        /// When the one under way was sent, if one is.
        sent: Option<u64>,
    },
    /// Entries follow each other without waiting, within a window.
    Replicate { in_flight: VecDeque<InFlight>, bytes: usize },
    /// The entries it needs are gone; it gets a snapshot.
    Snapshot(SnapshotStage),
}

/// How far the sending of a snapshot is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum SnapshotStage {
    /// The driver was asked to send one; it covers at least `floor`.
    Asked { floor: Index },
    /// All its bytes were handed over; the follower installs it.
    Sent { last: LogId, at: u64 },
    /// It could not be handed over.
    Failed { at: u64 },
}

/// An append not yet acknowledged.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct InFlight {
    last: Index,
    bytes: usize,
    at: u64,
}

impl Progress {
    /// Nothing is known yet; the first probe is just behind our own last entry (§5.3).
    pub(super) const fn new(next_index: Index) -> Self {
        Self {
            match_index: Index::ZERO,
            next_index,
            flow: Flow::Probe { sent: None },
            commit_told: Index::ZERO,
            read_seq: 0,
            life: None,
            round_trip_eighths: 0,
            round: None,
        }
    }

    /// Notes that the logs agree up to `index`; whether that is news.
    pub(super) fn matched(&mut self, index: Index, now: u64) -> bool {
        if let Some(sent) = self.answered(index) {
            self.note_round_trip(now - sent);
        }
        let news = index > self.match_index;
        self.match_index = self.match_index.max(index);
        match &mut self.flow {
            Flow::Probe { .. } if index.next() >= self.next_index => {
                self.flow = Flow::Replicate { in_flight: VecDeque::new(), bytes: 0 };
            }
            Flow::Probe { .. } => {}
            Flow::Replicate { in_flight, bytes } => {
                while in_flight.front().is_some_and(|append| append.last <= index) {
                    *bytes -= in_flight.pop_front().map_or(0, |append| append.bytes);
                }
            }
            Flow::Snapshot(SnapshotStage::Sent { last, .. }) if index >= last.index => {
                self.probe(index.next());
            }
            Flow::Snapshot(_) => {}
        }
        self.next_index = self.next_index.max(self.match_index.next());
        news
    }

    /// Goes back to probing, from `next_index`.
    pub(super) fn probe(&mut self, next_index: Index) {
        self.next_index = next_index.max(self.match_index.next());
        self.flow = Flow::Probe { sent: None };
    }

    /// Notes an append of `size` bytes of entries up to `last`.
    pub(super) fn sent(&mut self, last: Index, size: usize, now: u64) {
        if let Flow::Replicate { in_flight, bytes } = &mut self.flow {
            in_flight.push_back(InFlight { last, bytes: size, at: now });
            *bytes += size;
        }
        self.next_index = last.next();
    }

    /// Bytes of entries that one more append may have; `None` if none may go. The first may have
    /// any number, or a large entry would never go.
    pub(super) fn window(&self, in_flight_max: usize, bytes_max: usize) -> Option<usize> {
        match &self.flow {
            Flow::Replicate { in_flight, .. } if in_flight.is_empty() => Some(usize::MAX),
            Flow::Replicate { in_flight, bytes } if in_flight.len() < in_flight_max => {
                bytes_max.checked_sub(*bytes).filter(|left| *left > 0)
            }
            _ => None,
        }
    }

    /// When what `index` answers was sent, if it is under way.
    fn answered(&self, index: Index) -> Option<u64> {
        match &self.flow {
            Flow::Probe { sent } => *sent,
            Flow::Replicate { in_flight, .. } => {
                in_flight.front().filter(|append| append.last == index).map(|append| append.at)
            }
            Flow::Snapshot(_) => None,
        }
    }

    fn note_round_trip(&mut self, ticks: u64) {
        let old = self.round_trip_eighths;
        self.round_trip_eighths = if old == 0 { 8 * ticks } else { old - old / 8 + ticks };
    }

    /// A learner's round: begins the next one when it has what this one asked for.
    pub(super) fn go_on_round(&mut self, last: Index, now: u64, election_ticks: u64) {
        let matched = self.match_index;
        let Some(round) = &mut self.round else { return };
        if matched >= round.target {
            round.caught_up = now - round.began < election_ticks;
            (round.target, round.began) = (last, now);
        }
    }

    /// Begins the first round.
    pub(super) fn begin_rounds(&mut self, last: Index, now: u64) {
        let first = Round { target: last, began: now, caught_up: false };
        self.round.get_or_insert(first);
    }

    /// For how long the oldest append under way has been unanswered, in ticks.
    pub(super) fn unanswered_ticks(&self, now: u64) -> u64 {
        match &self.flow {
            Flow::Replicate { in_flight, .. } => in_flight.front().map_or(0, |sent| now - sent.at),
            _ => 0,
        }
    }

    /// Whether it was told that what it has is committed.
    pub(super) fn is_told(&self, commit: Index) -> bool {
        self.commit_told >= commit.min(self.match_index)
    }

    /// Whether it replicates, and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        matches!(&self.flow, Flow::Replicate { in_flight, .. } if in_flight.is_empty())
    }

    /// Gives up on what has been under way for too long: a lost append is sent again, a lost probe
    /// repeated. Both are harmless if they were only late.
    pub(super) fn expire(&mut self, now: u64, probe_ticks: u64, append_ticks: u64) {
        let install_ticks = INSTALL_PATIENCE * append_ticks;
        // On a slow network an answer that is merely on its way is not lost; but who was away for
        // long is not waited for as long again.
        let probe_ticks = probe_ticks.max(append_ticks.min(self.round_trip_eighths / 4));
        let append_ticks = append_ticks.max((4 * append_ticks).min(self.round_trip_eighths / 2));
        match &mut self.flow {
            Flow::Probe { sent } => {
                if sent.is_some_and(|at| now >= at + probe_ticks) {
                    *sent = None;
                }
            }
            Flow::Replicate { in_flight, .. } => {
                if in_flight.front().is_some_and(|append| now >= append.at + append_ticks) {
                    self.probe(self.match_index.next());
                }
            }
            // Tried again after a pause, or the receiver would be flooded.
            Flow::Snapshot(SnapshotStage::Failed { at }) => {
                if now >= *at + append_ticks {
                    self.probe(self.match_index.next());
                }
            }
            // Installing may take long; but should the acknowledgement be lost, a probe finds out.
            Flow::Snapshot(SnapshotStage::Sent { last, at }) => {
                if now >= *at + install_ticks {
                    let next = last.index.next();
                    self.probe(next);
                }
            }
            Flow::Snapshot(SnapshotStage::Asked { .. }) => {}
        }
    }

    /// See `Raft::rebase`.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn rebase(&mut self) {
        let now = super::rebase::NOW;
        match &mut self.flow {
            Flow::Probe { sent } => *sent = sent.map(|_| now),
            Flow::Replicate { in_flight, .. } => in_flight.iter_mut().for_each(|it| it.at = now),
            Flow::Snapshot(SnapshotStage::Asked { .. }) => {}
            Flow::Snapshot(SnapshotStage::Sent { at, .. } | SnapshotStage::Failed { at }) => {
                *at = now;
            }
        }
        self.round_trip_eighths = 0;
        if let Some(round) = &mut self.round {
            round.began = now;
        }
    }

    /// What `Status` shows.
    pub(super) const fn flow_name(&self) -> &'static str {
        match self.flow {
            Flow::Probe { .. } => "probe",
            Flow::Replicate { .. } => "replicate",
            Flow::Snapshot(_) => "snapshot",
        }
    }
}
