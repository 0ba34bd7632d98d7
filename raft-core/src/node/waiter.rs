//! Whoever waits for the outcome of proposals: of one, or of some that were proposed together.

use super::queue::Permit;
use super::{ProposeError, Proposed};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// What becomes of a proposal.
pub(super) type Outcome = Result<Proposed, ProposeError>;

/// What becomes of proposals made together, in their order; nothing where the node stopped.
pub(super) type Outcomes = Vec<Option<Outcome>>;

/// Whoever waits for proposals that follow each other in the log.
pub(super) enum Waiter {
    /// The permit counts the one proposal against the bound until it has an outcome.
    One { reply: oneshot::Sender<Outcome>, permit: Permit },
    /// For `count` of a batch, from its place `first` on.
    Part { batch: Arc<Batch>, first: usize, count: usize },
}

impl Waiter {
    /// For how many proposals.
    pub(super) const fn count(&self) -> usize {
        match self {
            Self::One { .. } => 1,
            Self::Part { count, .. } => *count,
        }
    }

    /// Parts with those behind the first `kept`, if there are any.
    pub(super) fn split_off(&mut self, kept: usize) -> Option<Self> {
        let Self::Part { batch, first, count } = self else { return None };
        let rest = count.checked_sub(kept).filter(|rest| *rest > 0)?;
        *count = kept;
        Some(Self::Part { batch: Arc::clone(batch), first: *first + kept, count: rest })
    }

    /// Tells what has become of each, and takes no more of `outcomes` than that: what is behind
    /// belongs to others. Whoever gave up waiting is ignored.
    pub(super) fn resolve(self, mut outcomes: impl Iterator<Item = Outcome>) {
        match self {
            Self::One { reply, permit } => {
                drop(permit);
                // Dropped without an outcome, which says that the node has stopped.
                let Some(outcome) = outcomes.next() else { return };
                let _ = reply.send(outcome);
            }
            Self::Part { batch, first, count } => batch.resolve(first, outcomes.take(count)),
        }
    }

    /// Tells that none of them is known to have been done.
    pub(super) fn fail(self, error: ProposeError) {
        self.resolve(std::iter::repeat_with(|| Err(error)));
    }
}

/// Proposals that are waited for together, each part of which holds it: once the last one is
/// resolved, or dropped, whoever waits is woken.
pub(super) struct Batch {
    outcomes: Mutex<Outcomes>,
    done: Option<oneshot::Sender<Outcomes>>,
    /// Counts all of them against the bound.
    permit: Option<Permit>,
}

impl Batch {
    /// As many as `permit` is for; `done` is told of them.
    pub(super) fn new(permit: Permit, done: oneshot::Sender<Outcomes>) -> Arc<Self> {
        let places = std::iter::repeat_with(|| None).take(permit.count()).collect();
        let outcomes = Mutex::new(places);
        Arc::new(Self { outcomes, done: Some(done), permit: Some(permit) })
    }

    /// Tells what has become of those from `first` on.
    pub(super) fn resolve(&self, first: usize, outcomes: impl Iterator<Item = Outcome>) {
        let mut places = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, outcome) in places.iter_mut().skip(first).zip(outcomes) {
            *place = Some(outcome);
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        drop(self.permit.take());
        if let Some(done) = self.done.take() {
            let outcomes = self.outcomes.get_mut().unwrap_or_else(PoisonError::into_inner);
            // Whoever gave up waiting is ignored.
            let _ = done.send(std::mem::take(outcomes));
        }
    }
}
