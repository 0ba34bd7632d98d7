//! Two nodes that will behave alike, made equal: for tools that explore states and must tell them
//! apart by what matters.
//!
//! Time since the start, the numbers of writes and the generator differ between runs that are
//! otherwise the same. This takes them out, and nothing else: whatever it does not know of it
//! leaves alone, which costs such a tool states but never truth.

use super::{Raft, Role};
use crate::types::WriteSeq;

/// What every clock says afterwards; any later than all timeouts.
pub(super) const NOW: u64 = 1 << 20;

impl Raft {
    /// The same node with its clock set to one point in time, what it has under way begun just
    /// then, its generator begun anew, and its writes numbered from the oldest that is not
    /// complete. Call it when output has been taken. Returns what the numbers of writes that are
    /// not complete have become less by: those of the driver must follow.
    ///
    /// Of the past, only whether a follower has answered its leader within the shortest election
    /// timeout remains: whoever else heard of a leader has since waited long enough to vote again.
    /// It assumes that all nodes speak one version and none loses its directory.
    pub fn rebase(&mut self) -> u64 {
        let done = self.state.persist.rebase();
        match &mut self.role {
            Role::Follower(_) => {}
            Role::Candidate(candidate) => candidate.rebase(done),
            Role::Leader(leader) => leader.rebase(&self.state),
        }
        self.state.rebase(matches!(self.role, Role::Leader(_)));
        done.0
    }
}

/// The number that the write `seq` has once those up to `done` are not counted.
pub(super) const fn renumbered(seq: WriteSeq, done: WriteSeq) -> WriteSeq {
    WriteSeq(seq.0.saturating_sub(done.0))
}

/// How far the future `due` lies ahead, from the new now on.
pub(super) const fn put_off(due: u64, now: u64) -> u64 {
    NOW + due.saturating_sub(now)
}
