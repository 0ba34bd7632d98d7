//! What can happen to a simulated cluster.
//!
//! Of a disk the core sees little: a write is there whole or not at all, in order, and damage is
//! noticed at the next start. So what is one to the core is one event here: a process that is
//! killed, a flush that fails, power that goes and takes with it what was not flushed or half
//! written, all are [`Event::Crash`]; what rots and what another write destroys are
//! [`Event::BitRot`]. What becomes of the bytes then - torn, reordered, misdirected, flipped - is
//! the log store's, and the kit [`log_store`](crate::testing::log_store) tries it out.

use crate::types::NodeId;
use std::fmt;

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What can happen.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Event {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Event {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

events! {
    /// The oldest message arrives.
    Deliver,
    /// Every clock ticks.
    TickAll,
    /// A disk completes some writes.
    Persist,
    /// A client asks something, or gives up.
    Client,
    /// A message overtakes others.
    Reorder,
    /// A message is lost.
    Drop,
    /// A message arrives twice.
    Duplicate,
    /// A message takes long, up to a few election timeouts.
    Delay,
    /// A link holds back all that is sent over it until the network heals.
    Clog,
    /// A link carries nothing any more in one direction.
    Cut,
    /// A node is cut off.
    Isolate,
    /// The nodes fall into two parts.
    Halves,
    /// Some nodes are heard by the others, and hear nothing of them.
    OneWay,
    /// The nodes fall into two parts, and one node belongs to both.
    Bridge,
    /// Every node reaches only its two neighbours.
    Ring,
    /// Two nodes do not reach each other.
    Pair,
    /// Two parts lose each other and meet again, over and over.
    Flapping,
    /// Links carry everything again, nodes go on, disks work.
    Heal,
    /// A node stops, be it that it is killed, that a flush fails or that power is lost: of its
    /// unreported writes those up to any one are on disk, or none.
    Crash,
    /// A node that is down starts, and stops again before it has reported anything.
    CrashInRecovery,
    /// All nodes stop at once.
    Blackout,
    /// A node that is down starts.
    Restart,
    /// A node stands still, or goes on.
    Pause,
    /// A node takes in messages only now and then, or as the others again.
    Slow,
    /// The clock of a node goes slower than others, or at another rate.
    Skew,
    /// The clock of one node ticks.
    Tick,
    /// The clock of one node jumps ahead, by up to four election timeouts.
    Jump,
    /// A disk refuses a write: those before it are reported, and the node stops.
    FailedWrite,
    /// A disk cannot be read: the node stops, and cannot start for a while.
    FailedRead,
    /// A disk is full: the node stops at the next write, whenever it starts.
    Full,
    /// Something acknowledged rots on a disk, or a write meant for elsewhere destroys it.
    BitRot,
    /// A disk hardly completes anything, or works as the others again.
    SlowDisk,
    /// A node loses its directory.
    Wipe,
    /// A node starts as a program of another version, older or newer.
    Version,
    /// Leadership is handed over.
    Transfer,
    /// A node campaigns.
    Campaign,
    /// A node, or every one, is told that nobody listens where its leader does: rightly or not.
    Refused,
    /// The membership changes.
    Change,
    /// A state machine begins a checkpoint.
    Freeze,
    /// A checkpoint is done, and the log compacted.
    Flush,
    /// A node sends the snapshots that are due.
    Snapshot,
    /// A snapshot is lost on its way.
    SnapshotLost,
    /// A state machine restores the snapshot it was sent.
    Restore,
    /// A state machine is given a damaged snapshot.
    Damage,
    /// A leader answers by its lease; of several the one of the lowest term.
    LeaseRead,
    /// A leader is not heard any more, and what it was answered reaches it only when others may
    /// have elected another.
    LateAnswers,
    /// A node that has voted starts again, and is reached by a request for a vote that somebody
    /// else sent in the same term.
    LateVote,
}

impl Event {
    /// What goes on in every cluster that works: all others are faults, or are asked for by
    /// operators.
    pub const WORKS: [Self; 5] =
        [Self::Deliver, Self::TickAll, Self::Persist, Self::Client, Self::Heal];

    /// Those that are not of a cluster that works.
    pub fn faults() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|event| !Self::WORKS.contains(event))
    }

    /// Whether it only prepares what may come later, and is counted once that has come: a full disk
    /// at the write that it refuses, a frozen state when it is durable and behind what is applied.
    pub(super) const fn strikes_later(self) -> bool {
        matches!(self, Self::Full | Self::Freeze)
    }
}

/// One event of a run, with all that it takes to let it happen again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// What happens.
    pub event: Event,
    /// To whom, where it happens to one node.
    pub node: NodeId,
    /// Decides what else there is to decide.
    pub salt: u64,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {:016x}", self.event, self.node, self.salt)
    }
}
