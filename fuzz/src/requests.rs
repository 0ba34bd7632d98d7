//! What clients and nodes of the store say to each other.

use super::target::Target;
use bytes::Bytes;
use raft_kv::api::{
    BackupBegun, Command, CommandReply, KvError, Query, RangeAnswer, Request, StreamRequest,
    Summary, WatchReply, WatchRequest,
};
use raft_kv::codec::{WireError, decode, decode_sequence, encode, encode_sequence};
use raft_kv::fuzzing;
use raft_kv::wire::{decode_reply, decode_request, encode_reply, encode_request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "kv_command", run: command, mutants: 1000 },
    Target { name: "kv_request", run: request, mutants: 1000 },
    Target { name: "kv_reply", run: reply, mutants: 1000 },
    Target { name: "kv_value", run: value, mutants: 1000 },
    Target { name: "kv_watch", run: watch, mutants: 1000 },
];

/// What was decoded is encoded, and decoded to the same; returns it.
fn stable<T: PartialEq + Debug>(
    bytes: &[u8],
    decode: impl Fn(&Bytes) -> Result<T, WireError>,
    encode: impl Fn(&T) -> Bytes,
) -> Option<T> {
    let first = decode(&Bytes::copy_from_slice(bytes)).ok()?;
    let again = encode(&first);
    assert!(again.len() <= bytes.len(), "it has grown to {again:?}");
    let second = decode(&again).expect("what was encoded decodes");
    assert_eq!((&second, encode(&second)), (&first, again));
    Some(first)
}

fn is_stable<T: PartialEq + Debug + Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    stable::<T>(bytes, |bytes| decode(bytes), encode).is_some()
}

/// A command; who only passes it on sees the same of it as who runs it.
fn command(bytes: &[u8]) -> bool {
    let command = stable::<Command>(bytes, |bytes| decode(bytes), encode);
    let passed_on = fuzzing::command_head(bytes);
    if let Some(command) = &command {
        assert_eq!(passed_on, Some(command.request));
    }
    command.is_some()
}

/// A request; with another deadline it is the same otherwise.
fn request(bytes: &[u8]) -> bool {
    let request = stable(bytes, decode_request, encode_request);
    let forwarded = fuzzing::with_deadline(&Bytes::copy_from_slice(bytes), 7);
    if let Some(request) = request.clone() {
        let forwarded = forwarded.expect("a request has a deadline");
        assert_eq!(decode_request(&forwarded), Ok(Request { deadline_ms: 7, ..request }));
    }
    request.is_some()
}

fn reply(bytes: &[u8]) -> bool {
    stable(bytes, decode_reply, encode_reply).is_some()
}

/// Whatever else is encoded for itself, the first byte telling what.
fn value(bytes: &[u8]) -> bool {
    let Some((what, bytes)) = bytes.split_first() else { return false };
    match what {
        0 => is_stable::<CommandReply>(bytes),
        1 => is_stable::<Query>(bytes),
        2 => is_stable::<RangeAnswer>(bytes),
        3 => is_stable::<Summary>(bytes),
        4 => is_stable::<StreamRequest>(bytes),
        5 => is_stable::<Result<BackupBegun, KvError>>(bytes),
        _ => false,
    }
}

/// A frame of a stream of watches, either way: its first byte says which.
fn watch(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((0, frame)) => is_stable_sequence::<WatchRequest>(frame),
        Some((1, frame)) => is_stable_sequence::<WatchReply>(frame),
        _ => false,
    }
}

fn is_stable_sequence<T: PartialEq + Debug + Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    let all = |bytes: &Bytes| decode_sequence(bytes).collect::<Result<Vec<T>, _>>();
    stable(bytes, all, |values| encode_sequence(values)).is_some()
}
