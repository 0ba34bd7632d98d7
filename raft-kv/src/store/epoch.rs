//! A new history: what a cluster begins with that was made of what survived of another, or of a
//! backup. Some of what the other acknowledged may be missing, so whoever saw it must be told.
//!
//! It begins with the first entry whose membership has a higher history epoch, on every node, in
//! the log or in what follows from it. The revision leaps far beyond any that the other cluster can
//! have reached, and everything before is marked compacted: watches and reads at old revisions are
//! refused, where they would otherwise meet other contents under the same number. Sessions are
//! dropped, and those opened from then on have ids that the other cluster never gives out, so that
//! no request is taken for one that ran there. Leases stay, as keys hang on them,
//! and have their full time from now.

use super::state::State;
use crate::api::SessionId;
use raft_core::types::Version;

/// By how much the revision leaps.
pub const HISTORY_REVISIONS: u64 = 1_000_000_000;

impl State {
    /// A new history begins with entry `index`.
    pub(super) fn begin_history(&mut self, index: u64) {
        self.mvcc.leap(HISTORY_REVISIONS);
        self.leases.restart(index);
        self.sessions.clear();
    }

    /// Opens the session that entry `index` asks for. Its id is the index, and above that, in the
    /// highest 16 bits, the history epoch: the same index comes again in another history.
    pub(super) fn open_session(&mut self, index: u64) -> SessionId {
        const INDEX_BITS: u32 = 48;
        let membership = &self.applied.membership;
        // Logs of before that version are read as they were.
        let epoch = if membership.version() >= Version(3) { membership.epoch() } else { 0 };
        self.sessions.open((epoch << INDEX_BITS) ^ index, index, &self.time)
    }
}
