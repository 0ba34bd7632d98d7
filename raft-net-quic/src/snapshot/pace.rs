//! How fast a snapshot is sent: so fast that nobody else on the way feels it.
//!
//! A round trip that takes longer than the shortest one tells of a queue on the way, or of a
//! receiver that is short of processors: heartbeats wait there, too. As long as round trips stay
//! short and nothing is lost, a stream is sent faster from round trip to round trip; when they do
//! not, at half the rate, and never less than is granted in any case. So do senders that want
//! only what others leave: LEDBAT, RFC 6817.

use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Holds a stream to a rate.
pub(super) struct Pace {
    /// Bytes per second: now, at least, and at most.
    rate: f64,
    least: f64,
    most: f64,
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

    pub(super) fn new(least: u64, most: u64) -> Self {
        let (least, now) = (least.max(1) as f64, Instant::now());
        let most = least.max(most as f64);
        let shortest = Duration::MAX;
        Self { rate: least, least, most, due: now, look: now, shortest, losses: 0 }
    }

    /// Waits until `bytes` more may have been sent over `path`.
    pub(super) async fn sent(&mut self, bytes: usize, path: impl FnOnce() -> Path) {
        let now = Instant::now();
        if now >= self.look {
            self.adjust(path(), now);
        }
        let earliest = now.checked_sub(Self::CATCH_UP).unwrap_or(now);
        self.due = self.due.max(earliest) + Duration::from_secs_f64(bytes as f64 / self.rate);
        sleep_until(self.due).await;
    }

    fn adjust(&mut self, path: Path, now: Instant) {
        let Path { round_trip, losses } = path;
        self.shortest = self.shortest.min(round_trip);
        let is_free = losses <= self.losses && round_trip <= self.shortest + Self::DELAY_MAX;
        let rate = if is_free { self.rate * Self::FASTER } else { self.rate / 2.0 };
        self.rate = rate.clamp(self.least, self.most);
        self.losses = losses;
        self.look = now + round_trip.max(Self::LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: u64 = 1_000_000;
    const MOST: u64 = 4_000_000;

    /// The rate after looks at a path, one each 10 ms: its round trips in microseconds, and losses.
    fn rates(looks: &[(u64, u64)]) -> Vec<u64> {
        let mut pace = Pace::new(LEAST, MOST);
        let look = |(number, (round_trip, losses)): (usize, &(u64, u64))| {
            let now = pace.look + Pace::LOOK * number as u32;
            let round_trip = Duration::from_micros(*round_trip);
            pace.adjust(Path { round_trip, losses: *losses }, now);
            pace.rate as u64
        };
        looks.iter().enumerate().map(look).collect()
    }

    #[tokio::test]
    async fn a_free_path_is_used_up_to_a_limit() {
        let rates = rates(&[(500, 0); 10]);
        assert_eq!(rates[..3], [1_250_000, 1_562_500, 1_953_125]);
        assert_eq!(rates[9], MOST);
    }

    #[tokio::test]
    async fn others_on_the_way_are_left_their_round_trips() {
        let (free, busy) = ((500, 0), (2_600, 0));
        let rates = rates(&[free, free, free, free, busy, busy, busy, (2_400, 0)]);
        assert_eq!(rates[3], 2_441_406);
        // Half, and never less than it is to be.
        assert_eq!(rates[4..], [1_220_703, LEAST, LEAST, 1_250_000]);
    }

    #[tokio::test]
    async fn a_loss_halves_the_rate_once() {
        let rates = rates(&[(500, 0), (500, 0), (500, 0), (500, 1), (500, 1)]);
        assert_eq!(rates[2..], [1_953_125, LEAST, 1_250_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_takes_its_time() {
        let mut pace = Pace::new(LEAST, 0);
        let begin = Instant::now();
        for _ in 0..100 {
            let path = || Path { round_trip: Duration::from_micros(500), losses: 0 };
            pace.sent(10_000, path).await;
        }
        let took = begin.elapsed();
        assert!((Duration::from_millis(999)..Duration::from_millis(1010)).contains(&took));
    }
}
