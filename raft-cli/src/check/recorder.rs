//! Takes down what clients did. One clock for all of them; nothing waits in here for longer than it
//! takes to add a line.

use super::history::{Ending, Fault, History, OPERATIONS_MAX, Operation};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// A history that is being made.
pub struct Recorder {
    started: Instant,
    history: Mutex<History>,
    next: AtomicU64,
    full: AtomicBool,
    /// How many operations were answered.
    answered: watch::Sender<u64>,
}

impl Recorder {
    /// Nothing has happened; time begins now.
    pub fn new(seed: Option<u64>) -> Self {
        Self {
            started: Instant::now(),
            history: Mutex::new(History { seed, ..History::default() }),
            next: AtomicU64::new(1),
            full: AtomicBool::new(false),
            answered: watch::Sender::new(0),
        }
    }

    /// Microseconds since the beginning.
    pub fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A number that no other call returns.
    pub fn unique(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds an operation that has ended.
    pub fn operation(&self, operation: Operation) {
        let ok = operation.outcome == Ending::Ok;
        let mut history = self.history();
        history.operations.push(operation);
        let full = history.operations.len() >= OPERATIONS_MAX;
        drop(history);
        self.full.fetch_or(full, Ordering::Relaxed);
        if ok {
            self.answered.send_modify(|count| *count += 1);
        }
    }

    /// Adds trouble that is over.
    pub fn fault(&self, fault: Fault) {
        self.history().faults.push(fault);
    }

    /// Whether as much was taken down as can be.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Follows how many operations were answered.
    pub fn answered(&self) -> watch::Receiver<u64> {
        self.answered.subscribe()
    }

    /// What was taken down, in order of time; the recorder is empty then.
    pub fn take(&self) -> History {
        let mut history = std::mem::take(&mut *self.history());
        history.sort();
        history
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
