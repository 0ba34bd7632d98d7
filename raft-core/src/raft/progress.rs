//! The leader's view of one follower: how far its log is known to agree, and what is under way.

use crate::types::{Index, LogId};
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
    Replicate { in_flight: VecDeque<InFlight> },
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
        }
    }

    /// Notes that the logs agree up to `index`; whether that is news.
    pub(super) fn matched(&mut self, index: Index) -> bool {
        let news = index > self.match_index;
        self.match_index = self.match_index.max(index);
        match &mut self.flow {
            Flow::Probe { .. } if index.next() >= self.next_index => {
                self.flow = Flow::Replicate { in_flight: VecDeque::new() };
            }
            Flow::Probe { .. } => {}
            Flow::Replicate { in_flight } => {
                while in_flight.front().is_some_and(|append| append.last <= index) {
                    in_flight.pop_front();
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

    /// Notes an append of entries up to `last`.
    pub(super) fn sent(&mut self, last: Index, now: u64) {
        if let Flow::Replicate { in_flight } = &mut self.flow {
            in_flight.push_back(InFlight { last, at: now });
        }
        self.next_index = last.next();
    }

    /// Whether one more append of entries may go.
    pub(super) fn has_window(&self, in_flight_max: usize) -> bool {
        matches!(&self.flow, Flow::Replicate { in_flight } if in_flight.len() < in_flight_max)
    }

    /// Gives up on what has been under way for too long: a lost append is sent again, a lost probe
    /// repeated. Both are harmless if they were only late.
    pub(super) fn expire(&mut self, now: u64, probe_ticks: u64, append_ticks: u64) {
        match &mut self.flow {
            Flow::Probe { sent } => {
                if sent.is_some_and(|at| now >= at + probe_ticks) {
                    *sent = None;
                }
            }
            Flow::Replicate { in_flight } => {
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
                if now >= *at + INSTALL_PATIENCE * append_ticks {
                    let next = last.index.next();
                    self.probe(next);
                }
            }
            Flow::Snapshot(SnapshotStage::Asked { .. }) => {}
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
