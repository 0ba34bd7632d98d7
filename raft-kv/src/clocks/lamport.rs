//! Lamport's clock: a counter that every message carries and nobody lets fall behind.

use raft_core::types::NodeId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A Lamport time stamp. No two events have the same one, and if one happens before another its
/// stamp is less; the reverse need not hold. Ordered by counter, then by node.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Stamp {
    /// More than that of every event before it; from 1. 0 is before every event.
    pub counter: u64,
    /// Whose event it is; decides between equal counters.
    pub node: NodeId,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.counter, self.node)
    }
}

/// The clock of one process. Its node must be its own: stamps are unique only as nodes are.
///
/// ```
/// use raft_core::types::NodeId;
/// use raft_kv::clocks::LamportClock;
///
/// let (mut a, mut b) = (LamportClock::new(NodeId(1)), LamportClock::new(NodeId(2)));
/// for _ in 0..10 {
///     b.tick();
/// }
/// let sent = b.tick();
/// // However few events `a` has seen: what it does after the message comes after the message.
/// assert!(a.receive(sent) > sent);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LamportClock {
    last: Stamp,
}

impl LamportClock {
    /// The clock of `node` before its first event.
    pub const fn new(node: NodeId) -> Self {
        Self { last: Stamp { counter: 0, node } }
    }

    /// The stamp of the last event; counter 0 if there was none.
    pub const fn now(&self) -> Stamp {
        self.last
    }

    /// An event of this process, such as sending a message, which then carries the stamp.
    ///
    /// A counter that a broken peer has driven to `u64::MAX` stays there; stamps are not unique any
    /// more then.
    pub const fn tick(&mut self) -> Stamp {
        self.last.counter = self.last.counter.saturating_add(1);
        self.last
    }

    /// The event of receiving a message that carries `sent`.
    pub fn receive(&mut self, sent: Stamp) -> Stamp {
        self.last.counter = self.last.counter.max(sent.counter);
        self.tick()
    }
}
