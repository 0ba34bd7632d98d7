//! The bytes of messages, entries and log operations: one format for the wire and the disk.
//!
//! Everything is postcard: variable-length integers, little else. Payload bytes are borrowed from
//! the buffer while decoding and then sliced out of it, so that a payload is never copied between
//! the receive buffer, the log and the disk writer. Whoever frames these bytes adds the version,
//! the length and, on disk, the checksum; a change to the format is a new version there. Beyond
//! version 1 there are the messages that say so ([`Message::since`]) and memberships of a newer
//! [version](Membership::version); all else has the bytes of version 1, so whoever stamps what he
//! writes with the newest version in it keeps the rest readable for older programs.
//!
//! Decoding never panics and allocates no more than a small multiple of what it was given.

use crate::raft::{AppendEntries, AppendOutcome, Envelope, LogOp, Message, ReadRequestId};
use crate::types::{
    Entry, GroupId, HardState, Identity, Incarnation, Index, LogId, Membership, NodeId, Payload,
    Run, Sender, SnapshotMeta, Term, Version,
};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// Version of everything this module encodes. Frames and files carry it.
pub const VERSION: u16 = Version::CURRENT.0;

/// Most entries in one message: a small entry is far larger in memory than on the wire.
/// [`Config`](crate::raft::Config) refuses message sizes that could exceed it.
pub const ENTRIES_MAX: usize = 64 * 1024;

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes end early, or a value is out of its range.
    #[error("malformed")]
    Malformed,
    /// Entries whose indexes are not consecutive, or whose terms fall.
    #[error("entries are not consecutive")]
    NotConsecutive,
    /// Bytes are left over.
    #[error("{0} bytes left over")]
    Trailing(usize),
}

#[derive(Serialize, Deserialize)]
struct WireEnvelope {
    group: GroupId,
    from: NodeId,
    to: NodeId,
    term: Term,
    message: WireMessage,
}

/// [`Message`] without the entries, which follow as a counted list.
#[derive(Serialize, Deserialize)]
enum WireMessage {
    RequestVote {
        last_log: LogId,
        pre_vote: bool,
        transfer: bool,
    },
    RequestVoteResponse {
        granted: bool,
        pre_vote: bool,
    },
    AppendEntries {
        prev_log: LogId,
        entries: u32,
        leader_commit: Index,
        read_seq: u64,
    },
    AppendEntriesResponse {
        outcome: AppendOutcome,
        read_seq: u64,
    },
    InstallSnapshot {
        meta: SnapshotMeta,
    },
    TimeoutNow,
    ReadIndex {
        request: ReadRequestId,
    },
    ReadIndexResponse {
        request: ReadRequestId,
        index: Index,
    },
    // From version 2 on.
    Hello {
        members: Vec<NodeId>,
        seen: Option<Incarnation>,
    },
    /// An `AppendEntriesResponse` of a node whose disk is stalled.
    Stalled {
        outcome: AppendOutcome,
        read_seq: u64,
        ticks: u32,
    },
    // From version 4 on.
    Commit {
        entry: LogId,
    },
}

#[derive(Serialize, Deserialize)]
struct WireEntry<'a> {
    id: LogId,
    #[serde(borrow)]
    payload: WirePayload<'a>,
}

#[derive(Serialize, Deserialize)]
enum WirePayload<'a> {
    Noop,
    // As bytes: serde takes a plain slice for a sequence, and pushes it byte by byte.
    Command(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
    Membership(Membership),
}

#[derive(Serialize, Deserialize)]
enum WireOp {
    Identity(Identity),
    HardState(HardState),
    Append(u32),
    Compact(SnapshotMeta),
    Reset(SnapshotMeta),
}

/// Appends the bytes of `envelope` of `group` to `out`.
pub fn encode_envelope(group: GroupId, envelope: &Envelope, out: &mut BytesMut) {
    let (message, entries) = to_wire(&envelope.message);
    let Envelope { from, to, term, .. } = *envelope;
    put(&WireEnvelope { group, from, to, term, message }, out);
    if let Some(run) = entries {
        put_entries(run, out);
    }
}

/// Reads one envelope of `sender`, which must be all of `frame`. Payloads share `frame`.
///
/// # Errors
/// If `frame` is not exactly one well-formed envelope.
pub fn decode_envelope(frame: &Bytes, sender: Sender) -> Result<(GroupId, Envelope), CodecError> {
    let mut rest: &[u8] = frame;
    let WireEnvelope { group, from, to, term, message } = take(&mut rest)?;
    let message = from_wire(message, frame, &mut rest)?;
    finish(rest)?;
    Ok((group, Envelope { from, to, term, sender, message }))
}

/// Appends the bytes of one entry to `out`.
pub fn encode_entry(entry: &Entry, out: &mut BytesMut) {
    let payload = match &entry.payload {
        Payload::Noop => WirePayload::Noop,
        Payload::Command(command) => WirePayload::Command(command),
        Payload::Membership(membership) => WirePayload::Membership((**membership).clone()),
    };
    put(&WireEntry { id: entry.id, payload }, out);
}

/// Takes one entry off the front of `rest`, which must be a part of `frame`; the payload shares
/// `frame`.
///
/// # Errors
/// If `rest` does not begin with a well-formed entry.
pub fn decode_entry(frame: &Bytes, rest: &mut &[u8]) -> Result<Entry, CodecError> {
    let WireEntry { id, payload } = take(rest)?;
    let payload = match payload {
        WirePayload::Noop => Payload::Noop,
        WirePayload::Command(command) => Payload::Command(frame.slice_ref(command)),
        WirePayload::Membership(membership) => Payload::Membership(membership.into()),
    };
    Ok(Entry { id, payload })
}

/// Appends the bytes of one log operation to `out`.
pub fn encode_op(op: &LogOp, out: &mut BytesMut) {
    let wire = match op {
        LogOp::Identity(identity) => WireOp::Identity(*identity),
        LogOp::HardState(hard_state) => WireOp::HardState(*hard_state),
        LogOp::Append(run) => WireOp::Append(count(run)),
        LogOp::Compact(meta) => WireOp::Compact(meta.clone()),
        LogOp::Reset(meta) => WireOp::Reset(meta.clone()),
    };
    put(&wire, out);
    if let LogOp::Append(run) = op {
        put_entries(run, out);
    }
}

/// Takes one log operation off the front of `rest`, which must be a part of `frame`.
///
/// # Errors
/// If `rest` does not begin with a well-formed operation.
pub fn decode_op(frame: &Bytes, rest: &mut &[u8]) -> Result<LogOp, CodecError> {
    Ok(match take(rest)? {
        WireOp::Identity(identity) => LogOp::Identity(identity),
        WireOp::HardState(hard_state) => LogOp::HardState(hard_state),
        WireOp::Append(entries) => {
            LogOp::Append(take_run(frame, rest, entries)?.ok_or(CodecError::Malformed)?)
        }
        WireOp::Compact(meta) => LogOp::Compact(meta),
        WireOp::Reset(meta) => LogOp::Reset(meta),
    })
}

fn to_wire(message: &Message) -> (WireMessage, Option<&Run>) {
    let wire = match *message {
        Message::RequestVote { last_log, pre_vote, transfer } => {
            WireMessage::RequestVote { last_log, pre_vote, transfer }
        }
        Message::RequestVoteResponse { granted, pre_vote } => {
            WireMessage::RequestVoteResponse { granted, pre_vote }
        }
        Message::AppendEntries(ref append) => {
            let AppendEntries { prev_log, ref entries, leader_commit, read_seq } = *append;
            let entries = entries.as_ref();
            let counted = entries.map_or(0, count);
            return (
                WireMessage::AppendEntries { prev_log, entries: counted, leader_commit, read_seq },
                entries,
            );
        }
        Message::AppendEntriesResponse { outcome, read_seq, stalled_ticks: 0 } => {
            WireMessage::AppendEntriesResponse { outcome, read_seq }
        }
        Message::AppendEntriesResponse { outcome, read_seq, stalled_ticks: ticks } => {
            WireMessage::Stalled { outcome, read_seq, ticks }
        }
        Message::InstallSnapshot { ref meta } => {
            WireMessage::InstallSnapshot { meta: (**meta).clone() }
        }
        Message::TimeoutNow => WireMessage::TimeoutNow,
        Message::Commit { entry } => WireMessage::Commit { entry },
        Message::ReadIndex { request } => WireMessage::ReadIndex { request },
        Message::ReadIndexResponse { request, index } => {
            WireMessage::ReadIndexResponse { request, index }
        }
        Message::Hello { ref members, seen } => {
            WireMessage::Hello { members: members.clone(), seen }
        }
    };
    (wire, None)
}

fn from_wire(wire: WireMessage, frame: &Bytes, rest: &mut &[u8]) -> Result<Message, CodecError> {
    Ok(match wire {
        WireMessage::RequestVote { last_log, pre_vote, transfer } => {
            Message::RequestVote { last_log, pre_vote, transfer }
        }
        WireMessage::RequestVoteResponse { granted, pre_vote } => {
            Message::RequestVoteResponse { granted, pre_vote }
        }
        WireMessage::AppendEntries { prev_log, entries, leader_commit, read_seq } => {
            let entries = take_run(frame, rest, entries)?;
            if entries.as_ref().is_some_and(|run| !continues(prev_log, run)) {
                return Err(CodecError::NotConsecutive);
            }
            Message::AppendEntries(AppendEntries { prev_log, entries, leader_commit, read_seq })
        }
        WireMessage::AppendEntriesResponse { outcome, read_seq } => {
            Message::AppendEntriesResponse { outcome, read_seq, stalled_ticks: 0 }
        }
        WireMessage::Stalled { outcome, read_seq, ticks } => {
            Message::AppendEntriesResponse { outcome, read_seq, stalled_ticks: ticks }
        }
        WireMessage::Hello { members, seen } => Message::Hello { members, seen },
        WireMessage::InstallSnapshot { meta } => Message::InstallSnapshot { meta: meta.into() },
        WireMessage::TimeoutNow => Message::TimeoutNow,
        WireMessage::Commit { entry } => Message::Commit { entry },
        WireMessage::ReadIndex { request } => Message::ReadIndex { request },
        WireMessage::ReadIndexResponse { request, index } => {
            Message::ReadIndexResponse { request, index }
        }
    })
}

fn continues(prev_log: LogId, run: &Run) -> bool {
    prev_log.index.0.checked_add(1) == Some(run.first().index.0)
        && run.first().term >= prev_log.term
}

fn count(run: &Run) -> u32 {
    u32::try_from(run.len()).expect("a run is bounded by the message size")
}

fn put_entries(run: &Run, out: &mut BytesMut) {
    out.reserve(run.size());
    for entry in run.entries() {
        encode_entry(entry, out);
    }
}

fn take_run(frame: &Bytes, rest: &mut &[u8], count: u32) -> Result<Option<Run>, CodecError> {
    // An entry takes at least three bytes: whoever announces more has not sent them.
    let count = count as usize;
    if count > rest.len() / 3 || count > ENTRIES_MAX {
        return Err(CodecError::Malformed);
    }
    // Grows with what is really there: a small entry is far larger in memory than on the wire.
    let mut entries = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        entries.push(decode_entry(frame, rest)?);
    }
    let bounded = entries.last().is_none_or(|last| last.id.index.0 < u64::MAX);
    if !bounded || !Run::is_consecutive(&entries) {
        return Err(CodecError::NotConsecutive);
    }
    Ok(Run::new(entries))
}

/// Appends `value` to `out` in this module's format.
pub fn put<T: Serialize>(value: &T, out: &mut BytesMut) {
    postcard::serialize_with_flavor(value, Append(out)).expect("plain data serialises");
}

/// Takes one value off the front of `rest`.
///
/// # Errors
/// If `rest` does not begin with one.
pub fn take<'a, T: Deserialize<'a>>(rest: &mut &'a [u8]) -> Result<T, CodecError> {
    let (value, left) = postcard::take_from_bytes(rest).map_err(|_| CodecError::Malformed)?;
    *rest = left;
    Ok(value)
}

const fn finish(rest: &[u8]) -> Result<(), CodecError> {
    if rest.is_empty() { Ok(()) } else { Err(CodecError::Trailing(rest.len())) }
}

/// Lets postcard write straight into a reused buffer: `to_allocvec` costs 100 ns more for a small
/// message.
struct Append<'a>(&'a mut BytesMut);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.put_u8(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
