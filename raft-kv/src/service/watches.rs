//! Streams of watches: between the hub, which knows what is to be said, and whoever listens.
//!
//! Any node serves them, from what it has applied. A stream ends with an error if the node stops,
//! is no member any more or, for those who asked for that, has no leader for long; whoever watched
//! goes on elsewhere from where it was.

use super::auth::{Asker, Need, WatchRights};
use super::replica::Replica;
use super::{Clock, Door};
use crate::api::{KvError, REQUEST_BYTES_MAX, StreamRequest, WatchReply, WatchRequest};
use crate::codec;
use crate::store::StoreHandle;
#[cfg(feature = "etcd")]
use crate::watch::WatchCounts;
use crate::watch::{Hub, Speech, Stream, WatchOptions};
use bytes::Bytes;
use raft_core::node::Status;
use raft_core::transport::{Duplex, FrameSink, FrameSource, StreamError};
use raft_core::types::NodeId;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

/// What serves watches on a node.
pub(super) struct Watches {
    hub: Arc<Hub>,
    progress_interval: Duration,
    /// Where streams are served.
    runtime: Handle,
}

impl Watches {
    /// Starts to look at the changes of the store.
    pub(super) fn new(store: &StoreHandle, options: WatchOptions) -> Arc<Self> {
        let runtime = Handle::current();
        let hub = Hub::new(store.history(), options);
        runtime.spawn(Hub::run(Arc::downgrade(&hub)));
        Arc::new(Self { hub, progress_interval: options.progress_interval, runtime })
    }

    /// How many there are, and what they were told.
    #[cfg(feature = "etcd")]
    pub(super) fn counts(&self) -> WatchCounts {
        self.hub.counts()
    }
}

/// Serves a stream in a task of its own.
pub(super) fn serve<N: Replica>(
    watches: &Arc<Watches>,
    door: Arc<Door<N>>,
    asker: Asker,
    first: &Bytes,
    stream: Duplex,
) {
    let request = codec::decode::<StreamRequest>(first);
    let own = Arc::clone(watches);
    watches.runtime.spawn(async move {
        let (asker, request) = match request {
            Ok(StreamRequest::Signed { token, request }) => (asker.signed(token), Ok(*request)),
            request => (asker, request.map_err(KvError::from)),
        };
        match request {
            Ok(StreamRequest::Watch { require_leader }) => {
                let watching = Watching {
                    stream: own.hub.open(),
                    rights: WatchRights::of(asker),
                    progress_interval: own.progress_interval,
                };
                converse(&door, &watching, require_leader, stream).await;
            }
            Ok(StreamRequest::Backup { local }) => {
                let clock = Clock::new(BACKUP_DEADLINE_MS, door.deadline_max);
                match door.allow(&asker, Need::Root, local, clock).await {
                    Ok(_) => super::backup::stream(&door, local, stream).await,
                    Err(error) => super::backup::refuse(stream, error).await,
                }
            }
            Ok(StreamRequest::Signed { .. }) => {
                end(stream.sink, KvError::Malformed("signed twice".into())).await;
            }
            Err(error) => {
                debug!(caller = ?asker.caller, %error, "stream refused");
                end(stream.sink, error).await;
            }
        }
    });
}

/// How long it may take to find out whether somebody may have a backup.
const BACKUP_DEADLINE_MS: u32 = 10_000;

/// The watches of one stream.
struct Watching {
    stream: Stream,
    rights: WatchRights,
    progress_interval: Duration,
}

/// Serves one stream until either side ends it.
async fn converse<N: Replica>(
    door: &Door<N>,
    watching: &Watching,
    require_leader: bool,
    stream: Duplex,
) {
    let own = &watching.stream;
    let Duplex { mut sink, mut source } = stream;
    let status = door.node.status();
    if let Some(error) = door.known.refusal().or_else(|| unfit(&status, require_leader)) {
        return end(sink, error).await;
    }
    own.say(WatchReply::Opened(status.membership.epoch()));
    let why = tokio::select! {
        why = listen(door, watching, &mut *source) => why,
        spoken = speak(door, watching, &mut *sink) => match spoken {
            Ok(error) => Some(error),
            Err(broken) => {
                debug!(%broken, "a stream of watches ended");
                return;
            }
        },
        error = unfitness(door, require_leader) => Some(error),
        _ = door.known.divergence() => door.known.refusal(),
        _ = door.node.stopped() => Some(KvError::Unavailable("the node is stopping".into())),
        () = tell_progress(own, watching.progress_interval) => None,
    };
    match why {
        // What was not sent yet is told wherever the watches go on.
        Some(error) => end(sink, error).await,
        // It breaks only with the connection.
        None => drop(sink.finish().await),
    }
}

/// Says why, and ends the stream.
async fn end(mut sink: Box<dyn FrameSink>, error: KvError) {
    if sink.send(codec::encode_sequence([&WatchReply::Ended(error)])).await.is_ok() {
        // It breaks only with the connection.
        let _ = sink.finish().await;
    }
}

/// Does what is asked until there is nobody left to ask, or something that cannot be done.
async fn listen<N: Replica>(
    door: &Door<N>,
    watching: &Watching,
    source: &mut dyn FrameSource,
) -> Option<KvError> {
    let own = &watching.stream;
    while let Ok(Some(frame)) = source.receive().await {
        if frame.len() > REQUEST_BYTES_MAX {
            return Some(super::too_large(frame.len(), REQUEST_BYTES_MAX));
        }
        for request in codec::decode_sequence::<WatchRequest>(&frame) {
            // Whoever does not listen is not listened to.
            own.has_room().await;
            let done = match request {
                Ok(request) => ask(door, watching, &request).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = done {
                return Some(error);
            }
        }
    }
    None
}

/// Does what is asked, if whoever asks may.
async fn ask<N: Replica>(
    door: &Door<N>,
    watching: &Watching,
    request: &WatchRequest,
) -> Result<(), KvError> {
    let Watching { stream: own, rights, .. } = watching;
    match request {
        WatchRequest::Create(id, watch) => {
            if let Err(error) = rights.begin(door, &watch.keys).await {
                own.say(WatchReply::Canceled(*id, Some(error)));
                return Ok(());
            }
        }
        WatchRequest::Cancel(id) => {
            // Of what waits to be told of it, nobody would ask any more whether that may be. It is
            // asked once nothing more can come to wait: the right may go while it is canceled.
            let keys = own.keys_of(*id);
            own.ask(request)?;
            return rights.check(door, own, keys);
        }
        WatchRequest::Progress | WatchRequest::Reach(_) => {}
    }
    own.ask(request)
}

/// Says what there is to be said, as fast as it is listened to, until that is not allowed any more.
async fn speak<N: Replica>(
    door: &Door<N>,
    watching: &Watching,
    sink: &mut dyn FrameSink,
) -> Result<KvError, StreamError> {
    let mut speech = Speech::default();
    loop {
        let frame = watching.stream.next(&mut speech).await;
        if let Err(error) = watching.rights.check(door, &watching.stream, None) {
            return Ok(error);
        }
        sink.send(frame).await?;
        // However fast the other end takes it, the node has other things to do.
        tokio::task::yield_now().await;
    }
}

async fn tell_progress(own: &Stream, interval: Duration) {
    let random = RandomState::new().hash_one(interval) as f64 / u64::MAX as f64;
    let interval = interval.max(Duration::from_millis(1)).mul_f64(1.0 + random / 10.0);
    loop {
        sleep(interval).await;
        own.tell_progress();
    }
}

/// Why the node cannot serve watches at all, as it is.
fn unfit(status: &Status, require_leader: bool) -> Option<KvError> {
    let own = status.identity.node;
    let why = match () {
        () if status.membership.is_empty() => "the node belongs to no cluster yet".into(),
        () if !status.membership.contains(own) => {
            format!("{own} was removed from the cluster: ask another node")
        }
        () if require_leader && status.leader.is_none() => "no leader".into(),
        () => return None,
    };
    Some(KvError::Unavailable(why))
}

/// Waits until the node has been unfit for half of the longest election timeout. Elections are
/// over by then, but for those that have to be held twice; who watches at a node that was cut off
/// goes on elsewhere one and a half election timeouts after that has happened.
async fn unfitness<N: Replica>(door: &Door<N>, require_leader: bool) -> KvError {
    let mut leader = door.leader.clone();
    loop {
        let status = door.node.status();
        // Silence is twice the longest election timeout.
        let patience = (status.limits.silence / 4).max(Duration::from_millis(1));
        let give_up = Instant::now() + patience;
        if unfit(&status, require_leader).is_some() {
            tokio::select! {
                () = sleep_until(give_up) => {}
                () = changed(&mut leader) => continue,
            }
            if let Some(error) = unfit(&door.node.status(), require_leader) {
                return error;
            }
            continue;
        }
        // A removal is told by the status only.
        tokio::select! {
            () = sleep_until(give_up) => {}
            () = changed(&mut leader) => {}
        }
    }
}

/// Waits for another leader. Once nobody tells of it any more the node has stopped.
async fn changed(leader: &mut Receiver<Option<NodeId>>) {
    if leader.changed().await.is_err() {
        std::future::pending().await
    }
}
