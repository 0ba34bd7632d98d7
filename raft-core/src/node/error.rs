//! One error enum per operation; each variant says whether the request may still take effect.

use crate::log_store::StorageError;
use crate::raft::{ChangeRefusal, ConfigError, LoadError};
use crate::types::{ClusterId, Identity, Index, InvalidChange, LogId, NodeId};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log store failed.
    #[error("log: {0}")]
    Log(#[source] StorageError),
    /// The log belongs to another node or cluster.
    #[error(
        "the data belongs to {} of cluster {}, not to {node} of cluster {cluster}",
        found.node, found.cluster
    )]
    WrongIdentity {
        /// Who the log says it belongs to.
        found: Identity,
        /// The cluster configured.
        cluster: ClusterId,
        /// The node configured.
        node: NodeId,
    },
    /// The log is blank but the state machine is not: votes and acknowledgements given are lost.
    #[error(
        "the log is missing, but the state machine has applied up to {applied}: put back the log \
         as it was, or start with blank log and state and without initial members, so that the \
         leader takes the node back as another life"
    )]
    LogLost {
        /// What the state machine has applied.
        applied: LogId,
    },
    /// Log and state machine do not fit together.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why a proposal has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// This node does not lead; no effect. Ask `leader`.
    #[error("not the leader")]
    NotLeader {
        /// The leader this node knows.
        leader: Option<NodeId>,
    },
    /// No room for more; no effect. Try again later.
    #[error("overloaded")]
    Overloaded,
    /// The command exceeds the largest message; no effect.
    #[error("command of {size} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Bytes of the command.
        size: usize,
        /// Most bytes a command may have.
        limit: usize,
    },
    /// Leadership was lost after the command was appended: it may or may not take effect.
    #[error("leadership lost before the outcome was known")]
    LeadershipLost,
    /// The node stopped: it may or may not take effect.
    #[error("the node stopped")]
    Stopped,
}

/// Why a query has no reply. A query never has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// No room for more. Try again later.
    #[error("overloaded")]
    Overloaded,
    /// The node stopped.
    #[error("the node stopped")]
    Stopped,
}

/// Why a membership change is not known to be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// This node does not lead; no effect. Ask `leader`.
    #[error("not the leader")]
    NotLeader {
        /// The leader this node knows.
        leader: Option<NodeId>,
    },
    /// The leader has not committed anything in its term yet (thesis §4.1); no effect. It soon will
    /// have: try again.
    #[error("the leader has not committed anything in its term yet")]
    NotReady,
    /// Another change is under way, perhaps one that the cluster makes by itself: one at a time
    /// (§6); no effect. Try again once the entry at `index` is committed.
    #[error("another membership change is under way, at index {index}")]
    Pending {
        /// The entry that has to be committed first.
        index: Index,
    },
    /// Leadership is being handed over; no effect. Try again later.
    #[error("leadership is being handed over")]
    HandingOver,
    /// Some member is of a version that does not know membership changes; no effect. Upgrade it.
    #[error("some member is of a version that does not know membership changes")]
    TooOld,
    /// A node is to vote that has not caught up enough to; no effect. Try again later.
    #[error("{node} has not caught up enough to vote")]
    Behind {
        /// The node.
        node: NodeId,
    },
    /// Too few voters of the new configuration were heard of lately: it might never commit
    /// anything; no effect. Start those that are away, or leave them out first.
    #[error("too few voters of the new configuration are within reach")]
    NoQuorum,
    /// The change makes no sense for the configuration in force; no effect.
    #[error(transparent)]
    Invalid(#[from] InvalidChange),
    /// Leadership was lost, and this node has not learned what became of the change: it may or may
    /// not take effect. The membership in the status of whoever leads tells.
    #[error("leadership lost before the outcome was known")]
    LeadershipLost,
    /// The node stopped: it may or may not take effect.
    #[error("the node stopped")]
    Stopped,
}

impl From<ChangeRefusal> for ChangeError {
    fn from(refusal: ChangeRefusal) -> Self {
        match refusal {
            ChangeRefusal::NotLeader { leader } => Self::NotLeader { leader },
            ChangeRefusal::NotReady => Self::NotReady,
            ChangeRefusal::Pending { index } => Self::Pending { index },
            ChangeRefusal::HandingOver => Self::HandingOver,
            ChangeRefusal::TooOld => Self::TooOld,
            ChangeRefusal::Behind { node } => Self::Behind { node },
            ChangeRefusal::NoQuorum => Self::NoQuorum,
            ChangeRefusal::Invalid(invalid) => Self::Invalid(invalid),
        }
    }
}

/// Why leadership was not transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// This node does not lead. Ask `leader`.
    #[error("not the leader")]
    NotLeader {
        /// The leader this node knows.
        leader: Option<NodeId>,
    },
    /// No other voter was heard of lately.
    #[error("no other voter within reach to hand leadership to")]
    NoTarget,
    /// The target is not another voter of the cluster.
    #[error("{to} is not another voter of this cluster")]
    NotVoter {
        /// The target.
        to: NodeId,
    },
    /// The target did not take over within an election timeout; this node leads on.
    #[error("the target did not take over in time")]
    TimedOut,
    /// The node stopped.
    #[error("the node stopped")]
    Stopped,
}

/// Why a node stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopCause {
    /// It was asked to.
    #[error("shut down")]
    Shutdown,
    /// Storage failed; the text says how. The process should exit with a failure.
    #[error("storage failed: {0}")]
    Storage(String),
    /// An invariant broke; the text says which. The process should exit with a failure.
    #[error("internal error: {0}")]
    Internal(String),
}
