//! How many keys one request may look at. A node applies one request after the other: a small one
//! that goes through all keys a thousand times would hold up everybody, on every node.

use super::mvcc::Mvcc;
use super::range::visits_max;
use crate::api::{KEYS_SEEN_MAX, Keys, KvError, Op, Revision};
use std::ops::ControlFlow;

/// What a request has looked at, and may. It counts the same on every node.
pub(super) struct Budget {
    spent: u64,
    /// Every key once, and [`KEYS_SEEN_MAX`] more.
    limit: u64,
}

impl Budget {
    pub(super) fn of(mvcc: &Mvcc) -> Self {
        Self { spent: 0, limit: mvcc.live().saturating_add(KEYS_SEEN_MAX) }
    }

    /// For one key; breaks if that is one too many.
    pub(super) const fn spend(&mut self) -> ControlFlow<()> {
        self.spent += 1;
        if self.spent > self.limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// For what `ops` will look at, and all that was spent before.
    ///
    /// # Errors
    /// [`KvError::TooManyKeys`].
    pub(super) fn spend_on(&mut self, mvcc: &Mvcc, ops: &[&Op]) -> Result<(), KvError> {
        let ranges = || ops.iter().filter_map(|op| span(op));
        // One goes through all keys at most: that is always granted, and not worth going twice.
        if self.spent > KEYS_SEEN_MAX || ranges().nth(1).is_some() {
            for (keys, revision, most) in ranges() {
                let mut left = most;
                mvcc.visit(keys, revision, false, |_| {
                    left -= 1;
                    if left == 0 { ControlFlow::Break(()) } else { self.spend() }
                });
            }
        }
        if self.spent <= self.limit {
            return Ok(());
        }
        Err(KvError::TooManyKeys { count: self.spent, limit: self.limit })
    }
}

/// The keys that `op` goes through, at which revision, and how many at most; nothing if it is no
/// range.
fn span(op: &Op) -> Option<(&Keys, Option<Revision>, u64)> {
    let (keys, revision, most) = match op {
        Op::Range(range) => (&range.keys, range.revision, visits_max(range)),
        Op::Delete { keys, .. } => (keys, None, u64::MAX),
        Op::Put(_) | Op::Txn(_) => return None,
    };
    matches!(keys, Keys::Range { .. }).then_some((keys, revision, most))
}
