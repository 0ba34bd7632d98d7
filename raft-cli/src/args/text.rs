//! Keys and values on the command line: any bytes, taken as they are or with escapes; and what is
//! written with numbers and bytes in it: fences, tokens, leases.

use crate::failure::Failure;
use crate::records::unescape;
use bytes::Bytes;
use clap::Args;
use raft_kv::api::{Fence, LeaseId, Position, Revision};
use std::ffi::{OsStr, OsString};

/// The flag of verbs that take keys or values as arguments.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Escaped {
    /// Keys and values hold escapes: \t \n \r \\ and \xNN for any byte, as tables print them.
    #[arg(short, long)]
    pub escaped: bool,
}

impl Escaped {
    /// The bytes of an argument.
    ///
    /// # Errors
    /// Of kind `Usage` if an escape is malformed.
    pub fn bytes(self, text: &OsStr) -> Result<Bytes, Failure> {
        if !self.escaped {
            return Ok(Bytes::copy_from_slice(text.as_encoded_bytes()));
        }
        unescape(text.as_encoded_bytes())
            .map(Bytes::from)
            .map_err(|error| Failure::usage(format!("{}: {error}", text.display())))
    }

    /// The bytes of an optional argument.
    ///
    /// # Errors
    /// As [`Escaped::bytes`].
    pub fn optional(self, text: Option<&OsString>) -> Result<Option<Bytes>, Failure> {
        text.map(|text| self.bytes(text)).transpose()
    }
}

/// The flag of writes that are to run only while a lock is held.
#[derive(Args, Clone, Debug, Default)]
pub struct Fenced {
    /// Write only while the lock is held that `raft lock` or `raft elect` printed so: its key, a
    /// colon, its token. A write that comes too late is refused, with exit code 3.
    #[arg(long, value_name = "KEY:TOKEN")]
    pub fence: Option<OsString>,
}

impl Fenced {
    /// The fence asked for, if any.
    ///
    /// # Errors
    /// Of kind `Usage` if it is malformed.
    pub fn fence(&self, escaped: Escaped) -> Result<Option<Fence>, Failure> {
        let Some(text) = &self.fence else { return Ok(None) };
        let wrong = || {
            Failure::usage(format!("{}: not a fence", text.display()))
                .advice("write KEY:TOKEN, as in $RAFT_LOCK_KEY:$RAFT_LOCK_TOKEN")
        };
        // The key may hold colons; the token is a number.
        let bytes = escaped.bytes(text)?;
        let colon = bytes.iter().rposition(|byte| *byte == b':').ok_or_else(wrong)?;
        let digits = std::str::from_utf8(&bytes[colon + 1..]).map_err(|_| wrong())?;
        let token = digits.parse().map_err(|_| wrong())?;
        let key = bytes.slice(..colon);
        if key.is_empty() || token == 0 {
            return Err(wrong());
        }
        Ok(Some(Fence { key, token: Revision(token) }))
    }
}

/// A lease id, as `raft lease grant` prints it: hexadecimal.
pub fn lease(text: &str) -> Result<LeaseId, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    match u64::from_str_radix(digits, 16) {
        Ok(id @ 1..=LEASE_MAX) if !digits.starts_with('+') => Ok(LeaseId(id)),
        _ => Err("a lease is 1 to 16 hexadecimal digits, as `raft lease grant` prints it".into()),
    }
}

/// Above, etcd's clients could not tell it.
const LEASE_MAX: u64 = i64::MAX as u64;

/// The token of a causal read, `EPOCH:REVISION`.
pub fn position(text: &str) -> Result<Position, String> {
    let parts = text.split_once(':');
    let parts = parts.and_then(|(epoch, revision)| {
        Some(Position { epoch: epoch.parse().ok()?, revision: Revision(revision.parse().ok()?) })
    });
    parts.ok_or_else(|| "a token is EPOCH:REVISION, as --print-token prints it".into())
}

/// A place among the messages of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In whatever history there is.
    At(Revision),
    /// In one history.
    In(Position),
}

/// A place, `EPOCH:REVISION` or `REVISION`.
pub fn place(text: &str) -> Result<Place, String> {
    let place = match text.contains(':') {
        true => position(text).ok().map(Place::In),
        false => text.parse().ok().map(|revision| Place::At(Revision(revision))),
    };
    place.ok_or_else(|| {
        "a place is EPOCH:REVISION, as `raft subscribe` prints it, or REVISION".into()
    })
}
