//! Why a request was not answered in time, made from the node's status: no quorum for machines, the
//! rest in one line.

use crate::api::{Absence, Absent, KvError, NoQuorum};
use raft_core::node::{self, Status};
use raft_core::types::NodeId;
use std::time::Duration;

/// Why nothing came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Whoever has none knows of no leader that leads.
    NoQuorum(Box<NoQuorum>),
    /// There is a leader; the text says what it did not do.
    Led(String),
    /// There is none, and no lack of a quorum is known.
    NotLed(String),
}

impl Why {
    /// Nothing came of a request within `waited`.
    pub(super) fn of(status: &Status, waited: Duration) -> Self {
        let own = status.identity.node;
        let formed = !status.membership.is_empty();
        match status.leader {
            _ if formed && !status.membership.contains(own) => {
                return Self::NotLed(format!(
                    "{own} was removed from the cluster: ask another node"
                ));
            }
            Some(leader) if leader != own => {
                return Self::Led(format!(
                    "leader {leader} did not answer within {}",
                    seconds(waited)
                ));
            }
            _ => {}
        }
        if let Some(why) = no_quorum(status) {
            return Self::NoQuorum(Box::new(why));
        }
        match status.leader {
            Some(_) => {
                Self::Led(format!("no answer within {} from a node that leads", seconds(waited)))
            }
            None if !status.bound => Self::NotLed(format!(
                "{own} has come back without what it had stored, and waits for a leader to take \
                 it back"
            )),
            None => Self::NotLed("no leader: election in progress".into()),
        }
    }

    /// Whether there is a leader.
    pub(super) const fn is_led(&self) -> bool {
        matches!(self, Self::Led(_))
    }

    /// The error of a request that certainly has no effect.
    pub(super) fn unavailable(self) -> KvError {
        match self {
            Self::NoQuorum(why) => KvError::NoQuorum { may_have_run: false, why },
            Self::Led(text) | Self::NotLed(text) => KvError::Unavailable(text),
        }
    }

    /// The error of a request that may take effect.
    pub(super) fn unknown(self) -> KvError {
        match self {
            Self::NoQuorum(why) => KvError::NoQuorum { may_have_run: true, why },
            Self::Led(text) | Self::NotLed(text) => KvError::Unknown(text),
        }
    }
}

/// What a forwarded request is told by a node that does not lead.
pub(super) fn not_leader(leader: Option<NodeId>) -> String {
    match leader {
        Some(leader) => format!("not the leader, {leader} is"),
        None => "not the leader, and there is none".into(),
    }
}

/// Why there is no quorum, as far as the node can tell.
pub(super) fn no_quorum(status: &Status) -> Option<NoQuorum> {
    let why = status.no_quorum()?;
    Some(NoQuorum {
        reachable: why.reachable as u64,
        needed: why.needed as u64,
        voters: why.voters as u64,
        absent: why.causes.iter().map(|(node, cause)| absent(*node, *cause)).collect(),
        text: why.to_string(),
    })
}

fn absent(node: NodeId, cause: node::Cause) -> Absent {
    let (why, lasting) = match cause {
        node::Cause::NotThereYet => (Absence::NotThereYet, Duration::ZERO),
        node::Cause::NeverHeard => (Absence::NeverHeard, Duration::ZERO),
        node::Cause::Unreachable(silent) => (Absence::Unreachable, silent),
        node::Cause::DiskStalled(owed) => (Absence::DiskStalled, owed),
        node::Cause::OtherLife => (Absence::OtherLife, Duration::ZERO),
        _ => (Absence::Other, Duration::ZERO),
    };
    Absent { node, why, for_ms: millis(lasting) }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
