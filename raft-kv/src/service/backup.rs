//! Streams of backups: the newest checkpoint, made anew if it is too old, in pieces and not too
//! fast. Nothing is kept in memory but a few pieces.

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
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, info};

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

/// Streams a backup; `local`: of what this node has applied, even without a quorum.
pub(super) async fn stream<N: Replica>(door: &Door<N>, local: bool, stream: Duplex) {
    let Duplex { mut sink, mut source } = stream;
    let sent = async {
        let (begun, snapshot) = match begin(door, local).await {
            Ok(begun) => begun,
            Err(error) => {
                debug!(%error, "no backup");
                let refused = codec::encode(&Err::<BackupBegun, _>(error));
                if sink.send(refused).await.is_ok() {
                    // It breaks only with the connection.
                    let _ = sink.finish().await;
                }
                return;
            }
        };
        let first = codec::encode(&Ok::<_, KvError>(begun));
        if sink.send(first).await.is_ok() && send(&mut *sink, snapshot).await {
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
            door.node.checkpoint().map_err(|error| unavailable(error.to_string()))?;
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
        if let Err(broken) = sink.send(piece).await {
            debug!(%broken, "a backup broke off");
            return false;
        }
    }
    false
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
