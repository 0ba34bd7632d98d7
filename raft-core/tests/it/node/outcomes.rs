//! What proposers are told when nobody can know what became of it.

use super::*;

/// The leader is cut off with what it has appended, which the next one may have got or not: it must
/// not say that nothing was done.
#[tokio::test]
async fn a_leader_that_loses_its_office_does_not_know_what_became_of_a_proposal() {
    let cluster = Cluster::start(3);
    let old = cluster.leader(&[]).await;
    cluster.network.isolate(old, true);
    let outcome = cluster.node(old).propose("one".into()).await;
    assert_eq!(outcome, Err(ProposeError::LeadershipLost));
}
