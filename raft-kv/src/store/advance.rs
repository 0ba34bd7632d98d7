//! What leases and time do to the whole state: leases granted and ended, with their keys, and all
//! that happens because it has become later.
//!
//! The work of one entry is bounded: what has come to its end beyond that waits for the next one,
//! which the leader proposes at once. Nothing here is early, whatever is left for later.
//!
//! Each of these entries chains into the state hash, as little-endian `u64`s: a grant, the lease
//! and for how long; a lease that is revoked, its id; a stamp, the time, the number of leases whose
//! time began to run, for how long each lease to be renewed lives, each lease that ended, and each
//! session that was dropped.

use super::lease::validate_grant;
use super::session::SESSION_IDLE_MS;
use super::state::State;
use crate::api::{ActionReply, Advance, CommandReply, Keys, KvError, LeaseId, Revision};
use bytes::Bytes;

/// Most leases whose time begins to run in one entry.
const STARTED_MAX: usize = 4096;
/// Most leases that end in one entry.
const ENDED_MAX: usize = 1000;
/// When leases that have ended in one entry had so many keys, no further one ends in it.
const DELETED_MAX: u64 = 10_000;

impl State {
    /// Makes a lease.
    pub(super) fn grant(&mut self, index: u64, id: Option<LeaseId>, ttl_ms: u64) -> CommandReply {
        validate_grant(id, ttl_ms)?;
        let salt = self.mvcc.revision() ^ self.history_salt();
        let (id, ttl_ms) = self.leases.grant(id, ttl_ms, index, salt)?;
        self.counts.leases_granted += 1;
        self.mix_numbers([id.0, ttl_ms]);
        Ok(ActionReply::Granted { id, ttl_ms })
    }

    /// Ends a lease by hand.
    pub(super) fn revoke(&mut self, id: LeaseId) -> CommandReply {
        let deleted = self.end_lease(id).ok_or(KvError::LeaseNotFound(id))?;
        self.mix_numbers([id.0]);
        Ok(ActionReply::Revoked { revision: Revision(self.mvcc.revision()), deleted })
    }

    /// Lets time pass: renews, and ends what has come to its end.
    pub(super) fn advance(&mut self, index: u64, advance: &Advance) -> CommandReply {
        let Advance { time_ms, seen, renewed, since } = advance;
        if since.0 != self.time.stamped() {
            let text = format!("time was measured from {since}, not from the last stamp");
            return Err(KvError::Malformed(text));
        }
        self.time.advance(index, *time_ms, SESSION_IDLE_MS);
        let now_ms = self.time.now_ms();
        let started = self.leases.start(seen.0, now_ms, STARTED_MAX);
        let renew = |id: &LeaseId| self.leases.renew(*id, now_ms);
        let ttls_ms: Vec<_> = renewed.iter().map(renew).collect();
        let known = ttls_ms.iter().filter(|ttl_ms| **ttl_ms > 0);
        self.counts.leases_renewed += known.count() as u64;
        let mut mixed = vec![now_ms, started as u64];
        mixed.extend(&ttls_ms);
        mixed.extend(self.end_leases(now_ms).iter().map(|id| id.0));
        if let Some(index) = self.time.unused_since(SESSION_IDLE_MS) {
            mixed.extend(self.sessions.drop_unused(index).iter().map(|id| id.0));
        }
        self.mix_numbers(mixed);
        let more = self.leases.any_to_start(seen.0) || self.leases.first_over(now_ms).is_some();
        Ok(ActionReply::Advanced { ttls_ms, more })
    }

    /// Ends leases whose time is over, each at a revision of its own, in the order of their
    /// deadlines and ids.
    fn end_leases(&mut self, now_ms: u64) -> Vec<LeaseId> {
        let (mut ended, mut deleted) = (Vec::new(), 0);
        while ended.len() < ENDED_MAX
            && deleted < DELETED_MAX
            && let Some(id) = self.leases.first_over(now_ms)
        {
            deleted += self.end_lease(id).expect("it was found in their order");
            ended.push(id);
        }
        ended
    }

    /// Ends a lease and deletes its keys, at one revision; how many, or `None` if there is no such
    /// lease.
    fn end_lease(&mut self, id: LeaseId) -> Option<u64> {
        let mut deleted = 0;
        for key in self.leases.take(id)? {
            deleted += self.mvcc.delete(&Keys::One(Bytes::from(key)), |_| {});
        }
        self.mvcc.finish();
        self.counts.leases_revoked += 1;
        Some(deleted)
    }

    fn mix_numbers(&mut self, numbers: impl IntoIterator<Item = u64>) {
        let bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
        self.mvcc.mix(&bytes);
    }
}
