//! Groups.

use super::{Process, TTL, client, world};
use crate::cluster::Cluster;
use bytes::Bytes;
use raft_kv::api::KvError;
use raft_kv::client::ClientError;
use raft_kv::recipes::{Group, GroupView, RecipeError};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Waits until the view shows these ids.
async fn until(view: &mut GroupView, ids: &[&str]) {
    let shown = |view: &GroupView| view.members().keys().cloned().collect::<Vec<Bytes>>();
    while shown(view) != ids {
        view.changed().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_and_tell_where_they_are() {
    let cluster = Cluster::start(3);
    let groups = [0, 1, 2].map(|number| Group::new(&client(&cluster, number), "group"));
    let mut view = groups[2].watch().await.unwrap();
    assert!(view.members().is_empty());
    let one = groups[0].join("one", "n1:80", LONG).await.unwrap();
    let two = groups[1].join("two", "n2:80", LONG).await.unwrap();
    until(&mut view, &["one", "two"]).await;
    assert_eq!(view.members()["one".as_bytes()].data, "n1:80");
    let again = groups[1].join("one", "elsewhere", LONG).await.map(|_| ());
    assert_eq!(again, Err(RecipeError::Taken));

    one.update("n1:81").await.unwrap();
    view.changed().await.unwrap();
    assert_eq!(view.members()["one".as_bytes()].data, "n1:81");
    assert_eq!(view.members(), groups[0].members().await.unwrap());
    two.leave().await.unwrap();
    until(&mut view, &["one"]).await;
    drop(one);
    until(&mut view, &[]).await;
    groups[1].join("one", "n2:80", LONG).await.unwrap().leave().await.unwrap();
}

/// Everything that hangs on the membership goes with it, at one revision.
#[test]
fn a_member_that_fails_is_gone_with_all_that_is_its() {
    let (world, failing) = (world(), Process::start());
    let cluster = world.block_on(async { Cluster::start(3) });
    let its_client = client(&cluster, 0);
    let member = failing.run(Group::new(&its_client, "group").join("one", "", TTL)).unwrap();
    let put = |key: &'static str| {
        let put = raft_kv::api::Put::new(key, "").with_lease(member.lease().id());
        failing.run(its_client.put_with(put)).unwrap();
    };
    put("group/one/a");
    put("group/one/b");
    world.block_on(async {
        let keys = raft_kv::api::Keys::prefix("group/");
        let client = client(&cluster, 1);
        let mut mirror = raft_kv::recipes::Mirror::open(&client, keys).await.unwrap();
        assert_eq!(mirror.pairs().len(), 3);
        assert_eq!(mirror.changed().await.unwrap().len(), 3, "all at one revision");
        assert!(mirror.pairs().is_empty());
    });
    assert_eq!(failing.run(member.update("here")), Err(RecipeError::Lost));
    let refused = failing.run(its_client.fenced(member.fence()).put("x", "")).unwrap_err();
    assert!(matches!(refused, ClientError::Refused(KvError::Fenced { .. })), "{refused}");
}
