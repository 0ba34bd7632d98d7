//! Whether the election timeout suits the network and the disks.

use std::fmt;
use std::time::Duration;

/// How many broadcasts must fit into the shortest election timeout. The paper wants the one to be
/// an order of magnitude below the other (§5.6): with less, a few lost or late heartbeats are
/// enough for an election that nobody needs.
const BROADCASTS: u32 = 10;

/// How long it takes to be heard and to be answered, and whether the election timeout is long
/// enough for that. `Display` says so in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Timing {
    /// A packet to a quorum and back, not to the slowest; `None` if the transport cannot tell.
    pub round_trip: Option<Duration>,
    /// A commit of the own log: all of the last 64 but the slowest few took no longer. `None`
    /// before the first one.
    pub flush: Option<Duration>,
    /// The shortest election timeout, as configured.
    pub election_timeout_min: Duration,
    /// What the shortest election timeout should be at least, if the present one is too short:
    /// ten times the round trip and the flush, rounded up.
    pub suggested: Option<Duration>,
}

impl Timing {
    /// The verdict on these measurements.
    pub fn new(
        round_trip: Option<Duration>,
        flush: Option<Duration>,
        election_timeout_min: Duration,
    ) -> Self {
        let broadcast = round_trip.unwrap_or_default() + flush.unwrap_or_default();
        let needed = broadcast.saturating_mul(BROADCASTS);
        let suggested = (election_timeout_min < needed).then(|| rounded_up(needed));
        Self { round_trip, flush, election_timeout_min, suggested }
    }
}

/// To a tenth of a second, or below a second to ten milliseconds.
fn rounded_up(time: Duration) -> Duration {
    let step = if time < Duration::from_secs(1) { 10 } else { 100 };
    let millis = u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX / 2);
    Duration::from_millis(millis.div_ceil(step) * step)
}

impl fmt::Display for Timing {
    /// `the election timeout of 100 ms is too short: a round trip takes 160 ms and a flush 1 ms;
    /// use at least 1.7 s`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.suggested.is_some() { "is too short" } else { "is long enough" };
        write!(f, "the election timeout of {} {verdict}", text(self.election_timeout_min))?;
        match (self.round_trip, self.flush) {
            (Some(trip), Some(flush)) => {
                write!(f, ": a round trip takes {} and a flush {}", text(trip), text(flush))?;
            }
            (Some(trip), None) => write!(f, ": a round trip takes {}", text(trip))?,
            (None, Some(flush)) => write!(f, ": a flush takes {}", text(flush))?,
            (None, None) => {}
        }
        match self.suggested {
            Some(suggested) => write!(f, "; use at least {}", text(suggested)),
            None => Ok(()),
        }
    }
}

fn text(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        _ => format!("{} ms", time.as_micros().div_ceil(1000)),
    }
}

/// How long the last commits of the log took.
#[derive(Default)]
pub(super) struct Flushes {
    last: Vec<Duration>,
    next: usize,
}

impl Flushes {
    const KEPT: usize = 64;

    pub(super) fn note(&mut self, took: Duration) {
        if self.last.len() < Self::KEPT {
            return self.last.push(took);
        }
        self.last[self.next] = took;
        self.next = (self.next + 1) % Self::KEPT;
    }

    /// What 95 of 100 stay below: a single slow commit is no reason to change anything.
    pub(super) fn usual_most(&self) -> Option<Duration> {
        let mut sorted = self.last.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * 95 / 100).copied()
    }
}
