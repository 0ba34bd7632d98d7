//! What time it is, from the last stamp seen. It looks at no clock itself: the moment is given.
//!
//! Why no lease ends early is told in [`super::clock`].

use crate::api::Summary;
use raft_core::types::Index;
use std::time::Duration;
use tokio::time::Instant;

/// The last stamp that a node has seen applied.
#[derive(Debug, Default)]
pub(super) struct LastStamp(Option<Stamp>);

#[derive(Clone, Copy, Debug)]
struct Stamp {
    /// Its index; 0 before there is one.
    index: Index,
    time_ms: u64,
    /// When it was that time; not before the moment when whoever made the stamp looked at the
    /// clock, but for what is cut off of a millisecond.
    at: Instant,
}

/// A stamp to be proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NextStamp {
    /// The index of the one before.
    pub(super) since: Index,
    pub(super) time_ms: u64,
    /// When it was that time.
    at: Instant,
}

impl LastStamp {
    /// The state was like that at `now` or shortly before.
    pub(super) fn saw(&mut self, state: &Summary, now: Instant) {
        if self.0.is_none_or(|last| last.index != state.stamped) {
            self.0 = Some(Stamp { index: state.stamped, time_ms: state.time_ms, at: now });
        }
    }

    /// The own stamp `next` was taken as entry `index`.
    pub(super) const fn taken(&mut self, next: NextStamp, index: Index) {
        let NextStamp { time_ms, at, .. } = next;
        self.0 = Some(Stamp { index, time_ms, at });
    }

    /// There may be a later one that was not seen.
    pub(super) const fn forget(&mut self) {
        self.0 = None;
    }

    pub(super) const fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// The stamp to be made by whoever looks at the clock now; `None` if the last is not known.
    pub(super) fn next(&self, now: Instant) -> Option<NextStamp> {
        let Stamp { index: since, time_ms, at } = self.0?;
        let elapsed_ms = u64::try_from(now.saturating_duration_since(at).as_millis())
            .expect("no process runs for so long");
        let at = at + Duration::from_millis(elapsed_ms);
        Some(NextStamp { since, time_ms: time_ms.saturating_add(elapsed_ms), at })
    }

    /// How long the last stamp has been the last.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.0.map_or(Duration::ZERO, |last| now.saturating_duration_since(last.at))
    }
}
