//! Snapshots on their way: those for others, a few at a time, and those that arrive.

use super::Driver;
use crate::node::applier::Job;
use crate::node::events::SnapshotStep;
use crate::raft::{Envelope, Input, Message};
use crate::state_machine::Snapshot;
use crate::types::{NodeId, Sender, SnapshotMeta, Term};
use std::collections::{BTreeSet, VecDeque};

/// Who needs a snapshot. Nobody is in it twice, so it is bounded by the number of peers.
#[derive(Default)]
pub(super) struct Receivers {
    /// In order of asking.
    waiting: VecDeque<NodeId>,
    /// Those a snapshot is being made for, or sent to.
    served: BTreeSet<NodeId>,
}

impl Receivers {
    /// `to` needs a snapshot. If one is on its way to it, that one's outcome is the answer.
    pub(super) fn ask(&mut self, to: NodeId) {
        if !self.served.contains(&to) && !self.waiting.contains(&to) {
            self.waiting.push_back(to);
        }
    }

    /// Whom to serve now, if no more than `most` are to be served at once.
    fn serve(&mut self, most: usize) -> Option<NodeId> {
        if self.served.len() >= most {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.served.insert(next);
        Some(next)
    }

    fn done(&mut self, to: NodeId) {
        self.served.remove(&to);
    }

    /// This node does not lead any more: nobody waits for it.
    pub(super) fn leadership_lost(&mut self) {
        self.waiting.clear();
    }
}

impl Driver {
    /// Has snapshots made for as many as may be served at once.
    pub(super) fn make_snapshots(&mut self) {
        while let Some(to) = self.receivers.serve(self.config.snapshots_max.max(1)) {
            self.give_applier(Job::Snapshot { to });
        }
    }

    /// The snapshot for `to` is made, or there is none.
    pub(super) fn send_snapshot(&mut self, to: NodeId, snapshot: Option<Snapshot>) {
        if !self.raft.is_leader() {
            // Whoever leads now asks for one itself if it is needed.
            return self.receivers.done(to);
        }
        let Some(snapshot) = snapshot else {
            return self.on_snapshot_sent(to, SnapshotMeta::default(), false);
        };
        let at = snapshot.meta.last;
        tracing::info!(node = %self.identity.node, %to, %at, "sending a snapshot");
        self.tell_snapshot(at, SnapshotStep::Sending { to });
        self.transport.send_snapshot(self.config.group, to, self.raft.term(), snapshot);
    }

    pub(super) fn on_snapshot_sent(&mut self, to: NodeId, meta: SnapshotMeta, ok: bool) {
        self.receivers.done(to);
        let metrics = &self.threads.metrics;
        let (count, step) = match ok {
            true => (&metrics.snapshots_sent, SnapshotStep::Sent { to }),
            false => (&metrics.snapshots_failed, SnapshotStep::NotSent { to }),
        };
        count.increment(1);
        self.tell_snapshot(meta.last, step);
        self.raft.step(Input::SnapshotSent { to, meta, ok });
    }

    pub(super) fn on_snapshot(
        &mut self,
        from: NodeId,
        sender: Sender,
        term: Term,
        snapshot: Snapshot,
    ) {
        let at = snapshot.meta.last;
        tracing::info!(node = %self.identity.node, %from, %at, "snapshot arrived");
        self.threads.metrics.snapshots_received.increment(1);
        self.tell_snapshot(at, SnapshotStep::Arrived { from });
        let message = Message::InstallSnapshot { meta: snapshot.meta.clone().into() };
        self.incoming.push(snapshot);
        let to = self.identity.node;
        self.raft.step(Input::Message(Envelope { from, to, term, sender, message }));
    }

    /// The state machine now is this snapshot.
    pub(super) fn on_restored(&mut self, meta: SnapshotMeta) {
        tracing::info!(node = %self.identity.node, at = %meta.last, "snapshot restored");
        self.handed = meta.last.index;
        self.last_applied = meta.last.index;
        self.changes.skipped(meta.last.index);
        self.tell_snapshot(meta.last, SnapshotStep::Restored);
        self.raft.step(Input::Restored(meta));
    }

    /// It was damaged; the state machine is as before.
    pub(super) fn on_not_restored(&mut self, meta: SnapshotMeta, reason: &str) {
        tracing::warn!(node = %self.identity.node, at = %meta.last, reason, "not restored");
        self.threads.metrics.snapshots_failed.increment(1);
        self.tell_snapshot(meta.last, SnapshotStep::NotRestored);
        self.raft.step(Input::NotRestored(meta));
    }
}
