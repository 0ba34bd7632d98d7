//! The decoders of this crate for fuzz targets, which have no streams. No part of the interface:
//! it is there with feature `testing` only, and changes as it likes.

use crate::config::Limits;
use crate::error::ProtocolError;
use crate::frame::{self, Frame};
use crate::hello::{Hello, Protocol};
use crate::request::Calls;
use crate::snapshot::Head;
use bytes::{Bytes, BytesMut};
use raft_core::types::Version;

/// The whole frames at the front of `buffer`, each as kind and body, and how many bytes they take.
///
/// # Errors
/// What is wrong with the first of them.
pub fn frames(buffer: &[u8], body_bytes_max: usize) -> Result<(Vec<(u8, Bytes)>, usize), String> {
    let length = frame::whole_frames(buffer, body_bytes_max).map_err(text)?;
    let mut whole = Bytes::copy_from_slice(&buffer[..length]);
    let frames = std::iter::from_fn(|| frame::pop(&mut whole));
    Ok((frames.map(|Frame { kind, body }| (kind, body)).collect(), length))
}

/// The bytes of a frame.
pub fn framed(kind: u8, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    frame::put(&mut out, kind, |out| out.extend_from_slice(body));
    out
}

/// What the hello in a frame is encoded as, between nodes of version 1, those of later ones, and
/// with a client.
pub fn hello(kind: u8, body: &Bytes) -> [Option<BytesMut>; 3] {
    [Protocol::PeerV1, Protocol::Peer, Protocol::Client].map(|protocol| {
        let hello = Hello::decode(Frame { kind, body: body.clone() }, protocol).ok()?;
        let mut out = BytesMut::new();
        hello.encode(protocol, &mut out);
        Some(out)
    })
}

/// What the head of a snapshot's stream in a frame is encoded as.
pub fn snapshot_head(kind: u8, body: &Bytes) -> Option<BytesMut> {
    let head = Head::decode(Frame { kind, body: body.clone() }, Version::CURRENT).ok()?;
    let mut out = BytesMut::new();
    head.encode(&mut out);
    Some(out)
}

/// Whether a frame is taken for the reply to a request.
pub fn reply(kind: u8, body: &Bytes) -> bool {
    Calls::new(&Limits::default()).receive(Frame { kind, body: body.clone() }).is_ok()
}

fn text(error: ProtocolError) -> String {
    error.to_string()
}
