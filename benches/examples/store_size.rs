//! The state machine alone with many keys: memory, checkpoint, start, snapshot, and how large its
//! file becomes under overwrites that are compacted: it fails if that is over twice as large.
//!
//! ```text
//! cargo run --release -p benches --example store_size -- 1000000 10000000
//! ```

use benches::{Bounds, PAYLOAD_BYTES, run_of};
use raft_core::state_machine::StateMachine;
use raft_kv::api::{Action, Command, Op, Put, Revision};
use raft_kv::codec::encode;
use raft_kv::store::KvStore;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Entries applied at once.
const RUN: u64 = 256;
/// The revisions that compactions leave, as `raft serve` does by default.
const KEPT: u64 = 250_000;
/// Entries between two checkpoints.
const CHECKPOINT: u64 = 100_000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (Some(Ok(keys)), Some(Ok(overwrites))) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: store_size KEYS OVERWRITES");
        std::process::exit(2);
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut bench = Bench::new(folder.path().join("kv.redb"), keys.max(1));
    bench.fill();
    bench.reopen();
    bench.snapshot(&folder.path().join("copy.redb"));
    let (first, largest) = (mebibytes(&bench.path), bench.overwrite(overwrites));
    let mut bounds = Bounds::default();
    bounds.at_most("the file, times as large as before", largest as f64 / first as f64, 2.0);
    bounds.end()
}

struct Bench {
    path: PathBuf,
    store: KvStore,
    keys: u64,
    /// The next entry.
    next: u64,
}

impl Bench {
    fn new(path: PathBuf, keys: u64) -> Self {
        let store = KvStore::open(&path).expect("a new file");
        Self { path, store, keys, next: 1 }
    }

    /// Writes every key once.
    fn fill(&mut self) {
        let began = Instant::now();
        while self.next <= self.keys {
            self.put(RUN);
        }
        let took = began.elapsed();
        println!("{} keys of {PAYLOAD_BYTES} B in {:.1} s", self.keys, took.as_secs_f64());
        let took = self.checkpoint();
        println!("checkpoint: {:.2} s, file {} MiB", took.as_secs_f64(), mebibytes(&self.path));
        println!("resident memory: {} MiB", resident());
    }

    /// Starts again from the file.
    fn reopen(&mut self) {
        self.store = KvStore::in_memory();
        let began = Instant::now();
        self.store = KvStore::open(&self.path).expect("the file was written here");
        println!("start: {:.2} s", began.elapsed().as_secs_f64());
        println!("resident memory after a start: {} MiB", resident());
    }

    /// Sends the whole store to another file.
    fn snapshot(&mut self, to: &Path) {
        let mut bytes = 0;
        let mut data = self.store.snapshot().expect("there is a checkpoint").data;
        let began = Instant::now();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match data.read(&mut buffer).expect("the file was written here") {
                0 => break,
                read => bytes += read,
            }
        }
        let took = began.elapsed().as_secs_f64();
        println!("snapshot: {} MiB in {took:.2} s", bytes >> 20);
        let mut other = KvStore::open(to).expect("a new file");
        let began = Instant::now();
        other.restore(self.store.snapshot().expect("as before")).expect("it is whole");
        println!("restore: {:.2} s", began.elapsed().as_secs_f64());
    }

    /// Overwrites keys, and compacts and checkpoints as a node does; how many mebibytes the file
    /// had at most.
    fn overwrite(&mut self, count: u64) -> u64 {
        let (until, began) = (self.next + count, Instant::now());
        let (mut longest, mut largest) = (Duration::ZERO, 0);
        while self.next < until {
            let (entries, at) = (CHECKPOINT.min(until - self.next), self.next);
            while self.next < at + entries {
                let run = Instant::now();
                self.put(RUN);
                longest = longest.max(run.elapsed());
            }
            let run = Instant::now();
            self.compact();
            longest = longest.max(run.elapsed());
            self.checkpoint();
            largest = largest.max(mebibytes(&self.path));
        }
        let rate = count as f64 / began.elapsed().as_secs_f64();
        println!("{count} overwrites: {rate:.0}/s, checkpoints and compactions included");
        println!("longest run of {RUN} entries: {:.1} ms", longest.as_secs_f64() * 1e3);
        println!("file: {} MiB, at most {largest} MiB", mebibytes(&self.path));
        println!("resident memory: {} MiB", resident());
        largest
    }

    fn put(&mut self, count: u64) {
        let keys = self.keys;
        let put = |number: u64| {
            // Spread over the key space, without randomness.
            let key = format!("key/{:010}", number.wrapping_mul(0x9e37_79b1) % keys);
            let op = Op::Put(Put::new(key, vec![7; PAYLOAD_BYTES]));
            encode(&Command { request: None, fence: None, action: Action::Op(op) })
        };
        self.store.apply(&run_of(self.next, count, put));
        self.next += count;
    }

    fn compact(&mut self) {
        let revision = self.store.summary().revision.0;
        let Some(revision) = revision.checked_sub(KEPT) else { return };
        let action = Action::Compact(Revision(revision));
        let compact = |_| encode(&Command { request: None, fence: None, action: action.clone() });
        self.store.apply(&run_of(self.next, 1, compact));
        self.next += 1;
    }

    fn checkpoint(&mut self) -> Duration {
        let began = Instant::now();
        let job = self.store.checkpoint().expect("something was applied");
        job().expect("the disk takes it");
        began.elapsed()
    }
}

fn mebibytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len() >> 20)
}

/// Mebibytes of memory that the process holds; 0 where the system does not tell so.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() >> 10
}
