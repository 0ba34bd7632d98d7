//! Alarms that somebody raises, and that last until somebody clears them.

use raft_core::types::NodeId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most alarms at a time.
pub const ALARMS_MAX: usize = 1024;

/// What an alarm is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum AlarmKind {
    /// There is no room: what makes the store larger is refused.
    NoSpace,
    /// Data is not to be trusted: what changes it is refused.
    Corrupt,
}

/// An alarm. It counts for the whole cluster, whoever it names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct MemberAlarm {
    /// What it is about.
    pub kind: AlarmKind,
    /// The member it names; 0 names none. It need not be a member of the cluster.
    pub member: NodeId,
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
        })
    }
}

impl fmt::Display for MemberAlarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.member {
            NodeId(0) => self.kind.fmt(f),
            member => write!(f, "{} of {member}", self.kind),
        }
    }
}

/// A change of the alarms.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum AlarmChange {
    /// Raise it.
    Raise(MemberAlarm),
    /// Clear it.
    Clear(MemberAlarm),
}
