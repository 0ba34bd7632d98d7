//! Tasks that write as fast as they are answered.

use super::Cluster;
use crate::figures::{Figures, Latency, Start};
use bytes::Bytes;
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// Longest latency that is told from longer ones, in nanoseconds: ten seconds.
const NANOS_MAX: u64 = 10_000_000_000;

/// Who writes how.
#[derive(Clone, Copy)]
pub struct Load {
    /// Tasks that write.
    pub writers: usize,
    /// Commands that a task hands over by one call.
    pub batch: usize,
    /// Worker threads of the runtime; 0 for one that runs on the calling thread.
    pub workers: usize,
    /// How long it is measured, after a third of it to warm up.
    pub time: Duration,
}

/// What the tasks share.
struct Shared<C> {
    cluster: C,
    counts: Vec<Count>,
    measuring: AtomicBool,
    over: AtomicBool,
}

/// Commands of one task that were committed, on a cache line of its own.
#[repr(align(128))]
#[derive(Default)]
struct Count(AtomicU64);

impl Load {
    /// Runs it on a cluster of its own.
    pub(super) fn run<C: Cluster>(self) -> Result<Figures, String> {
        let runtime = self.runtime().map_err(|error| format!("no runtime: {error}"))?;
        let figures = runtime.block_on(self.measure::<C>());
        // The nodes need not end in good order.
        runtime.shutdown_background();
        figures
    }

    fn runtime(self) -> std::io::Result<Runtime> {
        let mut builder = match self.workers {
            0 => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        };
        builder.worker_threads(self.workers.max(1)).enable_time().build()
    }

    async fn measure<C: Cluster>(self) -> Result<Figures, String> {
        let shared = Arc::new(Shared {
            cluster: C::start().await?,
            counts: (0..self.writers).map(|_| Count::default()).collect(),
            measuring: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let mut writers = JoinSet::new();
        for number in 0..self.writers {
            let shared = Arc::clone(&shared);
            match (self.batch, self.writers) {
                // Clocks cost something: only where latency is what the run is about.
                (..=1, 1) => writers.spawn(shared.write_timed()),
                (..=1, _) => writers.spawn(shared.write(number)),
                (batch, _) => writers.spawn(shared.write_batches(number, batch)),
            };
        }
        tokio::time::sleep(self.time / 3).await;
        shared.measuring.store(true, Ordering::Relaxed);
        let (start, before) = (Start::now(), shared.commits());
        tokio::time::sleep(self.time).await;
        let figures = start.figures(shared.commits() - before);
        shared.over.store(true, Ordering::Relaxed);

        let mut latency = None;
        while let Some(end) = writers.join_next().await {
            latency = end.map_err(|error| error.to_string())??;
        }
        Ok(Figures { latency, ..figures })
    }
}

impl<C: Cluster> Shared<C> {
    fn commits(&self) -> u64 {
        self.counts.iter().map(|Count(count)| count.load(Ordering::Relaxed)).sum()
    }

    fn committed(&self, writer: usize, commands: u64) {
        self.counts[writer].0.fetch_add(commands, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    async fn write(self: Arc<Self>, writer: usize) -> Result<Option<Latency>, String> {
        while !self.is_over() {
            self.cluster.write(crate::command()).await?;
            self.committed(writer, 1);
        }
        Ok(None)
    }

    async fn write_timed(self: Arc<Self>) -> Result<Option<Latency>, String> {
        let latencies = Histogram::<u64>::new_with_bounds(1, NANOS_MAX, 3);
        let mut latencies = latencies.map_err(|error| error.to_string())?;
        let mut before = Instant::now();
        while !self.is_over() {
            self.cluster.write(crate::command()).await?;
            self.committed(0, 1);
            let now = Instant::now();
            if self.measuring.load(Ordering::Relaxed) {
                latencies.saturating_record((now - before).as_nanos() as u64);
            }
            before = now;
        }
        let micros = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Some(Latency { p50_micros: micros(0.5), p99_micros: micros(0.99) }))
    }

    async fn write_batches(
        self: Arc<Self>,
        writer: usize,
        batch: usize,
    ) -> Result<Option<Latency>, String> {
        while !self.is_over() {
            let commands: Vec<Bytes> = (0..batch).map(|_| crate::command()).collect();
            self.cluster.write_many(commands).await?;
            self.committed(writer, batch as u64);
        }
        Ok(None)
    }
}
