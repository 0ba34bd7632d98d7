//! Snapshots: a paced stream on a connection of its own, a file at the other end.
//!
//! A snapshot is delivered only when its length and checksum are right. Whatever goes wrong before
//! that leaves no file behind, and the sender is told that it did not arrive.

use crate::config::Limits;
use crate::error::{ProtocolError, close, printable};
use crate::frame::{self, Frame, FrameReader};
use crate::hello::{Hello, Purpose};
use crate::peer::{Dialled, SMALL_FRAME, dial};
use crate::shared::Shared;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::{RecvStream, SendStream, VarInt};
use raft_core::codec;
use raft_core::state_machine::Snapshot;
use raft_core::transport::Inbox;
use raft_core::types::{GroupId, Identity, NodeId, SnapshotMeta, Term};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use xxhash_rust::xxh3::Xxh3Default;

/// Bytes read and sent in one go; also the largest chunk frame.
const CHUNK_BYTES: usize = 128 * 1024;

/// Chunks between the thread that reads or writes files and the stream.
const CHUNKS_QUEUED: usize = 4;

const PREFIX: &str = "incoming-";
const SUFFIX: &str = ".snapshot";

/// Makes the directory of incoming snapshots and removes what an earlier process left in it.
pub(crate) fn prepare(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Sends a snapshot and reports the outcome to the group's inbox.
pub(crate) async fn send(
    shared: Arc<Shared>,
    group: GroupId,
    to: NodeId,
    term: Term,
    snapshot: Snapshot,
) {
    let Some(inbox) = shared.inbox(group) else { return };
    let meta = snapshot.meta.clone();
    let outcome = if shared.begin_snapshot(group, to) {
        let outcome = try_send(&shared, group, to, term, snapshot).await;
        shared.end_snapshot(group, to);
        outcome
    } else {
        Err("another one is on its way".into())
    };
    match &outcome {
        Ok(bytes) => {
            shared.counters.snapshots_sent();
            tracing::info!(peer = %to, %group, last = %meta.last, bytes, "snapshot sent");
        }
        Err(reason) => {
            tracing::warn!(peer = %to, %group, last = %meta.last, reason, "snapshot not sent");
        }
    }
    inbox.snapshot_sent(to, meta, outcome.is_ok());
}

async fn try_send(
    shared: &Arc<Shared>,
    group: GroupId,
    to: NodeId,
    term: Term,
    snapshot: Snapshot,
) -> Result<u64, String> {
    let permit = Arc::clone(&shared.snapshots_out).try_acquire_owned();
    let _permit = permit.map_err(|_| "too many snapshots are being sent")?;
    let address = shared.peer(to).and_then(|peer| peer.address());
    let address = address.ok_or("the peer's address is not known")?;
    let me: Option<Identity> = *shared.identity.borrow();
    let me = me.ok_or("the group is not open")?;
    let Dialled { connection, .. } = dial(shared, to, &address, me, Purpose::Snapshots).await?;
    let result = tokio::select! {
        result = stream(shared.limits(), &connection, group, term, snapshot) => result,
        error = connection.closed() => Err(error.into()),
    };
    let code = VarInt::from_u32(close::DONE);
    connection.close(code, b"the snapshot is sent, or given up");
    result.map_err(|error| error.to_string())
}

/// Writes head, chunks and end, and waits until the receiver has the snapshot.
async fn stream(
    limits: &Limits,
    connection: &quinn::Connection,
    group: GroupId,
    term: Term,
    snapshot: Snapshot,
) -> Result<u64, ProtocolError> {
    let (mut send, recv) = connection.open_bi().await?;
    let mut reply = FrameReader::new(recv, SMALL_FRAME);
    let Snapshot { meta, data } = snapshot;
    let mut head = BytesMut::new();
    frame::put(&mut head, frame::SNAPSHOT, |out| {
        out.put_u64_le(group.0);
        out.put_u64_le(term.0);
        codec::put(&meta, out);
    });
    send.write_chunk(head.freeze()).await?;
    let written = tokio::select! {
        written = write_chunks(limits, &mut send, data) => written,
        // The receiver speaks before the end only to refuse.
        refused = received(&mut reply) => {
            refused.and(Err(ProtocolError::Malformed("snapshot reply: it came early")))
        }
    };
    let bytes = match written {
        Ok(bytes) => bytes,
        Err(error) => {
            // The receiver must not take a stream that merely stops for a whole one.
            let _ = send.reset(VarInt::from_u32(close::DONE));
            return Err(error);
        }
    };
    within(limits.snapshot_stall, received(&mut reply)).await?;
    Ok(bytes)
}

async fn write_chunks(
    limits: &Limits,
    send: &mut SendStream,
    data: Box<dyn Read + Send>,
) -> Result<u64, ProtocolError> {
    let (sender, mut chunks) = mpsc::channel(CHUNKS_QUEUED);
    tokio::task::spawn_blocking(move || read_chunks(data, &sender));
    let mut checksum = Xxh3Default::new();
    let mut bytes = 0;
    let begin = Instant::now();
    loop {
        let chunk = within(limits.snapshot_stall, next(&mut chunks)).await?;
        if chunk.is_empty() {
            break;
        }
        checksum.update(&chunk);
        bytes += chunk.len() as u64;
        let mut head = BytesMut::with_capacity(frame::HEADER);
        frame::put_chunk_head(&mut head, chunk.len());
        within(limits.snapshot_stall, async {
            Ok(send.write_all_chunks(&mut [head.freeze(), chunk]).await?)
        })
        .await?;
        let rate = limits.snapshot_bytes_per_second.max(1) as f64;
        sleep_until(begin + Duration::from_secs_f64(bytes as f64 / rate)).await;
    }
    let mut end = BytesMut::new();
    frame::put(&mut end, frame::END, |out| {
        out.put_u64_le(bytes);
        out.put_u128_le(checksum.digest128());
    });
    send.write_chunk(end.freeze()).await?;
    // Fails only on a closed stream, and then there is no reply either.
    let _ = send.finish();
    Ok(bytes)
}

async fn next(chunks: &mut mpsc::Receiver<io::Result<Bytes>>) -> Result<Bytes, ProtocolError> {
    let chunk = chunks.recv().await.unwrap_or_else(|| Err(io::Error::other("the reader failed")));
    chunk.map_err(|error| ProtocolError::Lost(format!("cannot read it: {error}")))
}

/// Reads a snapshot on a thread that may block. It ends early if nobody listens any more. The last
/// thing sent is an empty chunk: a reader that panics must not look like one that is done.
fn read_chunks(mut data: Box<dyn Read + Send>, chunks: &mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut buffer = BytesMut::zeroed(CHUNK_BYTES);
        let mut filled = 0;
        while filled < CHUNK_BYTES {
            match data.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let _ = chunks.blocking_send(Err(error));
                    return;
                }
            }
        }
        buffer.truncate(filled);
        if chunks.blocking_send(Ok(buffer.freeze())).is_err() || filled == 0 {
            return;
        }
    }
}

/// Waits for the receiver's word.
async fn received(reply: &mut FrameReader) -> Result<(), ProtocolError> {
    match reply.next().await?.ok_or(ProtocolError::Truncated)? {
        Frame { kind: frame::RECEIVED, .. } => Ok(()),
        Frame { kind: frame::FAILURE, body } if body.len() > 9 => {
            Err(ProtocolError::Lost(printable(&body[9..])))
        }
        Frame { kind, .. } => Err(ProtocolError::Kind(kind)),
    }
}

async fn within<T>(
    limit: Duration,
    future: impl Future<Output = Result<T, ProtocolError>>,
) -> Result<T, ProtocolError> {
    let stalled = || ProtocolError::Lost(format!("no progress for {} s", limit.as_secs_f64()));
    timeout(limit, future).await.unwrap_or_else(|_| Err(stalled()))
}

/// Receives one snapshot and delivers it.
pub(crate) async fn receive(
    shared: Arc<Shared>,
    hello: Hello,
    recv: RecvStream,
    mut send: SendStream,
) -> Result<(), ProtocolError> {
    let from = hello.identity.node;
    let mut reader = FrameReader::new(recv, CHUNK_BYTES);
    let received = take(&shared, &mut reader).await;
    let mut reply = BytesMut::new();
    match &received {
        Ok(_) => {
            frame::put(&mut reply, frame::RECEIVED, |_| ());
        }
        Err(error) => frame::put_failure(&mut reply, 0, false, &error.to_string()),
    }
    if let Ok(Received { inbox, term, snapshot }) = received {
        shared.counters.snapshots_received();
        tracing::info!(peer = %from, last = %snapshot.meta.last, "snapshot received");
        inbox.receive_snapshot(from, hello.sender(), term, snapshot);
    } else if let Err(error) = received {
        tracing::warn!(peer = %from, %error, "snapshot refused");
        if !matches!(error, ProtocolError::Lost(_)) {
            shared.counters.violations();
        }
    }
    send.write_chunk(reply.freeze()).await?;
    let _ = send.finish();
    Ok(())
}

struct Received {
    inbox: Arc<dyn Inbox>,
    term: Term,
    snapshot: Snapshot,
}

async fn take(shared: &Arc<Shared>, reader: &mut FrameReader) -> Result<Received, ProtocolError> {
    let stall = shared.limits().snapshot_stall;
    let head = within(stall, reader.next()).await?.ok_or(ProtocolError::Truncated)?;
    let (group, term, meta) = decode_head(head)?;
    let refuse = |text: &str| ProtocolError::Lost(text.into());
    let inbox = shared.inbox(group).ok_or_else(|| refuse("the group is not open there"))?;
    let permit = Arc::clone(&shared.snapshots_in).try_acquire_owned();
    let _permit = permit.map_err(|_| refuse("too many snapshots are being received there"))?;
    let (sender, chunks) = mpsc::channel(CHUNKS_QUEUED);
    let directory = shared.snapshot_dir.clone();
    let file = tokio::task::spawn_blocking(move || write_file(&directory, chunks));
    let end = take_chunks(shared.limits(), reader, sender).await;
    // Waited for whatever happened: the thread removes the file before it ends.
    let file = file.await.map_err(|_| refuse("writing it failed there"))?;
    let (length, checksum) = end?;
    let file = file.map_err(|error| refuse(&format!("cannot write it there: {error}")))?;
    if (file.length, file.checksum) != (length, checksum) {
        return Err(ProtocolError::Malformed("snapshot: length or checksum differ"));
    }
    let snapshot = Snapshot { meta, data: Box::new(file.file) };
    Ok(Received { inbox, term, snapshot })
}

fn decode_head(head: Frame) -> Result<(GroupId, Term, SnapshotMeta), ProtocolError> {
    let Frame { kind, mut body } = head;
    if kind != frame::SNAPSHOT {
        return Err(ProtocolError::Kind(kind));
    }
    if body.len() < 16 {
        return Err(ProtocolError::Malformed("snapshot head"));
    }
    let group = GroupId(body.get_u64_le());
    let term = Term::try_from(body.get_u64_le());
    let term = term.map_err(|_| ProtocolError::Malformed("snapshot head"))?;
    let mut rest: &[u8] = &body;
    let meta = codec::take(&mut rest).map_err(|_| ProtocolError::Malformed("snapshot head"))?;
    if rest.is_empty() {
        Ok((group, term, meta))
    } else {
        Err(ProtocolError::Malformed("snapshot head"))
    }
}

/// Hands chunks to the thread that writes them; returns the announced length and checksum.
async fn take_chunks(
    limits: &Limits,
    reader: &mut FrameReader,
    chunks: mpsc::Sender<Bytes>,
) -> Result<(u64, u128), ProtocolError> {
    let mut bytes = 0;
    loop {
        let next = within(limits.snapshot_stall, reader.next()).await?;
        let Frame { kind, mut body } = next.ok_or(ProtocolError::Truncated)?;
        match kind {
            frame::CHUNK => {
                bytes += body.len() as u64;
                if bytes > limits.snapshot_bytes_max {
                    let most = limits.snapshot_bytes_max;
                    return Err(ProtocolError::Lost(format!("larger than {most} bytes")));
                }
                // Fails if the disk did; the thread says why.
                if chunks.send(body).await.is_err() {
                    return Ok((0, 0));
                }
            }
            frame::END if body.len() == 24 => return Ok((body.get_u64_le(), body.get_u128_le())),
            other => return Err(ProtocolError::Kind(other)),
        }
    }
}

struct Written {
    file: NamedTempFile,
    length: u64,
    checksum: u128,
}

/// Writes what comes to a file that goes away when it is dropped.
fn write_file(directory: &Path, mut chunks: mpsc::Receiver<Bytes>) -> io::Result<Written> {
    let mut file = tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).tempfile_in(directory)?;
    let mut checksum = Xxh3Default::new();
    let mut length = 0;
    while let Some(chunk) = chunks.blocking_recv() {
        checksum.update(&chunk);
        length += chunk.len() as u64;
        file.write_all(&chunk)?;
    }
    file.rewind()?;
    Ok(Written { file, length, checksum: checksum.digest128() })
}
