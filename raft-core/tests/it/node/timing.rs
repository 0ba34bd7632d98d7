//! Whether the node notices that its election timeout does not suit the network.

use super::*;

/// Three nodes, 80 ms from each other, with this shortest election timeout.
fn far_apart(election_timeout: Duration) -> Cluster {
    let ticks = u32::try_from(election_timeout.as_millis() / 10).unwrap();
    let slow = |id| {
        let config = config(id, 3);
        let (election_ticks_min, election_ticks_max) = (ticks, 2 * ticks);
        let heartbeat_ticks = config.raft.heartbeat_ticks.min(ticks / 3);
        let raft =
            Config { election_ticks_min, election_ticks_max, heartbeat_ticks, ..config.raft };
        NodeConfig { raft, ..config }
    };
    let cluster = Cluster::start_all((1..=3).map(slow));
    cluster.network.delay(Duration::from_millis(80));
    cluster
}

#[tokio::test]
async fn an_election_timeout_that_is_too_short_is_noticed_and_a_better_one_named() {
    let cluster = far_apart(Duration::from_millis(100));
    let node = cluster.node(NodeId(1));
    shows(node, |status| status.timing.suggested.is_some()).await;
    let timing = node.status().timing;
    assert_eq!(timing.round_trip, Some(Duration::from_millis(160)));
    let text = timing.to_string();
    let expected = "the election timeout of 100 ms is too short: a round trip takes 160 ms and";
    assert!(text.starts_with(expected), "{text}");
    let suggested = timing.suggested.unwrap();
    assert!(suggested >= Duration::from_millis(1600), "{text}");

    let cluster = far_apart(suggested);
    let node = cluster.node(NodeId(1));
    shows(node, |status| status.timing.round_trip.is_some()).await;
    let timing = node.status().timing;
    // A commit of a log in memory takes next to nothing, but on a busy machine more than before.
    let flush = timing.flush.unwrap_or_default();
    let needed = 10 * (timing.round_trip.unwrap() + flush);
    assert_eq!(timing.suggested.is_some(), needed > suggested, "{timing}");
    cluster.leader(&[]).await;
}

#[tokio::test]
async fn a_node_alone_has_nobody_to_be_late_for() {
    let cluster = Cluster::start(1);
    cluster.leader(&[]).await;
    cluster.network.delay(Duration::from_secs(3600));
    let node = cluster.node(NodeId(1));
    for _ in 0..40 {
        node.status_changed().await;
    }
    assert_eq!(node.status().timing.suggested, None);
}
