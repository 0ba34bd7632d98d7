//! How fast a snapshot is sent: faster where nobody else on the way feels it.
//!
//! A round trip that takes longer than the shortest one tells of a queue on the way, or of a
//! receiver that is short of processors: heartbeats wait there, too. As long as round trips stay
//! short and nothing is lost, a stream is sent faster from look to look; when they do not, at half
//! the rate, down to what is granted even then. LEDBAT (RFC 6817) goes by delays in this way, and
//! grants nothing.

use crate::config::Limits;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Holds a stream to a rate.
pub(super) struct Pace {
    /// Bytes per second: now, where the path is busy, and at most.
    rate: f64,
    busy: f64,
    most: f64,
    /// It was the rate that had the sender wait, since the last look.
    holds: bool,
    /// When all that was sent should have been.
    due: Instant,
    /// When the path is looked at next.
    look: Instant,
    /// The shortest round trip seen.
    shortest: Duration,
    /// How often packets were lost, as of the last look.
    losses: u64,
}

/// What is known of a path.
#[derive(Clone, Copy)]
pub(super) struct Path {
    pub(super) round_trip: Duration,
    /// How often packets were lost.
    pub(super) losses: u64,
}

impl Pace {
    /// How far a sender that was held up may catch up: timers are coarse.
    const CATCH_UP: Duration = Duration::from_millis(20);
    /// Between two looks at the path, at least; a round trip if that takes longer.
    const LOOK: Duration = Duration::from_millis(10);
    /// How much longer round trips may take than the shortest.
    const DELAY_MAX: Duration = Duration::from_millis(2);
    /// The rate after a look at a path that is free, times that before.
    const FASTER: f64 = 1.25;

    pub(super) fn new(limits: &Limits) -> Self {
        let most = limits.snapshot_bytes_per_second.max(1) as f64;
        let busy = (limits.snapshot_bytes_per_second_busy.max(1) as f64).min(most);
        let (now, shortest) = (Instant::now(), Duration::MAX);
        Self { rate: busy, busy, most, holds: false, due: now, look: now, shortest, losses: 0 }
    }

    /// Waits until `bytes` more may have been sent over `path`.
    pub(super) async fn sent(&mut self, bytes: usize, path: impl FnOnce() -> Path) {
        let now = Instant::now();
        if now >= self.look {
            self.adjust(path(), now);
        }
        let earliest = now.checked_sub(Self::CATCH_UP).unwrap_or(now);
        self.due = self.due.max(earliest) + Duration::from_secs_f64(bytes as f64 / self.rate);
        self.holds |= self.due > now;
        sleep_until(self.due).await;
    }

    fn adjust(&mut self, path: Path, now: Instant) {
        let Path { round_trip, losses } = path;
        self.shortest = self.shortest.min(round_trip);
        let is_free = losses <= self.losses && round_trip <= self.shortest + Self::DELAY_MAX;
        self.rate = match is_free {
            // Of a rate that is not reached nobody knows what it would do.
            true if self.holds => (self.rate * Self::FASTER).min(self.most),
            true => self.rate,
            false => (self.rate / 2.0).max(self.busy),
        };
        self.holds = false;
        self.losses = losses;
        self.look = now + round_trip.max(Self::LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: u64 = 1_000_000;
    const MOST: u64 = 4_000_000;

    fn pace(most: u64) -> Pace {
        let limits = Limits {
            snapshot_bytes_per_second: most,
            snapshot_bytes_per_second_busy: BUSY,
            ..Limits::default()
        };
        Pace::new(&limits)
    }

    /// The rate after looks at a path: its round trips in microseconds, and losses. The rate is
    /// reached before each.
    fn rates(looks: &[(u64, u64)]) -> Vec<u64> {
        let mut pace = pace(MOST);
        let look = |(round_trip, losses): &(u64, u64)| {
            pace.holds = true;
            let round_trip = Duration::from_micros(*round_trip);
            pace.adjust(Path { round_trip, losses: *losses }, Instant::now());
            pace.rate as u64
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn a_free_path_is_used_up_to_a_limit() {
        let rates = rates(&[(500, 0); 10]);
        assert_eq!(rates[..3], [1_250_000, 1_562_500, 1_953_125]);
        assert_eq!(rates[9], MOST);
    }

    #[test]
    fn others_on_the_way_are_left_their_round_trips() {
        let (free, busy) = ((500, 0), (2_600, 0));
        let rates = rates(&[free, free, free, free, busy, busy, busy, (2_400, 0)]);
        assert_eq!(rates[3], 2_441_406);
        assert_eq!(rates[4..], [1_220_703, BUSY, BUSY, 1_250_000]);
    }

    #[test]
    fn for_losses_the_rate_is_halved() {
        let rates = rates(&[(500, 0), (500, 0), (500, 0), (500, 1), (500, 1)]);
        assert_eq!(rates[2..], [1_953_125, BUSY, 1_250_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_that_is_not_reached_does_not_grow() {
        let mut pace = pace(MOST);
        let path = || Path { round_trip: Duration::from_micros(500), losses: 0 };
        for _ in 0..100 {
            pace.sent(100, path).await;
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        // The very first had to wait.
        assert_eq!(pace.rate as u64, BUSY * 5 / 4);
    }

    /// It grows where it may, and not above a limit that is lower than what is granted.
    #[tokio::test(start_paused = true)]
    async fn what_is_sent_takes_its_time() {
        for (most, took) in [(BUSY / 2, 2000), (MOST, 290)] {
            let mut pace = pace(most);
            let begin = Instant::now();
            for _ in 0..100 {
                let path = || Path { round_trip: Duration::from_micros(500), losses: 0 };
                pace.sent(10_000, path).await;
            }
            let (least, most) =
                (Duration::from_millis(took - 20), Duration::from_millis(took + 30));
            let took = begin.elapsed();
            assert!(least < took && took < most, "{took:?}");
        }
    }
}
