//! Why a request may have taken all the time that it has, as far as this node can tell.

use super::error::{Known, TIMED_OUT, TIMED_OUT_BY_CONNECTION, TIMED_OUT_BY_LEADER};
use raft_core::node::Status;
use raft_core::types::NodeId;
use std::time::Duration;

/// What is said of a request that took `took`, by a node that has known its leader for `led`.
///
/// As with etcd it was a failure of the leader before if the request came in while there was none,
/// or up to two election timeouts before that, and the connection if nothing came from the leader
/// or, to a leader, from a quorum since.
pub(super) fn why_timed_out(status: &Status, took: Duration, led: Option<Duration>) -> Known {
    let two_elections = status.limits.silence / 2;
    if led.is_some_and(|led| led < took && took < led + two_elections) {
        return TIMED_OUT_BY_LEADER;
    }
    let own = status.identity.node;
    let is_heard = |id: &NodeId| {
        let peer = status.peers.iter().find(|peer| peer.id == *id);
        *id == own || peer.and_then(|peer| peer.heard).is_some_and(|heard| heard <= took)
    };
    let is_connected = match status.leader {
        Some(leader) if leader == own => {
            let heard = status.membership.voters().iter().filter(|id| is_heard(id)).count();
            heard >= status.membership.quorum_size()
        }
        Some(leader) => is_heard(&leader),
        // It is told by another text that there is none.
        None => true,
    };
    if is_connected { TIMED_OUT } else { TIMED_OUT_BY_CONNECTION }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::node::PeerStatus;
    use raft_core::types::{ClusterId, Identity, Incarnation, Member, Membership};

    const TOOK: Duration = Duration::from_secs(7);

    /// Node 1 of three, which heard the others so long ago.
    fn status(leader: u64, heard: [Option<u64>; 2]) -> Status {
        let identity =
            Identity { cluster: ClusterId(1), node: NodeId(1), incarnation: Incarnation(1) };
        let mut status = Status::new(identity);
        let member = |id: u64| (NodeId(id), Member::new(format!("n{id}")));
        status.membership = Membership::of_voters((1..=3).map(member).collect());
        status.leader = Some(NodeId(leader));
        status.limits.silence = Duration::from_secs(4);
        for (id, heard) in (2..).zip(heard) {
            let mut peer = PeerStatus::new(NodeId(id));
            peer.heard = heard.map(Duration::from_secs);
            status.peers.push(peer);
        }
        status
    }

    #[test]
    fn the_cause_is_told_as_far_as_it_is_known() {
        let why = |leader, heard, led: Option<u64>| {
            why_timed_out(&status(leader, heard), TOOK, led.map(Duration::from_secs))
        };
        assert_eq!(why(2, [Some(0), None], None), TIMED_OUT);
        assert_eq!(why(2, [Some(0), None], Some(100)), TIMED_OUT);
        assert_eq!(why(2, [Some(8), Some(0)], Some(100)), TIMED_OUT_BY_CONNECTION);
        assert_eq!(why(2, [None, None], None), TIMED_OUT_BY_CONNECTION);
        assert_eq!(why(1, [Some(1), None], Some(100)), TIMED_OUT, "two are a quorum");
        assert_eq!(why(1, [Some(8), None], Some(100)), TIMED_OUT_BY_CONNECTION);
        assert_eq!(why(2, [None, None], Some(6)), TIMED_OUT_BY_LEADER);
        assert_eq!(why(2, [Some(0), None], Some(5)), TIMED_OUT, "it came long before");
        assert_eq!(why(2, [Some(0), None], Some(7)), TIMED_OUT, "it came after it");
    }
}
