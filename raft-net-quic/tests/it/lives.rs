//! Lives of nodes: whoever has the certificate is heard, and never taken for another life.

use crate::kit::{Authority, CLUSTER, Event, GROUP, TestNode, heartbeat, snapshot};
use raft_core::raft::Message;
use raft_core::transport::Transport;
use raft_core::types::{Identity, Incarnation, NodeId, Term, Version};
use raft_net_quic::Link;
use std::collections::BTreeMap;
use std::io;

/// Node 3 in one of its lives, which knows the first node.
fn life(authority: &Authority, incarnation: u64, port: u16, first: &TestNode) -> TestNode {
    let incarnation = Incarnation(incarnation);
    let identity = Identity { cluster: CLUSTER, node: NodeId(3), incarnation };
    let node = TestNode::start_as(authority.node(3), identity, port, |_| ());
    node.transport.set_peers(GROUP, vec![(NodeId(1), first.address.clone())]);
    node
}

async fn closed(node: TestNode) -> u16 {
    let port = node.transport.local_addr().port();
    node.transport.close().await;
    port
}

#[tokio::test]
async fn a_node_with_a_new_data_directory_is_heard_as_another_life() {
    let authority = Authority::new();
    let first = TestNode::start(&authority, 1);
    let old = life(&authority, 30, 0, &first);
    first.transport.set_peers(GROUP, vec![(NodeId(3), old.address.clone())]);
    old.connected(NodeId(1)).await;
    first.connected(NodeId(3)).await;
    old.send(NodeId(1), heartbeat(1));
    let heard = first.message().await;
    assert_eq!((heard.from, heard.sender.incarnation), (NodeId(3), Incarnation(30)));
    assert_eq!(heard.sender.version, Version::CURRENT);
    let port = closed(old).await;
    first.link(NodeId(3), |link| *link != Link::Connected).await;

    // Both when it dials and when it is dialled.
    let new = life(&authority, 31, port, &first);
    new.connected(NodeId(1)).await;
    first.connected(NodeId(3)).await;
    new.send(NodeId(1), heartbeat(2));
    assert_eq!(first.message().await.sender.incarnation, Incarnation(31));
    first.send(NodeId(3), heartbeat(3));
    assert_eq!(new.message().await.message, heartbeat(3));
    new.transport.send_snapshot(GROUP, NodeId(1), Term(1), snapshot(io::empty()));
    let Event::Snapshot(NodeId(3), sender, ..) = first.event().await else { panic!() };
    assert_eq!(sender.incarnation, Incarnation(31));
}

#[tokio::test]
async fn two_lives_at_once_are_both_heard_and_never_mixed() {
    let authority = Authority::new();
    let first = TestNode::start(&authority, 1);
    let lives = [life(&authority, 30, 0, &first), life(&authority, 31, 0, &first)];
    // The members say which of the two addresses is answered.
    first.transport.set_peers(GROUP, vec![(NodeId(3), lives[0].address.clone())]);
    for node in &lives {
        node.connected(NodeId(1)).await;
    }
    for seq in 0..100 {
        for (life, node) in (0..).zip(&lives) {
            node.send(NodeId(1), heartbeat(2 * seq + life));
        }
    }
    let mut heard = BTreeMap::<_, u64>::new();
    for _ in 0..200 {
        let envelope = first.message().await;
        let Message::AppendEntries(beat) = envelope.message else { panic!("another kind") };
        assert_eq!(envelope.sender.incarnation, Incarnation(30 + beat.read_seq % 2));
        *heard.entry(envelope.sender.incarnation).or_default() += 1;
    }
    assert_eq!(heard, BTreeMap::from([(Incarnation(30), 100), (Incarnation(31), 100)]));
    first.connected(NodeId(3)).await;
    first.send(NodeId(3), heartbeat(1));
    assert_eq!(lives[0].message().await.message, heartbeat(1));
}

#[tokio::test]
async fn lives_of_one_node_are_bounded() {
    let authority = Authority::new();
    let first = TestNode::start_with(authority.node(1), 1, CLUSTER, 0, |config| {
        config.limits.lives_max = 2;
    });
    let lives = [life(&authority, 30, 0, &first), life(&authority, 31, 0, &first)];
    for node in &lives {
        node.connected(NodeId(1)).await;
    }
    let third = life(&authority, 32, 0, &first);
    third.refused(NodeId(1), "2 connections of n3 are open").await;
    let [_, second] = lives;
    closed(second).await;
    third.connected(NodeId(1)).await;
}

#[tokio::test]
async fn nodes_that_nobody_named_are_bounded() {
    let authority = Authority::new();
    let first = TestNode::start_with(authority.node(1), 1, CLUSTER, 0, |config| {
        config.limits.strangers_max = 1;
    });
    let dials = |id| {
        let node = TestNode::start(&authority, id);
        node.transport.set_peers(GROUP, vec![(NodeId(1), first.address.clone())]);
        node
    };
    let second = dials(2);
    second.connected(NodeId(1)).await;
    let third = dials(3);
    third.refused(NodeId(1), "too many nodes that are no peers are connected").await;
    // Whoever is named is let in, and leaves its place to another.
    first.transport.set_peers(GROUP, vec![(NodeId(3), third.address.clone())]);
    third.connected(NodeId(1)).await;
    let fourth = dials(4);
    fourth.refused(NodeId(1), "too many nodes that are no peers are connected").await;
    let named = [(NodeId(2), second.address.clone()), (NodeId(3), third.address.clone())];
    first.transport.set_peers(GROUP, named.into());
    fourth.connected(NodeId(1)).await;
}

#[tokio::test]
async fn a_stranger_that_moved_is_answered_where_it_is_now() {
    let authority = Authority::new();
    let first = TestNode::start(&authority, 1);
    let old = life(&authority, 30, 0, &first);
    old.connected(NodeId(1)).await;
    old.send(NodeId(1), heartbeat(1));
    first.message().await;
    first.connected(NodeId(3)).await;
    // Beside the old one, which does not say that it leaves.
    let moved = life(&authority, 30, 0, &first);
    moved.send(NodeId(1), heartbeat(2));
    moved.connected(NodeId(1)).await;
    moved.send(NodeId(1), heartbeat(3));
    first.message().await;
    let elsewhere = |link: &Link| *link == Link::Connected;
    first.link(NodeId(3), elsewhere).await;
    while moved.transport.counters().messages_received == 0 {
        first.send(NodeId(3), heartbeat(4));
        tokio::task::yield_now().await;
    }
}
