//! A new history: what a cluster begins with that was made of what survived of another, or of a
//! backup. Some of what the other acknowledged may be missing, so whoever saw it must be told.
//!
//! It begins with the first entry whose membership has a higher history epoch, on every node, in
//! the log or in what follows from it. The revision leaps far beyond any that the other cluster can
//! have reached, and everything before is marked compacted: watches and reads at old revisions are
//! refused, where they would otherwise meet other contents under the same number. Leases stay, as
//! keys hang on them, and have their full time from now. Sessions are dropped.
//!
//! Two histories that begin with the same backup begin with the same numbers, too: what is made up
//! of an index or a revision would come twice. The ids of sessions and leases that are made from
//! then on are salted with the history epoch, all of it, so that no request is taken for one that
//! ran in the other, and no holder of a lock there is taken for one here. That two epochs give the
//! same salt but for the bits that indexes take is as likely as that two random numbers do.

use super::state::State;
use crate::api::SessionId;
use raft_core::types::Version;
use xxhash_rust::xxh3::xxh3_64;

/// By how much the revision leaps.
pub const HISTORY_REVISIONS: u64 = 1_000_000_000;

impl State {
    /// A new history begins with entry `index`.
    pub(super) fn begin_history(&mut self, index: u64) {
        self.mvcc.leap(HISTORY_REVISIONS);
        self.leases.restart(index);
        self.sessions.clear();
    }

    /// Opens the session that entry `index` asks for. Its id is the index, salted.
    pub(super) fn open_session(&mut self, index: u64, owner: Option<&str>) -> SessionId {
        self.sessions.open(self.history_salt() ^ index, index, &self.time, owner)
    }

    /// What makes numbers of this history differ from those of others: 0 in the first one.
    pub(super) fn history_salt(&self) -> u64 {
        let membership = &self.applied.membership;
        // Logs of before that version are read as they were.
        let is_new = membership.version() >= Version(3) && membership.epoch() > 0;
        if is_new { xxh3_64(&membership.epoch().to_le_bytes()) } else { 0 }
    }
}
