//! Elections.

use super::{Process, TTL, client, until_another_lease_has_expired, world};
use crate::cluster::Cluster;
use raft_kv::api::KvError;
use raft_kv::client::ClientError;
use raft_kv::recipes::{Election, RecipeError};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_follow_each_other_and_all_see_whom() {
    let cluster = Cluster::start(3);
    let elections = [0, 1, 2].map(|number| Election::new(&client(&cluster, number), "election"));
    let [one, two, three] = &elections;
    assert_eq!(three.leader().await.unwrap(), None);
    let mut observer = three.observe().await.unwrap();
    assert_eq!(observer.next().await.unwrap(), None);

    let first = one.campaign("one", LONG).await.unwrap();
    let leader = observer.next().await.unwrap().unwrap();
    assert_eq!((&leader.value[..], &leader.fence), (&b"one"[..], &first.fence()));
    assert_eq!(three.leader().await.unwrap(), Some(leader.clone()));
    first.proclaim("one, still").await.unwrap();
    let proclaimed = observer.next().await.unwrap().unwrap();
    assert_eq!((&proclaimed.value[..], &proclaimed.fence), (&b"one, still"[..], &leader.fence));
    assert!(proclaimed.revision > leader.revision);

    let campaign = tokio::spawn({
        let two = two.clone();
        async move { two.campaign("two", LONG).await.unwrap() }
    });
    first.resign().await.unwrap();
    let second = campaign.await.unwrap();
    // Between the two there may have been nobody.
    let next = loop {
        if let Some(next) = observer.next().await.unwrap() {
            break next;
        }
    };
    assert_eq!((&next.value[..], &next.fence), (&b"two"[..], &second.fence()));
    assert!(next.fence.token > leader.fence.token);
    drop(second);
    assert_eq!(observer.next().await.unwrap(), None);
}

#[test]
fn a_leader_that_fails_is_replaced_and_cannot_write_any_more() {
    let (world, failing) = (world(), Process::start());
    let cluster = world.block_on(async { Cluster::start(3) });
    let old_client = client(&cluster, 0);
    let old = failing.run(Election::new(&old_client, "election").campaign("old", TTL)).unwrap();
    let guarded = old_client.fenced(old.fence());
    failing.run(guarded.put("plan", "old")).unwrap();

    world.block_on(async {
        let client = client(&cluster, 1);
        let election = Election::new(&client, "election");
        let new = election.campaign("new", TTL).await.unwrap();
        client.fenced(new.fence()).put("plan", "new").await.unwrap();
        assert_eq!(election.leader().await.unwrap().unwrap().fence, new.fence());
        // Leadership lasts as long as it is held: longer than its lease without renewals.
        for _ in 0..2 {
            until_another_lease_has_expired(&client).await;
        }
        assert!(!new.is_lost());
        client.fenced(new.fence()).put("plan", "newer").await.unwrap();
        new.resign().await.unwrap();
    });

    let refused = failing.run(guarded.put("plan", "stale")).unwrap_err();
    assert!(matches!(refused, ClientError::Refused(KvError::Fenced { .. })), "{refused}");
    assert_eq!(failing.run(old.proclaim("old")), Err(RecipeError::Lost));
    failing.run(old.lost());
    let plan = world.block_on(client(&cluster, 2).get_one("plan")).unwrap().unwrap();
    assert_eq!(plan.value, "newer");
}
