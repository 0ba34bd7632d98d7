//! Service Cluster.

use super::{Doors, assert_refused};
use raft_core::types::NodeId;
use raft_kv::etcd::proto::etcdserverpb as pb;
use tonic::Code;

pub(super) fn add(url: &str, is_learner: bool) -> pb::MemberAddRequest {
    pb::MemberAddRequest { peer_ur_ls: vec![url.into()], is_learner }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_listed_with_what_they_say_of_themselves() {
    let doors = Doors::start(3).await;
    for id in doors.addresses.keys() {
        for linearizable in [false, true] {
            let mut cluster = doors.connect(*id).await.cluster();
            let request = pb::MemberListRequest { linearizable };
            let list = cluster.member_list(request).await.unwrap().into_inner();
            assert_eq!(list.header.unwrap().member_id, id.0);
            assert_eq!(list.members.len(), 3);
            for (member, (id, address)) in list.members.iter().zip(&doors.addresses) {
                assert_eq!((member.id, &*member.name), (id.0, &*format!("name-{id}")));
                assert_eq!(member.peer_ur_ls, [format!("http://{id}")]);
                assert_eq!(member.client_ur_ls, [format!("http://{address}")]);
                assert!(!member.is_learner);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_show_certificates_to_each_other_have_urls_that_say_so() {
    let mut doors = Doors::start(1).await;
    doors.open_with(NodeId(1), |config| config.https_peers = true).await;
    let request = pb::MemberListRequest { linearizable: false };
    let list = doors.any().await.cluster().member_list(request).await.unwrap().into_inner();
    assert_eq!(list.members[0].peer_ur_ls, ["https://n1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go() {
    let mut doors = Doors::start(3).await;
    // It waits to be added; its address is its name.
    doors.cluster.join(NodeId(4));
    let mut cluster = doors.any().await.cluster();
    let bad = "etcdserver: given member URLs are invalid";
    let refused = cluster.member_add(add("n4", true)).await;
    assert_refused(refused, Code::InvalidArgument, bad);
    let added = cluster.member_add(add("http://n4:1", true)).await.unwrap().into_inner();
    let member = added.member.unwrap();
    assert_eq!((member.id, member.is_learner), (4, true));
    assert_eq!(member.peer_ur_ls, ["http://n4:1"]);
    assert_eq!(added.members.len(), 4);
    let exists = "etcdserver: Peer URLs already exists";
    let refused = cluster.member_add(add("http://n4:1", false)).await;
    assert_refused(refused, Code::FailedPrecondition, exists);

    let update = |id, url: &str| pb::MemberUpdateRequest { id, peer_ur_ls: vec![url.into()] };
    let moved = cluster.member_update(update(4, "http://n4:2")).await.unwrap().into_inner();
    assert_eq!(moved.members[3].peer_ur_ls, ["http://n4:2"]);
    cluster.member_update(update(4, "http://n4:2")).await.unwrap();
    let unknown = "etcdserver: member not found";
    for refused in [
        cluster.member_update(update(9, "http://n9:1")).await.map(drop),
        cluster.member_remove(pb::MemberRemoveRequest { id: 9 }).await.map(drop),
        cluster.member_promote(pb::MemberPromoteRequest { id: 9 }).await.map(drop),
    ] {
        assert_refused(refused, Code::NotFound, unknown);
    }
    let voter = cluster.member_promote(pb::MemberPromoteRequest { id: 1 }).await;
    let only_learners = "etcdserver: can only promote a learner member";
    assert_refused(voter, Code::FailedPrecondition, only_learners);

    let removed = cluster.member_remove(pb::MemberRemoveRequest { id: 4 }).await.unwrap();
    assert_eq!(removed.into_inner().members.len(), 3);
    let listed = cluster.member_list(pb::MemberListRequest { linearizable: true }).await.unwrap();
    assert_eq!(listed.into_inner().members.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_is_promoted_once_it_has_caught_up() {
    let mut doors = Doors::start(1).await;
    let connection = doors.any().await;
    connection.put("k", "v").await;
    let mut cluster = connection.cluster();
    cluster.member_add(add("http://n2:1", true)).await.unwrap();
    // It is not there, so it cannot have caught up.
    let refused = cluster.member_promote(pb::MemberPromoteRequest { id: 2 }).await;
    let status = refused.unwrap_err();
    assert!(matches!(status.code(), Code::FailedPrecondition | Code::Unavailable), "{status:?}");
    doors.cluster.join(NodeId(2));
    loop {
        match cluster.member_promote(pb::MemberPromoteRequest { id: 2 }).await {
            Ok(promoted) => {
                let members = promoted.into_inner().members;
                assert!(members.iter().all(|member| !member.is_learner));
                break;
            }
            Err(status) => assert!(
                matches!(status.code(), Code::FailedPrecondition | Code::Unavailable),
                "{status:?}"
            ),
        }
    }
}
