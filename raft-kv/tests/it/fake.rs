//! A cluster that is none: one little store behind several nodes whose faults can be chosen.

use bytes::Bytes;
use raft_core::transport::{
    BoxFuture, CallError, Caller, Channel, ConnectionId, Connector, Service,
};
use raft_core::types::{
    Change, ClusterId, Incarnation, Index, LogId, Member, Membership, NodeId, Term,
};
use raft_kv::api::{
    Action, ActionReply, Attach, Command, CommandReply, Compare, Freshness, KeyValue, Keys,
    KvError, LeaseId, MemberStatus, Members, NodeStatus, Op, OpReply, Put, Range, RangeReply,
    Reply, ReplyBody, RequestBody, RequestId, Revision, SESSION_WINDOW_MAX, SessionId, Space,
    Target, Txn, TxnReply,
};
use raft_kv::{codec, wire};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// What is wrong with a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Connections to it are refused, and those there are break: requests do not reach it.
    Gone,
    /// Lets nobody in who connects anew.
    Distrusts,
    /// It neither accepts nor refuses a connection.
    Unreachable,
    /// Only a connection that is waited for this long comes about.
    SlowToConnect(Duration),
    /// It takes connections and requests, runs them, and never answers.
    Mute,
    /// The connection breaks after every request was run for the first time.
    LosesFirstReply,
    /// It belongs to another cluster, of which only its status tells.
    Foreign,
    /// It answers with this error and does nothing else; status is answered.
    Answers(KvError),
    /// As `Answers`, so many times.
    AnswersTimes(KvError, usize),
    /// As `Answers`, when nine tenths of the request's deadline have passed, as a node does that
    /// waits for a quorum.
    AnswersLate(KvError),
    /// It is too busy to describe itself, so many times; all else is answered.
    Busy(usize),
    /// It does what it is asked at once; its answer takes this long.
    Slow(Duration),
    /// The same, but status is answered at once.
    Laden(Duration),
}

/// See the module. Node `n` has the address `n:1`.
pub(crate) struct Cluster {
    state: Mutex<State>,
    /// While true, nodes run what they get but keep their answers.
    pub(crate) held: watch::Sender<bool>,
}

#[derive(Default)]
pub(crate) struct State {
    faults: BTreeMap<u64, Fault>,
    kvs: BTreeMap<Bytes, KeyValue>,
    revision: u64,
    sessions: BTreeMap<SessionId, Session>,
    /// Sessions ever opened.
    pub(crate) opened: u64,
    /// Named requests in the order in which they were run.
    pub(crate) executed: Vec<RequestId>,
    /// Which nodes were sent a write or read, in order.
    pub(crate) asked: Vec<u64>,
    lost: BTreeSet<(u64, u64)>,
    /// How often a connection was asked for.
    pub(crate) asked_to_connect: u64,
    /// Connections ever made.
    pub(crate) connections: u64,
    /// Widest window seen.
    pub(crate) widest: u64,
    /// The last `unanswered_from` seen.
    pub(crate) unanswered_from: u64,
    /// Leadership transfers done.
    pub(crate) transfers: u64,
    /// Changes of members asked for.
    pub(crate) changes: u64,
    /// When each lease expires, and for how long it was granted.
    leases: BTreeMap<LeaseId, (Instant, Duration)>,
    /// Which leases were to be kept alive, request by request.
    pub(crate) kept_alive: Vec<Vec<LeaseId>>,
    /// Those that voted at the beginning, and what has become of them.
    membership: Membership,
}

#[derive(Default)]
struct Session {
    from: u64,
    replies: BTreeMap<u64, CommandReply>,
}

impl Cluster {
    pub(crate) fn new(nodes: u64) -> Arc<Self> {
        let faults = (1..=nodes).map(|node| (node, Fault::None)).collect();
        let member = |node| (NodeId(node), Member::new(format!("{node}:1")));
        let membership = Membership::of_voters((1..=nodes).map(member).collect());
        let state = State { faults, revision: 1, membership, ..State::default() };
        Arc::new(Self { state: Mutex::new(state), held: watch::Sender::new(false) })
    }

    pub(crate) fn set(&self, node: u64, fault: Fault) {
        self.with(|state| state.faults.insert(node, fault));
    }

    pub(crate) fn forget_sessions(&self) {
        self.with(|state| state.sessions.clear());
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap())
    }

    fn fault(&self, node: u64) -> Fault {
        self.with(|state| state.faults.get(&node).cloned().unwrap_or(Fault::Gone))
    }
}

/// Connects to the nodes of a cluster.
pub(crate) struct FakeConnector(pub(crate) Arc<Cluster>);

impl Connector for FakeConnector {
    fn connect(&self, address: &str) -> BoxFuture<Result<Arc<dyn Channel>, CallError>> {
        let cluster = Arc::clone(&self.0);
        let address = address.to_owned();
        Box::pin(async move {
            cluster.with(|state| state.asked_to_connect += 1);
            let node = address.strip_suffix(":1").and_then(|node| node.parse().ok()).unwrap_or(0);
            if let Fault::SlowToConnect(time) = cluster.fault(node) {
                sleep(time).await;
            }
            match cluster.fault(node) {
                Fault::Gone => Err(CallError::NotSent("connection refused".into())),
                Fault::Distrusts => Err(CallError::Refused("certificate refused".into())),
                Fault::Unreachable => std::future::pending().await,
                _ => {
                    cluster.with(|state| state.connections += 1);
                    Ok(Arc::new(FakeNode { cluster, node }) as Arc<dyn Channel>)
                }
            }
        })
    }
}

#[derive(Clone)]
struct FakeNode {
    cluster: Arc<Cluster>,
    node: u64,
}

impl Channel for FakeNode {
    fn call(&self, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        let node = self.clone();
        Box::pin(async move {
            // A request and its answer take a turn of the scheduler each.
            tokio::task::yield_now().await;
            let fault = node.cluster.fault(node.node);
            if fault == Fault::Gone {
                return Err(CallError::NotSent("connection closed".into()));
            }
            if fault == Fault::Unreachable {
                return std::future::pending().await;
            }
            if let Fault::AnswersLate(_) = fault {
                let deadline = wire::decode_request(&request).unwrap().deadline_ms;
                sleep(Duration::from_millis(deadline.into()) * 9 / 10).await;
            }
            let lost = fault == Fault::LosesFirstReply && node.is_first(&request);
            let request_bytes = request.clone();
            let reply = node.service().call(Caller::Client(ConnectionId(0)), request).await;
            if let Fault::Busy(times) = fault
                && wire::decode_request(&request_bytes).unwrap().body == RequestBody::Status
            {
                let next = if times == 1 { Fault::None } else { Fault::Busy(times - 1) };
                node.cluster.set(node.node, next);
                return std::future::pending().await;
            }
            if fault == Fault::Mute {
                return std::future::pending().await;
            }
            let status = wire::decode_request(&request_bytes).unwrap().body == RequestBody::Status;
            match fault {
                Fault::Slow(time) => sleep(time).await,
                Fault::Laden(time) if !status => sleep(time).await,
                _ => {}
            }
            if lost {
                return Err(CallError::Lost("connection lost".into()));
            }
            let mut held = node.cluster.held.subscribe();
            held.wait_for(|held| !held).await.unwrap();
            Ok(reply)
        })
    }
}

impl FakeNode {
    fn service(&self) -> impl Service {
        self.clone()
    }

    /// Whether a named write, or a change of the members, is seen for the first time.
    fn is_first(&self, request: &Bytes) -> bool {
        let request = wire::decode_request(request).unwrap();
        if matches!(request.body, RequestBody::ChangeMembers(_)) {
            return self.cluster.with(|state| state.changes == 0);
        }
        let RequestBody::Write(command) = request.body else { return false };
        let command: Command = codec::decode(&command).unwrap();
        let name = command.request.map(|request| (request.session.0, request.seq));
        name.is_some_and(|name| self.cluster.with(|state| state.lost.insert(name)))
    }

    fn answer(&self, body: RequestBody) -> Reply {
        if body != RequestBody::Status {
            self.cluster.with(|state| state.asked.push(self.node));
            match self.cluster.fault(self.node) {
                Fault::Answers(error) | Fault::AnswersLate(error) => return Err(error),
                Fault::AnswersTimes(error, times) => {
                    let next = match times {
                        1 => Fault::None,
                        times => Fault::AnswersTimes(error.clone(), times - 1),
                    };
                    self.cluster.set(self.node, next);
                    return Err(error);
                }
                _ => {}
            }
        }
        self.cluster.with(|state| match body {
            RequestBody::Write(command) => {
                let reply = state.apply(codec::decode(&command).unwrap());
                Ok(ReplyBody::Write(codec::encode(&reply)))
            }
            RequestBody::Read { range, .. } => Ok(ReplyBody::Range(state.read(&range))),
            RequestBody::KeepAlive(leases) => Ok(ReplyBody::KeptAlive(state.keep_alive(leases))),
            RequestBody::Lease { .. } => Err(KvError::Malformed("the fake tells of none".into())),
            RequestBody::Leases => {
                let now = Instant::now();
                let live = state.leases.iter().filter(|(_, (until, _))| *until > now);
                Ok(ReplyBody::Leases(live.map(|(id, _)| *id).collect()))
            }
            RequestBody::DatedRead { range, .. } => {
                let freshness = Freshness { epoch: 3, staleness: Some(Duration::ZERO) };
                Ok(ReplyBody::Dated(freshness, state.read(&range)))
            }
            RequestBody::Members => Ok(ReplyBody::Members(Box::new(state.members()))),
            RequestBody::ChangeMembers(changes) => {
                state.changes += 1;
                state.change(&changes)?;
                Ok(ReplyBody::Members(Box::new(state.members())))
            }
            // As a node of an earlier version.
            RequestBody::Health
            | RequestBody::Integrity(_)
            | RequestBody::Published
            | RequestBody::Authenticate { .. }
            | RequestBody::Auth(_)
            | RequestBody::Signed { .. } => Err(KvError::Malformed("malformed bytes".into())),
            RequestBody::Status => Ok(ReplyBody::Status(Box::new(state.status(self.node)))),
            RequestBody::TransferLeadership { .. } => {
                state.transfers += 1;
                Ok(ReplyBody::Transferred)
            }
        })
    }
}

impl Service for FakeNode {
    fn call(&self, _: Caller, request: Bytes) -> BoxFuture<Bytes> {
        let request = wire::decode_request(&request).unwrap();
        let reply = wire::encode_reply(&self.answer(request.body));
        Box::pin(async move { reply })
    }
}

impl State {
    fn apply(&mut self, command: Command) -> CommandReply {
        let Some(request) = command.request else { return self.run(command.action) };
        let RequestId { session: id, seq, unanswered_from } = request;
        let Some(session) = self.sessions.get_mut(&id) else {
            return Err(KvError::SessionUnknown(id));
        };
        assert!((unanswered_from..unanswered_from + SESSION_WINDOW_MAX).contains(&seq));
        self.widest = self.widest.max(seq + 1 - unanswered_from);
        self.unanswered_from = unanswered_from;
        if unanswered_from > session.from {
            session.from = unanswered_from;
            session.replies = session.replies.split_off(&unanswered_from);
        }
        if seq < session.from {
            return Err(KvError::AnsweredBefore(seq));
        }
        if let Some(reply) = session.replies.get(&seq) {
            return reply.clone();
        }
        self.executed.push(request);
        let reply = self.run(command.action);
        self.sessions.get_mut(&id).unwrap().replies.insert(seq, reply.clone());
        reply
    }

    fn run(&mut self, action: Action) -> CommandReply {
        match action {
            Action::OpenSession => {
                self.opened += 1;
                self.sessions.insert(SessionId(self.opened), Session::default());
                Ok(ActionReply::Session(SessionId(self.opened)))
            }
            Action::Op(op) => {
                let reply = self.op(op)?;
                Ok(ActionReply::Op { revision: Revision(self.revision), reply })
            }
            Action::Txn(Txn { compares, success, failure }) => {
                let succeeded = compares.iter().all(|compare| {
                    let found = self.kvs.get(key_of(compare)).map(|kv| kv.mod_revision);
                    compare.target == Target::ModRevision(found.unwrap_or_default())
                });
                let branch = if succeeded { success } else { failure };
                let replies = branch.into_iter().map(|op| self.op(op)).collect::<Result<_, _>>()?;
                let revision = Revision(self.revision);
                Ok(ActionReply::Txn(TxnReply { revision, succeeded, replies }))
            }
            Action::Grant { id: None, ttl_ms } => {
                let (id, ttl) = (LeaseId(self.executed.len() as u64), ttl_ms.max(2000));
                let time = Duration::from_millis(ttl);
                self.leases.insert(id, (Instant::now() + time, time));
                Ok(ActionReply::Granted { id, ttl_ms: ttl })
            }
            Action::Revoke(id) => {
                let found = self.leases.remove(&id).filter(|(until, _)| *until > Instant::now());
                found.ok_or(KvError::LeaseNotFound(id))?;
                Ok(ActionReply::Revoked { revision: Revision(self.revision), deleted: 0 })
            }
            _ => Err(KvError::Malformed("the fake cannot do that".into())),
        }
    }

    fn keep_alive(&mut self, leases: Vec<LeaseId>) -> Vec<u64> {
        let now = Instant::now();
        let renew = |id: &LeaseId| match self.leases.get_mut(id) {
            Some((until, ttl)) if *until > now => {
                *until = now + *ttl;
                ttl.as_millis().try_into().unwrap()
            }
            _ => 0,
        };
        let left = leases.iter().map(renew).collect();
        self.kept_alive.push(leases);
        left
    }

    fn op(&mut self, op: Op) -> Result<OpReply, KvError> {
        match op {
            Op::Put(Put { lease: Attach::To(lease), .. }) => Err(KvError::LeaseNotFound(lease)),
            Op::Put(Put { key, value, prev_kv, .. }) => {
                let value = value.unwrap_or_default();
                self.revision += 1;
                let revision = Revision(self.revision);
                let old = self.kvs.remove(&key);
                let create_revision = old.as_ref().map_or(revision, |old| old.create_revision);
                let version = old.as_ref().map_or(1, |old| old.version + 1);
                let kv = KeyValue {
                    key: key.clone(),
                    value,
                    create_revision,
                    mod_revision: revision,
                    version,
                    lease: None,
                };
                self.kvs.insert(key, kv);
                Ok(OpReply::Put { prev_kv: old.filter(|_| prev_kv), key: None })
            }
            Op::Txn(_) => Err(KvError::TooDeep(2)),
            Op::Delete { keys, .. } => {
                self.revision += 1;
                let before = self.kvs.len();
                self.kvs.retain(|key, _| !holds(&keys, key));
                let deleted = (before - self.kvs.len()) as u64;
                Ok(OpReply::Delete { deleted, prev_kvs: Vec::new() })
            }
            Op::Range(range) => Ok(OpReply::Range(self.read(&range))),
        }
    }

    fn read(&self, range: &Range) -> RangeReply {
        let kvs: Vec<_> =
            self.kvs.values().filter(|kv| holds(&range.keys, &kv.key)).cloned().collect();
        let count = kvs.len() as u64;
        RangeReply { revision: Revision(self.revision), kvs, more: false, count }
    }

    fn members(&self) -> Members {
        let (cluster, leader) = (ClusterId(1), Some(NodeId(1)));
        Members { cluster, leader, membership: self.membership.clone() }
    }

    fn change(&mut self, changes: &[Change]) -> Result<(), KvError> {
        let changed = self.membership.changed(changes).map_err(|error| KvError::ChangeRefused {
            reason: error.to_string(),
            advice: "do not".into(),
        })?;
        self.membership = changed.left();
        Ok(())
    }

    fn status(&self, node: u64) -> NodeStatus {
        let members = self.faults.keys().filter(|id| **id < 60);
        let member = |id: &u64| MemberStatus {
            id: NodeId(*id),
            address: format!("{id}:1"),
            voter: true,
            heard_ms: Some(0),
            match_index: None,
            flow: None,
        };
        let foreign = self.faults.get(&node) == Some(&Fault::Foreign);
        NodeStatus {
            cluster: ClusterId(if foreign { 2 } else { 1 }),
            id: NodeId(node),
            incarnation: Incarnation(1),
            version: "test".into(),
            role: "follower".into(),
            term: Term(1),
            leader: Some(NodeId(1)),
            commit_index: Index(1),
            last_applied: Index(1),
            last_log: LogId::new(1, 1),
            log_bytes: 0,
            revision: Revision(self.revision),
            keys: self.kvs.len() as u64,
            state_hash: 0,
            members: if foreign { vec![member(&66)] } else { members.map(member).collect() },
            compacted: Revision(0),
            space: Space::default(),
            leases: 0,
            sessions: 0,
            time_ms: 0,
        }
    }
}

fn holds(keys: &Keys, key: &Bytes) -> bool {
    match keys {
        Keys::One(one) => one == key,
        Keys::Range { start, end } => key >= start && end.as_ref().is_none_or(|end| key < end),
    }
}

fn key_of(compare: &Compare) -> &Bytes {
    match &compare.keys {
        Keys::One(key) => key,
        Keys::Range { start, .. } => start,
    }
}
