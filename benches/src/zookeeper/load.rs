//! A closed loop: so many clients share so many sessions, and each asks again when it is answered.
//! A session is a thread, which writes the next requests of all whose answers have come together.

use super::wire::{NODE_EXISTS, Request, Session, done};
use crate::Fallible;
use crate::processes::processor_time;
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::io;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What takes longer counts as this.
const LATENCY_MAX: Duration = Duration::from_secs(60);
/// Requests under way while nodes are made.
const FILLING: u64 = 256;
/// All nodes lie in it.
const FOLDER: &str = "/bench";

/// What clients ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Writes of nodes that are there.
    Set,
    /// Reads as linearizable as ZooKeeper has them: `sync`, and then a read by the same member.
    SyncGet,
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Load {
    /// What is asked for.
    pub operation: Operation,
    /// How many ask at once.
    pub clients: u32,
    /// How many sessions they share, spread over the members.
    pub connections: u32,
    /// Nodes that are there: see [`fill`].
    pub keys: u64,
    /// What is written.
    pub value: Vec<u8>,
    /// How long to run before measuring.
    pub warmup: Duration,
    /// How long to measure.
    pub duration: Duration,
    /// Chooses the nodes that are asked for.
    pub seed: u64,
}

/// What was seen between warm-up and end.
pub struct Measured {
    /// Latencies of what succeeded.
    pub nanoseconds: Histogram<u64>,
    /// How many requests failed.
    pub errors: u64,
    /// What the servers used meanwhile.
    pub cpu: Duration,
}

/// Makes nodes, those that are not there yet.
///
/// # Errors
/// If the member does not serve, or refuses.
pub fn fill(address: &str, keys: u64, value: &[u8]) -> Fallible<()> {
    let mut session = Session::connect(address, PATIENCE)?;
    let made = |code| if code == NODE_EXISTS { Ok(()) } else { done(code) };
    made(session.ask(Request::Create(FOLDER, &[]))?)?;
    let (mut sent, mut answered) = (0, 0);
    while answered < keys {
        while sent < keys && sent - answered < FILLING {
            session.push(Request::Create(&key(sent), value));
            sent += 1;
        }
        session.flush()?;
        made(session.answer()?)?;
        answered += 1;
        while session.has_answer() {
            made(session.answer()?)?;
            answered += 1;
        }
    }
    Ok(())
}

/// Measures once. `processes` are the servers.
///
/// # Errors
/// If a session ends before the measurement does.
pub fn measure(addresses: &[String], load: &Load, processes: &[u32]) -> Fallible<Measured> {
    let sessions = load.connections.min(load.clients).max(1);
    let open = |number: u32| {
        let clients = load.clients / sessions + u32::from(number < load.clients % sessions);
        let address = &addresses[number as usize % addresses.len()];
        Ok((number, clients, Session::connect(address, PATIENCE)?))
    };
    let opened: Vec<_> = (0..sessions).map(open).collect::<io::Result<_>>()?;
    let start = Barrier::new(opened.len() + 1);
    thread::scope(|scope| {
        let run = |(number, clients, session)| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                Loop::new(load, session, number).run(clients)
            })
        };
        let running: Vec<_> = opened.into_iter().map(run).collect();
        start.wait();
        thread::sleep(load.warmup);
        let before = processor_time(processes)?;
        thread::sleep(load.duration);
        let cpu = processor_time(processes)? - before;
        let mut measured = Measured { nanoseconds: histogram()?, errors: 0, cpu };
        for session in running {
            let (nanoseconds, errors) = session.join().map_err(|_| "a session panicked")??;
            measured.nanoseconds.add(nanoseconds)?;
            measured.errors += errors;
        }
        Ok(measured)
    })
}

/// A request under way.
struct Asked {
    /// When its operation began.
    begun: Instant,
    /// What is read once this has synchronized.
    then: Option<String>,
}

/// The loop of one session.
struct Loop<'a> {
    load: &'a Load,
    session: Session,
    random: u64,
    /// What was asked and is not answered, in its order.
    asked: VecDeque<Asked>,
}

impl<'a> Loop<'a> {
    fn new(load: &'a Load, session: Session, number: u32) -> Self {
        let random = (load.seed << 32) + u64::from(number);
        Self { load, session, random, asked: VecDeque::new() }
    }

    fn run(mut self, clients: u32) -> Fallible<(Histogram<u64>, u64)> {
        let begin = Instant::now() + self.load.warmup;
        let end = begin + self.load.duration;
        let (mut nanoseconds, mut errors) = (histogram()?, 0);
        for _ in 0..clients {
            self.begin();
        }
        self.session.flush()?;
        while let Some(Asked { begun, then }) = self.asked.pop_front() {
            let is_done = self.session.answer()? == 0;
            let now = Instant::now();
            match then {
                // As a client does that waits for the one and then asks for the other. Sent
                // together they are slower: a session's reads wait for what is before them.
                Some(key) if is_done => {
                    self.session.push(Request::Get(&key));
                    self.asked.push_back(Asked { begun, then: None });
                }
                _ => {
                    if begin <= now && now < end {
                        match is_done {
                            true => nanoseconds.saturating_record((now - begun).as_nanos() as u64),
                            false => errors += 1,
                        }
                    }
                    if now < end {
                        self.begin();
                    }
                }
            }
            if !self.session.has_answer() {
                self.session.flush()?;
            }
        }
        Ok((nanoseconds, errors))
    }

    /// Begins a client's next operation.
    fn begin(&mut self) {
        // A Weyl sequence, whose numbers are mixed; the upper bits are the best.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let key = key((mixed >> 20) % self.load.keys);
        let begun = Instant::now();
        let then = match self.load.operation {
            Operation::Set => {
                self.session.push(Request::Set(&key, &self.load.value));
                None
            }
            Operation::SyncGet => {
                self.session.push(Request::Sync(&key));
                Some(key)
            }
        };
        self.asked.push_back(Asked { begun, then });
    }
}

fn histogram() -> Fallible<Histogram<u64>> {
    Ok(Histogram::new_with_max(LATENCY_MAX.as_nanos() as u64, 3)?)
}

fn key(number: u64) -> String {
    format!("{FOLDER}/{number:010}")
}
