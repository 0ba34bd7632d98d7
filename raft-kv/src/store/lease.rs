//! Leases: how long each lives, and which keys hang on it.
//!
//! Part of the replicated state: everything here follows from the log alone, and time is what
//! stamps say (see [`super::time`]). A lease is *pending* until the first stamp whose leader had
//! seen it granted: only then does its time begin to run. From there on it has a deadline, and
//! every renewal sets a new one.
//!
//! The deadlines are kept in order, so a stamp costs as much as what it starts, renews and ends,
//! however many leases there are; what it ends follows from the state alone, in the same order on
//! every node, whatever a node was restored from. Keys are not stored with a lease: every key
//! names its lease itself.

use super::check::{Changed, RollEntry};
use crate::api::{
    KvError, LEASE_TTL_MAX_MS, LEASE_TTL_MIN_MS, LeaseId, LeaseStatus, RANGE_BYTES_MAX,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::{Bound, ControlFlow};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Most leases at a time; so many that a list of them fits into a reply.
pub const LEASES_MAX: usize = 512 * 1024;

/// The leases, by id.
pub(super) struct Leases {
    leases: BTreeMap<LeaseId, Lease>,
    /// Those that run, by deadline.
    deadlines: BTreeSet<(u64, LeaseId)>,
    /// Those that are pending, by the index that granted them.
    pending: BTreeSet<(u64, LeaseId)>,
    /// Leases changed or ended since the last [`Leases::take_changes`]; `None` if nobody will ask.
    changed: Option<BTreeSet<LeaseId>>,
}

struct Lease {
    term: LeaseTerm,
    /// The keys that hang on it.
    keys: BTreeSet<Box<[u8]>>,
}

/// How long a lease was granted for, and until when it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct LeaseTerm {
    /// What it was granted for and is renewed by, in milliseconds.
    granted_ms: u64,
    end: LeaseEnd,
}

impl LeaseTerm {
    /// The entry in the roll of lease `id`. A deadline is as far off as the lease was granted for
    /// when it is set.
    fn entry(&self, id: u64) -> RollEntry {
        let Self { granted_ms, end } = *self;
        let (kind, number, changed) = match end {
            LeaseEnd::Pending(index) => (0, index, Changed::By(index)),
            LeaseEnd::At(deadline) => {
                (1, deadline, Changed::When(deadline.saturating_sub(granted_ms)))
            }
        };
        let hashed = [id, granted_ms, kind, number].map(u64::to_le_bytes).concat();
        RollEntry { id, hash: xxh3_64(&hashed), bytes: hashed.len(), changed }
    }
}

/// When a lease ends, unless it is renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum LeaseEnd {
    /// Its time has not begun to run; the entry with this index granted it.
    Pending(u64),
    /// After this time.
    At(u64),
}

/// A lease as a checkpoint records it; `None` if it is gone.
pub(super) type LeaseChange = (u64, Option<LeaseTerm>);

impl Leases {
    /// No leases; `checkpoints`: whether changes are collected for one.
    pub(super) fn new(checkpoints: bool) -> Self {
        Self {
            leases: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            pending: BTreeSet::new(),
            changed: checkpoints.then(BTreeSet::new),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether it lives.
    pub(super) fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// Makes the lease that entry `index` asks for; its id, made up if there is none, and for how
    /// long it is granted. `salt` makes other ids of the same indexes: it is that of the history.
    pub(super) fn grant(
        &mut self,
        id: Option<LeaseId>,
        ttl_ms: u64,
        index: u64,
        salt: u64,
    ) -> Result<(LeaseId, u64), KvError> {
        if self.leases.len() >= LEASES_MAX {
            return Err(KvError::TooManyLeases { limit: LEASES_MAX as u64 });
        }
        if let Some(id) = id.filter(|id| self.contains(*id)) {
            return Err(KvError::LeaseExists(id));
        }
        let id = id.unwrap_or_else(|| self.unused(index, salt));
        let granted_ms = ttl_ms.clamp(LEASE_TTL_MIN_MS, LEASE_TTL_MAX_MS);
        let term = LeaseTerm { granted_ms, end: LeaseEnd::Pending(index) };
        self.insert(id, term);
        self.mark(id);
        Ok((id, granted_ms))
    }

    /// Gives every lease its full time, as if entry `index` had granted it.
    pub(super) fn restart(&mut self, index: u64) {
        self.deadlines.clear();
        self.pending.clear();
        let Self { leases, pending, changed, .. } = self;
        for (id, lease) in leases {
            lease.term.end = LeaseEnd::Pending(index);
            pending.insert((index, *id));
            if let Some(changed) = changed {
                changed.insert(*id);
            }
        }
    }

    /// Lets the time of leases run that were granted by entry `seen` or before, `most` at most, the
    /// oldest first. Returns how many.
    pub(super) fn start(&mut self, seen: u64, now_ms: u64, most: usize) -> usize {
        let mut started = 0;
        while started < most && self.any_to_start(seen) {
            let Some((_, id)) = self.pending.pop_first() else { break };
            self.run_from(id, now_ms);
            started += 1;
        }
        started
    }

    /// Whether leases granted by entry `seen` or before are pending.
    pub(super) fn any_to_start(&self, seen: u64) -> bool {
        self.pending.first().is_some_and(|(index, _)| *index <= seen)
    }

    /// Renews a lease; returns for how long, 0 if there is none. A pending one lives longer than
    /// that anyway.
    pub(super) fn renew(&mut self, id: LeaseId, now_ms: u64) -> u64 {
        let Some(lease) = self.leases.get(&id) else { return 0 };
        let granted_ms = lease.term.granted_ms;
        if let LeaseEnd::At(deadline) = lease.term.end {
            self.deadlines.remove(&(deadline, id));
            self.run_from(id, now_ms);
        }
        granted_ms
    }

    /// The lease whose time is over for longest: times are cut to milliseconds, so at its deadline
    /// there may be some of it left.
    pub(super) fn first_over(&self, now_ms: u64) -> Option<LeaseId> {
        let (deadline, id) = self.deadlines.first()?;
        (*deadline < now_ms).then_some(*id)
    }

    /// Ends a lease; the keys that are to go with it, in order. `None` if there is none.
    pub(super) fn take(&mut self, id: LeaseId) -> Option<BTreeSet<Box<[u8]>>> {
        let lease = self.leases.remove(&id)?;
        self.mark(id);
        match lease.term.end {
            LeaseEnd::Pending(index) => self.pending.remove(&(index, id)),
            LeaseEnd::At(deadline) => self.deadlines.remove(&(deadline, id)),
        };
        Some(lease.keys)
    }

    /// `key` hangs on `id` from now on, which lives.
    pub(super) fn attach(&mut self, key: &[u8], id: LeaseId) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key.into());
        }
    }

    /// `key` does not hang on `id` any more.
    pub(super) fn detach(&mut self, key: &[u8], id: LeaseId) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// The first key from `at` on that hangs on a lease.
    pub(super) fn key_from(&self, id: LeaseId, at: &[u8]) -> Option<&[u8]> {
        let from = (Bound::Included(at), Bound::Unbounded);
        let keys = &self.leases.get(&id)?.keys;
        keys.range::<[u8], _>(from).next().map(|key| &key[..])
    }

    /// Describes a lease; with `keys`, as many of them as a reply holds.
    pub(super) fn describe(&self, id: LeaseId, now_ms: u64, keys: bool) -> Option<LeaseStatus> {
        let lease = self.leases.get(&id)?;
        let LeaseTerm { granted_ms, end } = lease.term;
        let mut room = if keys { RANGE_BYTES_MAX } else { 0 };
        let fits = |key: &Bytes| {
            let left = room.checked_sub(key.len() + KEY_OVERHEAD);
            room = left.unwrap_or_default();
            left.is_some()
        };
        let all = lease.keys.iter().map(|key| Bytes::copy_from_slice(key));
        Some(LeaseStatus {
            id,
            granted_ms,
            remaining_ms: match end {
                LeaseEnd::Pending(_) => granted_ms,
                LeaseEnd::At(deadline) => deadline.saturating_sub(now_ms),
            },
            keys_count: lease.keys.len() as u64,
            keys: all.take_while(fits).collect(),
        })
    }

    /// Every lease, in order.
    pub(super) fn ids(&self) -> Vec<LeaseId> {
        self.leases.keys().copied().collect()
    }

    /// Calls `each` for every lease from `start` on, in order, until it breaks off.
    pub(super) fn visit_from(
        &self,
        start: u64,
        mut each: impl FnMut(RollEntry) -> ControlFlow<()>,
    ) {
        for (id, lease) in self.leases.range(LeaseId(start)..) {
            if each(lease.term.entry(id.0)).is_break() {
                return;
            }
        }
    }

    /// Takes what has changed since the last call.
    pub(super) fn take_changes(&mut self) -> Vec<LeaseChange> {
        let changed = self.changed.as_mut().map(mem::take).unwrap_or_default();
        let change = |id| self.leases.get(&id).map(|lease| lease.term);
        changed.into_iter().map(|id| (id.0, change(id))).collect()
    }

    /// Every lease, by id, as a checkpoint records it.
    pub(super) fn all(&self) -> Vec<LeaseChange> {
        self.leases.iter().map(|(id, lease)| (id.0, Some(lease.term))).collect()
    }

    /// Takes in a lease of a checkpoint or snapshot; its keys are attached afterwards.
    pub(super) fn load(&mut self, id: u64, term: LeaseTerm) {
        self.insert(LeaseId(id), term);
    }

    fn insert(&mut self, id: LeaseId, term: LeaseTerm) {
        match term.end {
            LeaseEnd::Pending(index) => self.pending.insert((index, id)),
            LeaseEnd::At(deadline) => self.deadlines.insert((deadline, id)),
        };
        self.leases.insert(id, Lease { term, keys: BTreeSet::new() });
    }

    /// The lease, which is in neither order, ends in its full time from now.
    fn run_from(&mut self, id: LeaseId, now_ms: u64) {
        let lease = self.leases.get_mut(&id).expect("it is in the order of the living");
        let deadline = now_ms.saturating_add(lease.term.granted_ms);
        lease.term.end = LeaseEnd::At(deadline);
        self.deadlines.insert((deadline, id));
        self.mark(id);
    }

    /// An id that is not in use: positive, as in etcd, and of no pattern, so that it does not meet
    /// those that people choose.
    fn unused(&self, index: u64, salt: u64) -> LeaseId {
        let mut seed = salt;
        loop {
            seed = xxh3_64_with_seed(&index.to_le_bytes(), seed);
            let id = LeaseId(seed >> 1);
            if id.0 > 0 && !self.contains(id) {
                return id;
            }
        }
    }

    fn mark(&mut self, id: LeaseId) {
        if let Some(changed) = &mut self.changed {
            changed.insert(id);
        }
    }
}

/// Bytes a key of a lease counts in a reply besides its own: at least its length's encoding.
const KEY_OVERHEAD: usize = 8;

/// Checks what is asked of a new lease.
///
/// # Errors
/// [`KvError::Malformed`] for an id that no lease has, [`KvError::LeaseTooLong`].
pub(super) fn validate_grant(id: Option<LeaseId>, ttl_ms: u64) -> Result<(), KvError> {
    let valid = |id: LeaseId| id.0 > 0 && i64::try_from(id.0).is_ok();
    if !id.is_none_or(valid) {
        return Err(KvError::Malformed("the id of a lease is 1 to 2^63 - 1".into()));
    }
    if ttl_ms > LEASE_TTL_MAX_MS {
        return Err(KvError::LeaseTooLong { ttl_ms, limit_ms: LEASE_TTL_MAX_MS });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
