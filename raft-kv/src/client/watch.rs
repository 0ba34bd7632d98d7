//! Watches: what happens to some keys, in order, each change once, none left out.
//!
//! All watches of a client share one stream to one node. A task keeps it, and when it breaks opens
//! another one, at another node if need be, where every watch goes on from the revision after the
//! last one it was told of. A watch whose events nobody takes is ended there and begun again when
//! they are taken, so it holds up no other and no memory grows.

mod pump;
mod queue;
#[cfg(test)]
mod tests;

use super::{Client, ClientError, Shared};
use crate::api::{Event, KvError, Revision, Watch};
use queue::{Queue, Taken};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Changes of the keys watched, of whole revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// The changes, in order. Empty if this only tells how far the watch has come, which it does if
    /// [`Watch::progress`] asks for that.
    pub events: Vec<Event>,
    /// The watch has told every change up to here.
    pub revision: Revision,
    /// More changes of the last revision follow: only if [`Watch::fragments`] allows it.
    pub fragment: bool,
}

/// A watch. It ends when this is dropped.
///
/// It has no deadline: while no node can be reached it tells nothing, and goes on when one can.
/// What it tells is complete: for each change of the keys there is one event, in the order in which
/// they were made, those of one revision together, from its beginning to its end, on whatever nodes
/// it was served.
pub struct Watcher {
    number: u64,
    queue: Arc<Queue>,
    /// The task needs it as long as there is a watch.
    shared: Arc<Shared>,
}

impl Client {
    /// Watches keys: from [`Watch::from`] on or, without that, from when the watch
    /// [has begun](Watcher::begun). Returns at once; a watch that cannot be is told as its end.
    ///
    /// # Panics
    /// Outside a tokio runtime with a clock: the first watch starts a task there.
    pub fn watch(&self, watch: Watch) -> Watcher {
        self.watch_queued(Queue::new(watch, None))
    }

    /// The same of one history only, that of a [`Position`](crate::api::Position): where the
    /// revision after a read belongs to another one by now, that ends the watch, as its first and
    /// last word, with [`KvError::OtherHistory`].
    ///
    /// # Panics
    /// As [`watch`](Self::watch).
    pub fn watch_history(&self, epoch: u64, watch: Watch) -> Watcher {
        self.watch_queued(Queue::new(watch, Some(epoch)))
    }

    fn watch_queued(&self, queue: Queue) -> Watcher {
        let (queue, shared) = (Arc::new(queue), Arc::clone(&self.shared));
        let number = shared.watches.add(Arc::clone(&queue), &shared);
        Watcher { number, queue, shared }
    }

    /// Tells which node serves the watches of this client, as that changes.
    pub fn watch_server(&self) -> WatchServer {
        WatchServer(self.shared.watches.server.subscribe())
    }

    /// Waits for the first changes that a watch tells, all of one revision, and ends it: a watch of
    /// one shot. Waits as long as it takes.
    ///
    /// # Errors
    /// As [`Watcher::next`].
    pub async fn watch_once(&self, watch: Watch) -> Result<Vec<Event>, ClientError> {
        let mut watcher = self.watch(Watch { fragments: false, progress: false, ..watch });
        loop {
            let Some(batch) = watcher.next().await else { return Ok(Vec::new()) };
            let mut events = batch?.events;
            if let Some(first) = events.first().map(Event::revision) {
                events.retain(|event| event.revision() == first);
                return Ok(events);
            }
        }
    }
}

/// Which node serves the watches of a client; see [`Client::watch_server`]. For people and logs:
/// what the watches tell does not depend on it.
pub struct WatchServer(tokio::sync::watch::Receiver<Option<Arc<str>>>);

impl WatchServer {
    /// Waits until another node serves them, or none; its address. Nodes that served them only in
    /// between may be left out. If the future is dropped nothing is lost.
    pub async fn changed(&mut self) -> Option<Arc<str>> {
        match self.0.changed().await {
            Ok(()) => self.0.borrow_and_update().clone(),
            // The client is gone, and its watches with it.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Watcher {
    /// Waits for what happens next; `None` after the watch has ended, for which the reason was told
    /// as an error before. If the future is dropped nothing is lost.
    ///
    /// # Errors
    /// [`ClientError::Refused`]: the watch cannot go on.
    /// [`KvError::Compacted`](crate::api::KvError::Compacted) if what it has to tell next is gone,
    /// with the oldest revision it can be begun from again; read the keys before that.
    /// [`KvError::OtherHistory`](crate::api::KvError::OtherHistory) if the cluster was made anew
    /// from what survived: what it told may not be part of that.
    pub async fn next(&mut self) -> Option<Result<WatchBatch, ClientError>> {
        loop {
            let mut arrived = std::pin::pin!(self.queue.arrived());
            // Enabled before looking: what happens after the look is not missed.
            arrived.as_mut().enable();
            match self.queue.take(None) {
                Taken::Batch(batch) => {
                    self.resume();
                    return Some(Ok(batch));
                }
                Taken::Ended(error) => return error.map(|error| Err(ClientError::refused(error))),
                Taken::Nothing { .. } => {
                    self.shared.watches.keep_going(&self.shared);
                    arrived.await;
                }
            }
        }
    }

    /// Waits until the watch has begun: until every change from here on is certain to be told.
    /// Returns the revision of the store then; 0 if it has ended.
    pub async fn begun(&self) -> Revision {
        loop {
            let mut arrived = std::pin::pin!(self.queue.arrived());
            arrived.as_mut().enable();
            if let Some(revision) = self.queue.begun() {
                return revision;
            }
            self.shared.watches.keep_going(&self.shared);
            arrived.await;
        }
    }

    /// Waits until the watch has told everything up to `revision`, and returns what of it was not
    /// taken yet. After that no event up to `revision` will come.
    ///
    /// A read may show a new value before the watch tells of it. Whoever has read at a revision,
    /// and calls this with it before acting on the value, has seen every event up to there first.
    ///
    /// # Errors
    /// As [`next`](Self::next); what came before the end is lost then. Dropping the future loses
    /// what it has taken.
    pub async fn caught_up(&mut self, revision: Revision) -> Result<Vec<WatchBatch>, ClientError> {
        let mut batches = Vec::new();
        loop {
            let mut arrived = std::pin::pin!(self.queue.arrived());
            arrived.as_mut().enable();
            match self.queue.take(Some(revision)) {
                Taken::Batch(batch) => {
                    batches.push(batch);
                    self.resume();
                }
                Taken::Ended(None) => return Ok(batches),
                Taken::Ended(Some(error)) => return Err(ClientError::refused(error)),
                Taken::Nothing { seen } if seen >= revision => return Ok(batches),
                Taken::Nothing { .. } => {
                    if self.queue.ask(revision) {
                        self.shared.watches.changed.notify_one();
                    }
                    self.shared.watches.keep_going(&self.shared);
                    arrived.await;
                }
            }
        }
    }

    /// Up to where the watch is known to have told everything, as far as that was taken: what to
    /// begin another watch after that is to go on where this one ends.
    pub fn position(&self) -> Revision {
        self.queue.position()
    }

    /// Ends the watch. What was not taken is lost.
    pub fn cancel(self) {}

    /// Begins it again if it was ended because nobody took what it told.
    fn resume(&self) {
        if self.queue.is_to_resume() {
            self.shared.watches.changed.notify_one();
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let watches = &self.shared.watches;
        watches.lock().queues.remove(&self.number);
        watches.changed.notify_one();
    }
}

/// The watches of a client.
#[derive(Default)]
pub(super) struct Watches {
    state: Mutex<State>,
    /// The set of watches, or what is asked, is another one.
    changed: Notify,
    /// The address of the node that serves them.
    server: tokio::sync::watch::Sender<Option<Arc<str>>>,
}

#[derive(Default)]
struct State {
    next: u64,
    queues: BTreeMap<u64, Arc<Queue>>,
    /// Whether the task runs.
    running: bool,
}

impl Watches {
    fn add(&self, queue: Arc<Queue>, shared: &Arc<Shared>) -> u64 {
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        state.queues.insert(number, queue);
        state.start(shared);
        drop(state);
        self.changed.notify_one();
        number
    }

    /// No watch can go on.
    fn end_all(&self, error: &KvError) {
        self.lock().queues.values().for_each(|queue| queue.end(Some(error.clone())));
    }

    /// Waits until there is a watch that has not ended; at once if there is none at all.
    async fn until_wanted(&self) {
        loop {
            let changed = self.changed.notified();
            let all_ended = {
                let state = self.lock();
                let mut queues = state.queues.values();
                !state.queues.is_empty() && queues.all(|queue| queue.has_ended())
            };
            if !all_ended {
                return;
            }
            changed.await;
        }
    }

    /// Starts the task anew if it has ended with the runtime it was started on.
    fn keep_going(&self, shared: &Arc<Shared>) {
        self.lock().start(shared);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every statement leaves it consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Starts the task unless it runs.
    fn start(&mut self, shared: &Arc<Shared>) {
        if !std::mem::replace(&mut self.running, true) {
            tokio::spawn(pump::run(Arc::clone(shared)));
        }
    }
}
