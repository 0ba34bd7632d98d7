//! Nodes of different versions.

use crate::kit::{
    Authority, CLUSTER, Event, GROUP, TestNode, append, heartbeat, introduce, snapshot,
};
use bytes::Bytes;
use raft_core::raft::{AppendOutcome, Message};
use raft_core::transport::Transport;
use raft_core::types::{Incarnation, Index, LogId, NodeId, Term, Version};
use raft_net_quic::{BindError, QuicTransport};
use std::io::{Cursor, Read};

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
        assert_eq!(error.to_string(), format!("version {version} is not spoken: v1 to v2 are"));
    }
}
