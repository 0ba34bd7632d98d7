//! Requests to write, encoded in one go.

use crate::api::{Action, Fence, RequestId, VERSION};
use crate::codec::encode_into;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;

/// The bytes of a request to write, encoded in one go around the command.
pub(crate) fn encode_write(
    deadline_ms: u32,
    request: Option<RequestId>,
    fence: Option<&Fence>,
    action: &Action,
    size_hint: usize,
) -> Bytes {
    // Version, deadline, kind and length: at most 1 + 5 + 1 + 10 bytes.
    const HEAD: usize = 17;
    const WRITE: u32 = 0;
    let mut out = BytesMut::with_capacity(HEAD + 64 + size_hint);
    out.put_bytes(0, HEAD);
    encode_into(&CommandRef { request, fence, action }, &mut out);
    let mut head = [0; HEAD];
    head[0] = VERSION;
    let size = out.len() - HEAD;
    let used = postcard::to_slice(&(deadline_ms, WRITE, size), &mut head[1..])
        .expect("three integers fit into 16 bytes")
        .len();
    let start = HEAD - 1 - used;
    out[start..HEAD].copy_from_slice(&head[..=used]);
    out.advance(start);
    out.freeze()
}

/// [`Command`](crate::api::Command) with its action borrowed.
#[derive(Serialize)]
struct CommandRef<'a> {
    request: Option<RequestId>,
    fence: Option<&'a Fence>,
    action: &'a Action,
}
