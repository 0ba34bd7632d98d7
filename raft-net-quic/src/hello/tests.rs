//! The bytes of the handshake, as nodes in use send them: they must never change.

use super::*;
use bytes::Bytes;

fn hello(purpose: Purpose, to: u64, versions: (u16, u16)) -> Hello {
    let identity = Identity {
        cluster: ClusterId(0x0102_0304_0506_0708),
        node: NodeId(3),
        incarnation: Incarnation(0x1112_1314_1516_1718),
    };
    let versions = (Version(versions.0), Version(versions.1));
    Hello { purpose, identity, to: NodeId(to), versions }
}

fn bytes(hello: &Hello, protocol: Protocol) -> Vec<u8> {
    let mut out = BytesMut::new();
    hello.encode(protocol, &mut out);
    out.to_vec()
}

fn decode(frame: &[u8], protocol: Protocol) -> Result<Hello, String> {
    let frame = Frame { kind: frame[4], body: Bytes::copy_from_slice(&frame[5..]) };
    Hello::decode(frame, protocol).map_err(|error| error.to_string())
}

const VERSION_1: [u8; 42] = [
    38, 0, 0, 0, 1, // Length and kind.
    1, 0, 1, 0, // Versions of frames and codec.
    1, // Snapshots.
    8, 7, 6, 5, 4, 3, 2, 1, // Cluster.
    3, 0, 0, 0, 0, 0, 0, 0, // Node.
    5, 0, 0, 0, 0, 0, 0, 0, // To.
    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, // Incarnation.
];

const VERSION_2: [u8; 42] = [
    38, 0, 0, 0, 1, // Length and kind.
    2, 0, 1, 0, // Newest and oldest version spoken.
    0, // Messages.
    8, 7, 6, 5, 4, 3, 2, 1, // Cluster.
    3, 0, 0, 0, 0, 0, 0, 0, // Node.
    5, 0, 0, 0, 0, 0, 0, 0, // To.
    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, // Incarnation.
];

#[test]
fn version_1_has_the_bytes_it_always_had() {
    // Whatever the sender speaks beside it.
    for versions in [(1, 1), (1, 2), (1, 9)] {
        let sent = hello(Purpose::Snapshots, 5, versions);
        assert_eq!(bytes(&sent, Protocol::PeerV1), VERSION_1);
    }
    let read = hello(Purpose::Snapshots, 5, (1, 1));
    assert_eq!(decode(&VERSION_1, Protocol::PeerV1), Ok(read));

    let client = hello(Purpose::Client, 0, (1, 1));
    let sent = bytes(&client, Protocol::Client);
    assert_eq!(decode(&sent, Protocol::Client), Ok(client));
    assert_eq!(sent[..10], [38, 0, 0, 0, 1, 1, 0, 1, 0, 2]);
}

#[test]
fn version_2_tells_what_it_speaks() {
    let sent = hello(Purpose::Messages, 5, (1, 2));
    assert_eq!(bytes(&sent, Protocol::Peer), VERSION_2);
    assert_eq!(decode(&VERSION_2, Protocol::Peer), Ok(sent));
    assert_eq!(sent.sender().version, Version(2));
}

#[test]
fn a_later_version_may_append() {
    let longer = [&VERSION_2[..], &[1, 2, 3]].concat();
    assert_eq!(decode(&longer, Protocol::Peer), decode(&VERSION_2, Protocol::Peer));
    let longer = [&VERSION_1[..], &[1, 2, 3]].concat();
    assert_eq!(decode(&longer, Protocol::PeerV1), Err("malformed hello".into()));
}

#[test]
fn what_does_not_fit_is_refused() {
    for cut in 5..42 {
        assert_eq!(decode(&VERSION_2[..cut], Protocol::Peer), Err("malformed hello".into()));
        assert_eq!(decode(&VERSION_1[..cut], Protocol::PeerV1), Err("malformed hello".into()));
    }
    let mut upside_down = VERSION_2;
    upside_down[7] = 3;
    assert_eq!(decode(&upside_down, Protocol::Peer), Err("malformed hello".into()));
    let text = "a hello of version 2.1 where 1.1 was settled";
    assert_eq!(decode(&VERSION_2, Protocol::PeerV1), Err(text.into()));
}

#[test]
fn the_older_version_is_spoken_if_both_know_it() {
    let spoken =
        |versions, newest| hello(Purpose::Messages, 5, versions).spoken(NodeId(5), Version(newest));
    assert_eq!(spoken((1, 1), 2), Ok(Version(1)));
    assert_eq!(spoken((1, 2), 1), Ok(Version(1)));
    assert_eq!(spoken((2, 7), 2), Ok(Version(2)));
    let text = "no version in common: n3 speaks v3 to v4, n5 v1 to v2";
    assert_eq!(spoken((3, 4), 2), Err(text.into()));
    assert!(spoken((0, 0), 2).is_err());
}
