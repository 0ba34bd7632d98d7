//! Why there is no quorum, in words.

use super::*;
use raft_core::node::{Cause, Limits, NoQuorum, PeerStatus};
use raft_core::raft::RoleName;
use raft_core::types::Identity;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Node 1 of three, which campaigns.
fn lonely() -> Status {
    let (node, incarnation) = (NodeId(1), Incarnation(1));
    let identity = Identity { cluster: ClusterId(7), node, incarnation };
    Status {
        role: RoleName::PreCandidate,
        membership: members(3),
        bound: true,
        peers: vec![
            PeerStatus { heard: Some(seconds(4.1)), ..PeerStatus::new(NodeId(2)) },
            PeerStatus { heard: None, ..PeerStatus::new(NodeId(3)) },
        ],
        limits: Limits { silence: seconds(2.0), stall: seconds(0.5) },
        ..Status::new(identity)
    }
}

fn told(status: &Status) -> Option<String> {
    status.no_quorum().map(|cause| cause.to_string())
}

#[test]
fn a_node_without_a_quorum_says_whom_it_misses() {
    let mut status = lonely();
    let expected = "no quorum 1/3: n2 unreachable 4.1 s, n3 never heard";
    assert_eq!(told(&status).as_deref(), Some(expected));
    status.peers[1] = PeerStatus { heard: Some(seconds(0.1)), ..PeerStatus::new(NodeId(3)) };
    assert_eq!(told(&status), None);
    status.peers[1].stalled = seconds(2.0);
    let expected = "no quorum 1/3: n2 unreachable 4.1 s, n3 disk stalled 2.0 s";
    assert_eq!(told(&status).as_deref(), Some(expected));
    status.peers[0].other_life = Some(Incarnation(9));
    let expected = "no quorum 1/3: n2 back as another life, n3 disk stalled 2.0 s";
    assert_eq!(told(&status).as_deref(), Some(expected));
    let no_quorum = status.no_quorum().unwrap();
    assert_eq!((no_quorum.reachable, no_quorum.needed, no_quorum.voters), (1, 2, 3));
    assert_eq!(no_quorum.causes[0], (NodeId(2), Cause::OtherLife));
}

/// Two followers do not hear each other as long as they are led.
#[test]
fn whoever_was_led_counts_silence_from_then_on() {
    let mut status = lonely();
    status.peers[1].heard = Some(seconds(143.5));
    status.led = Some(seconds(4.1));
    let expected = "no quorum 1/3: n2 unreachable 4.1 s, n3 unreachable 4.1 s";
    assert_eq!(told(&status).as_deref(), Some(expected));
}

#[test]
fn the_own_disk_counts_too() {
    let mut status = lonely();
    status.peers[0].heard = Some(seconds(0.0));
    status.role = RoleName::Leader;
    status.leader = Some(NodeId(1));
    assert_eq!(told(&status), None);
    status.waiting = seconds(0.6);
    let expected = "no quorum 1/3: n1 disk stalled 0.6 s, n3 never heard";
    assert_eq!(told(&status).as_deref(), Some(expected));
}

#[test]
fn whoever_follows_cannot_tell() {
    let mut status = lonely();
    status.role = RoleName::Follower;
    status.leader = Some(NodeId(2));
    assert_eq!(told(&status), None);
    status.leader = None;
    assert!(told(&status).is_some(), "it hears nobody at all");
    status.peers[1].heard = Some(seconds(0.0));
    assert_eq!(told(&status), None);
}

#[test]
fn a_node_without_a_cluster_says_whom_it_waits_for() {
    let mut status = lonely();
    status.membership = Membership::default();
    status.missing = vec![NodeId(2), NodeId(3)];
    assert_eq!(told(&status).as_deref(), Some("not formed yet: waiting for n2, n3"));
    status.missing.clear();
    assert_eq!(told(&status).as_deref(), Some("not formed yet: waiting to be added to a cluster"));
}

/// It travels to clients.
#[test]
fn a_cause_survives_the_wire() {
    let cause = lonely().no_quorum().unwrap();
    let mut bytes = bytes::BytesMut::new();
    raft_core::codec::put(&cause, &mut bytes);
    let back: NoQuorum = raft_core::codec::take(&mut &bytes[..]).unwrap();
    assert_eq!(back, cause);
}

#[tokio::test]
async fn a_node_whose_others_are_gone_says_so() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader(&[]).await;
    // All of them have acknowledged something.
    let caught_up = |status: &Status| status.peers.iter().all(|peer| peer.heard.is_some());
    shows(cluster.node(leader), caught_up).await;
    for id in [1, 2, 3].map(NodeId).into_iter().filter(|id| *id != leader) {
        cluster.network.isolate(id, true);
    }
    let node = cluster.node(leader);
    shows(node, |status| status.no_quorum().is_some()).await;
    let text = node.status().no_quorum().unwrap().to_string();
    assert!(text.starts_with("no quorum 1/3: n"), "{text}");
    assert_eq!(text.matches("unreachable").count(), 2, "{text}");
}
