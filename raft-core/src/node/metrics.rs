//! What a node measures of itself, through the facade of the crate `metrics`.
//!
//! Install a recorder before [`Node::start`](super::Node::start): the node registers everything
//! once, so that measuring costs it a few atomic operations per turn of its loop, and nothing worth
//! mentioning without a recorder. Every metric has the labels `node` and `group`. Nothing is
//! measured per command, but per batch. Without the feature `metrics` these are only names.

use crate::types::{GroupId, NodeId};
use std::time::Duration;

/// Counter: commands taken into the leader's log. Stage: propose.
pub const PROPOSALS_ACCEPTED: &str = "raft_proposals_accepted_total";
/// Counter: commands refused; label `reason`: `not_leader`, `overloaded`, `too_large`. Those
/// refused at the door, before they reach the loop, are not among them. Stage: propose.
pub const PROPOSALS_REFUSED: &str = "raft_proposals_refused_total";
/// Histogram, count: messages, requests and completions taken in by one turn of the loop. Stage:
/// propose.
pub const TURN_EVENTS: &str = "raft_turn_events";
/// Gauge, count: messages and requests that wait for the loop. Stage: propose.
pub const EVENTS_QUEUED: &str = "raft_events_queued";
/// Histogram, seconds: one durable commit of the log; 0 of a log that never waits. Stage: write.
pub const WRITE_SECONDS: &str = "raft_write_seconds";
/// Histogram, bytes of entries in one durable commit of the log. Stage: write.
pub const WRITE_BYTES: &str = "raft_write_bytes";
/// Histogram, count: operations in one durable commit of the log. Stage: write.
pub const WRITE_OPS: &str = "raft_write_ops";
/// Gauge, seconds: a packet to a quorum of the others and back, where the transport knows. Stage:
/// replicate.
pub const ROUND_TRIP_SECONDS: &str = "raft_round_trip_seconds";
/// Counter: messages and snapshots dropped because the loop could not keep up. Stage: replicate.
pub const MESSAGES_DROPPED: &str = "raft_messages_dropped_total";
/// Histogram, seconds: from the turn of the loop that took a command in to that in which it was
/// committed and durable here; of the oldest of each batch. Stage: commit.
pub const COMMIT_SECONDS: &str = "raft_commit_seconds";
/// Gauge: the commit index. Stage: commit.
pub const COMMIT_INDEX: &str = "raft_commit_index";
/// Histogram, seconds: one run of entries in the state machine. Stage: apply.
pub const APPLY_SECONDS: &str = "raft_apply_seconds";
/// Histogram, count: entries of one run. Stage: apply.
pub const APPLY_ENTRIES: &str = "raft_apply_entries";
/// Gauge: the last entry applied. Stage: apply.
pub const LAST_APPLIED: &str = "raft_last_applied";
/// Gauge, count: committed entries, as far as the node knows, that it has not applied. Stage:
/// apply.
pub const APPLY_LAG: &str = "raft_apply_lag_entries";
/// Gauge, count: entries of its log that the member furthest behind has not acknowledged; 0 on a
/// node that does not lead. Members that are gone count. Stage: replicate.
pub const REPLICATION_LAG: &str = "raft_replication_lag_entries";
/// Counter: snapshots that another node has whole. Stage: snapshot.
pub const SNAPSHOTS_SENT: &str = "raft_snapshots_sent_total";
/// Counter: snapshots that arrived whole. Stage: snapshot.
pub const SNAPSHOTS_RECEIVED: &str = "raft_snapshots_received_total";
/// Counter: snapshots that could not be made, sent or restored. Stage: snapshot.
pub const SNAPSHOTS_FAILED: &str = "raft_snapshots_failed_total";
/// Counter: elections this node has held. Stage: election.
pub const ELECTIONS: &str = "raft_elections_total";
/// Counter: how often this node came to know another leader. Stage: election.
pub const LEADER_CHANGES: &str = "raft_leader_changes_total";
/// Gauge: the term. Stage: election.
pub const TERM: &str = "raft_term";
/// Gauge, bytes of entries in memory.
pub const LOG_BYTES: &str = "raft_log_bytes";

#[cfg(feature = "metrics")]
use ::metrics::{Counter, Gauge, Histogram};
#[cfg(not(feature = "metrics"))]
use nothing::{Counter, Gauge, Histogram};

/// The metrics of one node, registered once.
pub(super) struct Metrics {
    pub(super) accepted: Counter,
    pub(super) refused_not_leader: Counter,
    pub(super) refused_overloaded: Counter,
    pub(super) refused_too_large: Counter,
    pub(super) turn_events: Histogram,
    pub(super) events_queued: Gauge,
    pub(super) write_seconds: Histogram,
    pub(super) write_bytes: Histogram,
    pub(super) write_ops: Histogram,
    pub(super) round_trip_seconds: Gauge,
    pub(super) messages_dropped: Counter,
    pub(super) commit_seconds: Histogram,
    pub(super) commit_index: Gauge,
    pub(super) apply_seconds: Histogram,
    pub(super) apply_entries: Histogram,
    pub(super) last_applied: Gauge,
    pub(super) apply_lag: Gauge,
    pub(super) replication_lag: Gauge,
    pub(super) snapshots_sent: Counter,
    pub(super) snapshots_received: Counter,
    pub(super) snapshots_failed: Counter,
    pub(super) elections: Counter,
    pub(super) leader_changes: Counter,
    pub(super) term: Gauge,
    pub(super) log_bytes: Gauge,
}

impl Metrics {
    pub(super) fn new(group: GroupId, node: NodeId) -> Self {
        let labels = Labels { group: group.to_string(), node: node.to_string() };
        Self {
            accepted: labels.counter(PROPOSALS_ACCEPTED),
            refused_not_leader: labels.refused("not_leader"),
            refused_overloaded: labels.refused("overloaded"),
            refused_too_large: labels.refused("too_large"),
            turn_events: labels.histogram(TURN_EVENTS),
            events_queued: labels.gauge(EVENTS_QUEUED),
            write_seconds: labels.histogram(WRITE_SECONDS),
            write_bytes: labels.histogram(WRITE_BYTES),
            write_ops: labels.histogram(WRITE_OPS),
            round_trip_seconds: labels.gauge(ROUND_TRIP_SECONDS),
            messages_dropped: labels.counter(MESSAGES_DROPPED),
            commit_seconds: labels.histogram(COMMIT_SECONDS),
            commit_index: labels.gauge(COMMIT_INDEX),
            apply_seconds: labels.histogram(APPLY_SECONDS),
            apply_entries: labels.histogram(APPLY_ENTRIES),
            last_applied: labels.gauge(LAST_APPLIED),
            apply_lag: labels.gauge(APPLY_LAG),
            replication_lag: labels.gauge(REPLICATION_LAG),
            snapshots_sent: labels.counter(SNAPSHOTS_SENT),
            snapshots_received: labels.counter(SNAPSHOTS_RECEIVED),
            snapshots_failed: labels.counter(SNAPSHOTS_FAILED),
            elections: labels.counter(ELECTIONS),
            leader_changes: labels.counter(LEADER_CHANGES),
            term: labels.gauge(TERM),
            log_bytes: labels.gauge(LOG_BYTES),
        }
    }
}

/// Records how long something took, in seconds.
pub(super) fn record_time(histogram: &Histogram, took: Duration) {
    histogram.record(took.as_secs_f64());
}

#[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "nothing is labelled"))]
struct Labels {
    group: String,
    node: String,
}

#[cfg(feature = "metrics")]
impl Labels {
    fn all(&self) -> [(&'static str, String); 2] {
        [("node", self.node.clone()), ("group", self.group.clone())]
    }

    fn counter(&self, name: &'static str) -> Counter {
        ::metrics::counter!(name, &self.all())
    }

    fn refused(&self, reason: &'static str) -> Counter {
        let [node, group] = self.all();
        ::metrics::counter!(PROPOSALS_REFUSED, &[node, group, ("reason", reason.into())])
    }

    fn gauge(&self, name: &'static str) -> Gauge {
        ::metrics::gauge!(name, &self.all())
    }

    fn histogram(&self, name: &'static str) -> Histogram {
        ::metrics::histogram!(name, &self.all())
    }
}

/// What is measured into without the feature.
#[cfg(not(feature = "metrics"))]
mod nothing {
    use super::Labels;

    pub(in crate::node) struct Counter;
    pub(in crate::node) struct Gauge;
    pub(in crate::node) struct Histogram;

    impl Counter {
        pub(in crate::node) const fn increment(&self, _by: u64) {}
    }

    impl Gauge {
        pub(in crate::node) const fn set(&self, _value: f64) {}
    }

    impl Histogram {
        pub(in crate::node) const fn record(&self, _value: f64) {}
    }

    impl Labels {
        pub(super) const fn counter(&self, _name: &str) -> Counter {
            Counter
        }

        pub(super) const fn refused(&self, _reason: &str) -> Counter {
            Counter
        }

        pub(super) const fn gauge(&self, _name: &str) -> Gauge {
            Gauge
        }

        pub(super) const fn histogram(&self, _name: &str) -> Histogram {
            Histogram
        }
    }
}
