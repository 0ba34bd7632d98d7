//! What a run costs.

use clap::ValueEnum;
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, Instant};

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub enum Library {
    /// This project's.
    RaftCore,
    /// raft 0.7.
    RaftRs,
    /// omnipaxos 0.2.
    Omnipaxos,
    /// openraft 0.9.
    #[value(name = "openraft-0.9")]
    Openraft09,
    /// openraft 0.10.
    #[value(name = "openraft-0.10")]
    Openraft10,
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("none is hidden");
        f.write_str(value.get_name())
    }
}

/// One run of one library.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct Figures {
    /// Commands that were committed.
    pub commits: u64,
    /// How long that took, in seconds.
    pub seconds: f64,
    /// Processor time of the whole process meanwhile, in seconds.
    pub cpu_seconds: f64,
    /// What a single writer waited for a write, where that was measured.
    pub latency: Option<Latency>,
}

/// How long writes took.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct Latency {
    /// Half of them took at most this, in microseconds.
    pub p50_micros: f64,
    /// 99 % of them took at most this, in microseconds.
    pub p99_micros: f64,
}

impl Figures {
    /// Commits in a second.
    pub fn rate(&self) -> f64 {
        self.commits as f64 / self.seconds
    }

    /// Nanoseconds of processor time for one commit.
    pub fn cpu_nanos(&self) -> f64 {
        self.cpu_seconds * 1e9 / self.commits as f64
    }
}

/// From when on a run is measured.
pub struct Start {
    at: Instant,
    cpu: Duration,
}

impl Start {
    /// Now.
    pub fn now() -> Self {
        Self { at: Instant::now(), cpu: cpu() }
    }

    /// How long ago that was.
    pub fn elapsed(&self) -> Duration {
        self.at.elapsed()
    }

    /// What `commits` since then have cost.
    pub fn figures(&self, commits: u64) -> Figures {
        Figures {
            commits,
            seconds: self.at.elapsed().as_secs_f64(),
            cpu_seconds: cpu().saturating_sub(self.cpu).as_secs_f64(),
            latency: None,
        }
    }
}

/// How long work goes on.
#[derive(Clone, Copy, Debug)]
pub enum Effort {
    /// For some time, after a fifth of it to warm up.
    Time(Duration),
    /// So many times: for tools that count instructions.
    Rounds(u64),
}

/// Calls `work`, which says how many commands it committed, again and again.
pub fn measure(effort: Effort, mut work: impl FnMut() -> u64) -> Figures {
    let mut run = |goes_on: &dyn Fn(&Start, u64) -> bool| {
        let start = Start::now();
        let (mut commits, mut rounds) = (0, 0);
        while goes_on(&start, rounds) {
            commits += work();
            rounds += 1;
        }
        start.figures(commits)
    };
    match effort {
        Effort::Time(time) => {
            run(&|start, _| start.elapsed() < time / 5);
            run(&|start, _| start.elapsed() < time)
        }
        Effort::Rounds(most) => run(&|_, rounds| rounds < most),
    }
}

/// Processor time of this process so far.
fn cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let time = |it: nix::sys::time::TimeVal| {
        Duration::new(it.tv_sec().unsigned_abs(), it.tv_usec() as u32 * 1000)
    };
    time(usage.user_time()) + time(usage.system_time())
}
