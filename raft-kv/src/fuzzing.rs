//! What a node reads beside whole requests, for fuzz targets: the front of what it only passes on,
//! tokens, the names that clients give to servers, the messages of the door. No part of the
//! interface: it is there with feature `testing` only, and changes as it likes.

use crate::api::RequestId;
use crate::codec::WireError;
use crate::service::frame::CommandHead;
use bytes::Bytes;

/// The name of the request in a command; `None` if it is no command.
pub fn command_head(command: &[u8]) -> Option<Option<RequestId>> {
    CommandHead::of(command).ok().map(|head| head.request)
}

/// The same request with another deadline.
///
/// # Errors
/// If `request` does not begin like one.
pub fn with_deadline(request: &Bytes, deadline_ms: u32) -> Result<Bytes, WireError> {
    crate::wire::with_deadline(request, deadline_ms)
}

/// A token of a user of a store that is always the same.
pub fn token() -> String {
    crate::service::sample_tokens::token()
}

/// Whose token it is, if it is one of that store's.
pub fn user_of(token: &str) -> Option<String> {
    crate::service::sample_tokens::user(token)
}

/// What the door of the etcd v3 API is told of a connection on which these bytes come, so many at a
/// time.
#[cfg(feature = "etcd")]
pub fn named(bytes: &[u8], piece: usize) -> Vec<u8> {
    crate::etcd::told(bytes, piece)
}

/// Whether these bytes are message `what` of the door, and ask for something that can be done: in
/// protobuf.
#[cfg(feature = "etcd")]
pub fn protobuf(what: u8, bytes: &[u8]) -> bool {
    crate::etcd::fuzzed::protobuf(what, bytes)
}

/// The same in JSON; of message 255, several watches one after the other.
#[cfg(feature = "etcd")]
pub fn json(what: u8, bytes: &[u8]) -> bool {
    crate::etcd::fuzzed::json(what, bytes)
}

/// What the messages of a body announce whose bytes come so many at a time, what is held of it in
/// the end, and whether any has ended.
#[cfg(feature = "etcd")]
pub fn framed(bytes: &[u8], piece: usize) -> (usize, usize, bool) {
    crate::etcd::fuzzed::framed(bytes, piece)
}
