//! What of a request a node reads that only passes it on, for fuzz targets. No part of the
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
