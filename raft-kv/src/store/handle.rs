//! What can be asked of a store from any thread at any time, without waiting for the applier: how
//! it stands, in numbers, and the changes that watches are told from.

use super::alarms::Alarms;
use super::auth::Auth;
use super::check::StoreCheck;
use super::counts::{Counters, Counts};
use super::history::History;
use super::scan::Scans;
use crate::api::{Revision, Summary};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// A store, from outside whoever works on it. It outlives every restore of a snapshot.
#[derive(Clone, Default)]
pub struct StoreHandle {
    shared: Arc<Shared>,
    check: StoreCheck,
}

#[derive(Default)]
struct Shared {
    history: Arc<History>,
    revision: AtomicU64,
    keys: AtomicU64,
    bytes: AtomicU64,
    compacted: AtomicU64,
    leases: AtomicU64,
    time_ms: AtomicU64,
    purge_pending: AtomicU64,
    scans: Scans,
    keys_at_once: AtomicU64,
    counters: Counters,
    /// Whether users and roles count: most stores have none, and look no further.
    auth_enabled: AtomicBool,
    auth: RwLock<Arc<Auth>>,
    alarms: RwLock<Arc<Alarms>>,
}

/// How a store stands. Each number is of the last run of entries applied; of two of them one may be
/// older than the other by a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gauges {
    /// The store's revision.
    pub revision: Revision,
    /// Keys that exist.
    pub keys: u64,
    /// Bytes of all versions of all keys; see [`Summary::bytes`].
    pub bytes: u64,
    /// Reads below this revision are refused; 0 if nothing was compacted.
    pub compacted: Revision,
    /// Leases that live.
    pub leases: u64,
    /// How late it is, in milliseconds since the store began.
    pub time_ms: u64,
    /// Compacted changes of which the memory was not looked through yet. Every run of entries
    /// applied takes some off; a leader adds entries for that, should there be no others.
    pub purge_pending: u64,
}

impl StoreHandle {
    /// How the store stands.
    pub fn gauges(&self) -> Gauges {
        let shared = &self.shared;
        let load = |gauge: &AtomicU64| gauge.load(Ordering::Relaxed);
        Gauges {
            revision: Revision(load(&shared.revision)),
            keys: load(&shared.keys),
            bytes: load(&shared.bytes),
            compacted: Revision(load(&shared.compacted)),
            leases: load(&shared.leases),
            time_ms: load(&shared.time_ms),
            purge_pending: load(&shared.purge_pending),
        }
    }

    /// The most keys that one query has gone through: the longest that what is applied has had to
    /// wait for a read, whatever the machine.
    pub fn keys_at_once(&self) -> u64 {
        self.shared.keys_at_once.load(Ordering::Relaxed)
    }

    /// A query has gone through so many keys.
    pub(super) fn note_keys(&self, keys: u64) {
        self.shared.keys_at_once.fetch_max(keys, Ordering::Relaxed);
    }

    /// What was done with the store since the program started.
    pub fn counts(&self) -> Counts {
        self.shared.counters.so_far()
    }

    /// So much more was done.
    pub(super) fn count(&self, counts: Counts) {
        self.shared.counters.add(counts);
    }

    /// The reads in parts.
    pub(super) fn scans(&self) -> &Scans {
        &self.shared.scans
    }

    /// What looks after the store.
    pub const fn check(&self) -> &StoreCheck {
        &self.check
    }

    /// Whether users and roles count, after all that was applied.
    #[cfg(feature = "service")]
    pub(crate) fn is_auth_enabled(&self) -> bool {
        self.shared.auth_enabled.load(Ordering::Acquire)
    }

    /// Users and roles, after all that was applied: of a query that was answered, not before what
    /// it has seen.
    #[cfg(feature = "service")]
    pub(crate) fn auth(&self) -> Arc<Auth> {
        Arc::clone(&self.shared.auth.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Users and roles are these from now on.
    pub(super) fn set_auth(&self, auth: &Arc<Auth>) {
        if replace(&self.shared.auth, auth) {
            self.shared.auth_enabled.store(auth.is_enabled(), Ordering::Release);
        }
    }

    /// The alarms that are raised, after all that was applied.
    #[cfg(feature = "service")]
    pub(crate) fn alarms(&self) -> Arc<Alarms> {
        Arc::clone(&self.shared.alarms.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Alarms are these from now on.
    pub(super) fn set_alarms(&self, alarms: &Arc<Alarms>) {
        replace(&self.shared.alarms, alarms);
    }

    /// The changes that watches are told from.
    pub(crate) fn history(&self) -> Arc<History> {
        Arc::clone(&self.shared.history)
    }

    /// The store stands as `summary` says.
    pub(super) fn set(&self, summary: &Summary, purge_pending: u64) {
        let shared = &self.shared;
        for (gauge, value) in [
            (&shared.revision, summary.revision.0),
            (&shared.keys, summary.keys),
            (&shared.bytes, summary.bytes),
            (&shared.compacted, summary.compacted.0),
            (&shared.leases, summary.leases),
            (&shared.time_ms, summary.time_ms),
            (&shared.purge_pending, purge_pending),
        ] {
            gauge.store(value, Ordering::Relaxed);
        }
    }
}

/// Puts `next` into `place`; whether it was not there already.
fn replace<T>(place: &RwLock<Arc<T>>, next: &Arc<T>) -> bool {
    // Most runs change nothing of it, and a reader holds up no other.
    if Arc::ptr_eq(&place.read().unwrap_or_else(PoisonError::into_inner), next) {
        return false;
    }
    *place.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(next);
    true
}
