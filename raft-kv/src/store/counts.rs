//! What was done with a store since its program started: for those who watch over it, and no part
//! of the state. An entry that is applied anew after a restart counts anew.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often something was done. Each number is of the last run of entries applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Puts that were applied, those in transactions included.
    pub puts: u64,
    /// Deletes that were applied, alike, however many keys each deleted.
    pub deletes: u64,
    /// Reads that this member has answered, and those in transactions that were applied.
    pub ranges: u64,
    /// Transactions that were applied; what is within one counts as one with it.
    pub txns: u64,
    /// Leases that were granted.
    pub leases_granted: u64,
    /// Leases that were revoked, or have expired.
    pub leases_revoked: u64,
    /// Leases that were kept alive.
    pub leases_renewed: u64,
}

/// All of it so far, from any thread.
#[derive(Default)]
pub(super) struct Counters([AtomicU64; 7]);

impl Counters {
    pub(super) fn add(&self, counts: Counts) {
        let Counts {
            puts,
            deletes,
            ranges,
            txns,
            leases_granted: granted,
            leases_revoked: revoked,
            leases_renewed: renewed,
        } = counts;
        let counts = [puts, deletes, ranges, txns, granted, revoked, renewed];
        for (counter, count) in self.0.iter().zip(counts).filter(|(_, count)| *count > 0) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(super) fn so_far(&self) -> Counts {
        let [puts, deletes, ranges, txns, granted, revoked, renewed] =
            self.0.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        Counts {
            puts,
            deletes,
            ranges,
            txns,
            leases_granted: granted,
            leases_revoked: revoked,
            leases_renewed: renewed,
        }
    }
}
