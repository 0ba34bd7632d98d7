//! A new history: what a cluster begins with that was made of what survived of another, or of a
//! backup. Some of what the other acknowledged may be missing, so whoever saw it must be told.
//!
//! It begins with the first entry whose membership has a higher history epoch, on every node, in
//! the log or in what follows from it. The revision leaps far beyond any that the other cluster can
//! have reached, and everything before is marked compacted: watches and reads at old revisions are
//! refused, where they would otherwise meet other contents under the same number. Sessions are
//! dropped, so that no request is taken for one that ran there. Leases stay, as keys hang on them,
//! and have their full time from now.

use super::state::State;

/// By how much the revision leaps.
pub const HISTORY_REVISIONS: u64 = 1_000_000_000;

impl State {
    /// A new history begins with entry `index`.
    pub(super) fn begin_history(&mut self, index: u64) {
        self.mvcc.leap(HISTORY_REVISIONS);
        self.leases.restart(index);
        self.sessions.clear();
    }
}
