//! The stream of what happens to a node.

use super::*;
use raft_core::node::{Events, NodeEvent};
use raft_core::raft::RoleName;
use raft_core::types::Term;

/// Events up to the first for which `wanted` holds.
async fn up_to(events: &mut Events, wanted: impl Fn(&NodeEvent) -> bool) -> Vec<NodeEvent> {
    let mut seen = Vec::new();
    while !seen.last().is_some_and(&wanted) {
        seen.push(events.next().await.unwrap());
    }
    seen
}

#[tokio::test]
async fn the_life_of_a_node_is_told_in_order() {
    let cluster = Cluster::start_all([before_it_leads()].into_iter());
    let node = cluster.node(NodeId(1));
    let mut events = node.events();
    let proposed = node.propose("early".into()).await;
    let settled = |event: &NodeEvent| matches!(event, NodeEvent::Committed { .. });
    let seen = up_to(&mut events, settled).await;
    // Nobody had listened when the node was started, but it had not run either.
    assert_eq!(seen[0], NodeEvent::Formed);
    assert!(matches!(seen[1], NodeEvent::Membership { committed: false, .. }), "{seen:?}");
    let leads = NodeEvent::Role { role: RoleName::Leader, term: Term(1) };
    assert_eq!(seen[2], leads);
    assert_eq!(seen[3], NodeEvent::Leader { leader: Some(NodeId(1)), term: Term(1) });
    assert!(matches!(seen[4], NodeEvent::Membership { committed: true, .. }), "{seen:?}");
    assert_eq!(proposed, Err(ProposeError::NotLeader { leader: None }));
    let proposed = node.propose("one".into()).await.unwrap();
    let reached = |event: &NodeEvent| match event {
        NodeEvent::Committed { index } => *index >= proposed.id.index,
        _ => false,
    };
    up_to(&mut events, reached).await;
    node.shutdown().await;
    while events.next().await.is_some() {}
    assert_eq!(node.events().next().await, None);
}

#[tokio::test]
async fn a_slow_listener_is_told_that_it_missed_something() {
    let cluster = Cluster::start(1);
    let node = cluster.node(NodeId(1));
    cluster.leader(&[]).await;
    let mut events = node.events();
    for _ in 0..3000 {
        node.propose("x".into()).await.unwrap();
    }
    let first = events.next().await;
    assert!(matches!(first, Some(NodeEvent::Missed { .. })), "{first:?}");
    assert!(matches!(events.next().await, Some(NodeEvent::Committed { .. })));
}
