//! What can happen to one node, small enough to be part of a key.

use crate::types::NodeId;

/// Bits of a code that hold the argument; the rest is the kind.
const ARGUMENT_BITS: u32 = 27;

/// Something that happens to one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Event {
    /// The message of this number arrives.
    Deliver(u32),
    /// A follower or candidate hears nothing for an election timeout.
    Timeout,
    /// A tick of a leader: heartbeats, and probes that got no answer again.
    Beat,
    /// A leader waits a shortest election timeout: appends without an answer are given up.
    Wait,
    /// A leader hears nobody for an election timeout.
    Deaf,
    /// The disk completes so many writes and reports the last.
    Persist(u32),
    /// A crash that keeps so many of the writes asked for, and a start from what was kept.
    Restart(u32),
    /// A client proposes the command of this number.
    Propose(u32),
    /// A client reads.
    Read,
    /// The membership change of this number is asked for.
    Change(u32),
    /// Leadership is to be handed to that node.
    Transfer(NodeId),
    /// The state machine makes a checkpoint.
    Checkpoint,
    /// The snapshot that was asked for goes to that node.
    Snapshot(NodeId),
    /// A snapshot is restored.
    Restore,
}

/// Names of all kinds, by their place in a code.
pub(super) const KINDS: [&str; 14] = [
    "deliver",
    "time out",
    "beat",
    "wait",
    "hear nobody",
    "persist",
    "crash and restart",
    "propose",
    "read",
    "change",
    "transfer",
    "checkpoint",
    "send snapshot",
    "restore",
];

impl Event {
    /// Kind and argument.
    const fn parts(self) -> (u32, u32) {
        match self {
            Self::Deliver(message) => (0, message),
            Self::Timeout => (1, 0),
            Self::Beat => (2, 0),
            Self::Wait => (3, 0),
            Self::Deaf => (4, 0),
            Self::Persist(writes) => (5, writes),
            Self::Restart(writes) => (6, writes),
            Self::Propose(number) => (7, number),
            Self::Read => (8, 0),
            Self::Change(number) => (9, number),
            Self::Transfer(to) => (10, to.0 as u32),
            Self::Checkpoint => (11, 0),
            Self::Snapshot(to) => (12, to.0 as u32),
            Self::Restore => (13, 0),
        }
    }

    /// Which of [`KINDS`] it is.
    pub(super) const fn kind(self) -> usize {
        self.parts().0 as usize
    }

    /// One number for it.
    pub(super) const fn code(self) -> u32 {
        let (kind, argument) = self.parts();
        assert!(argument >> ARGUMENT_BITS == 0, "too many messages to number");
        kind << ARGUMENT_BITS | argument
    }

    /// What [`Event::code`] stands for.
    pub(super) const fn of_code(code: u32) -> Self {
        let argument = code & ((1 << ARGUMENT_BITS) - 1);
        match code >> ARGUMENT_BITS {
            0 => Self::Deliver(argument),
            1 => Self::Timeout,
            2 => Self::Beat,
            3 => Self::Wait,
            4 => Self::Deaf,
            5 => Self::Persist(argument),
            6 => Self::Restart(argument),
            7 => Self::Propose(argument),
            8 => Self::Read,
            9 => Self::Change(argument),
            10 => Self::Transfer(NodeId(argument as u64)),
            11 => Self::Checkpoint,
            12 => Self::Snapshot(NodeId(argument as u64)),
            _ => Self::Restore,
        }
    }
}
