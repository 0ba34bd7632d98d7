//! What the clients of one measurement do. Every client is a task that awaits its own operation and
//! then starts the next; all share one thread, so that measuring takes as little as possible of the
//! machine that is measured.

use super::side::{Memory, Mode, PREFIX, Side, Watching};
use super::usage;
use crate::args::bench::Load;
use crate::failure::Failure;
use crate::output::bench::histogram;
use crate::verbs::progress::Progress;
use bytes::{BufMut, Bytes, BytesMut};
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};

/// How many keys are written at once before reads are measured.
const FILL_CLIENTS: u64 = 256;
/// How long a client waits after a failed operation, so that a broken cluster is not hammered.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);
/// How often the bar on the screen moves.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// What clients do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Put,
    Get(Mode),
    /// So many of a hundred operations are linearizable reads.
    Mixed(u8),
    Swap,
    /// Writes, told to so many watchers.
    Watch(u32),
}

impl Operation {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get(Mode::Linearizable) => "get",
            Self::Get(Mode::Causal) => "get --causal",
            Self::Get(Mode::Serializable) => "get --serializable",
            Self::Mixed(_) => "mixed",
            Self::Swap => "txn",
            Self::Watch(_) => "watch",
        }
    }

    /// Whether every key has to be there before it begins.
    const fn reads(self) -> bool {
        matches!(self, Self::Get(_) | Self::Mixed(_))
    }
}

/// One measurement: so many clients doing one thing to one cluster, once.
pub(super) struct Run {
    side: Rc<Side>,
    load: Load,
    operation: Operation,
    value: Bytes,
    /// What stamps count from.
    start: Instant,
    begin: Instant,
    end: Instant,
    /// Added to the numbers of clients, so that each asks another node in the next round.
    round: u32,
    /// Requests that have begun, in an open loop, and those that were answered.
    slots: Cell<u64>,
    answered: Cell<u64>,
    seen: RefCell<Seen>,
}

/// What was seen between warm-up and end.
pub(super) struct Seen {
    /// Latencies; of watches from when a value was sent until it was told.
    pub(super) nanoseconds: Histogram<u64>,
    /// Requests that were due, in an open loop, and not answered by the end: their latencies, as
    /// far as they have come, are counted.
    pub(super) unanswered: u64,
    pub(super) errors: u64,
    pub(super) first_error: Option<Failure>,
    /// Processor time of the servers meanwhile, if it was to be counted.
    pub(super) cpu: Option<Duration>,
}

/// Writes the keys that reads need, if they are not there; and opens every connection.
pub(super) async fn prepare(
    side: &Rc<Side>,
    load: &Load,
    operation: Operation,
) -> Result<(), Failure> {
    let there = side.servers.count(key(load.keys)).await?;
    if !operation.reads() || there >= load.keys {
        return Ok(());
    }
    let progress = Progress::of_keys(load.keys);
    let next = Rc::new(Cell::new(0));
    let (keys, value) = (load.keys, value(load));
    let fill = |client: u64| {
        let (side, next, value) = (Rc::clone(side), Rc::clone(&next), value.clone());
        spawn_local(async move {
            while next.get() < keys {
                let at = next.replace(next.get() + 1);
                side.servers.put(client, key(at), value.clone()).await?;
            }
            Ok::<_, Failure>(())
        })
    };
    let tasks: Vec<_> = (0..FILL_CLIENTS).map(fill).collect();
    for task in tasks {
        task.await.expect("writing does not panic and is not aborted")?;
        progress.set(next.get(), next.get());
    }
    Ok(())
}

/// Measures once.
pub(super) async fn measure(
    side: &Rc<Side>,
    load: &Load,
    operation: Operation,
    clients: u32,
    round: u32,
) -> Result<Seen, Failure> {
    let watchers = match operation {
        Operation::Watch(watchers) => begin_watches(side, watchers).await?,
        _ => Vec::new(),
    };
    let start = Instant::now();
    let begin = start + load.warmup;
    let seen =
        Seen { nanoseconds: histogram(), unanswered: 0, errors: 0, first_error: None, cpu: None };
    let run = Rc::new(Run {
        side: Rc::clone(side),
        load: load.clone(),
        operation,
        value: value(load),
        start,
        begin,
        end: begin + load.duration,
        round,
        slots: Cell::new(0),
        answered: Cell::new(0),
        seen: RefCell::new(seen),
    });
    let watch = |watching| {
        let run = Rc::clone(&run);
        spawn_local(async move { run.watcher(watching).await })
    };
    let watchers: Vec<_> = watchers.into_iter().map(watch).collect();
    let client = |number: u32| {
        let run = Rc::clone(&run);
        spawn_local(async move { run.client(u64::from(number)).await })
    };
    let clients: Vec<_> = (0..clients).map(client).collect();
    let cpu = run.count_cpu().await;
    for client in clients {
        client.await.expect("a client does not panic and is not aborted");
    }
    watchers.iter().for_each(JoinHandle::abort);
    for watcher in watchers {
        // An aborted task has an error to say that it was.
        let _ = watcher.await;
    }
    let run = Rc::into_inner(run).expect("every task has ended");
    run.note_unanswered();
    let seen = run.seen.into_inner();
    match &seen.first_error {
        Some(error) if seen.nanoseconds.is_empty() => Err(error.clone()),
        _ => Ok(Seen { cpu: cpu?, ..seen }),
    }
}

async fn begin_watches(side: &Rc<Side>, watchers: u32) -> Result<Vec<Watching>, Failure> {
    let begin = |number: u32| {
        let side = Rc::clone(side);
        spawn_local(async move { side.servers.watch(u64::from(number)).await })
    };
    let tasks: Vec<_> = (0..watchers).map(begin).collect();
    let mut watches = Vec::new();
    for task in tasks {
        watches.push(task.await.expect("a watch does not panic and is not aborted")?);
    }
    Ok(watches)
}

impl Run {
    /// Waits for the end, and counts the processor time of the servers from the beginning on.
    async fn count_cpu(&self) -> Result<Option<Duration>, Failure> {
        let total = (self.end - self.start).as_millis() as u64;
        let progress = Progress::of_time(total);
        let of_servers = || match self.side.processes.as_slice() {
            [] => Ok(None),
            processes => usage::of(processes).map(Some),
        };
        sleep_until(self.begin).await;
        let before = of_servers()?;
        while Instant::now() < self.end {
            sleep_until(self.end.min(Instant::now() + PROGRESS_EVERY)).await;
            let elapsed = self.start.elapsed().as_millis() as u64;
            progress.set(elapsed, self.seen.borrow().nanoseconds.len());
        }
        let after = of_servers()?;
        Ok(before.zip(after).map(|(before, after)| after.saturating_sub(before)))
    }

    /// One client's loop. Counted is what is answered between `begin` and `end`.
    async fn client(&self, number: u64) {
        let mut random = Random(number + 1);
        let mut memory = Memory::default();
        loop {
            let started = self.next_start().await;
            if started >= self.end || Instant::now() >= self.end {
                return;
            }
            let outcome = self.operate(number, &mut random, &mut memory).await;
            if Instant::now() < self.end {
                self.answered.set(self.answered.get() + 1);
            }
            let told = !matches!(self.operation, Operation::Watch(_));
            match &outcome {
                Ok(()) if told => self.note(started),
                Ok(()) => {}
                Err(failure) => self.note_error(failure),
            }
            if outcome.is_err() {
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }

    /// When the next request begins: now; in an open loop when it is due, which may be long ago if
    /// no client was free. Waiting for the clock is not the servers' fault.
    async fn next_start(&self) -> Instant {
        let Some(rate) = self.load.rate else { return Instant::now() };
        let due = self.due(self.slots.replace(self.slots.get() + 1), rate);
        if due <= Instant::now() {
            return due;
        }
        sleep_until(due).await;
        Instant::now()
    }

    fn due(&self, slot: u64, rate: u32) -> Instant {
        self.start + Duration::from_secs_f64(slot as f64 / f64::from(rate))
    }

    /// What was due and has no answer has taken at least until the end. Left out, the longest
    /// latencies would be those that nobody sees.
    fn note_unanswered(&self) {
        let Some(rate) = self.load.rate else { return };
        let whole = self.end - self.start;
        let due = (whole.as_secs_f64() * f64::from(rate)) as u64;
        let mut seen = self.seen.borrow_mut();
        for slot in self.answered.get()..due {
            let waited = self.end.saturating_duration_since(self.due(slot, rate)).as_nanos();
            seen.nanoseconds.saturating_record(u64::try_from(waited).unwrap_or(u64::MAX));
            seen.unanswered += 1;
        }
    }

    async fn operate(
        &self,
        number: u64,
        random: &mut Random,
        memory: &mut Memory,
    ) -> Result<(), Failure> {
        let servers = &self.side.servers;
        let own_key = || format!("{PREFIX}cas/{number:010}").into();
        let number = number + u64::from(self.round);
        let some_key = key(random.below(self.load.keys));
        match self.operation {
            Operation::Get(mode) => servers.get(number, some_key, mode, memory).await,
            Operation::Mixed(reads) if random.below(100) < u64::from(reads) => {
                servers.get(number, some_key, Mode::Linearizable, memory).await
            }
            Operation::Put | Operation::Mixed(_) => {
                servers.put(number, some_key, self.value.clone()).await
            }
            Operation::Watch(_) => servers.put(number, some_key, self.stamped()).await,
            Operation::Swap => servers.swap(number, own_key(), self.value.clone(), memory).await,
        }
    }

    /// A value that says when it was sent.
    fn stamped(&self) -> Bytes {
        let mut value = BytesMut::with_capacity(self.value.len().max(size_of::<u64>()));
        value.put_u64(self.start.elapsed().as_nanos() as u64);
        value.extend_from_slice(self.value.get(size_of::<u64>()..).unwrap_or_default());
        value.freeze()
    }

    async fn watcher(&self, mut watching: Watching) {
        loop {
            let values = match watching.next().await {
                Ok(values) => values,
                Err(failure) => return self.note_end(failure),
            };
            for value in values {
                let stamp = value.first_chunk().map(|stamp| u64::from_be_bytes(*stamp));
                self.note(self.start + Duration::from_nanos(stamp.unwrap_or_default()));
            }
        }
    }

    fn note(&self, started: Instant) {
        let now = Instant::now();
        if now >= self.begin && now < self.end {
            let nanoseconds = (now - started).as_nanos();
            let nanoseconds = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
            self.seen.borrow_mut().nanoseconds.saturating_record(nanoseconds);
        }
    }

    /// A watch that has ended is missing in all that follows, whenever that was.
    fn note_end(&self, failure: Failure) {
        let mut seen = self.seen.borrow_mut();
        seen.errors += 1;
        seen.first_error.get_or_insert(failure);
    }

    fn note_error(&self, failure: &Failure) {
        let now = Instant::now();
        if now >= self.begin && now < self.end {
            let mut seen = self.seen.borrow_mut();
            seen.errors += 1;
            seen.first_error.get_or_insert_with(|| failure.clone());
        }
    }
}

fn key(number: u64) -> Bytes {
    format!("{PREFIX}{number:010}").into()
}

/// Bytes that do not compress, the same in every run.
fn value(load: &Load) -> Bytes {
    let mut random = Random(u64::MAX);
    (0..load.value_size).map(|_| random.next().to_le_bytes()[0]).collect()
}

/// splitmix64: small, fast, and good enough to choose keys.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, near enough to evenly spread.
    const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
