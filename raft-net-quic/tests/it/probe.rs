//! Being told that nobody listens any more where a peer did.

use crate::kit::{Authority, CLUSTER, Event, GROUP, TestNode, cluster, heartbeat, introduce};
use crate::relay::Relay;
use raft_core::transport::Transport;
use raft_core::types::NodeId;
use std::net::Ipv6Addr;
use std::time::Duration;
use tokio::task::yield_now;

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
