//! The service on a node that does as it is told, on a paused clock.

mod backup;
mod clock;
mod members;
mod reads;
#[cfg(feature = "etcd")]
mod rights;
mod stamps;
mod upgrade;
mod watches;

use super::cause::Why;
use super::replica::Replica;
use super::write::Try;
use super::{Asker, Door};
use crate::api::{
    Absence, Absent, Action, ActionReply, AuthError, Consistency, Keys, KvError, Op, OpReply, Put,
    Query, REQUEST_BYTES_MAX, Range, RangeReply, Reply, ReplyBody, Request, RequestBody, RequestId,
    Revision, SessionId, Summary,
};
use crate::client::frame::encode_write;
use crate::store::StoreHandle;
use crate::{codec, wire};
use bytes::Bytes;
use raft_core::node::{
    self, ChangeError, Changed, PeerStatus, ProposeError, Proposed, Queried, QueryError, ReadMode,
    Status, StopCause, TransferError,
};
use raft_core::raft::RoleName;
use raft_core::transport::{BoxFuture, CallError, Caller, ConnectionId, Peers};
use raft_core::types::{
    Change, ClusterId, GroupId, Identity, Incarnation, Index, LogId, Member, Membership, NodeId,
    Term,
};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

const SILENCE: Duration = Duration::from_secs(2);
const DEADLINE_MS: u32 = 1000;
const CLIENT: Caller = Caller::Client(ConnectionId(1));

/// How a fake answers a call; when there is none left, it never does.
type Script<T> = Arc<Mutex<VecDeque<T>>>;

/// Node 1 of three.
#[derive(Clone)]
struct FakeNode {
    status: watch::Sender<Arc<Status>>,
    proposals: Script<Result<Bytes, ProposeError>>,
    proposed: Arc<Mutex<Vec<Bytes>>>,
    transfers: Script<Result<NodeId, TransferError>>,
    changes: Script<Result<Membership, ChangeError>>,
    changed: Arc<Mutex<Vec<Vec<Change>>>>,
    /// The state machine's revision.
    revision: watch::Sender<u64>,
    /// How every query was to be answered.
    modes: Arc<Mutex<Vec<ReadMode>>>,
    /// How often a checkpoint was asked for.
    checkpoints: Arc<AtomicUsize>,
    /// Parts of reads that are not the last.
    parts: Arc<Parts>,
}

/// What becomes of reads in parts.
#[derive(Default)]
struct Parts {
    left: AtomicUsize,
    /// Reads up to this one never end.
    endless: AtomicU64,
    /// How many are being read, but for first ones, and how many were at most.
    reading: AtomicUsize,
    most: AtomicUsize,
    /// The reads whose parts were asked for.
    scans: Mutex<Vec<u64>>,
}

impl Parts {
    /// Takes its time to read a part; whether it was the last.
    async fn read(&self, scan: u64, first: bool) -> bool {
        self.scans.lock().unwrap().push(scan);
        let endless = scan <= self.endless.load(Ordering::Relaxed);
        let take = |left: usize| left.checked_sub(1);
        let left = || self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if !endless && left().is_err() {
            return true;
        }
        if !first {
            let reading = self.reading.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(reading, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        if !first {
            self.reading.fetch_sub(1, Ordering::Relaxed);
        }
        false
    }
}

impl Replica for FakeNode {
    async fn propose(&self, command: Bytes) -> Result<Proposed, ProposeError> {
        self.proposed.lock().unwrap().push(command);
        let reply = next(&self.proposals).await?;
        Ok(Proposed { id: LogId::ZERO, reply })
    }

    async fn query(&self, query: Bytes, mode: ReadMode) -> Result<Queried, QueryError> {
        self.modes.lock().unwrap().push(mode);
        if let ReadMode::AtLeast(index) = mode {
            // What is applied at an index brings the revision that is 5 below.
            let applied = |revision: &u64| revision + 5 >= index.0;
            self.revision.subscribe().wait_for(applied).await.unwrap();
        }
        let revision = *self.revision.borrow();
        let (applied, staleness) = (Index(revision + 5), Some(Duration::from_millis(20)));
        let reply = match codec::decode(&query).unwrap() {
            Query::Range(range) if range.limit == 1 => codec::encode(&future_revision()),
            Query::Scan(id) if !self.parts.read(id, mode != ReadMode::Local).await => Bytes::new(),
            Query::Range(_) | Query::Scan(_) if mode == ReadMode::Local => codec::encode(&found()),
            Query::Range(_) | Query::Scan(_) => std::future::pending().await,
            Query::Summary => codec::encode(&Summary {
                revision: Revision(revision),
                keys: 3,
                state_hash: 9,
                last_applied: applied,
                ..Summary::default()
            }),
            other => panic!("not asked here: {other:?}"),
        };
        Ok(Queried { reply, applied, staleness })
    }

    async fn change_membership(&self, changes: Vec<Change>) -> Result<Changed, ChangeError> {
        self.changed.lock().unwrap().push(changes);
        let membership = next(&self.changes).await?;
        Ok(Changed { id: LogId::ZERO, membership })
    }

    async fn transfer_leadership(&self, _: Option<NodeId>) -> Result<NodeId, TransferError> {
        next(&self.transfers).await
    }

    fn checkpoint(&self) -> Result<(), QueryError> {
        self.checkpoints.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    async fn status_changed(&self) {
        self.status.subscribe().changed().await.unwrap();
    }

    async fn leader_changed(&self, from: Option<NodeId>) {
        self.status.subscribe().wait_for(|status| status.leader != from).await.unwrap();
    }

    async fn stopped(&self) -> StopCause {
        std::future::pending().await
    }
}

async fn next<T>(script: &Script<T>) -> T {
    let next = script.lock().unwrap().pop_front();
    match next {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
}

#[derive(Default)]
struct FakePeers {
    answers: Script<Result<Bytes, CallError>>,
    called: Mutex<Vec<(NodeId, Bytes)>>,
}

impl Peers for FakePeers {
    fn call(&self, _: GroupId, to: NodeId, frame: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        self.called.lock().unwrap().push((to, frame));
        let answers = Arc::clone(&self.answers);
        Box::pin(async move { next(&answers).await })
    }
}

struct Fixture {
    door: Arc<Door<FakeNode>>,
    node: FakeNode,
    peers: Arc<FakePeers>,
}

impl Fixture {
    fn new(leader: Option<u64>) -> Self {
        Self::of(leader, StoreHandle::default())
    }

    fn of(leader: Option<u64>, store: StoreHandle) -> Self {
        let node = FakeNode {
            status: watch::Sender::new(status(RoleName::Follower, leader, &[])),
            proposals: Script::default(),
            proposed: Arc::default(),
            transfers: Script::default(),
            changes: Script::default(),
            changed: Arc::default(),
            revision: watch::Sender::new(7),
            modes: Arc::default(),
            checkpoints: Arc::default(),
            parts: Arc::default(),
        };
        let peers = Arc::<FakePeers>::default();
        let deadline_max = Duration::from_secs(60);
        let shared = Arc::clone(&peers) as Arc<dyn Peers>;
        let door = Door::new(node.clone(), store, deadline_max, GroupId(0), shared, "1.2.3".into());
        Self { door: Arc::new(door), node, peers }
    }

    fn lead(&self, leader: Option<u64>) {
        self.node.status.send_replace(status(RoleName::Follower, leader, &[]));
    }

    fn proposals(&self, answers: impl IntoIterator<Item = Result<Bytes, ProposeError>>) {
        self.node.proposals.lock().unwrap().extend(answers);
    }

    fn peer_answers(&self, answers: impl IntoIterator<Item = Result<Bytes, CallError>>) {
        self.peers.answers.lock().unwrap().extend(answers);
    }

    async fn ask(&self, caller: Caller, frame: Bytes) -> Reply {
        wire::decode_reply(&self.door.answer(Asker::of(caller), frame).await).unwrap()
    }

    async fn request(&self, body: RequestBody) -> Reply {
        self.ask(CLIENT, request(body)).await
    }

    fn called(&self) -> Vec<NodeId> {
        self.peers.called.lock().unwrap().iter().map(|(node, _)| *node).collect()
    }

    fn proposed(&self) -> usize {
        self.node.proposed.lock().unwrap().len()
    }
}

/// Node 1's status; `heard` has nodes and how many milliseconds ago they were.
fn status(role: RoleName, leader: Option<u64>, heard: &[(u64, u64)]) -> Arc<Status> {
    let members = (1..=3).map(|id| {
        let address = format!("host{id}:1");
        (NodeId(id), Member { address, ..Member::default() })
    });
    let (cluster, incarnation) = (ClusterId(5), Incarnation(6));
    let peer = |(id, age): &(u64, u64)| PeerStatus {
        heard: Some(Duration::from_millis(*age)),
        ..PeerStatus::new(NodeId(*id))
    };
    Arc::new(Status {
        role,
        term: Term(4),
        leader: leader.map(NodeId),
        commit_index: Index(11),
        last_applied: Index(10),
        last_log: LogId::new(13, 4),
        log_bytes: 100,
        membership: Membership::of_voters(members.collect()),
        bound: true,
        limits: node::Limits { silence: SILENCE, stall: SILENCE },
        peers: heard.iter().map(peer).collect(),
        ..Status::new(Identity { cluster, node: NodeId(1), incarnation })
    })
}

fn request(body: RequestBody) -> Bytes {
    wire::encode_request(&Request { deadline_ms: DEADLINE_MS, body })
}

/// A put, named or not.
fn put(named: bool) -> Bytes {
    let name = RequestId { session: SessionId(1), seq: 2, unanswered_from: 1 };
    let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"value"));
    let action = Action::Op(Op::Put(Put::new(key, value)));
    encode_write(DEADLINE_MS, named.then_some(name), None, &action, 0)
}

fn done() -> Bytes {
    let reply = OpReply::Put { prev_kv: None, key: None };
    codec::encode(&Ok::<_, KvError>(ActionReply::Op { revision: Revision(3), reply }))
}

fn written() -> Reply {
    Ok(ReplyBody::Write(done()))
}

/// What went while a try was under way: the session, or the right.
fn gone() -> [Bytes; 2] {
    let causes = [KvError::SessionUnknown(SessionId(1)), AuthError::Denied.into()];
    causes.map(|error| codec::encode(&Err::<ActionReply, _>(error)))
}

fn found() -> Result<RangeReply, KvError> {
    Ok(RangeReply { revision: Revision(3), count: 8, ..RangeReply::default() })
}

fn future_revision() -> Result<RangeReply, KvError> {
    Err(KvError::FutureRevision { requested: Revision(9), current: Revision(3) })
}

fn peer_error(error: KvError) -> Result<Bytes, CallError> {
    Ok(wire::encode_reply(&Err(error)))
}

fn lost() -> Result<Bytes, CallError> {
    Err(CallError::Lost("connection lost".into()))
}

fn unavailable(text: &str) -> Reply {
    Err(KvError::Unavailable(text.into()))
}

fn unknown(text: &str) -> Reply {
    Err(KvError::Unknown(text.into()))
}

#[test]
fn causes_name_what_is_missing() {
    let of = |role, leader, heard: &[(u64, u64)]| {
        let status = status(role, leader, heard);
        Why::of(&status, Duration::from_millis(2000)).unavailable().to_string()
    };
    let (follower, leader) = (RoleName::Follower, RoleName::Leader);
    let candidate = RoleName::PreCandidate;
    assert_eq!(
        of(candidate, None, &[(2, 4100), (3, 4000)]),
        "no quorum 1/3: n2 unreachable 4.1 s, n3 unreachable 4.0 s"
    );
    assert_eq!(
        of(leader, Some(1), &[(2, 2100)]),
        "no quorum 1/3: n2 unreachable 2.1 s, n3 never heard"
    );
    assert_eq!(of(candidate, None, &[(2, 1900), (3, 4000)]), "no leader: election in progress");
    assert_eq!(of(follower, Some(2), &[(2, 10)]), "leader n2 did not answer within 2.0 s");
    assert_eq!(of(leader, Some(1), &[(2, 9)]), "no answer within 2.0 s from a node that leads");
    // A follower has not talked to the other follower, so it cannot miss it either.
    assert_eq!(of(follower, None, &[(2, 1000), (3, 90_000)]), "no leader: election in progress");
    assert_eq!(
        of(follower, None, &[(2, 3000), (3, 90_000)]),
        "no quorum 1/3: n2 unreachable 3.0 s, n3 unreachable 90.0 s"
    );
}

#[test]
fn failures_say_whether_the_write_may_have_run() {
    let not_done = |result| matches!(result, Try::NotDone(_));
    let in_doubt = |result| matches!(result, Try::InDoubt(_));
    assert!(not_done(Try::of_propose(&ProposeError::NotLeader { leader: None })));
    assert!(not_done(Try::of_propose(&ProposeError::Overloaded)));
    assert!(in_doubt(Try::of_propose(&ProposeError::LeadershipLost)));
    for (error, may_have_run) in
        [(ProposeError::Stopped, true), (ProposeError::TooLarge { size: 2, limit: 1 }, false)]
    {
        let Try::Answered(reply) = Try::of_propose(&error) else { panic!("{error}") };
        let reply = wire::decode_reply(&reply).unwrap();
        assert_eq!(reply.unwrap_err().may_have_run(), may_have_run);
    }
    let forwarded = |answer| Try::of_forwarded(answer, NodeId(2));
    assert!(not_done(forwarded(Err(CallError::NotSent("queue full".into())))));
    assert!(not_done(forwarded(peer_error(KvError::Unavailable("not the leader".into())))));
    assert!(not_done(forwarded(peer_error(KvError::Overloaded))));
    assert!(in_doubt(forwarded(lost())));
    assert!(in_doubt(forwarded(peer_error(KvError::Unknown("?".into())))));
    assert!(in_doubt(forwarded(Ok(Bytes::from_static(b"rubbish")))));
    let refused = peer_error(KvError::KeyEmpty);
    assert_eq!(forwarded(refused.clone()), Try::Answered(refused.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_leader_proposes() {
    let at = Fixture::new(Some(1));
    at.proposals([Ok(done())]);
    assert_eq!(at.ask(CLIENT, put(true)).await, written());
    at.proposals([Ok(done())]);
    assert_eq!(at.ask(Caller::Node(NodeId(2)), put(true)).await, written());
    assert_eq!((at.proposed(), at.called().len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_follower_forwards_the_same_request_with_less_time() {
    let at = Fixture::new(Some(2));
    at.peer_answers([Ok(wire::encode_reply(&written()))]);
    assert_eq!(at.ask(CLIENT, put(true)).await, written());
    let called = at.peers.called.lock().unwrap();
    let sent = wire::decode_request(&put(true)).unwrap();
    let forwarded = wire::decode_request(&called[0].1).unwrap();
    assert_eq!((called.len(), called[0].0), (1, NodeId(2)));
    assert_eq!(forwarded.body, sent.body);
    assert!(forwarded.deadline_ms < sent.deadline_ms);
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_request_is_not_forwarded_again() {
    let at = Fixture::new(Some(3));
    let reply = at.ask(Caller::Node(NodeId(2)), put(true)).await;
    assert_eq!(reply, unavailable("not the leader, n3 is"));
    at.lead(None);
    let reply = at.ask(Caller::Node(NodeId(2)), put(true)).await;
    assert_eq!(reply, unavailable("not the leader, and there is none"));
    assert_eq!(at.called(), []);
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_a_leader() {
    let at = Fixture::new(None);
    at.peer_answers([Ok(wire::encode_reply(&written()))]);
    let elect = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        at.lead(Some(3));
    };
    let (reply, ()) = tokio::join!(at.ask(CLIENT, put(false)), elect);
    assert_eq!(reply, written());
    assert_eq!(at.called(), [NodeId(3)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_certainly_not_done_is_tried_again() {
    let at = Fixture::new(Some(2));
    at.peer_answers([
        Err(CallError::NotSent("not connected".into())),
        peer_error(KvError::Unavailable("not the leader, n3 is".into())),
        peer_error(KvError::Overloaded),
        Ok(wire::encode_reply(&written())),
    ]);
    assert_eq!(at.ask(CLIENT, put(false)).await, written());
    assert_eq!(at.called().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_write_in_doubt_is_repeated_only_under_a_name() {
    let at = Fixture::new(Some(2));
    at.peer_answers([lost(), lost(), Ok(wire::encode_reply(&written()))]);
    assert_eq!(at.ask(CLIENT, put(false)).await, unknown("leader n2: connection lost"));
    assert_eq!(at.called().len(), 1);
    assert_eq!(at.ask(CLIENT, put(true)).await, written());
    assert_eq!(at.called().len(), 3);

    let at = Fixture::new(Some(1));
    at.proposals([Err(ProposeError::LeadershipLost), Err(ProposeError::LeadershipLost)]);
    at.proposals([Ok(done())]);
    let lost = unknown("leadership lost before the outcome was known");
    assert_eq!(at.ask(CLIENT, put(false)).await, lost);
    assert_eq!(at.ask(CLIENT, put(true)).await, written());
    assert_eq!(at.proposed(), 3);
}

/// A session is opened without a name, and twice does no harm.
#[tokio::test(start_paused = true)]
async fn opening_a_session_is_repeated() {
    let at = Fixture::new(Some(2));
    at.peer_answers([lost(), Ok(wire::encode_reply(&written()))]);
    let open = encode_write(DEADLINE_MS, None, None, &Action::OpenSession, 0);
    assert_eq!(at.ask(CLIENT, open).await, written());
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_left_when_another_leads() {
    let at = Fixture::new(Some(2));
    let elect = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        at.peer_answers([Ok(wire::encode_reply(&written()))]);
        at.lead(Some(3));
    };
    let (reply, ()) = tokio::join!(at.ask(CLIENT, put(true)), elect);
    assert_eq!(reply, written());
    assert_eq!(at.called(), [NodeId(2), NodeId(3)]);
}

/// The first try may have run while it was there: the client must not start over.
#[tokio::test(start_paused = true)]
async fn what_went_after_a_doubtful_try_leaves_it_unknown() {
    let at = Fixture::new(Some(1));
    for gone in gone() {
        at.proposals([Ok(gone.clone())]);
        let reply = at.ask(CLIENT, put(true)).await;
        assert_eq!(reply, Ok(ReplyBody::Write(gone.clone())));
        at.proposals([Err(ProposeError::LeadershipLost), Ok(gone)]);
        let reply = at.ask(CLIENT, put(true)).await;
        assert!(matches!(reply, Err(KvError::Unknown(_))), "{reply:?}");
    }
}

/// The first try may be what has made it full.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_full_after_a_doubtful_try_leaves_it_unknown() {
    let full = || peer_error(KvError::Full { bytes: 9, quota: 9 });
    let at = Fixture::new(Some(2));
    at.peer_answers([full()]);
    let reply = at.ask(CLIENT, put(true)).await;
    assert_eq!(reply, Err(KvError::Full { bytes: 9, quota: 9 }));
    at.peer_answers([lost(), full()]);
    let reply = at.ask(CLIENT, put(true)).await;
    assert!(matches!(reply, Err(KvError::Unknown(_))), "{reply:?}");
}

#[tokio::test(start_paused = true)]
async fn everything_is_answered_before_its_deadline() {
    let at = Fixture::new(None);
    let all = Range::of(Keys::all());
    let read = RequestBody::Read { range: all, consistency: Consistency::Linearizable };
    let in_time = |started: Instant| {
        assert!(started.elapsed() < Duration::from_millis(DEADLINE_MS.into()));
    };
    at.node.status.send_replace(status(RoleName::PreCandidate, None, &[(2, 4100), (3, 4000)]));
    let text = "no quorum 1/3: n2 unreachable 4.1 s, n3 unreachable 4.0 s";
    for request in [put(true), request(read)] {
        let started = Instant::now();
        let error = at.ask(CLIENT, request).await.unwrap_err();
        assert_eq!((error.to_string(), error.may_have_run()), (text.into(), false));
        let KvError::NoQuorum { why, .. } = error else { panic!("{error}") };
        assert_eq!((why.reachable, why.needed, why.voters), (1, 2, 3));
        let absent = Absent { node: NodeId(2), why: Absence::Unreachable, for_ms: 4100 };
        assert_eq!(why.absent[0], absent);
        in_time(started);
    }

    // Once it was sent to somebody, the outcome is unknown.
    at.lead(Some(2));
    let text = "leader n2 did not answer within 0.9 s";
    let started = Instant::now();
    assert_eq!(at.ask(CLIENT, put(true)).await, unknown(text));
    in_time(started);
    at.lead(Some(1));
    let started = Instant::now();
    let reply = at.ask(CLIENT, put(true)).await;
    assert!(reply.is_err_and(|error| error.may_have_run()));
    in_time(started);
    let started = Instant::now();
    let reply = at.request(RequestBody::TransferLeadership { to: None }).await;
    assert!(reply.is_err_and(|error| error.may_have_run()));
    in_time(started);
}

#[tokio::test(start_paused = true)]
async fn a_status_joins_node_and_store() {
    let at = Fixture::new(None);
    at.node.status.send_replace(status(RoleName::PreCandidate, None, &[(2, 40)]));
    let Ok(ReplyBody::Status(status)) = at.request(RequestBody::Status).await else { panic!() };
    assert_eq!((status.id, &*status.role, &*status.version), (NodeId(1), "pre-candidate", "1.2.3"));
    assert_eq!((status.revision, status.keys, status.last_applied), (Revision(7), 3, Index(12)));
    assert!(status.commit_index >= status.last_applied);
    let heard: Vec<_> = status.members.iter().map(|member| member.heard_ms).collect();
    assert_eq!(heard, [Some(0), Some(40), None]);
    assert_eq!(status.members[1].address, "host2:1");
    assert!(status.members.iter().all(|member| member.voter));
}

#[tokio::test(start_paused = true)]
async fn leadership_is_transferred_by_the_leader() {
    let to = |to| RequestBody::TransferLeadership { to: Some(NodeId(to)) };
    let at = Fixture::new(Some(2));
    at.peer_answers([Ok(wire::encode_reply(&Ok(ReplyBody::Transferred)))]);
    assert_eq!(at.request(to(3)).await, Ok(ReplyBody::Transferred));
    assert_eq!(at.called(), [NodeId(2)]);
    assert_eq!(at.request(to(2)).await, Ok(ReplyBody::Transferred), "it leads already");
    let reply = at.ask(Caller::Node(NodeId(3)), request(to(3))).await;
    assert_eq!(reply, unavailable("not the leader, n2 is"));

    let at = Fixture::new(Some(1));
    let stranger = TransferError::NotVoter { to: NodeId(9) };
    let answers = [Ok(NodeId(3)), Err(stranger), Err(TransferError::TimedOut)];
    at.node.transfers.lock().unwrap().extend(answers);
    assert_eq!(at.request(to(3)).await, Ok(ReplyBody::Transferred));
    assert!(matches!(at.request(to(9)).await, Err(KvError::Malformed(_))));
    assert_eq!(at.request(to(3)).await, unavailable("the target did not take over in time"));
}

#[tokio::test(start_paused = true)]
async fn bad_requests_are_answered_and_go_no_further() {
    let at = Fixture::new(Some(1));
    let malformed = |reply| matches!(reply, Err(KvError::Malformed(_)));
    assert!(malformed(at.ask(CLIENT, Bytes::new()).await));
    assert!(malformed(at.ask(CLIENT, Bytes::from_static(&[9, 1, 1])).await));
    assert!(malformed(at.request(RequestBody::Write(Bytes::new())).await));
    // The front of a command is all a follower looks at; the leader looks at all of it.
    let command = Bytes::from_static(&[1, 0, 1, 0, 200]);
    assert!(malformed(at.request(RequestBody::Write(command)).await));
    let large = Bytes::from(vec![1; REQUEST_BYTES_MAX + 2048]);
    let reply = at.ask(CLIENT, large).await;
    assert!(matches!(reply, Err(KvError::TooLarge { .. })), "{reply:?}");
    let delete = Action::Op(Op::Delete { keys: Keys::One(Bytes::new()), prev_kv: false });
    let reply = at.ask(CLIENT, encode_write(DEADLINE_MS, None, None, &delete, 0)).await;
    assert_eq!(reply, Err(KvError::KeyEmpty));
    assert_eq!(at.proposed(), 0);
}
