//! Raft messages between nodes.

use crate::kit::{
    Authority, CLUSTER, Event, GROUP, TestNode, append, cluster, envelope, heartbeat, introduce,
};
use crate::relay::Relay;
use bytes::Bytes;
use raft_core::raft::{AppendOutcome, Message, ReadRequestId};
use raft_core::transport::Transport;
use raft_core::types::{GroupId, Incarnation, Index, LogId, NodeId, Payload, SnapshotMeta};
use raft_net_quic::Link;
use std::time::Duration;

fn one_of_each() -> Vec<Message> {
    let request = ReadRequestId { nonce: 3, seq: 4 };
    let conflict = AppendOutcome::Conflict { refused: Index(3), hint: LogId::new(2, 1) };
    vec![
        Message::RequestVote { last_log: LogId::new(9, 3), pre_vote: true, transfer: false },
        Message::RequestVoteResponse { granted: true, pre_vote: true },
        heartbeat(5),
        append(1, Bytes::from_static(b"command")),
        Message::AppendEntriesResponse { outcome: conflict, read_seq: 5, stalled_ticks: 0 },
        Message::AppendEntriesResponse { outcome: conflict, read_seq: 5, stalled_ticks: 7 },
        Message::Hello { members: vec![NodeId(1), NodeId(2)], seen: Some(Incarnation(4)) },
        Message::InstallSnapshot { meta: SnapshotMeta::default().into() },
        Message::TimeoutNow,
        Message::Commit { entry: LogId::new(7, 2) },
        Message::ReadIndex { request },
        Message::ReadIndexResponse { request, index: Index(8) },
    ]
}

#[tokio::test]
async fn every_kind_arrives_between_all_of_three_nodes() {
    let nodes = cluster(&Authority::new(), 3).await;
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.id != from.id) {
            for message in one_of_each() {
                from.send(to.id, message);
            }
            let mut expected = one_of_each();
            while !expected.is_empty() {
                let envelope = to.message().await;
                assert_eq!((envelope.from, envelope.to), (from.id, to.id));
                let place = expected.iter().position(|message| *message == envelope.message);
                expected.remove(place.expect("it was sent"));
            }
        }
    }
}

#[tokio::test]
async fn messages_of_one_kind_keep_their_order() {
    let nodes = cluster(&Authority::new(), 2).await;
    let (mut next_append, mut next_beat) = (1, 1);
    for round in 0..20 {
        for step in 1..=100 {
            nodes[0].send(NodeId(2), append(round * 100 + step, Bytes::from(vec![7; 500])));
            nodes[0].send(NodeId(2), heartbeat(round * 100 + step));
        }
        for _ in 0..200 {
            let Message::AppendEntries(message) = nodes[1].message().await.message else {
                panic!("another kind")
            };
            match message.entries {
                None => {
                    assert_eq!(message.read_seq, next_beat);
                    next_beat += 1;
                }
                Some(run) => {
                    assert_eq!(run.first(), LogId::new(next_append, 1));
                    let payload = Payload::Command(Bytes::from(vec![7; 500]));
                    assert_eq!(run.entries()[0].payload, payload);
                    next_append += 1;
                }
            }
        }
    }
    assert_eq!(nodes[1].transport.counters().messages_received, 4000);
    let [sent, received] = [0, 1].map(|at| nodes[at].transport.traffic()[0]);
    assert_eq!((sent.peer, received.peer), (NodeId(2), NodeId(1)));
    assert!(sent.sent > 2000 * 500 && sent.round_trip.is_some(), "{sent:?}");
    assert_eq!((sent.received, received.sent), (0, 0));
    // The bytes of a batch are counted once all of it was delivered.
    while nodes[1].transport.traffic()[0].received < sent.sent {
        tokio::task::yield_now().await;
    }
    assert_eq!(nodes[1].transport.traffic()[0].received, sent.sent);
}

/// Has node 1 send node 2 a message of many packets.
async fn send_many_packets(nodes: &[TestNode], index: u64) {
    nodes[0].send(NodeId(2), append(index, Bytes::from(vec![7; 64 * 1024])));
    nodes[1].message().await;
}

/// Bytes of the largest packet that the path to the other node is known to take.
fn packet_bytes(node: &TestNode) -> u16 {
    node.transport.traffic()[0].packet_bytes.expect("it is connected")
}

#[tokio::test]
async fn packets_grow_where_the_path_takes_more_than_ethernet() {
    let nodes = cluster(&Authority::new(), 2).await;
    let grown = |node: &TestNode| (6_400..=6_500).contains(&packet_bytes(node));
    for index in (1..=1_000).take_while(|_| !grown(&nodes[0])) {
        send_many_packets(&nodes, index).await;
    }
    assert!(grown(&nodes[0]), "{}", packet_bytes(&nodes[0]));
}

#[tokio::test]
async fn packets_stay_small_where_large_ones_are_lost() {
    let authority = Authority::new();
    let nodes = [TestNode::start(&authority, 1), TestNode::start(&authority, 2)];
    let relay = Relay::narrow(&nodes[1].address, 1_500).await;
    nodes[1].transport.set_peers(GROUP, vec![(NodeId(1), nodes[0].address.clone())]);
    nodes[1].connected(NodeId(1)).await;
    nodes[0].transport.set_peers(GROUP, vec![(NodeId(2), relay.address.clone())]);
    nodes[0].connected(NodeId(2)).await;
    for index in 1..=300 {
        send_many_packets(&nodes, index).await;
    }
    let bytes = packet_bytes(&nodes[0]);
    assert!((1_400..=1_500).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn heartbeats_overtake_bulk() {
    let nodes = cluster(&Authority::new(), 2).await;
    let bulk = Bytes::from(vec![1; 1024 * 1024]);
    for index in 1..=15 {
        nodes[0].send(NodeId(2), append(index, bulk.clone()));
    }
    nodes[0].send(NodeId(2), heartbeat(1));
    let mut before = 0;
    loop {
        let Message::AppendEntries(message) = nodes[1].message().await.message else {
            panic!("another kind")
        };
        if message.entries.is_none() {
            break;
        }
        before += 1;
    }
    assert!(before < 8, "{before} of 15 MiB arrived before the heartbeat");
}

#[tokio::test]
async fn what_does_not_fit_is_dropped() {
    let authority = Authority::new();
    let small = TestNode::start_with(authority.node(1), 1, CLUSTER, 0, |config| {
        config.limits.queue_messages_max = 10;
    });
    let nodes = [small, TestNode::start(&authority, 2)];
    introduce(&nodes).await;
    for seq in 0..100 {
        nodes[0].send(NodeId(2), heartbeat(seq));
    }
    let counters = nodes[0].transport.counters();
    assert_eq!((counters.messages_sent, counters.messages_dropped), (10, 90));
    // Nobody is there to be sent to.
    nodes[0].send(NodeId(3), heartbeat(1));
    assert_eq!(nodes[0].transport.counters().messages_dropped, 91);
}

#[tokio::test]
async fn a_peer_that_restarts_on_its_port_is_reached_again() {
    let authority = Authority::new();
    let mut nodes = cluster(&authority, 2).await;
    let second = nodes.pop().unwrap();
    let port = second.transport.local_addr().port();
    let address = second.address.clone();
    second.transport.close().await;
    nodes[0].link(NodeId(2), |link| *link != Link::Connected).await;
    drop(second);

    nodes.push(TestNode::start_with(authority.node(2), 2, CLUSTER, port, |_| ()));
    assert_eq!(nodes[1].address, address);
    nodes[0].connected(NodeId(2)).await;
    nodes[0].send(NodeId(2), heartbeat(1));
    assert_eq!(nodes[1].message().await.message, heartbeat(1));
}

/// Who says something once the peer is back.
enum FirstWord {
    /// The node that was connected to it.
    Here,
    /// The peer itself.
    There,
}

#[test]
fn a_peer_that_dies_without_a_word_is_noticed_with_the_next_message() {
    dies_without_a_word(&FirstWord::Here);
}

#[test]
fn a_peer_that_dies_without_a_word_is_noticed_as_soon_as_it_is_back() {
    dies_without_a_word(&FirstWord::There);
}

fn dies_without_a_word(first_word: &FirstWord) {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let authority = Authority::new();
    let credentials = authority.node(2);
    let (first, second) = (runtime(), runtime());
    // No timeout will tell.
    let node = first.block_on(async {
        TestNode::start_with(authority.node(1), 1, CLUSTER, 0, |config| {
            config.limits.idle_timeout = Duration::from_secs(100_000);
        })
    });
    let start = |port| {
        TestNode::start_with(credentials.clone(), 2, CLUSTER, port, |config| {
            config.limits.idle_timeout = Duration::from_secs(100_000);
        })
    };
    let peer = second.block_on(async { start(0) });
    let address = peer.address.clone();
    let port = peer.transport.local_addr().port();
    first.block_on(async { node.transport.set_peers(GROUP, vec![(NodeId(2), address)]) });
    let serving = std::thread::spawn(move || {
        second.block_on(peer.message());
        second.shutdown_background();
        peer
    });
    first.block_on(async {
        node.connected(NodeId(2)).await;
        node.send(NodeId(2), heartbeat(1));
    });
    while !serving.is_finished() {
        first.block_on(tokio::task::yield_now());
    }
    drop(serving.join());
    first.block_on(async {
        assert_eq!(node.link(NodeId(2), |_| true).await, Link::Connected);
        let peer = start(port);
        // What is said into the void is answered: the connection is gone. Nobody has anything to
        // say if the peer does not, as it connects.
        match first_word {
            FirstWord::Here => node.send(NodeId(2), heartbeat(2)),
            FirstWord::There => {
                let address = node.transport.local_addr().to_string();
                peer.transport.set_peers(GROUP, vec![(NodeId(1), address)]);
            }
        }
        node.fails(NodeId(2), "it restarted").await;
        node.connected(NodeId(2)).await;
        node.send(NodeId(2), heartbeat(3));
        assert_eq!(peer.message().await.message, heartbeat(3));
    });
}

#[tokio::test]
async fn a_changed_address_is_tried_at_once() {
    let authority = Authority::new();
    let nodes = [TestNode::start(&authority, 1), TestNode::start(&authority, 2)];
    nodes[0].transport.set_peers(GROUP, vec![(NodeId(2), "nowhere.invalid:1".into())]);
    nodes[0].fails(NodeId(2), "cannot resolve").await;
    nodes[0].transport.set_peers(GROUP, vec![(NodeId(2), nodes[1].address.clone())]);
    nodes[0].connected(NodeId(2)).await;
}

#[tokio::test]
async fn a_node_that_knows_nobody_answers_who_connects() {
    let authority = Authority::new();
    let nodes = [TestNode::start(&authority, 1), TestNode::start(&authority, 2)];
    nodes[0].transport.set_peers(GROUP, vec![(NodeId(2), nodes[1].address.clone())]);
    nodes[0].connected(NodeId(2)).await;
    nodes[0].send(NodeId(2), heartbeat(1));
    nodes[1].message().await;
    nodes[1].connected(NodeId(1)).await;
    nodes[1].send(NodeId(1), heartbeat(2));
    assert_eq!(nodes[0].message().await.message, heartbeat(2));
}

#[tokio::test]
async fn a_peer_removed_from_every_group_is_left() {
    let nodes = cluster(&Authority::new(), 2).await;
    nodes[0].transport.set_peers(GroupId(5), vec![(NodeId(2), nodes[1].address.clone())]);
    for node in &nodes {
        node.transport.set_peers(GROUP, Vec::new());
    }
    assert_eq!(nodes[0].link(NodeId(2), |_| true).await, Link::Connected);
    nodes[0].transport.set_peers(GroupId(5), Vec::new());
    let mut link = nodes[1].transport.link(NodeId(1));
    while let Some(receiver) = &mut link {
        let _ = receiver.changed().await;
        link = nodes[1].transport.link(NodeId(1));
    }
}

#[tokio::test]
async fn messages_of_a_group_that_is_not_open_are_dropped() {
    let nodes = cluster(&Authority::new(), 2).await;
    let envelope = |seq| envelope(NodeId(1), NodeId(2), heartbeat(seq));
    nodes[0].transport.send(GroupId(9), envelope(1));
    nodes[0].transport.send(GROUP, envelope(2));
    match nodes[1].event().await {
        Event::Message(received) => assert_eq!(received.message, heartbeat(2)),
        _ => panic!("not a message"),
    }
}
