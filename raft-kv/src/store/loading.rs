//! A state that is made on a thread of its own, while the caller reads and checks what it is made
//! of: to make the records takes as long as to put them in order.

use super::format::Header;
use super::state::{Item, State};
use raft_core::log_store::StorageError;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Rows that were read and not taken in yet; a row has at most some dozen kilobytes as a rule.
const ROWS_QUEUED: usize = 32;

/// See the module. If it is dropped, so is the state, before that returns: there may not be room
/// for two.
pub(super) struct Loading {
    /// Both are there until the end.
    rows: Option<SyncSender<Vec<Item>>>,
    thread: Option<JoinHandle<State>>,
}

impl Loading {
    /// Begins with an empty state, of which a checkpoint file is kept.
    pub(super) fn begin(header: &Header) -> Result<Self, StorageError> {
        let (rows, queue) = sync_channel(ROWS_QUEUED);
        let state = State::begin_load(true, header);
        let thread = Builder::new().name("raft-loading".into()).spawn(|| take_in(state, queue));
        let thread = thread.map_err(|error| StorageError::io("starting to load", error))?;
        Ok(Self { rows: Some(rows), thread: Some(thread) })
    }

    /// Has the items of a row taken in. Waits while many are still to be.
    pub(super) fn row(&self, items: Vec<Item>) -> Result<(), StorageError> {
        let sent = self.rows.as_ref().and_then(|rows| rows.send(items).ok());
        sent.ok_or_else(panicked)
    }

    /// The state, of which `header` has announced all that was taken in.
    pub(super) fn finish(mut self, header: Header) -> Result<State, StorageError> {
        let mut state = self.end().ok_or_else(panicked)?;
        state.loaded(header);
        Ok(state)
    }

    /// Waits until all is taken in. Nothing if that has panicked.
    fn end(&mut self) -> Option<State> {
        self.rows = None;
        self.thread.take()?.join().ok()
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.end();
    }
}

/// No damage of any file, but a bug.
fn panicked() -> StorageError {
    StorageError::Engine("taking in what was read panicked".into())
}

fn take_in(mut state: State, queue: Receiver<Vec<Item>>) -> State {
    for items in queue {
        items.into_iter().for_each(|item| state.load(item));
    }
    state
}
