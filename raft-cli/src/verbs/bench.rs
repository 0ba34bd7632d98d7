//! `raft bench`: a closed loop. Every client is a task that awaits its own operation and then
//! starts the next; all share one thread, so that measuring takes as little as possible of the
//! machine that is measured.

use super::progress::Progress;
use crate::args::bench::{Bench, GetLoad, Load, Workload};
use crate::client::Store;
use crate::failure::{Failure, Kind};
use crate::output::bench::{Latency, Measurement, histogram, text};
use crate::output::{Format, Output};
use bytes::Bytes;
use hdrhistogram::Histogram;
use raft_kv::api::{Consistency, Keys, Range};
use serde_json::json;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

/// Keys begin with this.
const PREFIX: &str = "bench/";
/// How many keys are written at once before reads are measured.
const FILL_CLIENTS: u64 = 256;
/// How long a client waits after a failed operation, so that a broken cluster is not hammered.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

/// Measures, one number of clients after the other.
///
/// # Errors
/// If the cluster does not answer before a measurement, or not one operation succeeds in it;
/// failed operations are otherwise counted.
pub async fn run(stores: Vec<Store>, args: &Bench, output: &mut Output<'_>) -> Result<(), Failure> {
    let (load, operation) = match &args.workload {
        Workload::Put(load) => (load, Operation::Put),
        Workload::Get(GetLoad { load, serializable: true }) => {
            (load, Operation::Get(Consistency::Serializable))
        }
        Workload::Get(GetLoad { load, .. }) => (load, Operation::Get(Consistency::Linearizable)),
    };
    if load.json {
        output.format = Format::Json;
    }
    let bench = Rc::new(Runner { stores, load: load.clone(), operation, value: value(load) });
    let local = LocalSet::new();
    local.run_until(bench.prepare()).await?;
    let mut measurements = Vec::new();
    for &clients in &load.clients {
        measurements.push(local.run_until(bench.measure(clients)).await?);
    }
    output.print(&json!({ "measurements": measurements }), || text(&measurements))
}

#[derive(Clone, Copy)]
enum Operation {
    Put,
    Get(Consistency),
}

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get(Consistency::Linearizable) => "get",
            Self::Get(Consistency::Serializable) => "get --serializable",
            Self::Get(Consistency::AtLeast(_)) => "get, causal",
        }
    }
}

struct Runner {
    /// One connection each.
    stores: Vec<Store>,
    load: Load,
    operation: Operation,
    value: Bytes,
}

/// What the clients of one measurement saw between warm-up and end.
struct Seen {
    nanoseconds: Histogram<u64>,
    errors: u64,
    first_error: Option<Failure>,
}

impl Runner {
    /// Opens every connection and writes the keys that reads need.
    async fn prepare(self: &Rc<Self>) -> Result<(), Failure> {
        let count = Range { count_only: true, ..Range::of(Keys::prefix(PREFIX)) };
        let mut keys = 0;
        for store in &self.stores {
            keys = store.range(count.clone(), Consistency::Linearizable).await?.count;
        }
        if matches!(self.operation, Operation::Put) || keys >= self.load.keys {
            return Ok(());
        }
        let progress = Progress::of_keys(self.load.keys);
        let next = Rc::new(RefCell::new(0));
        let fill = |number: u64| {
            let (bench, next) = (Rc::clone(self), Rc::clone(&next));
            tokio::task::spawn_local(async move {
                while let Some(at) = take_below(&next, bench.load.keys) {
                    bench.store(number).put(key(at), bench.value.clone()).await?;
                }
                Ok::<_, Failure>(())
            })
        };
        let tasks: Vec<_> = (0..FILL_CLIENTS).map(fill).collect();
        for task in tasks {
            task.await.expect("writing does not panic and is not aborted")?;
            progress.set(*next.borrow(), *next.borrow());
        }
        Ok(())
    }

    async fn measure(self: &Rc<Self>, clients: u32) -> Result<Measurement, Failure> {
        let seen = Seen { nanoseconds: histogram(), errors: 0, first_error: None };
        let seen = Rc::new(RefCell::new(seen));
        let begin = Instant::now() + self.load.warmup;
        let end = begin + self.load.duration;
        let client = |number: u32| {
            let (bench, seen) = (Rc::clone(self), Rc::clone(&seen));
            tokio::task::spawn_local(async move { bench.client(number, begin, end, &seen).await })
        };
        let tasks: Vec<_> = (0..clients).map(client).collect();
        for task in tasks {
            task.await.expect("a client does not panic and is not aborted");
        }
        let mut seen = seen.borrow_mut();
        let operations = seen.nanoseconds.len();
        let first_error = seen.first_error.take();
        if let (0, Some(error)) = (operations, &first_error) {
            return Err(error.clone());
        }
        let seconds = self.load.duration.as_secs_f64();
        Ok(Measurement {
            workload: self.operation.name(),
            clients,
            connections: self.stores.len().min(clients as usize),
            value_size: self.load.value_size,
            seconds,
            operations,
            errors: seen.errors,
            per_second: operations as f64 / seconds,
            latency_us: Latency::of(&seen.nanoseconds),
            first_error: first_error.map(|error| error.to_string()),
        })
    }

    /// One client's loop. Counted is what is answered between `begin` and `end`.
    async fn client(&self, number: u32, begin: Instant, end: Instant, seen: &RefCell<Seen>) {
        let mut random = Random(u64::from(number) + 1);
        loop {
            let key = key(random.below(self.load.keys));
            let started = Instant::now();
            if started >= end {
                return;
            }
            let outcome = self.operate(u64::from(number), key).await;
            let now = Instant::now();
            if now >= begin && now < end {
                let mut seen = seen.borrow_mut();
                match &outcome {
                    Ok(()) => {
                        let nanoseconds = (now - started).as_nanos();
                        let nanoseconds = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
                        seen.nanoseconds.saturating_record(nanoseconds);
                    }
                    Err(failure) => {
                        seen.errors += 1;
                        seen.first_error.get_or_insert_with(|| failure.clone());
                    }
                }
            }
            if outcome.is_err() {
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }

    async fn operate(&self, number: u64, key: Bytes) -> Result<(), Failure> {
        let store = self.store(number);
        match self.operation {
            Operation::Put => store.put(key, self.value.clone()).await.map(drop),
            Operation::Get(consistency) => {
                let reply = store.range(Range::of(Keys::One(key)), consistency).await?;
                // A serializable read may come from a node that has not seen the key yet.
                if reply.kvs.is_empty() && consistency == Consistency::Linearizable {
                    return Err(Failure::new(Kind::No, "a key that was written is not there"));
                }
                Ok(())
            }
        }
    }

    fn store(&self, client: u64) -> &Store {
        let connections = self.stores.len() as u64;
        let at = usize::try_from(client % connections).expect("below the length of a Vec");
        &self.stores[at]
    }
}

/// Counts up to `end`, shared by tasks of one thread.
fn take_below(next: &RefCell<u64>, end: u64) -> Option<u64> {
    let mut next = next.borrow_mut();
    let at = *next;
    (at < end).then(|| *next += 1).map(|()| at)
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
