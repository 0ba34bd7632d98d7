//! The task that keeps the stream of a client's watches: opens it, tells a node what is watched,
//! hands on what the node tells, and goes to another node when that is over.
//!
//! It never waits for whoever takes events, or the stream of all would.

use super::super::directory::{Connected, Fault};
use super::super::{Shared, millis};
use super::queue::Queue;
use super::{State, Watches};
use crate::api::{KvError, Request, RequestBody, StreamRequest, WatchId, WatchReply, WatchRequest};
use crate::codec::{decode_sequence, encode, encode_sequence};
use crate::wire;
use bytes::Bytes;
use raft_core::transport::{Duplex, FrameSink, FrameSource};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

/// Requests that one frame may hold.
const FRAME_REQUESTS_MAX: usize = 32;

/// Keeps the stream for as long as there are watches.
pub(super) async fn run(shared: Arc<Shared>) {
    let watches = Arc::clone(&shared.watches);
    let mut failures = 0;
    while !watches.lock().is_over() {
        let end = serve_once(&shared, &watches).await;
        match end {
            End::NoWatches => failures = 0,
            // It did work.
            End::Broken { worked: true } => failures = 1,
            End::Broken { worked: false } => failures += 1,
        }
        if failures > 0 {
            sleep(shared.pause(failures)).await;
        }
    }
}

impl State {
    /// Whether there are no watches any more; then the task ends.
    fn is_over(&mut self) -> bool {
        self.running = !self.queues.is_empty();
        !self.running
    }
}

/// How one stream ended.
enum End {
    /// Nobody watches.
    NoWatches,
    /// It could not be opened, broke, or was ended by the node; whether that had begun a watch.
    Broken { worked: bool },
}

/// Opens a stream to some node and serves it until it is over.
async fn serve_once(shared: &Arc<Shared>, watches: &Watches) -> End {
    let node = match shared.directory.preferred() {
        Some(node) => node,
        None => match shared.channel(Instant::now() + shared.attempt).await {
            Ok(node) => node,
            Err(trouble) => {
                shared.note_trouble(&trouble);
                return End::Broken { worked: false };
            }
        },
    };
    let request = encode(&StreamRequest::Watch { require_leader: true });
    let opened = timeout(shared.attempt, node.channel.open_stream(request)).await;
    let Ok(Ok(Duplex { mut sink, mut source })) = opened else {
        blame(shared, &node).await;
        return End::Broken { worked: false };
    };
    let session = Session { watches, state: Mutex::default(), news: Notify::new() };
    let first = timeout(shared.attempt, source.receive()).await;
    let heard = match first {
        Ok(Ok(Some(frame))) => session.hear(&frame),
        _ => Some(Over::Broken),
    };
    let over = match heard {
        Some(over) => over,
        None => tokio::select! {
            over = session.listen(&mut *source) => over,
            over = session.speak(&mut *sink) => over,
        },
    };
    let worked = session.lock().worked;
    match over {
        Over::NoWatches => {
            // The node learns of it by the end.
            let _ = sink.finish().await;
            return End::NoWatches;
        }
        Over::Told => fail(shared, &node, Fault::Unable),
        Over::Broken => blame(shared, &node).await,
    }
    End::Broken { worked }
}

/// Finds out whether the node is there, and has others move on if it is not.
async fn blame(shared: &Arc<Shared>, node: &Connected) {
    let deadline_ms = millis(shared.attempt);
    let status = wire::encode_request(&Request { deadline_ms, body: RequestBody::Status });
    let answer = timeout(shared.attempt, node.channel.call(status)).await;
    let there = matches!(answer, Ok(Ok(_)));
    fail(shared, node, if there { Fault::Unable } else { Fault::Broken });
}

fn fail(shared: &Arc<Shared>, node: &Connected, fault: Fault) {
    if let Some((id, address)) = shared.directory.failed(node, fault) {
        shared.connect(id, address);
    }
}

/// Why a stream is over.
#[derive(Debug)]
enum Over {
    NoWatches,
    /// The node said that it ends.
    Told,
    Broken,
}

/// One stream.
struct Session<'a> {
    watches: &'a Watches,
    state: Mutex<SessionState>,
    /// There may be something to say.
    news: Notify,
}

#[derive(Default)]
struct SessionState {
    epoch: Option<u64>,
    /// Some watch was begun.
    worked: bool,
    next: u64,
    /// The watches that the node knows, by the number of their queue.
    known: BTreeMap<u64, Known>,
    /// The numbers of the queues.
    numbers: BTreeMap<WatchId, u64>,
    /// Watches that the node is to end.
    to_cancel: Vec<WatchId>,
}

struct Known {
    id: WatchId,
    queue: Arc<Queue>,
    /// The node has said that it has begun.
    created: bool,
}

impl Session<'_> {
    /// Tells the node what is watched, as that changes.
    async fn speak(&self, sink: &mut dyn FrameSink) -> Over {
        loop {
            let (requests, watched) = self.requests();
            if !watched && requests.is_empty() {
                return Over::NoWatches;
            }
            for some in requests.chunks(FRAME_REQUESTS_MAX) {
                if sink.send(encode_sequence(some)).await.is_err() {
                    return Over::Broken;
                }
            }
            if !requests.is_empty() {
                continue;
            }
            tokio::select! {
                () = self.news.notified() => {}
                () = self.watches.changed.notified() => {}
            }
        }
    }

    /// What the node is to be told now, and whether anything is watched.
    fn requests(&self) -> (Vec<WatchRequest>, bool) {
        let watches = self.watches.lock();
        let mut state = self.lock();
        let Some(epoch) = state.epoch else { return (Vec::new(), true) };
        let gone: Vec<u64> = state
            .known
            .keys()
            .filter(|number| !watches.queues.contains_key(number))
            .copied()
            .collect();
        for number in gone {
            state.forget(number);
        }
        let ended = std::mem::take(&mut state.to_cancel);
        let mut requests: Vec<_> = ended.into_iter().map(WatchRequest::Cancel).collect();
        for (number, queue) in &watches.queues {
            if !state.known.contains_key(number) && queue.is_open() {
                let Some(watch) = queue.begin(epoch) else { continue };
                let id = state.learn(*number, queue);
                requests.push(WatchRequest::Create(id, watch));
            }
            if state.known.contains_key(number)
                && let Some(revision) = queue.question()
            {
                requests.push(WatchRequest::Reach(revision));
            }
        }
        (requests, !watches.queues.is_empty())
    }

    /// Hands on what the node tells.
    async fn listen(&self, source: &mut dyn FrameSource) -> Over {
        loop {
            match source.receive().await {
                Ok(Some(frame)) => {
                    if let Some(over) = self.hear(&frame) {
                        return over;
                    }
                }
                Ok(None) | Err(_) => return Over::Broken,
            }
        }
    }

    /// Takes in one frame. Whether the stream is over.
    fn hear(&self, frame: &Bytes) -> Option<Over> {
        let mut state = self.lock();
        for reply in decode_sequence::<WatchReply>(frame) {
            match reply {
                Ok(WatchReply::Opened(epoch)) => state.epoch = Some(epoch),
                Ok(WatchReply::Ended(_)) => return Some(Over::Told),
                Ok(reply) => state.hear(reply),
                Err(_) => return Some(Over::Broken),
            }
        }
        drop(state);
        self.news.notify_one();
        None
    }

    fn lock(&self) -> MutexGuard<'_, SessionState> {
        // Every statement leaves it consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionState {
    fn hear(&mut self, reply: WatchReply) {
        match reply {
            WatchReply::Created(id, revision) => {
                let Some(epoch) = self.epoch else { return };
                if let Some(known) = self.find(id) {
                    known.created = true;
                    known.queue.created(revision, epoch);
                    self.worked = true;
                }
            }
            WatchReply::Events { id, revision, events, fragment } => {
                let Some(known) = self.find(id) else { return };
                if !known.queue.deliver(events, revision, fragment) {
                    // It is begun again when there is room.
                    self.forget_id(id);
                }
            }
            WatchReply::Canceled(id, error) => {
                let Some(number) = self.numbers.remove(&id) else { return };
                let Some(known) = self.known.remove(&number) else { return };
                let ended = || Some(KvError::Unavailable("ended by the node".into()));
                known.queue.end(error.or_else(ended));
            }
            WatchReply::Progress(Some(id), revision) => {
                if let Some(known) = self.find(id) {
                    known.queue.progress(revision, true);
                }
            }
            WatchReply::Progress(None, revision) => {
                for known in self.known.values().filter(|known| known.created) {
                    known.queue.progress(revision, false);
                }
            }
            WatchReply::Opened(_) | WatchReply::Ended(_) => {}
        }
    }

    fn find(&mut self, id: WatchId) -> Option<&mut Known> {
        self.known.get_mut(self.numbers.get(&id)?)
    }

    fn learn(&mut self, number: u64, queue: &Arc<Queue>) -> WatchId {
        let id = WatchId(self.next);
        self.next += 1;
        self.numbers.insert(id, number);
        self.known.insert(number, Known { id, queue: Arc::clone(queue), created: false });
        id
    }

    fn forget(&mut self, number: u64) {
        if let Some(known) = self.known.remove(&number) {
            self.numbers.remove(&known.id);
            self.to_cancel.push(known.id);
        }
    }

    fn forget_id(&mut self, id: WatchId) {
        if let Some(number) = self.numbers.get(&id).copied() {
            self.forget(number);
        }
    }
}
