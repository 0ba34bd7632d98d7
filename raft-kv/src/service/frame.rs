//! What passes through a node, and the little that the node must know of it.

use crate::api::{Freshness, RequestId, Revision, VERSION};
use crate::codec::{WireError, versioned};
use bytes::{BufMut, Bytes, BytesMut};
use raft_core::codec;
use serde::Deserialize;

/// The front of a command: what a node must know that only passes it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct CommandHead<'a> {
    /// The request's name in its session.
    pub(crate) request: Option<RequestId>,
    #[serde(borrow)]
    fence: Option<(&'a serde_bytes::Bytes, Revision)>,
    action: u32,
}

impl<'a> CommandHead<'a> {
    /// Reads the front of an encoded command.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn of(command: &'a [u8]) -> Result<Self, WireError> {
        Ok(codec::take(&mut versioned(command)?)?)
    }

    /// Whether it changes users or roles.
    pub(crate) const fn changes_auth(&self) -> bool {
        const AUTH: u32 = 7;
        self.action == AUTH
    }

    /// Whether it says on whose authority it runs.
    pub(crate) const fn has_authority(&self) -> bool {
        const AS: u32 = 8;
        self.action == AS
    }

    /// Whether it raises or clears an alarm.
    pub(crate) const fn changes_alarms(&self) -> bool {
        const ALARM: u32 = 9;
        self.action == ALARM
    }

    /// Whether a second run of the command does no harm: a session makes it exactly one run, and a
    /// session opened twice is only forgotten once.
    pub(crate) const fn repeatable(&self) -> bool {
        const OPEN_SESSION: u32 = 0;
        self.request.is_some() || self.action == OPEN_SESSION
    }
}

/// Whether `frame` is a reply that is not an error.
pub(crate) fn is_ok(frame: &[u8]) -> bool {
    frame.starts_with(&[VERSION, OK])
}

/// Turns the state machine's encoded `Result<RangeReply, KvError>` into an encoded reply,
/// without looking into it: a reply may hold a mebibyte. With `dated` in front of it, if it is so.
///
/// # Errors
/// If `answer` is not the beginning of such a result.
pub(crate) fn range_reply(dated: Option<&Freshness>, answer: &Bytes) -> Result<Bytes, WireError> {
    const RANGE: u8 = 1;
    const DATED: u8 = 4;
    /// Most bytes of version, two discriminants and the freshness.
    const FRONT: usize = 3 + 10 + 1 + 10 + 5;
    match versioned(answer)? {
        [OK, reply @ ..] => {
            let mut out = BytesMut::with_capacity(reply.len() + FRONT);
            out.put_slice(&[VERSION, OK, if dated.is_some() { DATED } else { RANGE }]);
            if let Some(freshness) = dated {
                codec::put(freshness, &mut out);
            }
            out.put_slice(reply);
            Ok(out.freeze())
        }
        [ERR, ..] => Ok(answer.clone()),
        _ => Err(WireError::Malformed),
    }
}

/// Discriminants of `Result` in serde.
const OK: u8 = 0;
const ERR: u8 = 1;
