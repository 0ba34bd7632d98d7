//! What a node waits for while it belongs to no cluster, said once per change.

use raft_core::node::{Node, Status};
use raft_core::types::{NodeId, Term};
use tracing::info;

/// How a blank node comes to a cluster.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// It forms one with the other initial members.
    Form,
    /// It is added to one, at this address.
    Join(String),
    /// Its data was damaged: its cluster has it already.
    Return,
}

/// Tells what `node` waits for, until it waits no longer.
pub(super) async fn tell(node: Node, way: Way) {
    let mut told = String::new();
    loop {
        let status = node.status();
        match waits_for(&status, &way) {
            Some(text) if text != told => {
                info!("{text}");
                told = text;
            }
            Some(_) => {}
            None if told.is_empty() => return,
            None => {
                let membership = &status.membership;
                let (voters, cluster) = (list(membership.voters()), status.identity.cluster);
                info!("a member of cluster {cluster}; its voters are {voters}");
                return;
            }
        }
        tokio::select! {
            biased;
            _ = node.stopped() => return,
            () = node.status_changed() => {}
        }
    }
}

/// What a node waits for; `None` if it is a member.
fn waits_for(status: &Status, way: &Way) -> Option<String> {
    let (id, cluster) = (status.identity.node, status.identity.cluster);
    if status.membership.contains(id) {
        let again = "waiting for the leader to take this node back: its cluster knows an earlier \
                     life of it";
        return (!status.bound).then(|| again.to_owned());
    }
    if !status.membership.is_empty() {
        return Some(format!("waiting to be added: cluster {cluster} does not have {id}"));
    }
    Some(match way {
        // Whoever has heard of a term forms nothing: it has lost its directory, or the founder was
        // quicker than this node.
        Way::Form if status.term > Term(0) => {
            let leader =
                status.leader.map_or_else(|| "a leader".to_owned(), |leader| leader.to_string());
            format!("cluster {cluster} is there already: waiting for {leader} to send its log")
        }
        Way::Form if status.missing.is_empty() => {
            "all initial members are there: the cluster is being formed".to_owned()
        }
        Way::Form => format!("waiting for {} to form the cluster", list(&status.missing)),
        Way::Join(address) => format!(
            "waiting for a leader of cluster {cluster}: `raft member add {id}={address}`, asked of \
             that cluster, adds this node"
        ),
        Way::Return => {
            format!("waiting for a leader of cluster {cluster} to take this node back")
        }
    })
}

fn list(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::types::{ClusterId, Identity, Incarnation};

    fn blank() -> Status {
        let (cluster, incarnation) = (ClusterId(7), Incarnation(1));
        Status::new(Identity { cluster, node: NodeId(1), incarnation })
    }

    fn said(status: &Status) -> String {
        waits_for(status, &Way::Form).unwrap()
    }

    #[test]
    fn a_founder_that_has_lost_its_directory_does_not_claim_to_form_a_cluster() {
        let mut status = blank();
        assert!(said(&status).ends_with("the cluster is being formed"));
        status.missing = vec![NodeId(2)];
        assert_eq!(said(&status), "waiting for n2 to form the cluster");
        status.term = Term(3);
        let there = "is there already: waiting for a leader to send its log";
        assert!(said(&status).ends_with(there), "{}", said(&status));
        (status.leader, status.missing) = (Some(NodeId(2)), Vec::new());
        let there = "is there already: waiting for n2 to send its log";
        assert!(said(&status).ends_with(there), "{}", said(&status));
    }
}
