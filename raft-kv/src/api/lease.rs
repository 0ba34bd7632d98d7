//! Leases: time-limited rights that keys hang on.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Shortest time a lease is granted for, in milliseconds.
pub const LEASE_TTL_MIN_MS: u64 = 2_000;
/// Longest time a lease is granted for, in milliseconds: etcd's 9,000,000,000 s.
pub const LEASE_TTL_MAX_MS: u64 = 9_000_000_000_000;
/// Most leases in one request to keep them alive.
pub const KEEP_ALIVE_MAX: usize = 1024;

/// A lease. Never 0; at most `i64::MAX`, as in etcd.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    /// Sixteen hexadecimal digits, as etcd's tools print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A lease as it is now.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// The lease.
    pub id: LeaseId,
    /// How long it was granted for, in milliseconds.
    pub granted_ms: u64,
    /// How long it lives at least if nobody keeps it alive, in milliseconds, counted from when
    /// time was last advanced: while leases live, some seconds ago at most.
    pub remaining_ms: u64,
    /// How many keys hang on it.
    pub keys_count: u64,
    /// The keys, if they were asked for, as many as a reply holds.
    pub keys: Vec<Bytes>,
}
