//! What a node reads beside whole requests, for fuzz targets: the front of what it only passes on,
//! tokens, the names that clients give to servers. No part of the interface: it is there with
//! feature `testing` only, and changes as it likes.

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
