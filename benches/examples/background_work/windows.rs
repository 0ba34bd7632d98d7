//! Writes and work, each from when to when; and which of the one overlap the other.

use std::time::{Duration, Instant};

/// By how much a window is moved to find one without work.
const STEP: Duration = Duration::from_millis(250);

/// From when to when something was under way.
pub(super) type Window = (Instant, Instant);

/// Windows as long as those of the work, as near to them as there was no work.
pub(super) fn quiet_windows(writes: &[Window], work: &[Window]) -> Vec<Window> {
    let (Some(first), Some(last)) = (
        writes.iter().map(|(due, _)| *due).min(),
        writes.iter().map(|(_, answered)| *answered).max(),
    ) else {
        return Vec::new();
    };
    let is_quiet = |window: &Window| {
        first <= window.0 && window.1 <= last && !work.iter().any(|other| overlap(window, other))
    };
    let near = |(from, to): &Window| {
        let earlier = |step| Some((from.checked_sub(STEP * step)?, to.checked_sub(STEP * step)?));
        let later = |step| Some((*from + STEP * step, *to + STEP * step));
        let steps = 1..=((last - first).as_millis() / STEP.as_millis()) as u32;
        steps.flat_map(|step| [earlier(step), later(step)]).flatten().find(is_quiet)
    };
    work.iter().filter_map(near).collect()
}

/// How long those took that overlap any of the windows, in order.
pub(super) fn overlapping(writes: &[Window], windows: &[Window]) -> Vec<Duration> {
    let within = writes.iter().filter(|write| windows.iter().any(|window| overlap(write, window)));
    let mut latencies: Vec<_> = within.map(|(due, answered)| *answered - *due).collect();
    latencies.sort_unstable();
    latencies
}

/// Those that overlap none of `stops`.
pub(super) fn without(writes: &[Window], stops: &[Window]) -> Vec<Window> {
    let apart = |write: &&Window| !stops.iter().any(|stop| overlap(write, stop));
    writes.iter().filter(apart).copied().collect()
}

fn overlap(one: &Window, other: &Window) -> bool {
    one.0 <= other.1 && other.0 <= one.1
}
