//! Remote ends that do not follow the protocol, speaking it by hand.

use crate::kit::{
    Authority, CLUSTER, Event, GROUP, TestNode, append, connect, echo, envelope, heartbeat,
};
use bytes::{BufMut, Bytes, BytesMut};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use raft_core::codec;
use raft_core::raft::Envelope;
use raft_core::types::{GroupId, NodeId, SnapshotMeta, Version};
use raft_net_quic::{ALPN_CLIENT, ALPN_PEER, ALPN_PEER_V1, Credentials, server_name};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

/// A frame by the book.
pub(crate) fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32 + 1).to_le_bytes().to_vec();
    frame.push(kind);
    frame.extend_from_slice(body);
    frame
}

/// A hello of a node that speaks versions 1 and 2, or of a client.
pub(crate) fn hello(purpose: u8, cluster: u64, node: u64, to: u64) -> Vec<u8> {
    hello_in((if purpose == 2 { 1 } else { 2 }, 1), purpose, cluster, node, to)
}

/// A hello with these two numbers in front: newest and oldest version, or 1 and 1.
fn hello_in(versions: (u16, u16), purpose: u8, cluster: u64, node: u64, to: u64) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u16_le(versions.0);
    body.put_u16_le(versions.1);
    body.put_u8(purpose);
    for number in [cluster, node, to, 77] {
        body.put_u64_le(number);
    }
    frame(1, &body)
}

/// Connects as node 9, or as a client, and says nothing yet.
pub(crate) async fn dial(authority: &Authority, node: &TestNode, alpn: &[u8]) -> Connection {
    let Credentials { ca, chain, key, .. } = authority.node(9);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca[0].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let tls = QuicClientConfig::try_from(tls).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let endpoint = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let name = server_name(node.id);
    let address = node.address.parse().unwrap();
    endpoint.connect_with(config, address, &name).unwrap().await.unwrap()
}

/// Connects as node 9 and exchanges hellos.
async fn join(
    authority: &Authority,
    node: &TestNode,
    purpose: u8,
) -> (Connection, SendStream, RecvStream) {
    let connection = dial(authority, node, ALPN_PEER).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&hello(purpose, CLUSTER.0, 9, node.id.0)).await.unwrap();
    let mut reply = [0; 42];
    recv.read_exact(&mut reply).await.unwrap();
    assert_eq!(reply[..], hello_of(node)[..]);
    (connection, send, recv)
}

/// What `node` answers to [`join`]; its incarnation is its id.
fn hello_of(node: &TestNode) -> Vec<u8> {
    let versions = (Version::CURRENT.0, Version::OLDEST.0);
    let mut expected = hello_in(versions, 0, CLUSTER.0, node.id.0, 0);
    let at = expected.len() - 8;
    expected[at..].copy_from_slice(&node.id.0.to_le_bytes());
    expected
}

pub(crate) async fn closed(connection: &Connection) -> (u64, String) {
    match connection.closed().await {
        ConnectionError::ApplicationClosed(closed) => {
            let reason = String::from_utf8(closed.reason.to_vec()).unwrap();
            (closed.error_code.into_inner(), reason)
        }
        other => panic!("{other}"),
    }
}

/// Whether clients are still served.
async fn works(authority: &Authority, node: &TestNode) {
    node.transport.serve(GROUP, echo());
    let channel = connect(authority, node).await;
    assert_eq!(channel.call(Bytes::from_static(b"ping")).await.unwrap()[..], *b"ping");
}

#[tokio::test]
async fn garbage_datagrams_are_ignored() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in 0..1400_usize {
        let garbage: Vec<u8> = (0..length).map(|i| (i * 7 + length * 13) as u8).collect();
        socket.send_to(&garbage, &node.address).unwrap();
        // Let it be received, or the kernel drops it for us.
        tokio::task::yield_now().await;
    }
    works(&authority, &node).await;
}

#[tokio::test]
async fn streams_left_half_open_change_nothing() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let (connection, _send, _recv) = join(&authority, &node, 0).await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut uni = connection.open_uni().await.unwrap();
        uni.write_all(&[9, 0]).await.unwrap();
        let (mut bi, recv) = connection.open_bi().await.unwrap();
        bi.write_all(&[9]).await.unwrap();
        streams.push((uni, bi, recv));
    }
    works(&authority, &node).await;
}

#[tokio::test]
async fn who_says_no_hello_is_dropped() {
    let authority = Authority::new();
    let node = TestNode::start_with(authority.node(1), 1, CLUSTER, 0, |config| {
        config.limits.hello_timeout = std::time::Duration::from_millis(500);
    });
    for alpn in [ALPN_PEER, ALPN_CLIENT] {
        let silent = dial(&authority, &node, alpn).await;
        assert_eq!(closed(&silent).await, (9, "no hello in time".into()));
    }
    let (connection, _send, _recv) = join(&authority, &node, 0).await;
    let mut slow = connection.open_uni().await.unwrap();
    slow.write_all(&[2]).await.unwrap();
    assert_eq!(closed(&connection).await, (7, "malformed stream: it does not begin".into()));
    works(&authority, &node).await;
}

#[tokio::test]
async fn a_frame_that_does_not_end_costs_the_connection() {
    let authority = Authority::new();
    let node = TestNode::start_with(authority.node(1), 1, CLUSTER, 0, |config| {
        config.limits.frame_timeout = std::time::Duration::from_millis(300);
    });
    let late = (7, "malformed stream: the rest of a frame does not come".to_owned());
    // On the stream of the hello, on a further stream, and on that of a client.
    let (connection, mut control, _recv) = join(&authority, &node, 0).await;
    control.write_all(&message(9, 1)[..7]).await.unwrap();
    assert_eq!(closed(&connection).await, late);

    let (connection, _control, _recv) = join(&authority, &node, 0).await;
    let mut bulk = connection.open_uni().await.unwrap();
    bulk.write_all(&frame(2, &[1])).await.unwrap();
    bulk.write_all(&message(9, 1)).await.unwrap();
    bulk.write_all(&[9]).await.unwrap();
    assert_eq!(node.message().await.from, NodeId(9));
    assert_eq!(closed(&connection).await, late);

    let connection = dial(&authority, &node, ALPN_CLIENT).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&hello(2, 0, 0, 0)).await.unwrap();
    recv.read_exact(&mut [0; 42]).await.unwrap();
    send.write_all(&frame(4, &[0; 1000])[..900]).await.unwrap();
    assert_eq!(closed(&connection).await, late);
    works(&authority, &node).await;
}

#[tokio::test]
async fn bad_hellos_are_refused() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let newer = |versions| hello_in(versions, 0, CLUSTER.0, 9, 1);
    let no_common = "no version in common: n9 speaks v5 to v6, n1 v1 to v4";
    let settled = "a hello of version 2.1 where 1.1 was settled";
    let cases: [(&[u8], Vec<u8>, u64, &str); 10] = [
        (ALPN_PEER, newer((6, 5)), 2, no_common),
        (ALPN_PEER, newer((1, 2)), 7, "malformed hello"),
        (ALPN_PEER_V1, newer((2, 1)), 2, settled),
        (ALPN_CLIENT, hello_in((2, 1), 2, 0, 0, 0), 2, settled),
        (ALPN_PEER, frame(1, &[1]), 7, "malformed hello"),
        (ALPN_PEER, frame(1, &[2, 0, 1, 0, 0]), 7, "malformed hello"),
        (ALPN_PEER, hello(5, CLUSTER.0, 9, 1), 7, "malformed hello"),
        (ALPN_PEER, hello(2, CLUSTER.0, 9, 1), 7, "the hello does not fit the protocol"),
        (
            ALPN_CLIENT,
            hello_in((1, 1), 0, CLUSTER.0, 9, 1),
            7,
            "the hello does not fit the protocol",
        ),
        (
            ALPN_PEER,
            hello(0, CLUSTER.0, 8, 1),
            5,
            "the certificate of n8 does not carry the name n8.node.raft.internal",
        ),
    ];
    for (alpn, bytes, code, text) in cases {
        let connection = dial(&authority, &node, alpn).await;
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        assert_eq!(closed(&connection).await, (code, text.into()));
    }
    works(&authority, &node).await;
}

/// What the code of version 1 sent, and what it insisted on in the answer.
#[tokio::test]
async fn a_node_of_version_1_is_answered_in_its_own_bytes() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let connection = dial(&authority, &node, ALPN_PEER_V1).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&hello_in((1, 1), 0, CLUSTER.0, 9, 1)).await.unwrap();
    let mut answer = [0; 42];
    recv.read_exact(&mut answer).await.unwrap();
    let mut expected = hello_in((1, 1), 0, CLUSTER.0, 1, 0);
    expected[34..].copy_from_slice(&1_u64.to_le_bytes());
    assert_eq!(answer[..], expected[..]);
    send.write_all(&message(9, 1)).await.unwrap();
    let heard = node.message().await;
    assert_eq!((heard.sender.incarnation.0, heard.sender.version.0), (77, 1));
}

/// A later version may append to its hello, and is spoken to in ours.
#[tokio::test]
async fn a_node_of_a_later_version_is_let_in() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let connection = dial(&authority, &node, ALPN_PEER).await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let mut body = hello_in((9, 2), 0, CLUSTER.0, 9, 1)[5..].to_vec();
    body.extend_from_slice(b"more");
    send.write_all(&frame(1, &body)).await.unwrap();
    send.write_all(&message(9, 1)).await.unwrap();
    assert_eq!(node.message().await.sender.version.0, 9);
}

#[tokio::test]
async fn bad_frames_cost_the_connection() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let mut oversized = u32::MAX.to_le_bytes().to_vec();
    oversized.push(3);
    let most = 32 * 1024 * 1024 + 1;
    let too_large = format!("frame of {} bytes where {most} are the most", u32::MAX);
    let cases = [
        (oversized, too_large),
        (vec![0; 4], format!("frame of 0 bytes where {most} are the most")),
        (frame(99, b"?"), "unexpected frame kind 99".into()),
        (frame(4, &[0; 20]), "unexpected frame kind 4".into()),
        (frame(3, &[0xff; 40]), "malformed message".into()),
        (message(8, 1), "n9 sent n1 a message from n8 to n1".into()),
        (message(9, 2), "n9 sent n1 a message from n9 to n2".into()),
    ];
    let count = cases.len() as u64;
    for (bytes, text) in cases {
        let (connection, mut send, _recv) = join(&authority, &node, 0).await;
        send.write_all(&bytes).await.unwrap();
        assert_eq!(closed(&connection).await, (7, text));
    }
    assert_eq!(node.transport.counters().violations, count);

    // What is well-formed is delivered, however it is cut.
    let (_connection, mut send, _recv) = join(&authority, &node, 0).await;
    for byte in message(9, 1) {
        send.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(node.message().await.from, NodeId(9));
    works(&authority, &node).await;
}

#[tokio::test]
async fn a_large_message_may_come_right_behind_what_opens_its_stream() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let (connection, _control, _recv) = join(&authority, &node, 0).await;
    let mut bulk = connection.open_uni().await.unwrap();
    let sent = append(1, Bytes::from(vec![7; 64 * 1024]));
    let large = envelope(NodeId(9), NodeId(1), sent.clone());
    bulk.write_all(&[frame(2, &[1]), framed(&large)].concat()).await.unwrap();
    tokio::select! {
        received = node.message() => assert_eq!(received.message, sent),
        (_, reason) = closed(&connection) => panic!("{reason}"),
    }
}

fn message(from: u64, to: u64) -> Vec<u8> {
    framed(&envelope(NodeId(from), NodeId(to), heartbeat(1)))
}

fn framed(envelope: &Envelope) -> Vec<u8> {
    let mut body = BytesMut::new();
    codec::encode_envelope(GROUP, envelope, &mut body);
    frame(3, &body)
}

#[tokio::test]
async fn bad_requests_cost_the_connection() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    for (bytes, text) in
        [(frame(4, &[0; 15]), "malformed request"), (frame(3, &[0; 20]), "unexpected frame kind 3")]
    {
        let connection = dial(&authority, &node, ALPN_CLIENT).await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&hello(2, 0, 0, 0)).await.unwrap();
        recv.read_exact(&mut [0; 42]).await.unwrap();
        send.write_all(&bytes).await.unwrap();
        assert_eq!(closed(&connection).await, (7, text.into()));
    }
    works(&authority, &node).await;
}

#[tokio::test]
async fn a_damaged_or_cut_snapshot_is_refused_and_leaves_no_file() {
    let authority = Authority::new();
    let node = TestNode::start(&authority, 1);
    let mut head = BytesMut::new();
    head.put_u64_le(GROUP.0);
    head.put_u64_le(5);
    codec::put(&SnapshotMeta::default(), &mut head);
    let mut wrong_group = BytesMut::from(&head[..]);
    wrong_group[..8].copy_from_slice(&GroupId(3).0.to_le_bytes());
    let mut no_term = BytesMut::from(&head[..]);
    no_term[8..16].copy_from_slice(&((1_u64 << 62) + 1).to_le_bytes());
    let head = frame(7, &head);
    let chunk = frame(8, &[5; 1000]);
    let mut end = BytesMut::new();
    end.put_u64_le(1000);
    end.put_u128_le(1);
    let end = frame(9, &end);
    let cases = [
        ([&head[..], &chunk, &end].concat(), "malformed snapshot: length or checksum differ"),
        ([&head[..], &chunk].concat(), "stream ended within a frame"),
        ([&head[..], &chunk, &chunk[..100]].concat(), "stream ended within a frame"),
        (frame(7, &no_term), "malformed snapshot head"),
        (frame(7, &wrong_group), "the group is not open there"),
    ];
    for (bytes, text) in cases {
        let connection = dial(&authority, &node, ALPN_PEER).await;
        let (mut control, mut welcome) = connection.open_bi().await.unwrap();
        control.write_all(&hello(1, CLUSTER.0, 9, 1)).await.unwrap();
        welcome.read_exact(&mut [0; 42]).await.unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
        let reply = recv.read_to_end(1000).await.unwrap();
        assert_eq!(reply[4], 6);
        assert_eq!(String::from_utf8_lossy(&reply[14..]), text);
        assert_eq!(node.files(), 0);
    }
    // None was delivered: the first event is the message.
    let (_connection, mut send, _recv) = join(&authority, &node, 0).await;
    send.write_all(&message(9, 1)).await.unwrap();
    assert!(matches!(node.event().await, Event::Message(_)));
}
