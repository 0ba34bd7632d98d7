//! Nodes of different versions.

use crate::kit::{
    Authority, CLUSTER, Event, GROUP, TestNode, append, heartbeat, introduce, snapshot,
};
use bytes::Bytes;
use quinn::crypto::rustls::QuicServerConfig;
use raft_core::raft::{AppendOutcome, Message};
use raft_core::transport::Transport;
use raft_core::types::{Incarnation, Index, LogId, NodeId, Term, Version};
use raft_net_quic::{BindError, Credentials, QuicTransport};
use std::io::{Cursor, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// A node that speaks up to `version`.
fn node(authority: &Authority, id: u64, version: u16) -> TestNode {
    TestNode::start_with(authority.node(id), id, CLUSTER, 0, |config| {
        config.version = Version(version);
    })
}

fn news() -> Message {
    Message::Hello { members: vec![NodeId(1), NodeId(2)], seen: Some(Incarnation(7)) }
}

#[tokio::test]
async fn versions_1_and_2_talk_in_version_1() {
    let authority = Authority::new();
    let nodes = [node(&authority, 1, 1), node(&authority, 2, 2)];
    introduce(&nodes).await;
    for (from, to, version) in [(&nodes[0], &nodes[1], 1), (&nodes[1], &nodes[0], 1)] {
        // Neither the old one says what is new, nor is it told.
        let before = from.transport.counters().messages_dropped;
        from.send(to.id, news());
        let outcome = AppendOutcome::Conflict { refused: Index(3), hint: LogId::new(2, 1) };
        let stalled =
            |stalled_ticks| Message::AppendEntriesResponse { outcome, read_seq: 1, stalled_ticks };
        from.send(to.id, stalled(7));
        assert_eq!(from.transport.counters().messages_dropped, before + 2);
        from.send(to.id, stalled(0));
        let heard = to.message().await;
        assert_eq!((heard.message, heard.sender.version), (stalled(0), Version(version)));
        from.send(to.id, append(1, Bytes::from_static(b"x")));
        assert_eq!(to.message().await.message, append(1, Bytes::from_static(b"x")));
    }
}

#[tokio::test]
async fn version_2_says_what_is_new() {
    let authority = Authority::new();
    let nodes = [node(&authority, 1, 2), node(&authority, 2, 2)];
    introduce(&nodes).await;
    nodes[0].send(NodeId(2), news());
    let heard = nodes[1].message().await;
    assert_eq!((heard.message, heard.sender.version), (news(), Version(2)));
}

#[tokio::test]
async fn an_upgraded_peer_is_noticed() {
    let authority = Authority::new();
    let nodes = [node(&authority, 1, 2), node(&authority, 2, 1)];
    introduce(&nodes).await;
    let [first, old] = nodes;
    let port = old.transport.local_addr().port();
    old.transport.close().await;
    first.link(NodeId(2), |link| *link != raft_net_quic::Link::Connected).await;
    let new = TestNode::start_with(authority.node(2), 2, CLUSTER, port, |_| ());
    first.connected(NodeId(2)).await;
    first.send(NodeId(2), news());
    assert_eq!(new.message().await.message, news());
}

#[tokio::test]
async fn snapshots_go_both_ways_between_versions_1_and_2() {
    let authority = Authority::new();
    let nodes = [node(&authority, 1, 1), node(&authority, 2, 2)];
    introduce(&nodes).await;
    let bytes: Vec<u8> = (0..3_000_001).map(|i| (i * 31 % 253) as u8).collect();
    for (from, to) in [(&nodes[0], &nodes[1]), (&nodes[1], &nodes[0])] {
        from.transport.send_snapshot(GROUP, to.id, Term(3), snapshot(Cursor::new(bytes.clone())));
        let Event::Snapshot(_, sender, term, mut received) = to.event().await else { panic!() };
        assert_eq!((sender.incarnation.0, term), (from.id.0, Term(3)));
        let mut read = Vec::new();
        received.data.read_to_end(&mut read).unwrap();
        assert!(read == bytes);
        assert!(matches!(from.event().await, Event::Sent(_, _, true)));
        to.send(from.id, heartbeat(1));
        assert_eq!(from.message().await.message, heartbeat(1));
    }
}

#[tokio::test]
async fn a_version_that_this_release_does_not_speak_is_refused() {
    let authority = Authority::new();
    for version in [Version(0), Version(Version::CURRENT.0 + 1)] {
        let (mut config, _directory) = TestNode::config(authority.node(1), 0);
        config.version = version;
        let error = QuicTransport::bind(config).unwrap_err();
        assert!(matches!(error, BindError::Version(refused) if refused == version));
        let expected = format!("version {version} is not spoken: v1 to {} are", Version::CURRENT);
        assert_eq!(error.to_string(), expected);
    }
}

/// What the code of version 1 insisted on when it was dialled: its ALPN, its hello to the byte, and
/// behind it messages.
#[tokio::test]
async fn a_node_of_version_1_is_dialled_in_its_own_bytes() {
    let authority = Authority::new();
    let Credentials { chain, key, .. } = authority.node(2);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![b"raft-peer/1".to_vec(), b"raft-client/1".to_vec()];
    let tls = QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let old = quinn::Endpoint::server(config, listen).unwrap();

    let node = TestNode::start(&authority, 1);
    let address = old.local_addr().unwrap().to_string();
    node.transport.set_peers(GROUP, vec![(NodeId(2), address)]);
    let connection = old.accept().await.unwrap().await.unwrap();
    let (mut send, mut recv) = connection.accept_bi().await.unwrap();
    let hello = |node: u64, to: u64| {
        let mut bytes = vec![38, 0, 0, 0, 1, 1, 0, 1, 0, 0];
        for number in [CLUSTER.0, node, to, node] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    };
    let mut told = [0; 42];
    recv.read_exact(&mut told).await.unwrap();
    assert_eq!(told[..], hello(1, 2)[..]);
    send.write_all(&hello(2, 0)).await.unwrap();
    node.connected(NodeId(2)).await;
    node.send(NodeId(2), news());
    assert_eq!(node.transport.counters().messages_dropped, 1);
    node.send(NodeId(2), heartbeat(1));
    let mut head = [0; 5];
    recv.read_exact(&mut head).await.unwrap();
    assert_eq!(head[4], 3, "a message");
}
