//! What changed in a turn of the loop, and who is told of it.

use super::Driver;
use crate::node::events::{NodeEvent, SnapshotStep};
use crate::raft::{Raft, RoleName};
use crate::types::{Index, LogId, NodeId, Term};
use std::sync::Arc;

/// What is looked at after every turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) role: RoleName,
    pub(super) term: Term,
    pub(super) leader: Option<NodeId>,
    /// Where the configuration in force stands in the log.
    membership: Index,
    committed: Index,
}

impl Seen {
    fn of(raft: &Raft) -> Self {
        Self {
            role: raft.role(),
            term: raft.term(),
            leader: raft.leader(),
            membership: raft.membership_index(),
            committed: raft.commit_index(),
        }
    }

    /// A node that nothing is known of yet.
    pub(super) const fn nothing() -> Self {
        Self {
            role: RoleName::Follower,
            term: Term(0),
            leader: None,
            membership: Index::ZERO,
            committed: Index::ZERO,
        }
    }

    /// Whether the configuration in force is committed.
    const fn is_settled(&self) -> bool {
        self.membership.0 <= self.committed.0
    }

    fn office(&self) -> (RoleName, Term, Option<NodeId>) {
        (self.role, self.term, self.leader)
    }
}

impl Driver {
    /// Tells of what this turn has changed.
    pub(super) fn observe(&mut self) {
        let now = Seen::of(&self.raft);
        if now == self.seen {
            return;
        }
        let before = std::mem::replace(&mut self.seen, now);
        if now.office() != before.office() {
            let Seen { role, term, leader, .. } = now;
            tracing::info!(node = %self.identity.node, %term, %role, ?leader, "role");
        }
        self.count(before, now);
        self.tell_changes(before, now);
        if now.office() != before.office() || now.membership != before.membership {
            self.publish();
        }
    }

    fn count(&self, before: Seen, now: Seen) {
        let metrics = &self.threads.metrics;
        let stood = now.role == RoleName::Candidate && now.office() != before.office();
        // Alone, with a log that never waits, a node stands and is elected in one turn.
        let elected = now.role == RoleName::Leader && now.term != before.term;
        if stood || elected {
            metrics.elections.increment(1);
        }
        if now.leader.is_some() && now.leader != before.leader {
            metrics.leader_changes.increment(1);
        }
    }

    /// Shows on every tick where things stand.
    pub(super) fn gauge(&self) {
        let metrics = &self.threads.metrics;
        metrics.term.set(self.seen.term.0 as f64);
        metrics.commit_index.set(self.seen.committed.0 as f64);
        metrics.last_applied.set(self.last_applied.0 as f64);
        let unapplied = self.seen.committed.0.saturating_sub(self.last_applied.0);
        metrics.apply_lag.set(unapplied as f64);
        metrics.replication_lag.set(self.raft.lag() as f64);
        metrics.log_bytes.set(self.raft.log_bytes() as f64);
    }

    fn tell_changes(&self, before: Seen, now: Seen) {
        if self.listeners.receiver_count() == 0 {
            return;
        }
        let moved = now.membership != before.membership;
        let membership = self.raft.membership();
        if moved && before.membership == Index::ZERO && !membership.is_empty() {
            self.tell(NodeEvent::Formed);
        }
        if moved || now.is_settled() != before.is_settled() {
            self.tell(NodeEvent::Membership {
                index: now.membership,
                membership: Arc::new(membership.clone()),
                committed: now.is_settled(),
            });
        }
        let Seen { role, term, leader, committed, .. } = now;
        if (role, term) != (before.role, before.term) {
            self.tell(NodeEvent::Role { role, term });
        }
        if leader != before.leader {
            self.tell(NodeEvent::Leader { leader, term });
        }
        if committed > before.committed {
            self.tell(NodeEvent::Committed { index: committed });
        }
    }

    /// Tells what has become of a snapshot.
    pub(super) fn tell_snapshot(&self, at: LogId, step: SnapshotStep) {
        if self.listeners.receiver_count() > 0 {
            self.tell(NodeEvent::Snapshot { at, step });
        }
    }

    fn tell(&self, event: NodeEvent) {
        // An error means that the last listener has just gone.
        let _ = self.listeners.send(event);
    }
}
