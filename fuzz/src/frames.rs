//! What nodes and clients send each other before anyone knows who they are.

use super::target::Target;
use bytes::Bytes;
use raft_net_quic::fuzzing;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "net_frames", run: frames, mutants: 2000 },
    Target { name: "net_heads", run: heads, mutants: 2000 },
];

/// Longest body that is taken, in bytes.
const BODY_BYTES_MAX: usize = 1000;

/// A stream of frames. It is cut the same however its bytes arrive, and frames come back as they
/// were.
fn frames(bytes: &[u8]) -> bool {
    let cut = |bytes: &[u8]| {
        let (frames, length) = fuzzing::frames(bytes, BODY_BYTES_MAX)?;
        // What comes behind whole frames is judged once they were taken.
        fuzzing::frames(&bytes[length..], BODY_BYTES_MAX).map(|_| (frames, length))
    };
    let whole = cut(bytes);
    // In two goes: what of the first is not yet a frame is put before the second.
    for first in [bytes.len() / 3, bytes.len() / 2] {
        let parts = cut(&bytes[..first]).and_then(|(mut frames, length)| {
            let (rest, more) = cut(&bytes[length..])?;
            frames.extend(rest);
            Ok((frames, length + more))
        });
        assert_eq!(parts, whole);
    }
    let Ok((frames, length)) = whole else { return false };
    let mut again = Vec::new();
    for (kind, body) in &frames {
        assert!(body.len() <= BODY_BYTES_MAX);
        again.extend_from_slice(&fuzzing::framed(*kind, body));
    }
    assert_eq!(again, bytes[..length]);
    length == bytes.len()
}

/// A frame, its first byte the kind, that begins something: a connection, a snapshot, or a reply.
fn heads(bytes: &[u8]) -> bool {
    let Some((kind, body)) = bytes.split_first() else { return false };
    let body = Bytes::copy_from_slice(body);
    let hellos = fuzzing::hello(*kind, &body);
    for (which, encoded) in hellos.iter().enumerate() {
        let Some(encoded) = encoded else { continue };
        let (kind, body) = parted(encoded);
        assert_eq!(fuzzing::hello(kind, &body)[which].as_ref(), Some(encoded));
    }
    let snapshot = fuzzing::snapshot_head(*kind, &body);
    if let Some(encoded) = &snapshot {
        let (kind, body) = parted(encoded);
        assert_eq!(fuzzing::snapshot_head(kind, &body).as_ref(), Some(encoded));
    }
    hellos.iter().any(Option::is_some) || snapshot.is_some() || fuzzing::reply(*kind, &body)
}

/// Kind and body of the one frame that `bytes` are.
fn parted(bytes: &[u8]) -> (u8, Bytes) {
    let (mut frames, length) = fuzzing::frames(bytes, bytes.len()).expect("a frame");
    assert_eq!((frames.len(), length), (1, bytes.len()));
    frames.swap_remove(0)
}
