//! What a client's call may end with, if not with an answer.

use crate::api::{KvError, NoQuorum};
use crate::codec::WireError;
use raft_core::transport::CallError;
use std::time::Duration;

/// Why a call has no answer - and, in its variant, what that means for what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Certainly no effect, now or later: no node took the request before the deadline, or every
    /// node known refuses this client's certificate or is refused by it, which is told at once. It
    /// may be sent again as a new one.
    #[error("{reason}")]
    NotDone {
        /// Why, for people: what the last node said that could be reached.
        reason: String,
        /// Why, for programs; `None` if the deadline passed before anything was tried.
        source: Option<Cause>,
    },
    /// It may or may not have taken effect, once at most. Read before you write again.
    #[error("outcome unknown: {reason}")]
    Unknown {
        /// Why, for people.
        reason: String,
        /// Why, for programs.
        source: Option<Cause>,
    },
    /// Certainly no effect: the cluster refuses the request as it is, and will again.
    #[error("{0}")]
    Refused(#[source] KvError),
}

impl ClientError {
    /// Whether the request may have taken effect. If not, it certainly did not and will not.
    pub const fn may_have_run(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// Why there is no quorum, if that is why: for programs.
    pub fn no_quorum(&self) -> Option<&NoQuorum> {
        match self {
            Self::NotDone { source: Some(Cause::Node(KvError::NoQuorum { why, .. })), .. }
            | Self::Unknown { source: Some(Cause::Node(KvError::NoQuorum { why, .. })), .. } => {
                Some(why)
            }
            _ => None,
        }
    }

    /// The cluster's final word on a request: no effect, unless the error says otherwise.
    pub(super) fn refused(error: KvError) -> Self {
        if error.may_have_run() {
            return Self::Unknown { reason: error.to_string(), source: Some(Cause::Node(error)) };
        }
        Self::Refused(error)
    }
}

/// Why one try failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// A node could not do it.
    #[error(transparent)]
    Node(KvError),
    /// A node could not be reached, or the connection to it broke.
    #[error(transparent)]
    Call(CallError),
    /// No connection was made in time.
    #[error("no connection in time")]
    NoConnection,
    /// A node did not answer.
    #[error("no answer within {:.1} s", .0.as_secs_f64())]
    Silent(Duration),
    /// A node's answer makes no sense.
    #[error("the answer: {0}")]
    Answer(WireError),
    /// So many requests of this client are unanswered that one more has to wait.
    #[error("{0} requests are unanswered")]
    WindowFull(u64),
}

/// The last thing that went wrong, and with whom; the explanation when the deadline passes.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// Address, if it was about one.
    pub(super) address: Option<std::sync::Arc<str>>,
    pub(super) cause: Cause,
}

impl Trouble {
    /// How much it explains: what a node says is more than that one cannot be reached, and either
    /// is more than that time ran out.
    pub(super) const fn weight(&self) -> u8 {
        match self.cause {
            Cause::Node(_) => 2,
            Cause::NoConnection => 0,
            _ => 1,
        }
    }

    fn reason(&self) -> String {
        match &self.address {
            Some(address) => format!("{}: {}", address, self.cause),
            None => self.cause.to_string(),
        }
    }
}

/// The error for a call whose deadline has passed, or that must not be tried again.
pub(super) fn gave_up(in_doubt: bool, trouble: Option<Trouble>) -> ClientError {
    let reason = trouble.as_ref().map_or_else(|| "deadline passed".into(), Trouble::reason);
    let source = trouble.map(|trouble| trouble.cause);
    if in_doubt {
        ClientError::Unknown { reason, source }
    } else {
        ClientError::NotDone { reason, source }
    }
}
