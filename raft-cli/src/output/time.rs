//! Lengths of time, printed.

use std::time::Duration;

/// Whole milliseconds, for JSON.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// As people write it, to the millisecond: `9s 700ms`.
pub fn text(time: Duration) -> String {
    humantime::format_duration(Duration::from_millis(millis(time))).to_string()
}
