//! Being told that nobody listens any more where a peer did.

use crate::kit::{Authority, CLUSTER, Event, GROUP, TestNode, cluster, heartbeat, introduce};
use crate::relay::Relay;
use raft_core::transport::Transport;
use raft_core::types::NodeId;
use raft_net_quic::QuicConfig;
use std::net::Ipv6Addr;
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

impl TestNode {
    /// Asks until it is told that nobody listens where `peer` did.
    async fn told_of(&self, peer: NodeId) {
        let told = async {
            loop {
                if let Event::Refused(node) = self.event().await {
                    break assert_eq!(node, peer);
                }
            }
        };
        let asks = async {
            loop {
                self.transport.probe(GROUP, peer);
                yield_now().await;
            }
        };
        tokio::select! {
            () = told => {}
            () = asks => {}
        }
    }

    /// Asks about `peer`, which is there, again and again: it notices nothing, and nobody is told.
    async fn not_told_of(&self, peer: &Self) {
        let before = peer.transport.counters();
        for seq in 1..=50 {
            self.transport.probe(GROUP, peer.id);
            peer.send(self.id, heartbeat(seq));
            // What comes late of others says nothing of this one.
            while let Event::Refused(node) = self.event().await {
                assert_ne!(node, peer.id, "it is there");
            }
        }
        let after = peer.transport.counters();
        assert_eq!((after.refusals, after.violations), (before.refusals, before.violations));
        assert_eq!(after.messages_received, before.messages_received);
    }
}

#[tokio::test]
async fn a_peer_that_has_gone_is_told_of_and_one_that_is_there_is_not() {
    let nodes = cluster(&Authority::new(), 3).await;
    nodes[0].not_told_of(&nodes[1]).await;
    nodes[1].transport.close().await;
    nodes[0].told_of(NodeId(2)).await;
    nodes[2].told_of(NodeId(2)).await;
    nodes[0].not_told_of(&nodes[2]).await;
    // Another that is not known at all.
    nodes[0].transport.probe(GROUP, NodeId(9));
}

/// The process behind a connection that stands is gone without a word.
#[tokio::test]
async fn a_peer_that_has_gone_without_a_word_is_told_of() {
    let authority = Authority::new();
    let nodes = [TestNode::start(&authority, 1), TestNode::start(&authority, 2)];
    let relay = Relay::start(&nodes[1].address, Duration::ZERO).await;
    nodes[0].transport.set_peers(GROUP, vec![(NodeId(2), relay.address.clone())]);
    nodes[0].connected(NodeId(2)).await;
    drop(relay);
    nodes[0].told_of(NodeId(2)).await;
}

/// Another process takes the place of one that went without a word. It has none of its keys, so it
/// cannot say that it knows nothing of the connection; nor does it connect by itself.
#[tokio::test]
async fn who_takes_the_place_of_a_silent_peer_is_reached() {
    let authority = Authority::new();
    let patient = |config: &mut QuicConfig| {
        config.limits.idle_timeout = Duration::from_secs(600);
    };
    let start = |id| TestNode::start_with(authority.node(id), id, CLUSTER, 0, patient);
    let (nodes, other) = ([start(1), start(2)], start(2));
    let mut relay = Relay::start(&nodes[1].address, Duration::ZERO).await;
    let address = relay.address.clone();
    nodes[0].transport.set_peers(GROUP, vec![(NodeId(2), address.clone())]);
    nodes[0].connected(NodeId(2)).await;
    let speaks = async {
        loop {
            nodes[0].send(NodeId(2), heartbeat(1));
            sleep(Duration::from_millis(20)).await;
        }
    };
    let fails = |text| timeout(Duration::from_secs(1), nodes[0].fails(NodeId(2), text));
    let told = async {
        // It is silent, and somebody listens.
        relay.cut_after(0);
        relay.is_cut().await;
        assert!(fails("").await.is_err(), "it was given up for its silence");
        // As often as it takes for this to be noticed: nobody listens, and then somebody does, who
        // does not know the connection.
        loop {
            drop(relay);
            sleep(Duration::from_millis(500)).await;
            relay = Relay::in_place_of(&address, &other.address).await;
            if fails("another process listens there now").await.is_ok() {
                break;
            }
        }
        nodes[0].connected(NodeId(2)).await;
    };
    tokio::select! {
        () = speaks => unreachable!("it goes on"),
        () = told => {}
    }
}

#[tokio::test]
async fn names_and_ipv6_are_told_of_as_well() {
    let authority = Authority::new();
    let v6 = |id| {
        TestNode::start_with(authority.node(id), id, CLUSTER, 0, |config| {
            config.listen.set_ip(Ipv6Addr::LOCALHOST.into());
        })
    };
    let mut nodes = [v6(1), v6(2)];
    introduce(&nodes).await;
    nodes[0].not_told_of(&nodes[1]).await;
    nodes[1].transport.close().await;
    nodes[0].told_of(NodeId(2)).await;
    // Whatever its name stands for here, nobody listens at any of that.
    let gone = format!("localhost:{}", nodes[1].transport.local_addr().port());
    nodes[1].address = gone;
    nodes[0].transport.set_peers(GROUP, vec![(NodeId(2), nodes[1].address.clone())]);
    nodes[0].told_of(NodeId(2)).await;
}
