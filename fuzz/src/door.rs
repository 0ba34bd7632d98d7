//! What comes in before anybody knows of whom: what clients call the server, and their tokens; and
//! the messages of the door, as they come.

use super::target::Target;
use raft_kv::fuzzing;
use std::sync::OnceLock;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "kv_named", run: named, mutants: 1000 },
    Target { name: "kv_token", run: token, mutants: 1000 },
    Target { name: "kv_protobuf", run: protobuf, mutants: 1000 },
    Target { name: "kv_json", run: json, mutants: 1000 },
    Target { name: "kv_framed", run: framed, mutants: 1000 },
];

/// What each connection over HTTP/2 begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The bytes of a connection over HTTP/2, without its beginning, which always is the same; the
/// first one says how many come at a time. However they come, the same is told; that is well as it
/// is, and of frames of the same kinds. What is no HTTP/2 is told as it is.
fn named(bytes: &[u8]) -> bool {
    let Some((piece, frames)) = bytes.split_first() else { return false };
    if !frames.starts_with(PREFACE) {
        assert_eq!(fuzzing::named(frames, usize::from(*piece)), frames);
    }
    let bytes = [PREFACE, frames].concat();
    let told = fuzzing::named(&bytes, usize::from(*piece));
    assert_eq!(fuzzing::named(&bytes, bytes.len()), told);
    assert_eq!(fuzzing::named(&told, bytes.len()), told, "it is told otherwise again");
    let kinds = kinds(frames);
    assert_eq!(self::kinds(&told[PREFACE.len()..]), kinds);
    kinds.is_some()
}

/// Kind, flags and stream of each frame; `None` if the last one is not there whole.
fn kinds(mut bytes: &[u8]) -> Option<Vec<[u8; 6]>> {
    let mut kinds = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_first_chunk::<9>()?;
        let [high, middle, low, kind @ ..] = *head;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        kinds.push(kind);
        bytes = rest.get(length..)?;
    }
    Some(kinds)
}

/// A token. There is one only that names a user, and it does so to the last digit.
fn token(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    static TOKEN: OnceLock<String> = OnceLock::new();
    let user = fuzzing::user_of(text);
    assert_eq!(user.is_some(), text == TOKEN.get_or_init(fuzzing::token), "{user:?}");
    user.is_some()
}

/// Bytes before each message of gRPC.
const PREFIX: usize = 5;

/// The longest message that is decoded, in bytes.
const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A message in protobuf, the first byte telling which. What is understood is told again alike, and
/// can be put into the log.
fn protobuf(bytes: &[u8]) -> bool {
    bytes.split_first().is_some_and(|(what, message)| fuzzing::protobuf(*what, message))
}

/// The same in JSON.
fn json(bytes: &[u8]) -> bool {
    bytes.split_first().is_some_and(|(what, message)| fuzzing::json(*what, message))
}

/// A body of messages, each after its length; the first byte says how many bytes come at a time.
/// However they come, the same is announced and held: of one message at most, and no more than the
/// longest takes.
fn framed(bytes: &[u8]) -> bool {
    let Some((piece, body)) = bytes.split_first() else { return false };
    let (announced, held, ended) = fuzzing::framed(body, usize::from(*piece));
    assert_eq!(fuzzing::framed(body, body.len()), (announced, held, ended));
    let (mut expected, mut open, mut rest) = (0, 0, body);
    let mut any = false;
    while let Some((prefix, after)) = rest.split_first_chunk::<PREFIX>() {
        let [_, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        open = PREFIX + if length > MESSAGE_BYTES_MAX { 0 } else { length };
        expected += open;
        let Some(next) = after.get(length..) else { break };
        (rest, open, any) = (next, 0, true);
    }
    assert_eq!((announced, held, ended), (expected, open, any));
    held == 0 && any
}
