//! The bytes of requests, replies, commands and queries: [`VERSION`] in one byte, then postcard.
//!
//! This module owns the version byte and the bound on lists; what is encoded is `api`'s. Decoding
//! never panics, copies keys and values into allocations of their own - so that whoever keeps one
//! does not keep the buffer it came in - and allocates a small multiple of what it was given.

use crate::api::{KvError, TXN_DEPTH_MAX, TXN_OPS_MAX, VERSION};
use bytes::{BufMut, Bytes, BytesMut};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

/// Longest list that is decoded at all. An element is some hundred times larger in memory than on
/// the wire, so the bound on bytes alone does not bound memory. Lists over [`TXN_OPS_MAX`] decode,
/// so that they are refused with the right error.
const LIST_MAX: usize = 2 * TXN_OPS_MAX;
/// Most elements of the lists within the elements of one list, together: nesting must not multiply
/// what the bound on each allows.
const NESTED_MAX: usize = 4 * LIST_MAX;

/// The bytes of `value`: a request, a reply, a command, a query.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    encode_into(value, &mut out);
    out.freeze()
}

/// Appends the bytes of `value` to `out`.
pub fn encode_into<T: Serialize>(value: &T, out: &mut BytesMut) {
    out.put_u8(VERSION);
    raft_core::codec::put(value, out);
}

/// Reads one value, which must be all of `bytes`.
///
/// # Errors
/// See [`WireError`].
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    let mut rest = versioned(bytes)?;
    let value = raft_core::codec::take(&mut rest)?;
    if rest.is_empty() { Ok(value) } else { Err(WireError::Malformed) }
}

/// The bytes of several values, one after the other: what a frame of a stream holds.
pub fn encode_sequence<'a, T: Serialize + 'a>(values: impl IntoIterator<Item = &'a T>) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    out.put_u8(VERSION);
    for value in values {
        raft_core::codec::put(value, &mut out);
    }
    out.freeze()
}

/// Reads values one after the other, to the end of `bytes`: no more of them are in memory than the
/// caller keeps. The first error is the last item.
pub fn decode_sequence<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
) -> impl Iterator<Item = Result<T, WireError>> {
    let mut rest = versioned(bytes);
    std::iter::from_fn(move || match rest {
        Ok([]) => None,
        Ok(mut left) => {
            let value = raft_core::codec::take(&mut left);
            rest = if value.is_ok() { Ok(left) } else { Ok(&[]) };
            Some(value.map_err(WireError::from))
        }
        Err(error) => {
            rest = Ok(&[]);
            Some(Err(error))
        }
    })
}

/// What follows the version.
///
/// # Errors
/// If there is none, or another one.
pub(crate) const fn versioned(bytes: &[u8]) -> Result<&[u8], WireError> {
    match bytes {
        [VERSION, rest @ ..] => Ok(rest),
        [version, ..] => Err(WireError::Version(*version)),
        [] => Err(WireError::Malformed),
    }
}

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Another version than [`VERSION`].
    #[error("version {0}, where version {VERSION} is spoken")]
    Version(u8),
    /// The bytes end early, go on too long, or hold a value out of its range.
    #[error("malformed bytes")]
    Malformed,
}

impl From<raft_core::codec::CodecError> for WireError {
    fn from(_: raft_core::codec::CodecError) -> Self {
        Self::Malformed
    }
}

impl From<WireError> for KvError {
    fn from(error: WireError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Reads a list of at most [`LIST_MAX`] elements, and of at most [`NESTED_MAX`] in all that is
/// [`nested`] within them.
pub(crate) fn bounded<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    level(|| deserializer.deserialize_seq(BoundedList(PhantomData)))
}

thread_local! {
    /// How deep the value being decoded on this thread is nested.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// How many lists and nested values the one being decoded on this thread lies in.
    static LEVEL: Cell<usize> = const { Cell::new(0) };
    /// How many elements the lists within the outermost of those have so far.
    static NESTED: Cell<usize> = const { Cell::new(0) };
}

/// Decodes a list or a nested value.
fn level<T>(decode: impl FnOnce() -> T) -> T {
    let level = LEVEL.get();
    if level == 0 {
        NESTED.set(0);
    }
    LEVEL.set(level + 1);
    let value = decode();
    LEVEL.set(level);
    value
}

/// Reads a value that may hold others of its kind, 8 times [`TXN_DEPTH_MAX`] deep at most: each
/// level takes room on the stack, and few bytes.
pub(crate) fn nested<'de, D, T>(deserializer: D) -> Result<Box<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let depth = DEPTH.get();
    if depth >= 8 * TXN_DEPTH_MAX {
        return Err(D::Error::custom("nested too deeply"));
    }
    DEPTH.set(depth + 1);
    let value = level(|| T::deserialize(deserializer));
    DEPTH.set(depth);
    value.map(Box::new)
}

struct BoundedList<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for BoundedList<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {LIST_MAX} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let outermost = LEVEL.get() == 1;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            if list.len() == LIST_MAX {
                return Err(A::Error::invalid_length(LIST_MAX + 1, &self));
            }
            if !outermost {
                NESTED.set(NESTED.get() + 1);
            }
            if NESTED.get() > NESTED_MAX {
                return Err(A::Error::custom("too much is nested"));
            }
            list.push(element);
        }
        Ok(list)
    }
}
