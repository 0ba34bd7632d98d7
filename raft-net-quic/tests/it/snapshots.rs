//! Snapshots between nodes.

use crate::kit::{Authority, CLUSTER, Event, GROUP, TestNode, cluster, introduce, snapshot};
use raft_core::transport::Transport;
use raft_core::types::{Incarnation, LogId, NodeId, Sender, Term, Version};
use std::io::{self, Read};
use std::time::Duration;

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 31 % 253) as u8).collect()
}

async fn outcome(node: &TestNode) -> bool {
    loop {
        if let Event::Sent(to, meta, ok) = node.event().await {
            assert_eq!((to, meta.last), (NodeId(2), LogId::new(7, 2)));
            return ok;
        }
    }
}

#[tokio::test]
async fn twenty_mebibytes_arrive_intact() {
    let nodes = cluster(&Authority::new(), 2).await;
    let sent = bytes(20 * 1024 * 1024 + 1);
    let data = io::Cursor::new(sent.clone());
    nodes[0].transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(data));
    let Event::Snapshot(from, sender, term, mut received) = nodes[1].event().await else {
        panic!("no snapshot")
    };
    let expected = Sender { incarnation: Incarnation(1), version: Version::CURRENT };
    assert_eq!(sender, expected);
    assert_eq!((from, term, received.meta.last), (NodeId(1), Term(3), LogId::new(7, 2)));
    assert_eq!(nodes[1].files(), 1);
    let mut read = Vec::new();
    received.data.read_to_end(&mut read).unwrap();
    assert!(read == sent);
    drop(received);
    assert_eq!(nodes[1].files(), 0, "the file goes with its reader");
    assert!(outcome(&nodes[0]).await);
    assert_eq!(nodes[0].transport.counters().snapshots_sent, 1);
}

#[tokio::test]
async fn an_empty_one_arrives() {
    let nodes = cluster(&Authority::new(), 2).await;
    nodes[0].transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(io::empty()));
    assert!(outcome(&nodes[0]).await);
    assert!(matches!(nodes[1].event().await, Event::Snapshot(..)));
}

/// Fails, or panics, after a while.
struct Broken {
    left: usize,
    panics: bool,
}

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            assert!(!self.panics, "a bug in the reader");
            return Err(io::Error::other("disk gone"));
        }
        let count = buffer.len().min(self.left);
        self.left -= count;
        Ok(count)
    }
}

#[tokio::test]
async fn one_whose_reader_fails_or_panics_is_not_delivered() {
    let nodes = cluster(&Authority::new(), 2).await;
    for panics in [false, true] {
        let data = Broken { left: 3_000_000, panics };
        nodes[0].transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(data));
        assert!(!outcome(&nodes[0]).await);
    }
    // The next one is delivered, and is the first that is; the aborted ones are cleaned up.
    nodes[0].transport.send_snapshot(GROUP, NodeId(2), Term(4), snapshot(io::empty()));
    assert!(outcome(&nodes[0]).await);
    let Event::Snapshot(_, _, term, received) = nodes[1].event().await else { panic!() };
    assert_eq!(term, Term(4));
    drop(received);
}

#[tokio::test]
async fn one_that_is_too_large_is_refused_and_leaves_no_file() {
    let authority = Authority::new();
    let second = TestNode::start_with(authority.node(2), 2, CLUSTER, 0, |config| {
        config.limits.snapshot_bytes_max = 1_000_000;
    });
    let nodes = [TestNode::start(&authority, 1), second];
    introduce(&nodes).await;
    for _ in 0..10 {
        let data = io::repeat(1);
        nodes[0].transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(data));
        assert!(!outcome(&nodes[0]).await);
        assert_eq!(nodes[1].files(), 0);
    }
    // That the receiver stops reading is not taken for a stream that broke.
    assert_eq!(nodes[0].transport.counters().snapshots_interrupted, 0);
}

#[tokio::test]
async fn one_to_nobody_fails() {
    let node = TestNode::start(&Authority::new(), 1);
    node.transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(io::empty()));
    assert!(!outcome(&node).await);
}

#[tokio::test]
async fn a_second_one_to_the_same_peer_is_refused() {
    let nodes = cluster(&Authority::new(), 2).await;
    let data = io::repeat(1).take(30_000_000);
    nodes[0].transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(data));
    nodes[0].transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(io::empty()));
    assert!(!outcome(&nodes[0]).await);
    assert!(outcome(&nodes[0]).await);
}

#[tokio::test]
async fn a_receiver_that_goes_away_is_noticed() {
    let authority = Authority::new();
    let first = TestNode::start_with(authority.node(1), 1, CLUSTER, 0, |config| {
        config.limits.snapshot_stall = Duration::from_millis(300);
    });
    let nodes = [first, TestNode::start(&authority, 2)];
    introduce(&nodes).await;
    nodes[0].transport.send_snapshot(GROUP, NodeId(2), Term(3), snapshot(io::repeat(1)));
    while nodes[1].files() == 0 {
        tokio::task::yield_now().await;
    }
    nodes[1].transport.close().await;
    assert!(!outcome(&nodes[0]).await);
}

#[tokio::test]
async fn leftovers_are_removed_at_start() {
    let authority = Authority::new();
    let (config, _directory) = TestNode::config(authority.node(1), 0);
    std::fs::create_dir_all(&config.snapshot_dir).unwrap();
    let path = |name: &str| config.snapshot_dir.join(name);
    std::fs::write(path("incoming-x1.snapshot"), "half").unwrap();
    std::fs::write(path("notes.txt"), "not ours").unwrap();
    raft_net_quic::QuicTransport::bind(config.clone()).unwrap();
    assert!(!path("incoming-x1.snapshot").exists());
    assert!(path("notes.txt").exists());
}
