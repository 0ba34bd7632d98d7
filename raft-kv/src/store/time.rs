//! Time as the log tells it.
//!
//! Every [`Advance`](crate::api::Advance) that is taken is a *stamp*: it says how much later it is
//! than at the stamp before, which it names, so that what a leader has measured from one stamp is
//! never added to another. Time stands still between stamps and never goes back. Nothing here looks
//! at a clock; why a lease never ends early is told where stamps are made, in `service/clock.rs`.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A mark is kept for each minute in which a stamp came.
const MARK_MS: u64 = 60_000;

/// How late it is, and when entries were applied, to a minute.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Time {
    /// Milliseconds since the store began, as of the last stamp.
    now_ms: u64,
    /// Log index of the last stamp; 0 if there was none.
    stamped: u64,
    /// The first stamp of each minute, oldest first: time and log index. An entry below that index
    /// was applied at that time or before. Only the last hour is kept; see [`Time::unused_since`].
    marks: VecDeque<(u64, u64)>,
}

impl Time {
    /// Milliseconds since the store began.
    pub(super) const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Log index of the last stamp; 0 if there was none.
    pub(super) const fn stamped(&self) -> u64 {
        self.stamped
    }

    /// Takes a stamp, entry `index`; marks older than the newest that is `keep_ms` old are given
    /// up.
    pub(super) fn advance(&mut self, index: u64, time_ms: u64, keep_ms: u64) {
        self.now_ms = self.now_ms.max(time_ms);
        self.stamped = index;
        let minute = |time_ms: u64| time_ms / MARK_MS;
        if self.marks.back().is_none_or(|(last, _)| minute(*last) < minute(self.now_ms)) {
            self.marks.push_back((self.now_ms, index));
        }
        while let Some((second, _)) = self.marks.get(1)
            && *second <= self.now_ms.saturating_sub(keep_ms)
        {
            self.marks.pop_front();
        }
    }

    /// Log index of the last mark at or below `index`; 0 if there is none.
    pub(super) fn mark_at(&self, index: u64) -> u64 {
        let after = self.marks.partition_point(|(_, mark)| *mark <= index);
        after.checked_sub(1).map_or(0, |last| self.marks[last].1)
    }

    /// Log index of the last mark.
    pub(super) fn last_mark(&self) -> u64 {
        self.marks.back().map_or(0, |(_, mark)| *mark)
    }

    /// What was last used by an entry below this index has not been used for `idle_ms`, which is
    /// not more than marks are kept; `None` if that can be said of nothing.
    pub(super) fn unused_since(&self, idle_ms: u64) -> Option<u64> {
        let limit = self.now_ms.checked_sub(idle_ms)?;
        let after = self.marks.partition_point(|(time_ms, _)| *time_ms <= limit);
        Some(self.marks[after.checked_sub(1)?].1)
    }
}
