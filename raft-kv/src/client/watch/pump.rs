//! The task that keeps the stream of a client's watches: opens it, tells a node what is watched,
//! hands on what the node tells, and goes to another node when that is over.
//!
//! It never waits for whoever takes events, or the stream of all would. Nor does it wait for a node
//! that does not answer: while the stream is silent, the node is asked how it is once a second, and
//! left when it does not say in time, or when another request over the same connection has failed.

use super::super::auth::{Signing, is_about_token, signed_stream};
use super::super::directory::{Connected, Fault};
use super::super::{ClientError, Shared};
use super::queue::{Begin, Queue};
use super::{State, Watches};
use crate::api::{AuthError, KvError, StreamRequest, WatchId, WatchReply, WatchRequest};
use crate::codec::{decode_sequence, encode_sequence};
use bytes::Bytes;
use raft_core::transport::{Duplex, FrameSink, FrameSource};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Requests that one frame may hold.
const FRAME_REQUESTS_MAX: usize = 32;
/// How long a stream may be silent before the node is asked whether it is there. While events come
/// nothing is asked.
const SILENCE: Duration = Duration::from_millis(500);
/// How long logging in may take.
const LOGIN_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked at most.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the stream for as long as there are watches.
pub(super) async fn run(shared: Arc<Shared>) {
    let watches = Arc::clone(&shared.watches);
    let mut running = Running { watches: &watches, over: false };
    let mut failures = 0;
    loop {
        watches.until_wanted().await;
        running.over = watches.lock().is_over();
        if running.over {
            return;
        }
        let end = serve_once(&shared, &watches).await;
        watches.server.send_if_modified(|server| server.take().is_some());
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

/// That the task runs. If it ends although there are watches, because its runtime did, those who
/// wait for one of them start it anew on theirs.
struct Running<'a> {
    watches: &'a Watches,
    /// It was noted already that it does not run any more.
    over: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut state = self.watches.lock();
        state.running = false;
        state.queues.values().for_each(|queue| queue.wake());
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
    let signing = if shared.login.is_some() { Signing::ByLogin } else { Signing::No };
    let token = match shared.shown(&signing, Instant::now() + LOGIN_PATIENCE).await {
        Ok(token) => token,
        Err(error) => {
            if let ClientError::Refused(error) = error {
                watches.end_all(&error);
            }
            return End::Broken { worked: false };
        }
    };
    let request = StreamRequest::Watch { require_leader: true };
    let request = signed_stream(request, token.as_deref());
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
        None => {
            watches.server.send_replace(Some(Arc::clone(&node.address)));
            tokio::select! {
                over = session.listen(&mut *source) => over,
                over = session.speak(&mut *sink) => over,
                over = session.until_silent(shared, &node) => over,
                () = shared.directory.until_given_up(&node) => Over::GivenUp,
            }
        }
    };
    let worked = session.lock().worked;
    match over {
        Over::NoWatches => {
            // The node learns of it by the end.
            let _ = sink.finish().await;
            return End::NoWatches;
        }
        Over::Told | Over::Behind => shared.failed(&node, Fault::Unable),
        Over::Silent => shared.failed(&node, Fault::Broken),
        Over::GivenUp => {}
        Over::TokenRefused => {
            if !shared.forget_token(&signing, token.as_ref()) {
                watches.end_all(&KvError::Auth(AuthError::UserEmpty));
            }
        }
        Over::Broken => blame(shared, &node).await,
    }
    End::Broken { worked }
}

/// Finds out whether the node is there, and has others move on if it is not.
async fn blame(shared: &Arc<Shared>, node: &Connected) {
    let there = shared.is_there(node).await;
    shared.failed(node, if there { Fault::Unable } else { Fault::Broken });
}

/// Why a stream is over.
#[derive(Debug)]
enum Over {
    NoWatches,
    /// The node said that it ends.
    Told,
    /// It says nothing, and does not answer.
    Silent,
    /// Another request has found that the connection is of no use.
    GivenUp,
    /// The node does not take the token.
    TokenRefused,
    /// The node is of an earlier history than a watch.
    Behind,
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
    /// When something came last.
    heard: Option<Instant>,
    /// Some watch was begun.
    worked: bool,
    /// Some watch is of a later history than the node.
    behind: bool,
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
            if self.lock().behind {
                return Over::Behind;
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
                match queue.begin(epoch) {
                    Begin::Watch(watch) => {
                        let id = state.learn(*number, queue);
                        requests.push(WatchRequest::Create(id, watch));
                    }
                    Begin::Behind => state.behind = true,
                    Begin::Ended => {}
                }
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

    /// Waits until the node neither tells nor answers anything. One that tells is not asked.
    async fn until_silent(&self, shared: &Arc<Shared>, node: &Connected) -> Over {
        loop {
            let heard = self.lock().heard.unwrap_or_else(Instant::now);
            sleep_until(heard + SILENCE).await;
            if self.lock().heard.is_some_and(|last| last > heard) {
                continue;
            }
            let asked = Instant::now();
            let there = shared.is_there(node).await;
            if !there && self.lock().heard.is_none_or(|last| last < asked) {
                return Over::Silent;
            }
            sleep_until(asked + ASK_INTERVAL).await;
        }
    }

    /// Takes in one frame. Whether the stream is over.
    fn hear(&self, frame: &Bytes) -> Option<Over> {
        let mut state = self.lock();
        state.heard = Some(Instant::now());
        let begun = state.epoch.is_some();
        for reply in decode_sequence::<WatchReply>(frame) {
            match reply {
                Ok(WatchReply::Opened(epoch)) => state.epoch = Some(epoch),
                Ok(WatchReply::Ended(error)) if is_about_token(&error) => {
                    return Some(Over::TokenRefused);
                }
                Ok(WatchReply::Ended(_)) => return Some(Over::Told),
                Ok(WatchReply::Canceled(_, Some(error))) if is_about_token(&error) => {
                    return Some(Over::TokenRefused);
                }
                Ok(reply) => state.hear(reply),
                Err(_) => return Some(Over::Broken),
            }
        }
        // To look what there is to say takes a look at every watch: not for each event.
        if !begun || !state.to_cancel.is_empty() {
            self.news.notify_one();
        }
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
