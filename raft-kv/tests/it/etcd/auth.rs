//! Service Auth, and what the other services do where it is enabled: exact codes and texts.

use super::{Connection, Doors, assert_refused, between, get, put};
use crate::cluster::Cluster;
use raft_kv::etcd::proto::authpb::{self, permission::Type};
use raft_kv::etcd::proto::etcdserverpb::{self as pb, watch_request::RequestUnion};
use tokio::sync::mpsc::{Sender, channel};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

/// A request that shows a token.
pub(crate) fn signed<T>(token: &str, request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("token", token.parse().unwrap());
    request
}

async fn log_in(connection: &Connection, name: &str) -> String {
    let (name, password) = (name.to_owned(), format!("{name}-pw"));
    let request = pb::AuthenticateRequest { name, password };
    connection.auth().authenticate(request).await.unwrap().into_inner().token
}

fn permission(perm_type: Type, key: &str, range_end: &str) -> authpb::Permission {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    authpb::Permission { perm_type: perm_type.into(), key, range_end }
}

async fn grant_permission(
    connection: &Connection,
    token: &str,
    perm: Option<authpb::Permission>,
) -> Result<(), tonic::Status> {
    let request = pb::AuthRoleGrantPermissionRequest { name: "r".into(), perm };
    connection.auth().role_grant_permission(signed(token, request)).await.map(drop)
}

/// These requests; more may come.
async fn requests(
    all: &[pb::WatchRequest],
) -> (Sender<pb::WatchRequest>, ReceiverStream<pb::WatchRequest>) {
    let (sender, receiver) = channel(all.len());
    for request in all {
        sender.send(request.clone()).await.unwrap();
    }
    (sender, ReceiverStream::new(receiver))
}

/// Root, and alice who may read and write `a` up to `b`.
async fn enabled(count: u64) -> (Doors, Connection) {
    let doors = Doors::of(Cluster::with_cheap_passwords(count)).await;
    let connection = doors.any().await;
    let mut auth = connection.auth();
    let enable = pb::AuthEnableRequest {};
    let missing = "etcdserver: root user does not exist";
    assert_refused(auth.auth_enable(enable).await, Code::FailedPrecondition, missing);
    for name in ["root", "alice"] {
        let (name, password) = (name.to_owned(), format!("{name}-pw"));
        let add = pb::AuthUserAddRequest { name, password, ..Default::default() };
        auth.user_add(add.clone()).await.unwrap();
        let exists = "etcdserver: user name already exists";
        assert_refused(auth.user_add(add).await, Code::FailedPrecondition, exists);
    }
    let missing = "etcdserver: root user does not have root role";
    assert_refused(auth.auth_enable(enable).await, Code::FailedPrecondition, missing);
    for role in ["root", "r"] {
        auth.role_add(pb::AuthRoleAddRequest { name: role.into() }).await.unwrap();
    }
    for (user, role) in [("root", "root"), ("alice", "r")] {
        let (user, role) = (user.into(), role.into());
        auth.user_grant_role(pb::AuthUserGrantRoleRequest { user, role }).await.unwrap();
    }
    grant_permission(&connection, "", Some(permission(Type::Readwrite, "a", "b"))).await.unwrap();
    let status = auth.auth_status(pb::AuthStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.enabled, status.auth_revision), (false, 8));
    connection.put("a1", "1").await;
    auth.auth_enable(enable).await.unwrap();
    (doors, connection)
}

/// What is told of all data needs the role root, and a password is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hashes_need_root_and_passwords_are_no_hashes() {
    let (_doors, connection) = enabled(1).await;
    let (alice, root) = (log_in(&connection, "alice").await, log_in(&connection, "root").await);
    let (denied, empty) = ("etcdserver: permission denied", "etcdserver: user name is empty");
    let hash = async |request| connection.maintenance().hash(request).await;
    let asked = hash(signed(&alice, pb::HashRequest {})).await;
    assert_refused(asked, Code::PermissionDenied, denied);
    assert_refused(hash(Request::new(pb::HashRequest {})).await, Code::InvalidArgument, empty);
    hash(signed(&root, pb::HashRequest {})).await.unwrap();

    let invalid = "etcdserver: invalid auth management";
    let hashed_password = String::from("JDJhJDEw");
    let unknown = "etcdserver: hashedPassword is not taken";
    let mut auth = connection.auth();
    let add = pb::AuthUserAddRequest { name: "bob".into(), ..Default::default() };
    let asked = auth.user_add(signed(&root, add.clone())).await;
    assert_refused(asked, Code::InvalidArgument, invalid);
    let hashed = pb::AuthUserAddRequest { hashed_password: hashed_password.clone(), ..add };
    let asked = auth.user_add(signed(&root, hashed)).await;
    assert_refused(asked, Code::InvalidArgument, unknown);
    let change = pb::AuthUserChangePasswordRequest { name: "alice".into(), ..Default::default() };
    let asked = auth.user_change_password(signed(&root, change.clone())).await;
    assert_refused(asked, Code::InvalidArgument, invalid);
    let hashed = pb::AuthUserChangePasswordRequest { hashed_password, ..change };
    let asked = auth.user_change_password(signed(&root, hashed)).await;
    assert_refused(asked, Code::InvalidArgument, unknown);
    log_in(&connection, "alice").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_do_what_their_roles_permit() {
    let (doors, first) = enabled(3).await;
    let (alice, root) = (log_in(&first, "alice").await, log_in(&first, "root").await);
    let denied = "etcdserver: permission denied";
    for id in doors.addresses.keys() {
        let connection = doors.connect(*id).await;
        let mut kv = connection.kv();
        kv.put(signed(&alice, put("a2", "1"))).await.unwrap();
        let found = kv.range(signed(&alice, between("a", "b"))).await.unwrap().into_inner();
        assert_eq!(found.count, 2);
        let asked = kv.put(signed(&alice, put("b", "1"))).await;
        assert_refused(asked, Code::PermissionDenied, denied);
        let asked = kv.range(signed(&alice, between("a", "c"))).await;
        assert_refused(asked, Code::PermissionDenied, denied);
        kv.put(signed(&root, put("b", "1"))).await.unwrap();
        let empty = "etcdserver: user name is empty";
        assert_refused(kv.range(get("a1")).await, Code::InvalidArgument, empty);
        assert_refused(kv.put(put("a1", "1")).await, Code::InvalidArgument, empty);
        let compaction = pb::CompactionRequest { revision: 2, physical: false };
        let asked = kv.compact(signed(&alice, compaction)).await;
        assert_refused(asked, Code::PermissionDenied, denied);
        let asked = connection.maintenance().snapshot(signed(&alice, pb::SnapshotRequest {})).await;
        asked.unwrap_err();
        // These are told to everybody.
        connection.maintenance().status(pb::StatusRequest {}).await.unwrap();
        connection.cluster().member_list(pb::MemberListRequest::default()).await.unwrap();
        let remove = pb::MemberRemoveRequest { id: id.0 };
        let asked = connection.cluster().member_remove(signed(&alice, remove)).await;
        assert_refused(asked, Code::PermissionDenied, denied);
    }
    let wrong = pb::AuthenticateRequest { name: "alice".into(), password: "wrong".into() };
    let failed = "etcdserver: authentication failed, invalid user ID or password";
    let asked = first.auth().authenticate(wrong).await;
    assert_refused(asked, Code::InvalidArgument, failed);
    let invalid = "etcdserver: invalid auth token";
    let asked = first.kv().range(signed("a.1", get("a1"))).await;
    assert_refused(asked, Code::Unauthenticated, invalid);
    let asked = grant_permission(&first, &root, None).await;
    assert_refused(asked, Code::InvalidArgument, "etcdserver: permission not given");
    let asked = grant_permission(&first, &alice, Some(permission(Type::Read, "", "\0"))).await;
    assert_refused(asked, Code::PermissionDenied, denied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_roles_are_told() {
    let (_doors, connection) = enabled(1).await;
    let (alice, root) = (log_in(&connection, "alice").await, log_in(&connection, "root").await);
    let mut auth = connection.auth();
    let users = auth.user_list(signed(&root, pb::AuthUserListRequest {})).await.unwrap();
    assert_eq!(users.into_inner().users, ["alice", "root"]);
    let roles = auth.role_list(signed(&root, pb::AuthRoleListRequest {})).await.unwrap();
    assert_eq!(roles.into_inner().roles, ["r", "root"]);
    let own = pb::AuthUserGetRequest { name: "alice".into() };
    let roles = auth.user_get(signed(&alice, own)).await.unwrap().into_inner().roles;
    assert_eq!(roles, ["r"]);
    let other = pb::AuthUserGetRequest { name: "root".into() };
    let denied = "etcdserver: permission denied";
    assert_refused(auth.user_get(signed(&alice, other)).await, Code::PermissionDenied, denied);
    let role = |name: &str| pb::AuthRoleGetRequest { role: name.into() };
    let found = auth.role_get(signed(&alice, role("r"))).await.unwrap().into_inner().perm;
    assert_eq!(found, [permission(Type::Readwrite, "a", "b")]);
    let asked = auth.role_get(signed(&root, role("none"))).await;
    assert_refused(asked, Code::FailedPrecondition, "etcdserver: role name not found");
    grant_permission(&connection, &root, Some(permission(Type::Read, "z", "\0"))).await.unwrap();
    let found = auth.role_get(signed(&root, role("r"))).await.unwrap().into_inner().perm;
    assert_eq!(found[1], permission(Type::Read, "z", "\0"));
    let revoke = pb::AuthRoleRevokePermissionRequest {
        role: "r".into(),
        key: "z".into(),
        range_end: "y".into(),
    };
    let asked = auth.role_revoke_permission(signed(&root, revoke.clone())).await;
    let text = "etcdserver: permission is not granted to the role";
    assert_refused(asked, Code::FailedPrecondition, text);
    let revoke = pb::AuthRoleRevokePermissionRequest { range_end: "\0".into(), ..revoke };
    auth.role_revoke_permission(signed(&root, revoke)).await.unwrap();
    let delete = pb::AuthUserDeleteRequest { name: "root".into() };
    let asked = auth.user_delete(signed(&root, delete)).await;
    assert_refused(asked, Code::InvalidArgument, "etcdserver: invalid auth management");
    let (name, role) = ("alice".into(), "r".into());
    let revoke = pb::AuthUserRevokeRoleRequest { name, role };
    auth.user_revoke_role(signed(&root, revoke.clone())).await.unwrap();
    let asked = auth.user_revoke_role(signed(&root, revoke)).await;
    let text = "etcdserver: role is not granted to the user";
    assert_refused(asked, Code::FailedPrecondition, text);
    let delete = pb::AuthUserDeleteRequest { name: "alice".into() };
    auth.user_delete(signed(&root, delete)).await.unwrap();
    let asked = connection.kv().range(signed(&alice, get("a1"))).await;
    assert_refused(asked, Code::Unauthenticated, "etcdserver: invalid auth token");
    auth.auth_disable(signed(&root, pb::AuthDisableRequest {})).await.unwrap();
    connection.put("z", "1").await;
    let asked = pb::AuthenticateRequest { name: "root".into(), password: "root-pw".into() };
    let text = "etcdserver: authentication is not enabled";
    assert_refused(auth.authenticate(asked).await, Code::FailedPrecondition, text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_without_the_right_is_created_and_canceled() {
    let (_doors, connection) = enabled(1).await;
    let alice = log_in(&connection, "alice").await;
    let create = |key: &str| pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(pb::WatchCreateRequest {
            key: key.to_owned().into(),
            ..Default::default()
        })),
    };
    let (_sender, asked) = requests(&[create("b"), create("a1")]).await;
    let mut answers = connection.watch().watch(signed(&alice, asked)).await.unwrap().into_inner();
    let refused = answers.message().await.unwrap().unwrap();
    assert!(refused.created && refused.canceled, "{refused:?}");
    assert!(refused.cancel_reason.contains("permission denied"), "{refused:?}");
    let created = answers.message().await.unwrap().unwrap();
    assert!(created.created && !created.canceled, "{created:?}");
    connection.kv().put(signed(&alice, put("a1", "2"))).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().events.len(), 1);
    // Nobody in particular may watch nothing.
    let (_sender, asked) = requests(&[create("a1")]).await;
    let mut answers = connection.watch().watch(asked).await.unwrap().into_inner();
    let refused = answers.message().await.unwrap().unwrap();
    assert!(refused.created && refused.canceled, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_takes_tokens_too() {
    let (doors, connection) = enabled(1).await;
    let post = async |path: &str, body: &str| doors.http("POST", path, body).await;
    let (status, answer) =
        post("/v3/auth/authenticate", r#"{"name":"alice","password":"alice-pw"}"#).await;
    assert_eq!(status, 200, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let token = answer["token"].as_str().unwrap();
    let (status, answer) = post("/v3/kv/range", r#"{"key":"YTE="}"#).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("user name is empty"), "{answer}");
    // The same header serves both.
    let mut request = Request::new(get("a1"));
    request.metadata_mut().insert("authorization", token.parse().unwrap());
    assert_eq!(connection.kv().range(request).await.unwrap().into_inner().count, 1);
    // Whoever looks whether it is well needs no right.
    let (status, _) = doors.http("GET", "/health", "").await;
    assert_eq!(status, 200);
}

/// One session serves all clients of a door; what it keeps for one is not told to another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_and_elections_need_rights() {
    let (_doors, connection) = enabled(1).await;
    let alice = log_in(&connection, "alice").await;
    use raft_kv::etcd::proto::v3lockpb::{LockRequest, lock_client::LockClient};
    let mut lock = LockClient::new(connection.clone());
    let named = |name: &str| LockRequest { name: name.to_owned().into(), lease: 0 };
    let held = lock.lock(signed(&alice, named("a-lock"))).await.unwrap().into_inner();
    assert!(held.key.starts_with(b"a-lock/"));
    let asked = lock.lock(signed(&alice, named("lock"))).await;
    assert_refused(asked, Code::PermissionDenied, "etcdserver: permission denied");
}
