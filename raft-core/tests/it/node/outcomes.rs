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

/// Of several commands proposed at once, those beyond the bound are refused and the first are not;
/// and all of them have an outcome when the node stops.
#[tokio::test]
async fn commands_proposed_together_have_an_outcome_each() {
    let transport = MemoryNetwork::new().transport(NodeId(1));
    let config = NodeConfig { requests_max: 2, ..config(1, 1) };
    let node = Node::start(config, MemoryLog::new(), Journal::new(), transport).unwrap();
    shows(&node, |status| status.last_applied > Index::ZERO).await;
    let commands = |count: usize| vec![Bytes::from_static(b"x"); count];
    let outcomes = node.propose_many(commands(4)).await;
    let replies: Vec<_> = outcomes.iter().flatten().map(|it| it.reply.clone()).collect();
    assert_eq!(replies, [number(1), number(2)]);
    assert_eq!(outcomes[2..], vec![Err(ProposeError::Overloaded); 2]);
    // What is answered makes room.
    assert!(node.propose_many(commands(2)).await.iter().all(Result::is_ok));
    assert_eq!(node.propose_many(Vec::new()).await, []);
    node.shutdown().await;
    assert_eq!(node.propose_many(commands(1)).await, [Err(ProposeError::Stopped)]);
}

#[tokio::test]
async fn a_node_that_stops_answers_what_was_proposed_together() {
    // Nobody leads: refused at once, in their order.
    let transport = MemoryNetwork::new().transport(NodeId(1));
    let node = Node::start(config(1, 3), MemoryLog::new(), Journal::new(), transport).unwrap();
    let outcomes = node.propose_many(vec!["x".into(); 3]).await;
    assert_eq!(outcomes, vec![Err(ProposeError::NotLeader { leader: None }); 3]);
    // Cut off, the leader cannot commit them, and then stops.
    let cluster = Cluster::start(3);
    let old = cluster.leader(&[]).await;
    cluster.network.isolate(old, true);
    let node = cluster.node(old).clone();
    let waiting = tokio::spawn(async move { node.propose_many(vec!["x".into(); 3]).await });
    tokio::task::yield_now().await;
    cluster.node(old).shutdown().await;
    assert_eq!(waiting.await.unwrap(), vec![Err(ProposeError::Stopped); 3]);
}

/// What is too large in the middle of a batch keeps nothing else of it back.
#[tokio::test]
async fn each_of_a_batch_is_told_of_its_own_place() {
    let transport = MemoryNetwork::new().transport(NodeId(1));
    let node = Node::start(config(1, 1), MemoryLog::new(), Journal::new(), transport).unwrap();
    shows(&node, |status| status.last_applied > Index::ZERO).await;
    let large = Bytes::from(vec![0; Config::default().command_bytes_max + 1]);
    let small = Bytes::from_static(b"x");
    let commands = vec![small.clone(), small.clone(), large.clone(), small.clone(), large, small];
    let outcomes = node.propose_many(commands).await;
    let replies: Vec<_> = outcomes.iter().map(|it| it.as_ref().ok().map(|it| &it.reply)).collect();
    let numbers = [1, 2, 3, 4].map(number);
    let [one, two, three, four] = numbers.each_ref().map(Some);
    assert_eq!(replies, [one, two, None, three, None, four]);
    assert!(matches!(outcomes[2], Err(ProposeError::TooLarge { .. })), "{:?}", outcomes[2]);
}

/// More than one message takes is committed in pieces, and told as one.
#[tokio::test]
async fn a_batch_that_is_committed_in_pieces_is_told_in_its_order() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader(&[]).await;
    let size = Config::default().message_bytes_max / 10;
    let commands = vec![Bytes::from(vec![7; size]); 100];
    let outcomes = cluster.node(leader).propose_many(commands).await;
    let first = outcomes[0].as_ref().unwrap().id.index.0;
    for (place, outcome) in (0..).zip(outcomes) {
        let proposed = outcome.unwrap();
        assert_eq!((proposed.id.index.0, proposed.reply), (first + place, number(place + 1)));
    }
}
