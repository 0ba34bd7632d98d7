//! Snapshots whose way is broken, crowded or crossed.

use crate::kit::{Authority, CLUSTER, Event, GROUP, TestNode, heartbeat, introduce, snapshot};
use crate::relay::Relay;
use raft_core::raft::Envelope;
use raft_core::transport::Transport;
use raft_core::types::{GroupId, Identity, Incarnation, NodeId, Sender, Term};
use raft_net_quic::{Limits, Link};
use std::io::{Cursor, Read};
use std::time::Duration;

const MIB: usize = 1024 * 1024;

fn bytes(count: usize, salt: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 31 % 253 + i / 7919 + salt) as u8).collect()
}

fn start(authority: &Authority, id: u64, adjust: impl FnOnce(&mut Limits)) -> TestNode {
    TestNode::start_with(authority.node(id), id, CLUSTER, 0, |config| {
        config.limits.idle_timeout = Duration::from_millis(500);
        config.limits.backoff_max = Duration::from_millis(100);
        adjust(&mut config.limits);
    })
}

/// Two nodes, of which the first reaches the second through a relay only.
async fn through_a_relay(
    authority: &Authority,
    adjust: impl Fn(&mut Limits),
) -> (TestNode, TestNode, Relay) {
    let (first, second) = (start(authority, 1, &adjust), start(authority, 2, &adjust));
    let relay = Relay::start(&second.address, Duration::ZERO).await;
    first.transport.set_peers(GROUP, vec![(NodeId(2), relay.address.clone())]);
    second.transport.set_peers(GROUP, vec![(NodeId(1), first.address.clone())]);
    first.connected(NodeId(2)).await;
    second.connected(NodeId(1)).await;
    (first, second, relay)
}

/// The next outcome of a snapshot that `node` sent.
async fn outcome(node: &TestNode) -> (NodeId, bool) {
    loop {
        if let Event::Sent(to, _, ok) = node.event().await {
            return (to, ok);
        }
    }
}

/// The next snapshot, with all its bytes.
async fn arrived(node: &TestNode) -> (NodeId, Sender, Term, Vec<u8>) {
    loop {
        if let Event::Snapshot(from, sender, term, mut snapshot) = node.event().await {
            let mut read = Vec::new();
            snapshot.data.read_to_end(&mut read).unwrap();
            return (from, sender, term, read);
        }
    }
}

/// Waits until the sender has noticed that its connection is gone.
async fn interrupted(node: &TestNode, times: u64) {
    while node.transport.counters().snapshots_interrupted < times {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn no_files(node: &TestNode) {
    while node.files() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn half_a_snapshot_is_not_sent_twice() {
    let authority = Authority::new();
    let (first, second, relay) = through_a_relay(&authority, |_| ()).await;
    let sent = bytes(32 * MIB, 0);
    let half = sent.len() as u64 / 2;
    relay.cut_after(half);
    let before = relay.forwarded();
    first.transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(Cursor::new(sent.clone())));
    relay.is_cut().await;
    interrupted(&first, 1).await;
    relay.heal();
    let (from, sender, term, received) = arrived(&second).await;
    assert_eq!((from, sender.incarnation, term), (NodeId(1), Incarnation(1), Term(3)));
    assert!(received == sent);
    assert_eq!(outcome(&first).await, (NodeId(2), true));
    let counters = first.transport.counters();
    assert_eq!((counters.snapshots_sent, counters.snapshots_resumed), (1, 1));
    // All of it once, what was on its way at the cut twice, and some for packets and heartbeats.
    let forwarded = relay.forwarded() - before;
    let most = sent.len() as u64 + half / 2;
    assert!(forwarded < most, "{forwarded} bytes for a snapshot of {}", sent.len());
    no_files(&second).await;
}

#[tokio::test]
async fn it_survives_many_cuts() {
    let authority = Authority::new();
    let (first, second, relay) = through_a_relay(&authority, |limits| {
        limits.idle_timeout = Duration::from_millis(200);
    })
    .await;
    let sent = bytes(24 * MIB, 1);
    relay.cut_after(4 * MIB as u64);
    first.transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(Cursor::new(sent.clone())));
    for times in 1..=4 {
        relay.is_cut().await;
        interrupted(&first, times).await;
        relay.heal();
        relay.cut_after(4 * MIB as u64);
    }
    relay.is_cut().await;
    relay.heal();
    assert!(arrived(&second).await.3 == sent);
    assert_eq!(outcome(&first).await, (NodeId(2), true));
    assert_eq!(second.transport.counters().snapshots_received, 1);
}

#[tokio::test]
async fn a_part_that_nobody_continues_is_removed() {
    let authority = Authority::new();
    let (first, second, relay) = through_a_relay(&authority, |limits| {
        limits.snapshot_stall = Duration::from_millis(300);
        limits.snapshot_kept = Duration::from_millis(300);
    })
    .await;
    relay.cut_after(4 * MIB as u64);
    let data = Cursor::new(bytes(8 * MIB, 0));
    first.transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(data));
    relay.is_cut().await;
    assert_eq!(outcome(&first).await, (NodeId(2), false));
    no_files(&second).await;
    // Another one begins anew.
    relay.heal();
    first.connected(NodeId(2)).await;
    let again = bytes(3 * MIB, 2);
    first.transport.send_snapshot(GROUP, NodeId(2), Term(4), snapshot(Cursor::new(again.clone())));
    assert!(arrived(&second).await.3 == again);
    assert_eq!(outcome(&first).await, (NodeId(2), true));
    assert_eq!(first.transport.counters().snapshots_resumed, 0);
}

#[tokio::test]
async fn a_receiver_that_restarts_has_nothing_to_continue() {
    let authority = Authority::new();
    let (first, second, relay) = through_a_relay(&authority, |_| ()).await;
    // More than the sender keeps.
    relay.cut_after(16 * MIB as u64);
    let data = Cursor::new(bytes(32 * MIB, 0));
    first.transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(data));
    relay.is_cut().await;
    interrupted(&first, 1).await;
    let port = second.transport.local_addr().port();
    second.transport.close().await;
    drop(second);
    let second = TestNode::start_with(authority.node(2), 2, CLUSTER, port, |_| ());
    relay.heal();
    assert_eq!(outcome(&first).await, (NodeId(2), false));
    no_files(&second).await;
    assert_eq!(second.transport.counters().snapshots_received, 0);
}

#[tokio::test]
async fn two_senders_do_not_mix() {
    let authority = Authority::new();
    let receiver = start(&authority, 3, |_| ());
    let senders = [start(&authority, 1, |_| ()), start(&authority, 2, |_| ())];
    let data = [bytes(12 * MIB, 0), bytes(12 * MIB, 100)];
    for node in &senders {
        node.transport.set_peers(GROUP, vec![(NodeId(3), receiver.address.clone())]);
        node.connected(NodeId(3)).await;
    }
    for (node, data) in senders.iter().zip(&data) {
        let data = Cursor::new(data.clone());
        node.transport.send_snapshot(GROUP, NodeId(3), Term(node.id.0), snapshot(data));
    }
    for _ in 0..2 {
        let (from, sender, term, received) = arrived(&receiver).await;
        assert_eq!((sender.incarnation.0, term.0), (from.0, from.0));
        assert!(received == data[from.0 as usize - 1]);
    }
    for node in &senders {
        assert_eq!(outcome(node).await, (NodeId(3), true));
    }
}

#[tokio::test]
async fn another_life_does_not_continue_what_an_earlier_one_began() {
    let authority = Authority::new();
    let (first, second, relay) = through_a_relay(&authority, |limits| {
        limits.snapshot_stall = Duration::from_millis(300);
    })
    .await;
    relay.cut_after(4 * MIB as u64);
    let data = Cursor::new(bytes(8 * MIB, 0));
    first.transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(data));
    relay.is_cut().await;
    assert_eq!(outcome(&first).await, (NodeId(2), false));
    assert_eq!(second.files(), 1, "it is kept");
    let identity = Identity { cluster: CLUSTER, node: NodeId(1), incarnation: Incarnation(100) };
    let other = TestNode::start_as(authority.node(1), identity, 0, |_| ());
    other.transport.set_peers(GROUP, vec![(NodeId(2), second.address.clone())]);
    other.connected(NodeId(2)).await;
    let sent = bytes(8 * MIB, 50);
    other.transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(Cursor::new(sent.clone())));
    let (_, sender, _, received) = arrived(&second).await;
    assert_eq!(sender.incarnation, Incarnation(100));
    assert!(received == sent);
    no_files(&second).await;
}

/// Has no bytes, and says so only once it is told to.
struct Gate(std::sync::mpsc::Receiver<()>);

impl Read for Gate {
    fn read(&mut self, _buffer: &mut [u8]) -> std::io::Result<usize> {
        let _ = self.0.recv();
        Ok(0)
    }
}

#[tokio::test]
async fn outgoing_ones_wait_for_their_turn() {
    let authority = Authority::new();
    let sender = start(&authority, 1, |limits| limits.snapshots_out_max = 1);
    let receivers = [2, 3, 4].map(|id| start(&authority, id, |_| ()));
    let peers = receivers.iter().map(|node| (node.id, node.address.clone())).collect();
    sender.transport.set_peers(GROUP, peers);
    let (open, gate) = std::sync::mpsc::channel();
    let mut data: Vec<Box<dyn Read + Send>> = vec![
        Box::new(Cursor::new(bytes(MIB, 0))),
        Box::new(Cursor::new(bytes(MIB, 0))),
        Box::new(Gate(gate)),
    ];
    for node in &receivers {
        sender.connected(node.id).await;
        sender.transport.send_snapshot(GROUP, node.id, Term(3), snapshot(data.pop().unwrap()));
        // The order in which their tasks begin is that in which they wait.
        tokio::task::yield_now().await;
    }
    // Time enough for the others to go first.
    for _ in 0..100 {
        sender.send(NodeId(4), heartbeat(1));
        receivers[2].message().await;
    }
    open.send(()).unwrap();
    for node in &receivers {
        assert_eq!(outcome(&sender).await, (node.id, true));
    }
}

#[tokio::test]
async fn incoming_ones_are_put_off_while_there_is_no_room() {
    let authority = Authority::new();
    let receiver = start(&authority, 3, |limits| limits.snapshots_in_max = 1);
    let senders = [start(&authority, 1, |_| ()), start(&authority, 2, |_| ())];
    for node in &senders {
        node.transport.set_peers(GROUP, vec![(NodeId(3), receiver.address.clone())]);
        node.connected(NodeId(3)).await;
    }
    let send = |node: &TestNode| {
        let data = Cursor::new(bytes(MIB, 0));
        node.transport.send_snapshot(GROUP, NodeId(3), Term(3), snapshot(data));
    };
    send(&senders[0]);
    // The state machine has not read it yet: its file takes the only room.
    let Event::Snapshot(NodeId(1), _, _, unread) = receiver.event().await else { panic!() };
    send(&senders[1]);
    interrupted(&senders[1], 2).await;
    assert_eq!(receiver.files(), 1);
    drop(unread);
    assert_eq!(arrived(&receiver).await.0, NodeId(2));
    assert_eq!(outcome(&senders[1]).await, (NodeId(3), true));
}

#[tokio::test]
async fn a_part_makes_room_for_a_snapshot_that_comes() {
    let authority = Authority::new();
    let (first, second, relay) = through_a_relay(&authority, |limits| {
        limits.snapshots_in_max = 1;
        limits.snapshot_stall = Duration::from_millis(300);
    })
    .await;
    relay.cut_after(4 * MIB as u64);
    let data = Cursor::new(bytes(8 * MIB, 0));
    first.transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(data));
    relay.is_cut().await;
    assert_eq!(outcome(&first).await, (NodeId(2), false));
    assert_eq!(second.files(), 1, "it is kept");
    let third = start(&authority, 3, |_| ());
    third.transport.set_peers(GROUP, vec![(NodeId(2), second.address.clone())]);
    third.connected(NodeId(2)).await;
    let data = Cursor::new(bytes(MIB, 0));
    third.transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(data));
    assert_eq!(arrived(&second).await.0, NodeId(3));
    no_files(&second).await;
}

#[tokio::test]
async fn a_term_that_is_over_is_refused_at_either_end() {
    let authority = Authority::new();
    let nodes = [start(&authority, 1, |_| ()), start(&authority, 2, |_| ())];
    introduce(&nodes).await;
    let vote = |from: u64, term| {
        let (from, to) = (NodeId(from), NodeId(3 - from));
        Envelope { term: Term(term), ..crate::kit::envelope(from, to, heartbeat(1)) }
    };
    let send = |term| {
        let data = Cursor::new(bytes(MIB, 0));
        nodes[0].transport.send_snapshot(GROUP, NodeId(2), Term(term), snapshot(data));
    };
    // The receiver is ahead, and has said so.
    nodes[1].transport.send(GROUP, vote(2, 5));
    send(4);
    assert_eq!(outcome(&nodes[0]).await, (NodeId(2), false));
    send(5);
    assert_eq!(outcome(&nodes[0]).await, (NodeId(2), true));
    // So is the sender itself; other groups have terms of their own.
    nodes[0].transport.send(GROUP, vote(1, 6));
    nodes[0].transport.send(GroupId(9), vote(1, 60));
    send(5);
    assert_eq!(outcome(&nodes[0]).await, (NodeId(2), false));
    send(6);
    assert_eq!(outcome(&nodes[0]).await, (NodeId(2), true));
    assert_eq!(nodes[1].transport.counters().snapshots_received, 2);
}

/// Heartbeats go to and fro while a snapshot of `size` bytes is sent; returns how often.
async fn heartbeats_beside(size: usize) -> u64 {
    let authority = Authority::new();
    let nodes = [start(&authority, 1, |_| ()), start(&authority, 2, |_| ())];
    introduce(&nodes).await;
    let data = std::io::repeat(7).take(size as u64);
    nodes[0].transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(data));
    let mut round_trips = 0;
    nodes[0].send(NodeId(2), heartbeat(0));
    let mut delivered = false;
    loop {
        tokio::select! {
            event = nodes[1].event() => match event {
                Event::Message(_) => nodes[1].send(NodeId(1), heartbeat(0)),
                Event::Snapshot(..) => delivered = true,
                Event::Sent(..) | Event::Refused(_) => panic!("it sent none"),
            },
            event = nodes[0].event() => match event {
                Event::Message(_) if delivered => return round_trips,
                Event::Message(_) => {
                    round_trips += 1;
                    nodes[0].send(NodeId(2), heartbeat(round_trips));
                }
                Event::Sent(_, _, ok) => assert!(ok),
                Event::Snapshot(..) | Event::Refused(_) => panic!("it is sent none"),
            },
        }
    }
}

#[tokio::test]
async fn heartbeats_flow_beside_a_snapshot() {
    let size = if std::env::var_os("RUN_SLOW_TESTS").is_some() { 256 * MIB } else { 16 * MIB };
    let round_trips = heartbeats_beside(size).await;
    // One for every MiB would be one in ten milliseconds at full rate.
    assert!(round_trips as usize >= size / MIB, "{round_trips} round trips");
}

#[tokio::test]
async fn the_round_trip_is_that_of_the_connection() {
    let authority = Authority::new();
    let (first, second) = (TestNode::start(&authority, 1), TestNode::start(&authority, 2));
    let delay = Duration::from_millis(40);
    let relay = Relay::start(&second.address, delay).await;
    assert_eq!(first.transport.round_trip(GROUP, NodeId(2)), None);
    first.transport.set_peers(GROUP, vec![(NodeId(2), relay.address.clone())]);
    first.connected(NodeId(2)).await;
    let measured = first.transport.round_trip(GROUP, NodeId(2)).unwrap();
    assert!(measured >= 2 * delay, "{measured:?}");
    assert_eq!(first.transport.round_trip(GROUP, NodeId(3)), None);
    second.transport.close().await;
    first.link(NodeId(2), |link| *link != Link::Connected).await;
    assert_eq!(first.transport.round_trip(GROUP, NodeId(2)), None);
}
