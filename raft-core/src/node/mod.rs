//! The asynchronous driver.
mod error;

pub use error::{ProposeError, QueryError, StartError, StopCause, TransferError};

use crate::log_store::LogStore;
use crate::raft::Config;
use crate::state_machine::StateMachine;
use crate::transport::Transport;
use crate::types::{
    ClusterId, GroupId, Identity, Incarnation, Index, LogId, Membership, NodeId, Term,
};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// How to run a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The core's own configuration, with the node's id.
    pub raft: Config,
    /// The group. Default 0.
    pub group: GroupId,
    /// The cluster this node belongs to; a log of another cluster is refused.
    pub cluster: ClusterId,
    /// The life to bind a blank log to; a random number. Ignored if the log has one.
    pub incarnation: Incarnation,
    /// Seed of the election timeouts and read nonces; a random number.
    pub seed: u64,
    /// The members a blank log starts with; the same on all of them. Ignored if the log has any.
    pub bootstrap: Membership,
    /// Length of a tick. Default 10 ms.
    pub tick: Duration,
    /// Most requests waiting for an answer. Default 16 384.
    pub requests_max: usize,
    /// Bytes of applied entries after which the state machine is checkpointed. Default 64 MiB.
    pub checkpoint_bytes: usize,
}

/// A committed and applied command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Where it stands in the log.
    pub id: LogId,
    /// The state machine's reply.
    pub reply: Bytes,
}

/// How fresh a query's answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReadMode {
    /// Sees everything answered before it began (thesis §6.4), on any node. Waits for a leader.
    #[default]
    Linearizable,
    /// What this node has applied.
    Local,
}

/// The role of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// Follows, or waits for a leader.
    Follower,
    /// Asks whether it would be elected (thesis §9.6).
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// A node as it sees itself.
#[derive(Clone, Debug)]
pub struct Status {
    /// Who it is.
    pub identity: Identity,
    /// Its role.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// The leader it knows in this term.
    pub leader: Option<NodeId>,
    /// Highest entry known committed.
    pub commit_index: Index,
    /// Highest entry applied.
    pub last_applied: Index,
    /// Its last entry.
    pub last_log: LogId,
    /// The entry the log starts after.
    pub log_start: LogId,
    /// Bytes of entries in memory.
    pub log_bytes: usize,
    /// The membership in force.
    pub membership: Membership,
    /// The other members, by id.
    pub peers: Vec<PeerStatus>,
}

/// A peer as a node sees it.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The peer.
    pub id: NodeId,
    /// How long ago a message came from it, in ticks' precision; `None` if none ever did.
    pub heard: Option<Duration>,
    /// A leader's view of its log.
    pub progress: Option<PeerProgress>,
}

/// A leader's view of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// Known replicated up to here.
    pub match_index: Index,
    /// Next entry to send.
    pub next_index: Index,
    /// probe, replicate or snapshot.
    pub flow: &'static str,
}

/// A running node: a handle, cheap to clone.
#[derive(Clone, Debug)]
pub struct Node {}

impl Node {
    /// Starts a node on the current tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        _config: NodeConfig,
        _log: impl LogStore,
        _machine: impl StateMachine,
        _transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError> {
        todo!()
    }

    /// Proposes a command and waits until it is committed and applied here.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, _command: Bytes) -> Result<Proposed, ProposeError> {
        todo!()
    }

    /// Queries the state machine. Has no deadline of its own.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn query(&self, _query: Bytes, _mode: ReadMode) -> Result<Bytes, QueryError> {
        todo!()
    }

    /// Hands leadership to `to`, or to the best follower; returns who leads.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub async fn transfer_leadership(&self, _to: Option<NodeId>) -> Result<NodeId, TransferError> {
        todo!()
    }

    /// The newest status.
    pub fn status(&self) -> Arc<Status> {
        todo!()
    }

    /// Waits until the status changes in role, term or leader (or at least until the next tick).
    pub async fn status_changed(&self) {
        todo!()
    }

    /// Stops the node: what is queued for the disk is written, open requests are answered
    /// `Stopped`.
    pub async fn shutdown(&self) -> StopCause {
        todo!()
    }

    /// Waits until the node has stopped, for whatever cause.
    pub async fn stopped(&self) -> StopCause {
        todo!()
    }
}
