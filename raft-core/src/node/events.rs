//! What happens to a node, as a stream.

use crate::raft::RoleName;
use crate::types::{Index, LogId, Membership, NodeId, Term};
use std::sync::Arc;
use tokio::sync::broadcast;

/// Events kept for a listener that is slow; older ones are lost to it.
pub(super) const EVENTS_KEPT: usize = 1024;

/// What happens to a node. Several changes of one kind within one turn of its loop are one event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// The cluster is formed, or this node has come into one: it has a membership.
    Formed,
    /// Another configuration is in force, which may yet be undone; or the one in force is
    /// committed.
    Membership {
        /// Where it stands in the log.
        index: Index,
        /// The configuration.
        membership: Arc<Membership>,
        /// Whether it is committed.
        committed: bool,
    },
    /// The node has another role, or its role in another term.
    Role {
        /// Its role.
        role: RoleName,
        /// Its term.
        term: Term,
    },
    /// The node knows another leader, or none any more.
    Leader {
        /// The leader.
        leader: Option<NodeId>,
        /// The term it leads in.
        term: Term,
    },
    /// The commit index has risen.
    Committed {
        /// The highest entry known committed.
        index: Index,
    },
    /// A snapshot is on its way, or has got there.
    Snapshot {
        /// The last entry it covers.
        at: LogId,
        /// What has become of it.
        step: SnapshotStep,
    },
    /// The listener was too slow, and some events are lost to it. The status tells where things
    /// stand.
    Missed {
        /// How many.
        count: u64,
    },
}

/// What becomes of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotStep {
    /// It is being sent.
    Sending {
        /// The receiver.
        to: NodeId,
    },
    /// The receiver has all its bytes.
    Sent {
        /// The receiver.
        to: NodeId,
    },
    /// It could not be sent; another is made if it is still needed.
    NotSent {
        /// The receiver.
        to: NodeId,
    },
    /// All its bytes are here.
    Arrived {
        /// The sender.
        from: NodeId,
    },
    /// The state machine is this snapshot now.
    Restored,
    /// It was damaged; the state machine is as before.
    NotRestored,
}

/// A stream of what happens to a node, from when it was asked for. Dropping it ends it; it costs
/// nothing when nobody listens.
#[derive(Debug)]
pub struct Events(pub(super) Option<broadcast::Receiver<NodeEvent>>);

impl Events {
    /// The next event; none once the node has stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<NodeEvent> {
        match self.0.as_mut()?.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(NodeEvent::Missed { count }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
