//! Streams of backups: the newest checkpoint, made anew if it is too old, in pieces and not too
//! fast. Nothing is kept in memory but a few pieces.
//!
//! As long as one is streamed, the file can give no room back that was in use when it began. So
//! there are few at a time, and whoever takes nothing for a while loses its place.

use super::read::summary;
use super::replica::Replica;
use super::{Clock, Door};
use crate::api::{BackupBegun, KvError, Query};
use crate::codec;
use bytes::Bytes;
use raft_core::node::ReadMode;
use raft_core::state_machine::Snapshot;
use raft_core::transport::{Duplex, FrameSink};
use raft_core::types::Index;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{debug, info, warn};

/// Bytes of a piece.
const PIECE: usize = 128 * 1024;
/// Pieces read ahead.
const AHEAD: usize = 4;
/// Most bytes sent in a second: what leaves the others room.
const RATE: u32 = 100 * 1024 * 1024;
/// How long a checkpoint may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between looks whether there is one.
const PAUSE: Duration = Duration::from_millis(10);
/// Between checkpoints asked for, whoever asks: what comes meanwhile takes the same.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// Most backups at a time.
const STREAMS_MAX: usize = 2;
/// How long somebody may take nothing of what is sent.
const STALL: Duration = Duration::from_secs(30);

/// What the backups of a node share.
pub(super) struct Backups {
    places: Semaphore,
    /// When a checkpoint was last asked for.
    asked: Mutex<Option<Instant>>,
}

impl Default for Backups {
    fn default() -> Self {
        Self { places: Semaphore::new(STREAMS_MAX), asked: Mutex::default() }
    }
}

impl Backups {
    /// Whether a checkpoint is to be asked for now.
    fn is_time_to_ask(&self) -> bool {
        // One assignment is all that happens under it.
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = asked.is_none_or(|asked| asked.elapsed() >= ASKED_EVERY);
        if is_time {
            *asked = Some(Instant::now());
        }
        is_time
    }
}

/// Streams a backup; `local`: of what this node has applied, even without a quorum.
pub(super) async fn stream<N: Replica>(door: &Door<N>, local: bool, stream: Duplex) {
    let Duplex { mut sink, mut source } = stream;
    let sent = async {
        let place = door.backups.places.try_acquire();
        let begun = match &place {
            Ok(_) => begin(door, local).await,
            Err(_) => Err(KvError::Unavailable(format!(
                "{STREAMS_MAX} backups are being made here already, try later or another node"
            ))),
        };
        let (begun, snapshot) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                debug!(%error, "no backup");
                if say(&mut *sink, codec::encode(&Err::<BackupBegun, _>(error))).await {
                    // It breaks only with the connection.
                    let _ = sink.finish().await;
                }
                return;
            }
        };
        let first = codec::encode(&Ok::<_, KvError>(begun));
        if say(&mut *sink, first).await && send(&mut *sink, snapshot).await {
            info!(last = %begun.last, "a backup was streamed");
            let _ = sink.finish().await;
        }
    };
    tokio::select! {
        () = sent => {}
        // Nothing is said by the other end: it has gone.
        _ = source.receive() => {}
        _ = door.node.stopped() => {}
        // Dropped unfinished, so that nobody takes it for whole.
        _ = door.known.divergence() => {}
    }
}

/// Says that there will be none.
pub(super) async fn refuse(mut stream: Duplex, error: KvError) {
    debug!(%error, "no backup");
    if say(&mut *stream.sink, codec::encode(&Err::<BackupBegun, _>(error))).await {
        // It breaks only with the connection.
        let _ = stream.sink.finish().await;
    }
}

/// A checkpoint that has all that was answered before.
async fn begin<N: Replica>(
    door: &Door<N>,
    local: bool,
) -> Result<(BackupBegun, Snapshot), KvError> {
    if let Some(refusal) = door.known.refusal() {
        return Err(refusal);
    }
    let unavailable = |text: String| KvError::Unavailable(text);
    let store = door.store.check();
    if !store.has_file() {
        return Err(unavailable("backups are not made here: the store is in no file".into()));
    }
    let mode = if local { ReadMode::Local } else { ReadMode::Lease };
    let clock = Clock::new(10_000, door.deadline_max);
    let seen = door.query(&Query::Summary, mode, clock).await?;
    let (wanted, summary) = (seen.applied, summary(&seen)?);
    if wanted == Index::ZERO {
        return Err(unavailable("the node belongs to no cluster yet".into()));
    }
    let give_up = Instant::now() + PATIENCE;
    let checkpoint = async {
        loop {
            let store = store.clone();
            let newest = tokio::task::spawn_blocking(move || store.snapshot()).await;
            let newest = newest.map_err(|error| unavailable(error.to_string()))?;
            match newest.map_err(|error| unavailable(error.to_string()))? {
                Some(snapshot) if snapshot.meta.last.index >= wanted => {
                    return Ok::<_, KvError>(snapshot);
                }
                _ => {}
            }
            if door.backups.is_time_to_ask() {
                door.node.checkpoint().map_err(|error| unavailable(error.to_string()))?;
            }
            sleep(PAUSE).await;
        }
    };
    let late = |_| unavailable("the checkpoint takes too long".into());
    let snapshot = timeout_at(give_up, checkpoint).await.map_err(late)??;
    let (node, last, revision) = (door.id, snapshot.meta.last, summary.revision);
    Ok((BackupBegun { node, last, revision, bytes: summary.bytes }, snapshot))
}

/// Sends all of it; whether it is all there.
async fn send(sink: &mut dyn FrameSink, snapshot: Snapshot) -> bool {
    let (pieces, mut read) = mpsc::channel(AHEAD);
    // Reading may block. The thread ends when nobody takes what it has read.
    let reader = move || read_all(snapshot.data, &pieces);
    if let Err(error) = thread::Builder::new().name("kv-backup".into()).spawn(reader) {
        debug!(%error, "no thread for a backup");
        return false;
    }
    let mut due = Instant::now();
    while let Some(piece) = read.recv().await {
        let piece: Bytes = match piece {
            Ok(piece) => piece,
            Err(error) => {
                tracing::error!(%error, "a backup broke off");
                return false;
            }
        };
        if piece.is_empty() {
            return true;
        }
        sleep_until(due).await;
        let size = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        due = due.max(Instant::now() - PAUSE) + Duration::from_secs(1) * size / RATE;
        if !say(sink, piece).await {
            return false;
        }
    }
    false
}

/// Sends a frame; whether it was taken.
async fn say(sink: &mut dyn FrameSink, frame: Bytes) -> bool {
    match timeout(STALL, sink.send(frame)).await {
        Ok(Ok(())) => true,
        Ok(Err(broken)) => {
            debug!(%broken, "a backup broke off");
            false
        }
        Err(_) => {
            warn!("a backup is given up: nothing of it was taken for {} s", STALL.as_secs());
            false
        }
    }
}

/// Reads to the end, which is told by an empty piece.
fn read_all(mut data: Box<dyn Read + Send>, pieces: &mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = (&mut data).take(PIECE as u64).read_to_end(&mut piece);
        let ended = !matches!(read, Ok(size) if size > 0);
        if pieces.blocking_send(read.map(|_| piece.into())).is_err() || ended {
            return;
        }
    }
}
