//! How a simulated node fares: whether it goes on, how fast, and by what clock.

use crate::raft::Lease;

/// What is true of one node for the time being.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    /// It stands still: its clock, its disk and what was sent to it wait, and nobody who asks it
    /// something is heard.
    pub(super) paused: bool,
    /// It takes in messages only now and then.
    pub(super) slow: bool,
    /// Its disk hardly completes anything.
    pub(super) slow_disk: bool,
    /// Its disk has no room.
    pub(super) full: bool,
    /// Before this tick it cannot start.
    pub(super) unreadable_until: u64,
    /// How fast its clock goes, in percent of the fastest.
    pub(super) rate: u64,
    /// Real time by its clock, in hundredths of a tick; it goes on while the node stands still.
    time: u64,
    /// Hundredths of a tick since the last one.
    since_tick: u64,
    /// When each tick of this life began, from 0 on.
    ticks: Vec<u64>,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            paused: false,
            slow: false,
            slow_disk: false,
            full: false,
            unreadable_until: 0,
            rate: 100,
            time: 0,
            since_tick: 0,
            ticks: vec![0],
        }
    }
}

impl Condition {
    /// All is well again, but for what the clock did.
    pub(super) const fn heal(&mut self) {
        self.paused = false;
        self.slow = false;
        self.slow_disk = false;
        self.full = false;
        self.unreadable_until = 0;
        self.rate = 100;
    }

    /// The node starts: a process of its own, which does not stand still.
    pub(super) fn start(&mut self) {
        self.paused = false;
        self.since_tick = 0;
        self.ticks = vec![self.time];
    }

    /// The fastest clocks tick; whether this one does, and is noticed.
    pub(super) const fn advance(&mut self) -> bool {
        self.time += self.rate;
        if self.paused {
            return false;
        }
        self.since_tick += self.rate;
        let ticks = self.since_tick >= 100;
        if ticks {
            self.since_tick -= 100;
        }
        ticks
    }

    /// The core was told of a tick.
    pub(super) fn ticked(&mut self) {
        self.ticks.push(self.time);
    }

    /// Whether `lease` lasts by the clock of this node, as a driver reckons it.
    pub(super) fn holds(&self, lease: &Lease) -> bool {
        // A tick less: the first of a follower's may be nearly over when it hears the leader.
        let lasts = lease.ticks.saturating_sub(1) * 100;
        let since = self.ticks.get(lease.since as usize);
        !self.paused && since.is_some_and(|since| self.time < since + lasts)
    }
}
