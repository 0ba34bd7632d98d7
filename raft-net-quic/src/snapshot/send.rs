//! Sending: one transfer, over as many streams as it takes.
//!
//! Reports every snapshot exactly once, as arrived or as given up. Never sends a snapshot whose
//! term is over: the receiver could not use it.

use super::pace::{Pace, Path};
use super::source::Source;
use super::{Head, RESUMABLE, stalled, within};
use crate::error::{ProtocolError, close, printable};
use crate::frame::{self, Frame, FrameReader};
use crate::hello::Purpose;
use crate::peer::{Dialled, SMALL_FRAME, dial, jittered};
use crate::shared::Shared;
use crate::tls;
use bytes::{Buf, BufMut, BytesMut};
use quinn::{Connection, SendStream, VarInt};
use raft_core::state_machine::Snapshot;
use raft_core::types::{GroupId, Identity, NodeId, Term};
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

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
    let outcome = match Sending::begin(&shared, group, to) {
        Some(_sending) => try_send(&shared, group, to, term, snapshot).await,
        None => Err("another one is on its way".into()),
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

/// Marks a snapshot as being sent.
struct Sending<'a> {
    shared: &'a Shared,
    group: GroupId,
    to: NodeId,
}

impl<'a> Sending<'a> {
    /// `None` if one is on its way already.
    fn begin(shared: &'a Shared, group: GroupId, to: NodeId) -> Option<Self> {
        shared.begin_snapshot(group, to).then_some(Self { shared, group, to })
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.shared.end_snapshot(self.group, self.to);
    }
}

/// Why a stream did not bring a snapshot to its end.
enum Failure {
    /// Another stream may.
    Broken(String),
    /// The transfer is over.
    GivenUp(String),
}

use Failure::{Broken, GivenUp};

impl From<ProtocolError> for Failure {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::Lost(reason) => Broken(reason),
            other => GivenUp(other.to_string()),
        }
    }
}

/// Returns the bytes sent, or why it was given up.
async fn try_send(
    shared: &Arc<Shared>,
    group: GroupId,
    to: NodeId,
    term: Term,
    snapshot: Snapshot,
) -> Result<u64, String> {
    // First come, first served; at most one per peer and group waits here.
    let slot = Arc::clone(&shared.snapshots_out).acquire_owned().await;
    let _slot = slot.map_err(|_| "this node is stopping")?;
    let limits = shared.limits();
    let Snapshot { meta, data } = snapshot;
    let mut transfer = Transfer {
        to,
        head: Head { transfer: Some(tls::random()), group, term, meta },
        source: Source::new(data),
        arrived: watch::Sender::new(0),
        answered: false,
    };
    let mut pause = limits.backoff_min;
    let mut progress = Instant::now();
    loop {
        let before = *transfer.arrived.borrow();
        let reason = match transfer.attempt(shared).await {
            Ok(()) => return Ok(transfer.source.taken_to()),
            Err(GivenUp(reason)) => return Err(reason),
            Err(Broken(reason)) => reason,
        };
        if *transfer.arrived.borrow() > before {
            (pause, progress) = (limits.backoff_min, Instant::now());
        }
        // A peer that cannot be reached at all is no interruption.
        if !transfer.answered || progress.elapsed() >= limits.snapshot_stall {
            return Err(reason);
        }
        shared.counters.snapshots_interrupted();
        let at = *transfer.arrived.borrow();
        tracing::info!(peer = %to, %group, at, reason, "snapshot interrupted, trying again");
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(limits.backoff_max);
    }
}

struct Transfer {
    to: NodeId,
    head: Head,
    source: Source,
    /// Bytes the receiver has said to have.
    arrived: watch::Sender<u64>,
    /// The receiver has ever answered the offer, so that there is something to go on with.
    answered: bool,
}

impl Transfer {
    /// One connection, from dial to loss.
    async fn attempt(&mut self, shared: &Arc<Shared>) -> Result<(), Failure> {
        self.check_term(shared)?;
        let given_up = |text: &str| GivenUp(text.into());
        let address = shared.peer(self.to).and_then(|peer| peer.address());
        let address = address.ok_or_else(|| given_up("the peer's address is not known"))?;
        let me: Option<Identity> = *shared.identity.borrow();
        let me = me.ok_or_else(|| given_up("the group is not open"))?;
        let dialled = dial(shared, self.to, &address, me, Purpose::Snapshots).await;
        let Dialled { connection, spoken, .. } = dialled.map_err(Broken)?;
        let resumable = spoken >= RESUMABLE;
        let result = tokio::select! {
            result = self.stream(shared, &connection, resumable) => result,
            error = connection.closed() => Err(ProtocolError::from(error).into()),
        };
        let code = VarInt::from_u32(close::DONE);
        connection.close(code, b"the snapshot is sent, or given up");
        match result {
            Err(Broken(reason)) if !resumable => Err(GivenUp(reason)),
            other => other,
        }
    }

    fn check_term(&self, shared: &Shared) -> Result<(), Failure> {
        let Head { group, term, .. } = self.head;
        if shared.is_over(group, term) {
            return Err(GivenUp(format!("term {term} is over")));
        }
        Ok(())
    }

    /// One stream. The receiver is told if no other will continue it.
    async fn stream(
        &mut self,
        shared: &Arc<Shared>,
        connection: &Connection,
        resumable: bool,
    ) -> Result<(), Failure> {
        let (mut send, recv) = connection.open_bi().await.map_err(ProtocolError::from)?;
        let mut reply = FrameReader::new(recv, SMALL_FRAME);
        let result = self.carry(shared, connection, &mut send, &mut reply, resumable).await;
        if let Err(GivenUp(reason)) = &result {
            abandon(shared, &mut send, resumable, reason).await;
        }
        result
    }

    /// Writes head, chunks and end, and waits until the receiver has the snapshot.
    async fn carry(
        &mut self,
        shared: &Shared,
        connection: &Connection,
        send: &mut SendStream,
        reply: &mut FrameReader,
        resumable: bool,
    ) -> Result<(), Failure> {
        let stall = shared.limits().snapshot_stall;
        let mut head = self.head.clone();
        head.transfer = head.transfer.filter(|_| resumable);
        let mut frame = BytesMut::new();
        head.encode(&mut frame);
        send.write_chunk(frame.freeze()).await.map_err(ProtocolError::from)?;
        if resumable {
            let word = within(stall, word(reply)).await?;
            self.answered = true;
            match word {
                Word::Received => return Ok(()),
                Word::Progress(offset) => self.resume(shared, offset)?,
                Word::Later(reason) => return Err(Broken(reason)),
                Word::Refused(reason) => return Err(GivenUp(reason)),
            }
        } else if !self.source.is_fresh() {
            return Err(GivenUp("the peer does not continue what has begun".into()));
        }
        let arrived = self.arrived.clone();
        let mut acknowledged = arrived.subscribe();
        let mut words = pin!(listen(reply, &arrived));
        let early = |()| Err(GivenUp("the peer has it before its end".into()));
        let written = tokio::select! {
            biased;
            told = &mut words => return told.and_then(early),
            written = self.write(shared, connection, send, resumable) => written,
        };
        if let Err(failure) = written {
            // A receiver that stops the stream says why on its own, which may arrive later.
            let patience = shared.limits().dial_timeout;
            return match failure {
                Broken(_) => match timeout(patience, words).await {
                    Ok(told) => told.and_then(early),
                    Err(_) => Err(failure),
                },
                GivenUp(_) => Err(failure),
            };
        }
        loop {
            tokio::select! {
                told = &mut words => return told,
                Ok(()) = acknowledged.changed() => {}
                () = sleep(stall) => return Err(stalled(stall).into()),
            }
        }
    }

    /// Goes on where the receiver is.
    fn resume(&mut self, shared: &Shared, offset: u64) -> Result<(), Failure> {
        if !self.source.rewind(offset) {
            let text = format!("the peer has lost what it had: it is at {offset}");
            return Err(GivenUp(text));
        }
        self.arrived.send_replace(offset);
        if offset > 0 {
            shared.counters.snapshots_resumed();
            tracing::info!(peer = %self.to, offset, "snapshot resumed");
        }
        Ok(())
    }

    async fn write(
        &mut self,
        shared: &Shared,
        connection: &Connection,
        send: &mut SendStream,
        resumable: bool,
    ) -> Result<(), Failure> {
        let limits = shared.limits();
        let mut arrived = self.arrived.subscribe();
        let mut pace = Pace::new(limits);
        loop {
            let offset =
                if resumable { *arrived.borrow_and_update() } else { self.source.taken_to() };
            if !self.source.acknowledge(offset) {
                return Err(GivenUp(format!("the peer has {offset} bytes that were not sent")));
            }
            if self.source.is_full() {
                let changed = async { Ok(arrived.changed().await.is_ok()) };
                within(limits.snapshot_stall, changed).await?;
                continue;
            }
            let chunk = within(limits.snapshot_stall, self.source.next()).await;
            let chunk = chunk.map_err(|error| GivenUp(format!("cannot read it: {error}")))?;
            let Some(chunk) = chunk else { break };
            let length = chunk.len();
            let mut head = BytesMut::with_capacity(frame::HEADER);
            frame::put_head(&mut head, frame::CHUNK, length);
            within(limits.snapshot_stall, async {
                Ok(send.write_all_chunks(&mut [head.freeze(), chunk]).await?)
            })
            .await?;
            self.check_term(shared)?;
            pace.sent(length, || path_of(connection)).await;
        }
        let (length, checksum) = self.source.whole();
        let mut end = BytesMut::new();
        frame::put(&mut end, frame::END, |out| {
            out.put_u64_le(length);
            out.put_u128_le(checksum);
        });
        send.write_chunk(end.freeze()).await.map_err(ProtocolError::from)?;
        // Fails only on a closed stream, and then there is no reply either.
        let _ = send.finish();
        Ok(())
    }
}

fn path_of(connection: &Connection) -> Path {
    let path = connection.stats().path;
    Path { round_trip: path.rtt, losses: path.congestion_events }
}

/// Tells the receiver that nothing will continue what it has. It must not take a stream that
/// merely stops for a whole one.
async fn abandon(shared: &Shared, send: &mut SendStream, resumable: bool, reason: &str) {
    if !resumable {
        let _ = send.reset(VarInt::from_u32(close::DONE));
        return;
    }
    let mut frame = BytesMut::new();
    frame::put_failure(&mut frame, 0, false, reason);
    let told = async {
        send.write_chunk(frame.freeze()).await?;
        let _ = send.finish();
        // Before the connection is closed, which would take back what has not left.
        let _ = send.stopped().await;
        Ok(())
    };
    // The receiver may be gone, or not reading any more: then it forgets by itself.
    let _ = within(shared.limits().dial_timeout, told).await;
}

/// What the receiver says.
enum Word {
    /// It has this many bytes.
    Progress(u64),
    /// Not now, or not over this stream any more.
    Later(String),
    /// It does not want it.
    Refused(String),
    /// It has handed the snapshot over.
    Received,
}

async fn word(reply: &mut FrameReader) -> Result<Word, ProtocolError> {
    let Frame { kind, mut body } = reply.next().await?.ok_or(ProtocolError::Truncated)?;
    match kind {
        frame::RECEIVED => Ok(Word::Received),
        frame::PROGRESS if body.len() == 8 => Ok(Word::Progress(body.get_u64_le())),
        frame::BUSY => Ok(Word::Later(printable(&body))),
        frame::FAILURE if body.len() > 9 => {
            let reason = printable(&body[9..]);
            Ok(if body[8] == 0 { Word::Refused(reason) } else { Word::Later(reason) })
        }
        other => Err(ProtocolError::Kind(other)),
    }
}

/// Listens until the receiver has the snapshot.
async fn listen(reply: &mut FrameReader, arrived: &watch::Sender<u64>) -> Result<(), Failure> {
    loop {
        match word(reply).await? {
            Word::Received => return Ok(()),
            Word::Progress(offset) => {
                arrived.send_if_modified(|known| {
                    let is_news = offset > *known;
                    *known = offset.max(*known);
                    is_news
                });
            }
            Word::Later(reason) => return Err(Broken(reason)),
            Word::Refused(reason) => return Err(GivenUp(reason)),
        }
    }
}
