//! Names that belong to one.

use super::client;
use crate::cluster::Cluster;
use raft_kv::recipes::{Claim, claim};
use std::collections::BTreeSet;
use tokio::task::JoinSet;

/// A thousand clients, each with a session of its own, and the leader dies meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_who_claim_a_name_through_different_nodes_one_gets_it() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let mut claims = JoinSet::new();
    for number in 0..1000 {
        let client = client(&cluster, number);
        claims.spawn(async move { claim(&client, ["name"], number.to_string()).await.unwrap() });
    }
    // Under way, and most not answered yet.
    let mut answers = vec![claims.join_next().await.unwrap().unwrap()];
    cluster.kill(leader);
    answers.extend(claims.join_all().await);
    let granted: Vec<_> =
        answers.iter().filter(|answer| matches!(answer, Claim::Granted(_))).collect();
    assert_eq!((granted.len(), answers.len()), (1, 1000));
    let owners: BTreeSet<_> = answers
        .iter()
        .filter_map(|answer| match answer {
            Claim::Taken(pairs) => Some((pairs[0].value.clone(), pairs[0].version)),
            Claim::Granted(_) => None,
        })
        .collect();
    assert_eq!(owners.len(), 1, "all are told the same owner: {owners:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_names_all_are_given_or_none() {
    let cluster = Cluster::start(3);
    let client = client(&cluster, 0);
    let both = claim(&client, ["user/anna", "mail/anna"], "1").await.unwrap();
    assert!(matches!(both, Claim::Granted(_)));
    let Claim::Taken(taken) = claim(&client, ["user/eva", "mail/anna"], "2").await.unwrap() else {
        panic!("a name was given twice")
    };
    assert_eq!((taken.len(), &taken[0].key[..]), (1, &b"mail/anna"[..]));
    assert_eq!(client.get_one("user/eva").await.unwrap(), None);
}
