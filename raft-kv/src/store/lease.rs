//! Leases: who has one, how long it lives, and which keys hang on it.
//!
//! Part of the replicated state: everything here follows from the log alone. Time is what
//! [`Advance`](crate::api::Advance) entries say.

use crate::api::LeaseId;
use std::collections::{BTreeMap, BTreeSet};

/// The leases, by id.
#[derive(Default)]
pub(super) struct Leases {
    leases: BTreeMap<LeaseId, Lease>,
}

/// One lease.
#[derive(Default)]
struct Lease {
    /// The keys that hang on it.
    keys: BTreeSet<Box<[u8]>>,
}

impl Leases {
    /// Whether it lives.
    pub(super) fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
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

    /// Ends a lease; the keys that are to go with it, in order. `None` if there is none.
    pub(super) fn take(&mut self, id: LeaseId) -> Option<BTreeSet<Box<[u8]>>> {
        self.leases.remove(&id).map(|lease| lease.keys)
    }
}
