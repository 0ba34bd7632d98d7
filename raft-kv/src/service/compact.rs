//! How much history a leader lets the store keep, and when it has old revisions forgotten.

use crate::api::{Revision, Summary};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// What a leader has compacted by itself. Watches and reads of what is older are told so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compaction {
    /// Nothing.
    Off,
    /// All but so many revisions, and up to a sixteenth more.
    Revisions(u64),
    /// All that is older than this, and up to a tenth older; counted anew by every leader.
    Periodic(Duration),
}

impl Default for Compaction {
    /// The last 250,000 revisions are kept: at 256 bytes each some 100 MiB.
    fn default() -> Self {
        Self::Revisions(250_000)
    }
}

/// Decides when a leader compacts, and up to where.
pub(super) struct Compactor {
    compaction: Compaction,
    /// When the store was at which revision: every tenth of a period, oldest first. Only the first
    /// is older than the period.
    seen: VecDeque<(Instant, Revision)>,
}

impl Compactor {
    pub(super) const fn new(compaction: Compaction) -> Self {
        Self { compaction, seen: VecDeque::new() }
    }

    /// The revision up to which is to be compacted now. To be asked once a second.
    pub(super) fn due(&mut self, summary: &Summary, now: Instant) -> Option<Revision> {
        let (until, least) = match self.compaction {
            Compaction::Off => return None,
            Compaction::Revisions(kept) => (summary.revision.0.checked_sub(kept)?, kept / 16),
            Compaction::Periodic(period) => (self.seen_before(summary, now, period)?.0, 0),
        };
        (until > summary.compacted.0.saturating_add(least)).then_some(Revision(until))
    }

    /// The revision of a period ago.
    fn seen_before(
        &mut self,
        summary: &Summary,
        now: Instant,
        period: Duration,
    ) -> Option<Revision> {
        if self.seen.back().is_none_or(|(last, _)| now - *last >= period / 10) {
            self.seen.push_back((now, summary.revision));
        }
        while let Some((second, _)) = self.seen.get(1)
            && now - *second >= period
        {
            self.seen.pop_front();
        }
        let (at, revision) = *self.seen.front()?;
        (now - at >= period).then_some(revision)
    }
}
