//! The handshake: who speaks, for what, and in which version.
//!
//! Owns the bytes of the hello in both of their layouts. Which one a connection uses is settled by
//! ALPN before the first of them is sent, so a node of version 1 never sees any but its own. Must
//! never accept what a connection's certificate does not prove: that is checked by who reads it.

use crate::error::ProtocolError;
use crate::frame::{Frame, HELLO, put};
use bytes::{Buf, BufMut, BytesMut};
use raft_core::types::{ClusterId, Identity, Incarnation, NodeId, Sender, Version};

/// What ALPN settled: who is at the other end, and how the hello is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    /// A client, where both ends know streams. Its hello has the layout of version 1, whatever the
    /// nodes speak.
    Client,
    /// A client, where one end knows no streams; the same hello.
    ClientV1,
    /// A node, where one of the two speaks version 1 and nothing newer.
    PeerV1,
    /// A node, where both tell in the hello which versions they speak.
    Peer,
}

impl Protocol {
    /// Whether the other end is a node.
    pub(crate) const fn is_peer(self) -> bool {
        matches!(self, Self::PeerV1 | Self::Peer)
    }
}

/// The version from which on streams are known.
pub(crate) const STREAMS_SINCE: Version = Version(3);

/// The version from which on probes are known.
pub(crate) const PROBE_SINCE: Version = Version(3);

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Purpose {
    /// Raft messages and forwarded requests of a peer.
    Messages,
    /// Snapshots of a peer.
    Snapshots,
    /// Requests of a client.
    Client,
}

/// The first frame of a connection, both ways. A client, and a node that serves no group yet,
/// leave the identity 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hello {
    pub(crate) purpose: Purpose,
    pub(crate) identity: Identity,
    /// Whom the sender believes to talk to; 0 if it does not care.
    pub(crate) to: NodeId,
    /// The oldest and the newest version the sender speaks.
    pub(crate) versions: (Version, Version),
}

pub(crate) const NOBODY: Identity =
    Identity { cluster: ClusterId(0), node: NodeId(0), incarnation: Incarnation(0) };

const MALFORMED: ProtocolError = ProtocolError::Malformed("hello");

/// Both numbers in front of the first layout: of the frames and of the codec.
const V1: (u16, u16) = (1, 1);

impl Hello {
    /// Bytes behind the versions.
    const BYTES: usize = 1 + 4 * 8;

    pub(crate) fn new(purpose: Purpose, identity: Identity, to: NodeId, newest: Version) -> Self {
        Self { purpose, identity, to, versions: (Version::OLDEST, newest) }
    }

    pub(crate) fn encode(&self, protocol: Protocol, out: &mut BytesMut) {
        let (first, second) = match protocol {
            Protocol::Client | Protocol::ClientV1 | Protocol::PeerV1 => V1,
            Protocol::Peer => (self.versions.1.0, self.versions.0.0),
        };
        put(out, HELLO, |out| {
            out.put_u16_le(first);
            out.put_u16_le(second);
            out.put_u8(match self.purpose {
                Purpose::Messages => 0,
                Purpose::Snapshots => 1,
                Purpose::Client => 2,
            });
            out.put_u64_le(self.identity.cluster.0);
            out.put_u64_le(self.identity.node.0);
            out.put_u64_le(self.to.0);
            out.put_u64_le(self.identity.incarnation.0);
        });
    }

    /// Reads a hello, versions first. A newer version may append to it, from version 2 on.
    pub(crate) fn decode(frame: Frame, protocol: Protocol) -> Result<Self, ProtocolError> {
        let Frame { kind, mut body } = frame;
        if kind != HELLO || body.len() < 4 {
            return Err(MALFORMED);
        }
        let (first, second) = (body.get_u16_le(), body.get_u16_le());
        let versions = match protocol {
            Protocol::Client | Protocol::ClientV1 | Protocol::PeerV1 if (first, second) != V1 => {
                return Err(ProtocolError::Version(first, second));
            }
            Protocol::Client | Protocol::ClientV1 | Protocol::PeerV1
                if body.len() != Self::BYTES =>
            {
                return Err(MALFORMED);
            }
            Protocol::Client | Protocol::ClientV1 | Protocol::PeerV1 => (Version(1), Version(1)),
            Protocol::Peer => (Version(second), Version(first)),
        };
        if body.len() < Self::BYTES || versions.0 > versions.1 {
            return Err(MALFORMED);
        }
        let purpose = match body.get_u8() {
            0 => Purpose::Messages,
            1 => Purpose::Snapshots,
            2 => Purpose::Client,
            _ => return Err(MALFORMED),
        };
        let cluster = ClusterId(body.get_u64_le());
        let node = NodeId(body.get_u64_le());
        let to = NodeId(body.get_u64_le());
        let incarnation = Incarnation(body.get_u64_le());
        Ok(Self { purpose, identity: Identity { cluster, node, incarnation }, to, versions })
    }

    /// Who sends over the connection, as its messages do not say themselves.
    pub(crate) const fn sender(&self) -> Sender {
        Sender { incarnation: self.identity.incarnation, version: self.versions.1 }
    }

    /// The version to speak with the sender, for a node that speaks up to `newest`: the older one
    /// of both. The error is for both ends to read.
    pub(crate) fn spoken(&self, me: NodeId, newest: Version) -> Result<Version, String> {
        let (their_oldest, their_newest) = self.versions;
        let spoken = newest.min(their_newest);
        if spoken >= their_oldest && spoken >= Version::OLDEST {
            return Ok(spoken);
        }
        Err(format!(
            "no version in common: {} speaks {their_oldest} to {their_newest}, {me} {} to {newest}",
            self.identity.node,
            Version::OLDEST
        ))
    }
}

#[cfg(test)]
mod tests;
