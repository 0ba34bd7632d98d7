//! Receiving: one stream, which begins a part, or continues one, or is refused.
//!
//! Hands a snapshot over only when it is whole, and only once. Must never append to a part that
//! another transfer, or another life of the sender, has begun.

use super::partial::{Claim, Origin, Partial};
use super::spool::Spool;
use super::{ACKNOWLEDGED_BYTES, CHUNK_BYTES, CHUNKS_QUEUED, Head, within};
use crate::error::{ProtocolError, printable};
use crate::frame::{self, Frame, FrameReader};
use crate::hello::Hello;
use crate::shared::Shared;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::{RecvStream, SendStream};
use raft_core::state_machine::Snapshot;
use raft_core::transport::Inbox;
use raft_core::types::{GroupId, Term, Version};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::JoinHandle;

/// Why a stream brings no snapshot.
enum Refusal {
    /// There is no room at present.
    Busy(String),
    /// The sender need not try again, or has said so itself.
    GivenUp(ProtocolError),
    /// It broke: what is there may be continued.
    Broken(String),
}

use Refusal::{Broken, Busy, GivenUp};

impl From<ProtocolError> for Refusal {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::Lost(reason) => Broken(reason),
            other => GivenUp(other),
        }
    }
}

fn give_up(text: impl Into<String>) -> Refusal {
    GivenUp(ProtocolError::Lost(text.into()))
}

/// Receives one snapshot of a peer, or goes on with one, and delivers it when it is whole.
///
/// Not to be dropped half-way: what has arrived when the stream breaks is put aside here.
pub(crate) async fn receive(
    shared: Arc<Shared>,
    hello: Hello,
    spoken: Version,
    recv: RecvStream,
    mut send: SendStream,
) -> Result<(), ProtocolError> {
    let from = hello.identity.node;
    let mut reader = FrameReader::new(recv, CHUNK_BYTES);
    let mut reply = BytesMut::new();
    let taken = match head(&shared, &mut reader, spoken).await {
        Ok((head, inbox)) => {
            let resumable = head.transfer.is_some();
            let mut stream = Stream { shared: &shared, reader, send: &mut send, resumable };
            match (stream.take(hello, head, inbox).await, resumable) {
                // Version 1 knows no such answer.
                (Err(Busy(reason)), false) => Err(give_up(reason)),
                (other, _) => other,
            }
        }
        Err(refusal) => Err(refusal),
    };
    match taken {
        Ok(()) => _ = frame::put(&mut reply, frame::RECEIVED, |_| ()),
        Err(Busy(reason)) => {
            tracing::info!(peer = %from, reason, "snapshot put off");
            frame::put(&mut reply, frame::BUSY, |out| out.put_slice(reason.as_bytes()));
        }
        Err(GivenUp(error)) => {
            tracing::warn!(peer = %from, %error, "snapshot refused");
            if !matches!(error, ProtocolError::Lost(_)) {
                shared.counters.violations();
            }
            frame::put_failure(&mut reply, 0, false, &error.to_string());
        }
        Err(Broken(reason)) => {
            tracing::info!(peer = %from, reason, "snapshot interrupted");
            frame::put_failure(&mut reply, 0, true, &reason);
        }
    }
    send.write_chunk(reply.freeze()).await?;
    let _ = send.finish();
    Ok(())
}

/// Reads the head of a stream, and refuses what is of no use here before a byte is written.
async fn head(
    shared: &Shared,
    reader: &mut FrameReader,
    spoken: Version,
) -> Result<(Head, Arc<dyn Inbox>), Refusal> {
    let stall = shared.limits().snapshot_stall;
    let frame = within(stall, reader.next()).await?.ok_or(ProtocolError::Truncated)?;
    let head = Head::decode(frame, spoken)?;
    let inbox = shared.inbox(head.group);
    let inbox = inbox.ok_or_else(|| give_up("the group is not open there"))?;
    check_term(shared, head.group, head.term)?;
    Ok((head, inbox))
}

fn check_term(shared: &Shared, group: GroupId, term: Term) -> Result<(), Refusal> {
    if shared.is_over(group, term) {
        return Err(give_up(format!("term {term} is over there")));
    }
    Ok(())
}

/// One stream of a snapshot.
struct Stream<'a> {
    shared: &'a Arc<Shared>,
    reader: FrameReader,
    send: &'a mut SendStream,
    /// The sender listens, and may go on with another stream.
    resumable: bool,
}

impl Stream<'_> {
    /// Takes the snapshot and hands it over. `Ok` too if that was done before.
    async fn take(
        &mut self,
        hello: Hello,
        head: Head,
        inbox: Arc<dyn Inbox>,
    ) -> Result<(), Refusal> {
        let Head { transfer, group, term, meta } = head;
        let incoming = &self.shared.incoming;
        let from = hello.identity.node;
        let claim = incoming.claim((group, from), self.shared.limits().snapshot_stall).await;
        let mut claim = claim.ok_or_else(|| Busy("another stream has its place there".into()))?;
        let incarnation = hello.identity.incarnation;
        let origin = Origin { incarnation, transfer, term, meta };
        if incoming.has_finished(claim.key(), &origin) {
            return Ok(());
        }
        let start = self.begin(&mut claim, origin)?;
        let (partial, end) = self.run(&mut claim, group, start).await?;
        let (length, checksum) = match end {
            Ok(end) => end,
            Err(refusal) => {
                match refusal {
                    Broken(_) if self.resumable && partial.length > 0 => claim.keep(partial),
                    _ => discard(partial).await,
                }
                return Err(refusal);
            }
        };
        if !partial.is(length, checksum) {
            discard(partial).await;
            return Err(ProtocolError::Malformed("snapshot: length or checksum differ").into());
        }
        if let Err(refusal) = check_term(self.shared, group, term) {
            discard(partial).await;
            return Err(refusal);
        }
        let origin = partial.origin.clone();
        let runtime = incoming.runtime().clone();
        let data = blocking(move || partial.into_data(runtime)).await;
        let data = data.map_err(|error| give_up(format!("cannot read it there: {error}")))?;
        let snapshot = Snapshot { meta: origin.meta.clone(), data };
        // No wait from here on: it is handed over once, or not at all.
        self.shared.counters.snapshots_received();
        tracing::info!(peer = %from, last = %snapshot.meta.last, length, "snapshot received");
        inbox.receive_snapshot(from, hello.sender(), term, snapshot);
        incoming.finish(claim.key(), origin);
        Ok(())
    }

    /// What to write to: the part that is there if it is of the same origin, or a new one.
    fn begin(&self, claim: &mut Claim, origin: Origin) -> Result<Start, Refusal> {
        let (old, room) = match claim.take() {
            Some(partial) if partial.origin == origin && self.resumable => {
                return Ok(Start::Continued(partial));
            }
            Some(other) => {
                let (file, room) = other.split();
                (Some(file), Some(room))
            }
            None => (None, self.shared.incoming.room()),
        };
        let full = || Busy("too many snapshots are being received there".into());
        let room = room.ok_or_else(full)?;
        let directory = self.shared.snapshot_dir.clone();
        Ok(Start::New { directory, origin, room, old })
    }

    /// Appends what comes. Returns the part, and how the stream ended.
    async fn run(
        &mut self,
        claim: &mut Claim,
        group: GroupId,
        start: Start,
    ) -> Result<(Partial, Result<(u64, u128), Refusal>), Refusal> {
        let (offset, term) = match &start {
            Start::New { origin, .. } => (0, origin.term),
            Start::Continued(partial) => (partial.length, partial.origin.term),
        };
        let (sender, chunks) = mpsc::channel(CHUNKS_QUEUED);
        let (written_to, written) = watch::channel(offset);
        let writer: JoinHandle<io::Result<Partial>> =
            tokio::task::spawn_blocking(move || write_file(start, chunks, &written_to));
        let end = match self.acknowledge(offset).await {
            Ok(()) => self.take_chunks(claim, (group, term), offset, sender, written).await,
            Err(refusal) => {
                drop(sender);
                Err(refusal)
            }
        };
        // Waited for whatever happened: on an error the thread removes the file before it ends.
        let partial = writer.await.map_err(|_| give_up("writing it failed there"))?;
        let failed = |error: io::Error| give_up(format!("cannot write it there: {error}"));
        Ok((partial.map_err(failed)?, end))
    }

    /// Says how much is here, to a sender that listens.
    async fn acknowledge(&mut self, offset: u64) -> Result<(), Refusal> {
        if !self.resumable {
            return Ok(());
        }
        let mut frame = BytesMut::new();
        frame::put(&mut frame, frame::PROGRESS, |out| out.put_u64_le(offset));
        let stall = self.shared.limits().snapshot_stall;
        within(stall, async { Ok(self.send.write_chunk(frame.freeze()).await?) }).await?;
        Ok(())
    }

    /// Hands chunks to the thread that writes them; returns the announced length and checksum.
    async fn take_chunks(
        &mut self,
        claim: &mut Claim,
        (group, term): (GroupId, Term),
        offset: u64,
        chunks: mpsc::Sender<Bytes>,
        mut written: watch::Receiver<u64>,
    ) -> Result<(u64, u128), Refusal> {
        let limits = self.shared.limits();
        let mut bytes = offset;
        loop {
            let next = tokio::select! {
                next = within(limits.snapshot_stall, self.reader.next()) => next?,
                Ok(()) = written.changed() => {
                    check_term(self.shared, group, term)?;
                    let offset = *written.borrow_and_update();
                    self.acknowledge(offset).await?;
                    continue;
                }
                () = claim.taken_over() => {
                    return Err(Broken("a newer stream takes its place".into()));
                }
            };
            let Frame { kind, mut body } = next.ok_or(ProtocolError::Truncated)?;
            match kind {
                frame::CHUNK if !body.is_empty() => {
                    bytes += body.len() as u64;
                    if bytes > limits.snapshot_bytes_max {
                        let most = limits.snapshot_bytes_max;
                        return Err(give_up(format!("larger than {most} bytes")));
                    }
                    // Fails if the disk did; the thread says why.
                    if chunks.send(body).await.is_err() {
                        return Ok((0, 0));
                    }
                }
                frame::END if body.len() == 24 => {
                    return Ok((body.get_u64_le(), body.get_u128_le()));
                }
                frame::FAILURE if body.len() > 9 => {
                    let reason = printable(&body[9..]);
                    return Err(give_up(format!("its sender gave it up: {reason}")));
                }
                other => return Err(ProtocolError::Kind(other).into()),
            }
        }
    }
}

/// What a stream writes to.
enum Start {
    New {
        directory: PathBuf,
        origin: Origin,
        room: OwnedSemaphorePermit,
        /// What was in its place, to be removed first.
        old: Option<Spool>,
    },
    Continued(Partial),
}

/// Appends what comes, and tells from time to time how far it is.
fn write_file(
    start: Start,
    mut chunks: mpsc::Receiver<Bytes>,
    written: &watch::Sender<u64>,
) -> io::Result<Partial> {
    let mut partial = match start {
        Start::Continued(partial) => partial,
        Start::New { directory, origin, room, old } => {
            drop(old);
            Partial::create(&directory, origin, room)?
        }
    };
    let mut told = partial.length;
    while let Some(chunk) = chunks.blocking_recv() {
        partial.append(&chunk)?;
        if partial.length - told >= ACKNOWLEDGED_BYTES {
            told = partial.length;
            written.send_replace(told);
        }
    }
    Ok(partial)
}

/// Removes a part, and waits for it: who is told that it is gone may look.
async fn discard(partial: Partial) {
    let removed = tokio::task::spawn_blocking(move || drop(partial));
    // Fails only if the runtime stops, and then it was dropped all the same.
    let _ = removed.await;
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(io::Error::other("the thread failed")))
}
