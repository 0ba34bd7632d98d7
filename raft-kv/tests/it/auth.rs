//! Users in whole clusters: what the service lets through, on whatever node, and what clients do.

use crate::cluster::Cluster;
use bytes::Bytes;
use raft_core::transport::{Caller, ConnectionId, Connector, Duplex, Service};
use raft_kv::api::*;
use raft_kv::client::{Client, ClientError, ClientOptions};
use raft_kv::{codec, wire};
use std::sync::Arc;

const DENIED: AuthError = AuthError::Denied;

/// A cluster whose authentication is enabled: root, and alice who may do everything below `a/`.
pub(crate) async fn enabled(count: u64) -> Cluster {
    let cluster = Cluster::with_cheap_passwords(count);
    let anybody = cluster.client(cluster.leader().await);
    prepare(&anybody).await;
    anybody.enable_auth().await.unwrap();
    cluster
}

pub(crate) async fn prepare(client: &Client) {
    for user in [ROOT, "alice"] {
        client.add_user(user, Some(format!("{user}-pw"))).await.unwrap();
    }
    client.add_user("no-password", None).await.unwrap();
    let role = || "a".to_owned();
    client.change_auth(AuthChange::AddRole { role: role() }).await.unwrap();
    let permission = Permission { access: Access::ReadWrite, keys: Keys::prefix("a/") };
    client.grant_permission("a", permission).await.unwrap();
    for (user, role) in [(ROOT, ROOT.into()), ("alice", role())] {
        let user = user.into();
        client.change_auth(AuthChange::GrantRole { user, role }).await.unwrap();
    }
}

impl Cluster {
    /// A client that logs in by itself.
    pub(crate) fn client_of(&self, endpoint: raft_core::types::NodeId, user: &str) -> Client {
        let options = ClientOptions::new([endpoint.to_string()]);
        let options = options.user(user, format!("{user}-pw"));
        Client::new(Arc::clone(&self.doors) as Arc<dyn Connector>, options)
    }
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(answer: Result<T, ClientError>, error: AuthError) {
    assert_eq!(answer.unwrap_err(), ClientError::Refused(KvError::Auth(error)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_may_do_on_every_node_what_it_may_and_no_more() {
    let cluster = enabled(3).await;
    for id in cluster.nodes.keys().copied() {
        let (alice, root) = (cluster.client_of(id, "alice"), cluster.client_of(id, ROOT));
        alice.put("a/1", "1").await.unwrap();
        assert!(alice.get_one("a/1").await.unwrap().is_some());
        root.put("b", "secret").await.unwrap();
        assert_refused(alice.put("b", "1").await, DENIED);
        assert_refused(alice.get_one("b").await, DENIED);
        assert_refused(alice.delete(Keys::all()).await, DENIED);
        let all = Range::of(Keys::all());
        assert_refused(alice.get(all.clone(), Consistency::Serializable).await, DENIED);
        assert!(root.get(all, Consistency::Serializable).await.unwrap().kvs.len() >= 2);
        assert_refused(alice.compact(Revision(2)).await, DENIED);
        assert_refused(alice.transfer_leadership(None).await, DENIED);
        let lease = alice.grant_lease(None, std::time::Duration::from_secs(60)).await.unwrap().id;
        let leased = Put::new("b/leased", "1").with_lease(lease);
        root.put_with(leased).await.unwrap();
        assert_eq!(alice.keep_alive(&[lease]).await.unwrap().len(), 1);
        assert_refused(alice.lease_status(lease, true).await, DENIED);
        assert!(alice.lease_status(lease, false).await.unwrap().is_some());
        assert_refused(alice.revoke_lease(lease).await, DENIED);
        root.revoke_lease(lease).await.unwrap();
        assert_refused(alice.ask_auth(AuthQuestion::Users).await, DENIED);
        let own = alice.ask_auth(AuthQuestion::User("alice".into())).await.unwrap();
        assert_eq!(own, AuthAnswer::User(vec!["a".into()]));
    }
    cluster.assert_equal_states().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_may_nothing() {
    let cluster = enabled(1).await;
    let id = cluster.leader().await;
    let anybody = cluster.client(id);
    let empty = AuthError::UserEmpty;
    assert_refused(anybody.put("a/1", "1").await, empty);
    assert_refused(anybody.get_one("a/1").await, empty);
    assert_refused(anybody.leases().await, empty);
    assert_refused(anybody.keep_alive(&[LeaseId(1)]).await, empty);
    assert_refused(anybody.enable_auth().await, empty);
    assert_refused(anybody.ask_auth(AuthQuestion::Status).await, empty);
    assert_refused(anybody.transfer_leadership(None).await, empty);
    let mut watch = anybody.watch(Watch::of(Keys::One("a/1".into())));
    assert_refused(watch.next().await.unwrap(), empty);
    // How the cluster is may be asked by whoever reaches it.
    anybody.status(&id.to_string()).await.unwrap();
    anybody.members().await.unwrap();
    // Nobody is let in by a wrong password, or without one.
    for (user, password) in [("alice", "wrong"), ("nobody", ""), ("no-password", ""), ("", "")] {
        assert_refused(anybody.authenticate(user, password).await, AuthError::Failed);
    }
    let long = "p".repeat(73);
    assert_refused(anybody.authenticate("alice", long.clone()).await, AuthError::Failed);
    let root = cluster.client_of(id, ROOT);
    assert_refused(root.add_user("bob", Some(long)).await, AuthError::TooLarge);
    let hashed = Password::Hashed("known elsewhere".into());
    let add = AuthChange::AddUser { user: "bob".into(), password: hashed };
    assert_refused(root.change_auth(add).await, AuthError::InvalidManagement);
}

/// Sends a request as it is.
async fn ask(cluster: &Cluster, caller: Caller, body: RequestBody) -> Reply {
    let service = &cluster.services[&cluster.leader().await];
    let request = wire::encode_request(&Request { deadline_ms: 5000, body });
    wire::decode_reply(&service.call(caller, request).await).unwrap()
}

fn read(key: &str) -> RequestBody {
    let range = Range::of(Keys::One(Bytes::copy_from_slice(key.as_bytes())));
    RequestBody::Read { range, consistency: Consistency::Linearizable }
}

fn signed(token: &str, body: RequestBody) -> RequestBody {
    RequestBody::Signed { token: token.into(), body: Box::new(body) }
}

/// The longest command is the same for everybody: whose it is does not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_command_is_as_long_for_a_user() {
    let cluster = enabled(3).await;
    let puts = |length: usize| {
        let put = |key: &'static str, length| Op::Put(Put::new(key, vec![0; length]));
        let success = vec![put("a/1", VALUE_BYTES_MAX), put("a/2", length)];
        let action = Action::Txn(Txn { success, ..Txn::default() });
        codec::encode(&Command { request: None, fence: None, action })
    };
    let length = REQUEST_BYTES_MAX - puts(0).len();
    let longest = puts(length - (puts(length).len() - REQUEST_BYTES_MAX));
    assert_eq!(longest.len(), REQUEST_BYTES_MAX);
    let leader = cluster.leader().await;
    let token = cluster.client(leader).authenticate("alice", "alice-pw").await.unwrap();
    for id in [leader, cluster.other(leader)] {
        let body = signed(&token, RequestBody::Write(longest.clone()));
        let request = wire::encode_request(&Request { deadline_ms: 5000, body });
        let reply = cluster.services[&id].call(Caller::Client(ConnectionId(0)), request).await;
        let reply = wire::decode_reply(&reply).unwrap();
        let Ok(ReplyBody::Write(reply)) = reply else { panic!("on {id}: {reply:?}") };
        codec::decode::<CommandReply>(&reply).unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_tokens_are_refused() {
    let cluster = enabled(1).await;
    let id = cluster.leader().await;
    let token = cluster.client(id).authenticate("alice", "alice-pw").await.unwrap();
    let try_token = async |token: &str| {
        let reply =
            ask(&cluster, Caller::Client(ConnectionId(0)), signed(token, read("a/1"))).await;
        reply.map(drop)
    };
    try_token(&token).await.unwrap();
    let mut hostile: Vec<String> =
        ["x", "00", "zz", "\u{e9}\u{e9}", &"0".repeat(1 << 20)].map(ToString::to_string).into();
    // Every single digit counts.
    for at in 0..token.len() {
        let mut other = token.clone().into_bytes();
        other[at] = if other[at] == b'0' { b'1' } else { b'0' };
        hostile.push(String::from_utf8(other).unwrap());
    }
    hostile.extend([
        token[2..].to_owned(),
        token[..token.len() - 2].to_owned(),
        token.clone() + "00",
    ]);
    hostile.push(token.to_uppercase());
    for token in &hostile {
        assert_eq!(try_token(token).await, Err(AuthError::InvalidToken.into()), "{token:.80}");
    }
    assert_eq!(try_token("").await, Err(AuthError::UserEmpty.into()));
    let twice = signed(&token, signed(&token, read("a/1")));
    assert!(matches!(
        ask(&cluster, Caller::Client(ConnectionId(0)), twice).await,
        Err(KvError::Malformed(_))
    ));
    // On whose authority something runs, nobody outside says.
    for authority in [
        Authority::Cluster,
        Authority::User { name: ROOT.into(), revision: 9, shared_session: true },
    ] {
        let put = Action::Op(Op::Put(Put::new("b", "1")));
        let action = Action::As(authority, Box::new(put));
        let command = codec::encode(&Command { request: None, fence: None, action });
        let write = signed(&token, RequestBody::Write(command));
        assert!(matches!(
            ask(&cluster, Caller::Client(ConnectionId(0)), write).await,
            Err(KvError::Malformed(_))
        ));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_with_its_password_and_with_authentication() {
    let cluster = enabled(3).await;
    let leader = cluster.leader().await;
    let root = cluster.client_of(leader, ROOT);
    let anybody = cluster.client(leader);
    let log_in = async |password: &str| anybody.authenticate("alice", password).await;
    let try_token = async |token: &str| {
        ask(&cluster, Caller::Client(ConnectionId(0)), signed(token, read("a/1"))).await.map(drop)
    };
    let invalid = Err(KvError::Auth(AuthError::InvalidToken));
    let first = log_in("alice-pw").await.unwrap();
    try_token(&first).await.unwrap();
    // A change of roles is no reason to log in again.
    root.change_auth(AuthChange::AddRole { role: "more".into() }).await.unwrap();
    try_token(&first).await.unwrap();
    let password = Password::Plain("new".into());
    let change = AuthChange::ChangePassword { user: "alice".into(), password };
    root.change_auth(change).await.unwrap();
    assert_eq!(try_token(&first).await, invalid);
    assert_refused(log_in("alice-pw").await, AuthError::Failed);
    let second = log_in("new").await.unwrap();
    try_token(&second).await.unwrap();
    root.change_auth(AuthChange::Disable).await.unwrap();
    // Now nobody asks.
    try_token(&second).await.unwrap();
    assert_refused(log_in("new").await, AuthError::NotEnabled);
    anybody.put("b", "1").await.unwrap();
    anybody.enable_auth().await.unwrap();
    assert_eq!(try_token(&second).await, invalid);
    // The client of a user finds its way through all of that.
    root.put("b", "2").await.unwrap();
    let alice = cluster.client_of(leader, "alice");
    assert_refused(alice.get_one("a/1").await, AuthError::Failed);
}

/// While rights come and go, what is written is what the right of the moment permits: the write is
/// let in with one state of the rights, and comes into the log with another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_taken_back_is_not_used_any_more() {
    let cluster = enabled(3).await;
    let leader = cluster.leader().await;
    let root = cluster.client_of(leader, ROOT);
    let alice = cluster.client_of(cluster.other(leader), "alice");
    alice.put("a/key", "0").await.unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writer = tokio::spawn(async move {
        let mut written = 0_u64;
        while !*stopped.borrow() {
            match alice.put("a/key", written.to_string()).await {
                Ok(_) => written += 1,
                Err(error) => {
                    assert_eq!(error, ClientError::Refused(KvError::Auth(DENIED)), "{error}");
                }
            }
        }
        written
    });
    let keys = || Keys::prefix("a/");
    let version = async || root.get_one("a/key").await.unwrap().unwrap().version;
    for _ in 0..20 {
        root.revoke_permission("a", keys()).await.unwrap();
        let after = version().await;
        for _ in 0..5 {
            assert_eq!(version().await, after, "it was written without the right to it");
        }
        let permission = Permission { access: Access::ReadWrite, keys: keys() };
        root.grant_permission("a", permission).await.unwrap();
        let mut watch = root.watch(Watch::of(Keys::One("a/key".into())));
        watch.next().await.unwrap().unwrap();
    }
    stop.send(true).unwrap();
    assert!(writer.await.unwrap() > 0);
    cluster.assert_equal_states().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_with_the_right_to_it() {
    let cluster = enabled(3).await;
    let leader = cluster.leader().await;
    let root = cluster.client_of(leader, ROOT);
    let alice = cluster.client_of(cluster.other(leader), "alice");
    let mut denied = alice.watch(Watch::of(Keys::all()));
    assert_refused(denied.next().await.unwrap(), DENIED);
    let mut watch = alice.watch(Watch::of(Keys::prefix("a/")));
    watch.begun().await;
    root.put("a/1", "1").await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().events.len(), 1);
    root.revoke_permission("a", Keys::prefix("a/")).await.unwrap();
    root.put("a/1", "secret").await.unwrap();
    loop {
        match watch.next().await {
            Some(Ok(batch)) => assert!(batch.events.is_empty(), "{batch:?}"),
            ended => {
                assert_refused(ended.unwrap(), DENIED);
                break;
            }
        }
    }
    // One that began while nobody asked goes on only for who may.
    root.change_auth(AuthChange::Disable).await.unwrap();
    let mut of_nobody = cluster.client(leader).watch(Watch::of(Keys::all()));
    let mut of_root = root.watch(Watch::of(Keys::all()));
    of_nobody.begun().await;
    of_root.begun().await;
    cluster.client(leader).enable_auth().await.unwrap();
    root.put("b", "secret").await.unwrap();
    assert_refused(of_nobody.next().await.unwrap(), AuthError::UserEmpty);
    assert_eq!(of_root.next().await.unwrap().unwrap().events[0].key(), "b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn off_by_default_it_is_not_asked_for() {
    let cluster = Cluster::start(1);
    let id = cluster.leader().await;
    let client = cluster.client(id);
    assert_eq!(client.auth_status().await.unwrap(), AuthStatus { enabled: false, revision: 1 });
    assert_eq!(client.token().await.unwrap(), None);
    // Who would log in need not, whatever the password is.
    let alice = cluster.client_of(id, "alice");
    alice.put("a", "1").await.unwrap();
    assert!(alice.get_one("a").await.unwrap().is_some());
    assert_refused(client.authenticate("alice", "x").await, AuthError::NotEnabled);
    // What goes into the log is what went there before.
    let token = signed("anything", RequestBody::Leases);
    assert_eq!(
        ask(&cluster, Caller::Client(ConnectionId(0)), token).await,
        Ok(ReplyBody::Leases(vec![]))
    );
}

/// A stream of watches by hand, and what was heard on it.
struct Stream(Duplex);

impl Stream {
    async fn of_alice(cluster: &Cluster) -> Self {
        let id = cluster.leader().await;
        let token = cluster.client(id).authenticate("alice", "alice-pw").await.unwrap();
        let request = Box::new(StreamRequest::Watch { require_leader: true });
        let first = codec::encode(&StreamRequest::Signed { token: token.into(), request });
        let channel = cluster.doors.connect(&id.to_string()).await.unwrap();
        Self(channel.open_stream(first).await.unwrap())
    }

    async fn ask(&mut self, requests: &[WatchRequest]) {
        self.0.sink.send(codec::encode_sequence(requests)).await.unwrap();
    }

    /// What comes up to the first reply that is looked for.
    async fn hear_until(&mut self, found: impl Fn(&WatchReply) -> bool) -> Vec<WatchReply> {
        let mut heard = Vec::new();
        loop {
            let frame = self.0.source.receive().await.unwrap().expect("it has not ended");
            for reply in codec::decode_sequence::<WatchReply>(&frame) {
                heard.push(reply.unwrap());
                if found(heard.last().unwrap()) {
                    return heard;
                }
            }
        }
    }
}

fn create(id: u64, keys: Keys, from: Option<u64>) -> WatchRequest {
    let from = from.map(Revision);
    WatchRequest::Create(WatchId(id), Watch { from, ..Watch::of(keys) })
}

/// What is kept of a watch goes with it, also if nobody canceled it: a right that only such a watch
/// needed is no reason to end the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_have_ended_by_themselves_need_no_right() {
    let cluster = enabled(1).await;
    let root = cluster.client_of(cluster.leader().await, ROOT);
    let permission = Permission { access: Access::Read, keys: Keys::prefix("c/") };
    root.grant_permission("a", permission).await.unwrap();
    for value in ["1", "2"] {
        root.put("a/1", value).await.unwrap();
    }
    let last = root.put("a/1", "3").await.unwrap().revision;
    root.compact(last).await.unwrap();
    let mut stream = Stream::of_alice(&cluster).await;
    let too_long = Keys::One(format!("a/{}", "x".repeat(64 * 1024)).into());
    let asked = [
        create(1, Keys::prefix("a/"), Some(1)),
        create(2, too_long, None),
        create(3, Keys::prefix("c/"), None),
    ];
    stream.ask(&asked).await;
    let ended = |reply: &WatchReply| matches!(reply, WatchReply::Canceled(WatchId(1), Some(_)));
    let heard = stream.hear_until(ended).await;
    let refused = |reply: &WatchReply| matches!(reply, WatchReply::Canceled(WatchId(2), Some(_)));
    assert!(heard.iter().any(refused), "{heard:?}");
    root.revoke_permission("a", Keys::prefix("a/")).await.unwrap();
    root.put("c/1", "1").await.unwrap();
    let told = |reply: &WatchReply| {
        matches!(reply, WatchReply::Ended(_) | WatchReply::Events { id: WatchId(3), .. })
    };
    let heard = stream.hear_until(told).await;
    assert!(!matches!(heard.last(), Some(WatchReply::Ended(_))), "{heard:?}");
}
