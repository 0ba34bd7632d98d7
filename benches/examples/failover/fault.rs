//! What happens to a leader, and how long it is until somebody can write again.

use benches::Fallible;
use benches::processes::{Kind, MEMBERS, Processes, put};
use rustix::process::Signal;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, atomic};
use std::thread;
use std::time::{Duration, Instant};

/// How often a write is sent.
const PACE: Duration = Duration::from_millis(5);
/// When it is given up: one that was handed to the old leader may never be answered.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long writes are sent before the fault.
const BEFORE: Duration = Duration::from_millis(200);
/// How long a healthy cluster is left alone.
const SETTLING: Duration = Duration::from_secs(1);
/// By how much longer in each round: faults are to meet heartbeats at any time.
const SHIFT: Duration = Duration::from_millis(37);
/// When a cluster is taken for lost.
const LOST: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// By kill -9: its connections are closed.
    Killed,
    /// By SIGSTOP: they stay open.
    Frozen,
}

impl Fault {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Killed => "kill -9",
            Self::Frozen => "SIGSTOP",
        }
    }

    /// From the fault to the first answer to a write that was sent after it.
    pub(super) fn measure(self, cluster: &mut Processes, round: u32) -> Fallible<Duration> {
        cluster.leader()?;
        thread::sleep(SETTLING + SHIFT * (round % 10));
        let leader = cluster.leader()?;
        let others = (1..MEMBERS).map(|step| cluster.clients()[(leader + step) % MEMBERS].clone());
        let writer = Writer::start(cluster.kind(), others.collect());
        thread::sleep(BEFORE);
        // What counts begins before the signal: nobody knows when it arrives.
        let fault = Instant::now();
        match self {
            Self::Killed => cluster.signal(leader, Signal::KILL)?,
            Self::Frozen => cluster.signal(leader, Signal::STOP)?,
        }
        let time = writer.first_after(fault);
        match self {
            Self::Killed => {
                cluster.kill(leader)?;
                cluster.start_again(leader)?;
            }
            Self::Frozen => cluster.signal(leader, Signal::CONT)?,
        }
        time
    }
}

/// Sends a write every few milliseconds, and tells those that were answered: when they were sent,
/// and when they were answered.
struct Writer {
    answered: Receiver<(Instant, Instant)>,
    is_over: Arc<atomic::AtomicBool>,
}

impl Writer {
    fn start(kind: Kind, addresses: Vec<String>) -> Self {
        let (tell, answered) = channel();
        let is_over = Arc::<atomic::AtomicBool>::default();
        let ends = Arc::clone(&is_over);
        thread::spawn(move || {
            let mut due = Instant::now();
            for address in addresses.iter().cycle() {
                if ends.load(atomic::Ordering::Relaxed) {
                    return;
                }
                write_once(kind, address.clone(), tell.clone());
                due += PACE;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Self { answered, is_over }
    }

    fn first_after(&self, fault: Instant) -> Fallible<Duration> {
        while let Some(left) = LOST.checked_sub(fault.elapsed()) {
            match self.answered.recv_timeout(left) {
                Ok((sent, answered)) if sent > fault => return Ok(answered - fault),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        Err(format!("nobody could write within {LOST:?}").into())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.is_over.store(true, atomic::Ordering::Relaxed);
    }
}

/// On a thread of its own, of which there are as many as writes are sent within their patience.
fn write_once(kind: Kind, address: String, tell: Sender<(Instant, Instant)>) {
    thread::spawn(move || {
        let sent = Instant::now();
        if put(kind, &address, PATIENCE).is_ok() {
            // Nobody listens any more once it is over.
            let _ = tell.send((sent, Instant::now()));
        }
    });
}
