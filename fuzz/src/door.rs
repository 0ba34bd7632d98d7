//! What comes in before anybody knows of whom: what clients call the server, and their tokens.

use super::target::Target;
use raft_kv::fuzzing;
use std::sync::OnceLock;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "kv_named", run: named, mutants: 1000 },
    Target { name: "kv_token", run: token, mutants: 1000 },
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
