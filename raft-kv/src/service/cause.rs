//! Why a request was not answered in time, in one line made from the node's status.

use raft_core::node::Status;
use raft_core::raft::RoleName;
use raft_core::types::NodeId;
use std::fmt::Write;
use std::time::Duration;

/// Why nothing came of a request within `waited`. A node not heard for `silence`, about two
/// election timeouts, counts as unreachable.
///
/// Whoever follows a leader hears nobody else, so its silence about the others means nothing; it is
/// whoever leads or campaigns that talks to everybody.
pub(super) fn cause(status: &Status, silence: Duration, waited: Duration) -> String {
    let own = status.identity.node;
    let heard = |node| node == own || heard(status, node).is_some_and(|age| age <= silence);
    let others = || voters(status).filter(|node| *node != own);
    let quorum = status.membership.is_quorum(heard);
    let alone = !others().any(heard);
    let talks = status.role != RoleName::Follower;
    match status.leader {
        Some(leader) if leader != own => {
            format!("leader {leader} did not answer within {}", seconds(waited))
        }
        _ if !quorum && (talks || alone) => no_quorum(status, heard),
        Some(_) => format!("no answer within {} from a node that leads", seconds(waited)),
        None => "no leader: election in progress".into(),
    }
}

/// What a forwarded request is told by a node that does not lead.
pub(super) fn not_leader(leader: Option<NodeId>) -> String {
    match leader {
        Some(leader) => format!("not the leader, {leader} is"),
        None => "not the leader, and there is none".into(),
    }
}

fn no_quorum(status: &Status, reached: impl Fn(NodeId) -> bool) -> String {
    let count = voters(status).filter(|node| reached(*node)).count();
    let mut text = format!("no quorum: {count} of {}", status.membership.voter_count());
    for node in voters(status).filter(|node| !reached(*node)) {
        let written = match heard(status, node) {
            Some(age) => write!(text, ", {node} unreachable for {}", seconds(age)),
            None => write!(text, ", {node} never reached"),
        };
        written.expect("a String takes whatever is written");
    }
    text
}

fn voters(status: &Status) -> impl Iterator<Item = NodeId> {
    let membership = &status.membership;
    membership.members().keys().copied().filter(|node| membership.is_voter(*node))
}

fn heard(status: &Status, node: NodeId) -> Option<Duration> {
    status.peers.iter().find(|peer| peer.id == node)?.heard
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
