//! A cluster in memory: the real state machine behind the real wire format, without Raft and
//! without sockets. It can lose replies, answer out of order, and refuse to answer.

use bytes::Bytes;
use raft_cli::client::Store;
use raft_cli::failure::Failure;
use raft_cli::output::{Format, Output};
use raft_core::state_machine::StateMachine;
use raft_core::transport::{BoxFuture, CallError, Channel, Connector};
use raft_core::types::{
    Change, ClusterId, Entry, Incarnation, Index, LogId, Member, Membership, NodeId, Payload, Run,
    Term,
};
use raft_kv::api::{
    Access, Action, ActionReply, Advance, AuthAnswer, AuthChange, AuthError, AuthQuestion,
    AuthStatus, Command, CommandReply, Consistency, Finding, Freshness, Health, Inquiry, Integrity,
    Keys, KvError, LeaseAnswer, LeaseId, MemberStatus, Members, NodeStatus, Op, Password,
    Permission, Put, Query, Range, RangeAnswer, Reply, ReplyBody, RequestBody, Space,
};
use raft_kv::store::KvStore;
use raft_kv::{codec, wire};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The addresses of the cluster's nodes. The last is not there.
pub(crate) const ADDRESSES: [&str; 3] = ["n1:1", "n2:2", "n3:3"];

/// The history of the cluster.
const EPOCH: u64 = 3;

/// What goes wrong.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Every so many writes, the reply is lost after the write ran. 0 for never.
    pub(crate) lose_reply_every: u64,
    /// Writes run in another order than they came.
    pub(crate) reorder: bool,
    /// Every write is answered with "no quorum".
    pub(crate) no_quorum: bool,
    /// Writes from this one on are answered with "no quorum". 0 for none.
    pub(crate) no_quorum_from: u64,
    /// Before every read, somebody else adds a key: `zz/1`, `zz/2` and so on.
    pub(crate) write_before_reads: bool,
    /// How long every answer takes.
    pub(crate) delay: Duration,
    /// Fewer than a quorum answer when all data is compared.
    pub(crate) scrubs_alone: bool,
}

#[derive(Clone)]
pub(crate) struct Cluster(Arc<Mutex<Inner>>);

struct Inner {
    store: KvStore,
    index: u64,
    /// The last entry that let time pass.
    advanced: u64,
    faults: Faults,
    /// Requests to write that came in, retries included.
    writes: u64,
    /// Most that were being answered at once.
    most: u64,
    now: u64,
    reads: u64,
    /// Reads that were to count all keys.
    counting: u64,
    /// What every node says of itself.
    health: Health,
}

/// That of a node of a cluster in which nothing is wrong.
fn health() -> Health {
    let members = (1..).zip(ADDRESSES).map(|(id, address)| {
        let incarnation = Some(Incarnation(id + 6));
        (NodeId(id), Member { incarnation, ..Member::new(address) })
    });
    let membership = Membership::of_voters(members.collect());
    Health {
        members: Members { cluster: ClusterId(42), leader: Some(NodeId(1)), membership },
        bound: true,
        persisted_index: Index(0),
        waiting_ms: 12,
        transfer: None,
        timing: None,
        no_quorum: None,
        peers: Vec::new(),
        space: Space { bytes: 0, quota: 1 << 31 },
        integrity: Integrity::default(),
        alarms: Vec::new(),
    }
}

impl Cluster {
    pub(crate) fn new(faults: Faults) -> Self {
        let store = KvStore::in_memory();
        let health = health();
        let inner = Inner {
            store,
            index: 0,
            advanced: 0,
            faults,
            writes: 0,
            most: 0,
            now: 0,
            reads: 0,
            counting: 0,
            health,
        };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// A client with a deadline long enough for any machine.
    pub(crate) fn client(&self) -> Store {
        self.patient_client(Duration::from_secs(60))
    }

    pub(crate) fn patient_client(&self, deadline: Duration) -> Store {
        let endpoints = vec![ADDRESSES[0].to_owned(), ADDRESSES[1].to_owned()];
        Store::new(Arc::new(self.clone()), endpoints, deadline)
    }

    pub(crate) fn writes(&self) -> u64 {
        self.inner().writes
    }

    pub(crate) fn most_at_once(&self) -> u64 {
        self.inner().most
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.inner().faults = faults;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no test panics while it holds the lock")
    }

    async fn write(&self, command: Bytes) -> Result<Reply, CallError> {
        let (number, faults) = {
            let mut inner = self.inner();
            inner.writes += 1;
            inner.now += 1;
            inner.most = inner.most.max(inner.now);
            (inner.writes, inner.faults)
        };
        if faults.reorder {
            for _ in 0..number * 7 % 11 {
                tokio::task::yield_now().await;
            }
        }
        let mut inner = self.inner();
        inner.now -= 1;
        if faults.no_quorum || (faults.no_quorum_from != 0 && number >= faults.no_quorum_from) {
            return Ok(Err(KvError::Unavailable("no quorum 1/3".into())));
        }
        let reply = inner.apply(command);
        if faults.lose_reply_every != 0 && number.is_multiple_of(faults.lose_reply_every) {
            return Err(CallError::Lost("connection lost".into()));
        }
        Ok(Ok(ReplyBody::Write(reply)))
    }

    async fn answer(&self, node: u64, request: Bytes) -> Result<Bytes, CallError> {
        let request = wire::decode_request(&request).expect("the client encodes well");
        let delay = self.inner().faults.delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let reply = match request.body {
            RequestBody::Write(command) => self.write(hashed(command)).await?,
            RequestBody::Read { range, .. } => {
                let mut inner = self.inner();
                inner.before_read();
                let answer = inner.store.query(&codec::encode(&Query::Range(range)));
                let answer: RangeAnswer = codec::decode(&answer).expect("the store encodes well");
                answer.map(ReplyBody::Range)
            }
            RequestBody::DatedRead { range, consistency } => self.dated(range, consistency),
            RequestBody::KeepAlive(leases) => self.keep_alive(leases),
            RequestBody::Lease { id, keys } => {
                let answer: LeaseAnswer = self.query(&Query::Lease { id, keys });
                Ok(ReplyBody::Lease(answer.map(Box::new)))
            }
            RequestBody::Leases => Ok(ReplyBody::Leases(self.query(&Query::Leases))),
            RequestBody::Integrity(Inquiry::Scrub) => {
                self.scrub();
                Ok(ReplyBody::Integrity(Finding::Begun))
            }
            RequestBody::Integrity(_) | RequestBody::Published => {
                Err(KvError::Malformed("not asked by a verb".into()))
            }
            RequestBody::Auth(question) => Ok(ReplyBody::Auth(told(question))),
            RequestBody::Authenticate { .. } | RequestBody::Signed { .. } => {
                Err(KvError::Auth(AuthError::NotEnabled))
            }
            RequestBody::Members => Ok(ReplyBody::Members(Box::new(self.members()))),
            RequestBody::ChangeMembers(changes) => self.change_members(&changes),
            RequestBody::Health => Ok(ReplyBody::Health(Box::new(self.health()))),
            RequestBody::Status => Ok(ReplyBody::Status(Box::new(self.status(node)))),
            RequestBody::TransferLeadership { .. } => Ok(ReplyBody::Transferred),
        };
        Ok(wire::encode_reply(&reply))
    }

    /// A read whose answer says how fresh it is: 12.3 ms old unless it is linearizable.
    fn dated(&self, range: Range, consistency: Consistency) -> Reply {
        let mut inner = self.inner();
        inner.before_read();
        if let Consistency::AtLeast(position) = consistency
            && position.epoch != EPOCH
        {
            return Err(KvError::OtherHistory { asked: position.epoch, current: EPOCH });
        }
        inner.counting += u64::from(range.count_all);
        let answer = inner.store.query(&codec::encode(&Query::Range(range)));
        let answer: RangeAnswer = codec::decode(&answer).expect("the store encodes well");
        let linearizable = consistency == Consistency::Linearizable;
        let staleness = Duration::from_micros(if linearizable { 0 } else { 12_300 });
        let freshness = Freshness { epoch: EPOCH, staleness: Some(staleness) };
        answer.map(|reply| ReplyBody::Dated(freshness, reply))
    }

    fn query<T: serde::de::DeserializeOwned>(&self, query: &Query) -> T {
        let answer = self.inner().store.query(&codec::encode(query));
        codec::decode(&answer).expect("the store encodes well")
    }

    /// Keeps leases alive; no time passes.
    fn keep_alive(&self, renewed: Vec<LeaseId>) -> Reply {
        let mut inner = self.inner();
        let (time_ms, seen) = (inner.store.summary().time_ms, Index(inner.index));
        let left_ms = inner.advance(time_ms, seen, renewed);
        Ok(ReplyBody::KeptAlive(left_ms))
    }

    /// Lets time pass for leases.
    pub(crate) fn pass(&self, time: Duration) {
        let mut inner = self.inner();
        for time in [Duration::ZERO, time] {
            // A lease begins to run when a leader has seen it.
            let past = u64::try_from(time.as_millis()).expect("short");
            let time_ms = inner.store.summary().time_ms + past;
            let seen = Index(inner.index);
            inner.advance(time_ms, seen, Vec::new());
        }
    }

    /// How many reads were to count all keys since this was asked last.
    pub(crate) fn counting(&self) -> u64 {
        std::mem::take(&mut self.inner().counting)
    }

    /// A look at all data, which takes no time.
    fn scrub(&self) {
        let mut inner = self.inner();
        let alone = inner.faults.scrubs_alone;
        let integrity = &mut inner.health.integrity;
        if alone {
            integrity.scrubs_incomplete += 1;
        } else {
            integrity.scrubs += 1;
        }
    }

    /// What the nodes say of the members, and may say wrong.
    pub(crate) fn with_health(&self, change: impl FnOnce(&mut Health)) {
        change(&mut self.inner().health);
    }

    fn health(&self) -> Health {
        self.inner().health.clone()
    }

    fn members(&self) -> Members {
        self.inner().health.members.clone()
    }

    fn change_members(&self, changes: &[Change]) -> Reply {
        let membership = &mut self.inner().health.members.membership;
        let changed = membership.changed(changes).map_err(|error| {
            let (reason, advice) = (error.to_string(), "do something else".into());
            KvError::ChangeRefused { reason, advice }
        })?;
        *membership = changed.left();
        let members = Members {
            cluster: ClusterId(42),
            leader: Some(NodeId(1)),
            membership: membership.clone(),
        };
        Ok(ReplyBody::Members(Box::new(members)))
    }

    fn status(&self, node: u64) -> NodeStatus {
        let summary = self.inner().store.summary();
        let leader = node == 1;
        let member = |id: u64, address: &str| MemberStatus {
            id: NodeId(id),
            address: address.into(),
            voter: true,
            heard_ms: Some(if id == node { 0 } else { 12 }),
            match_index: leader.then_some(summary.last_applied),
            flow: (leader && id != 1).then(|| "replicate".into()),
        };
        NodeStatus {
            cluster: ClusterId(42),
            id: NodeId(node),
            incarnation: Incarnation(7),
            version: "0.1.0".into(),
            role: if leader { "leader" } else { "follower" }.into(),
            term: Term(1),
            leader: Some(NodeId(1)),
            commit_index: summary.last_applied,
            last_applied: summary.last_applied,
            last_log: LogId { term: Term(1), index: Index(summary.last_applied.0) },
            log_bytes: 0,
            revision: summary.revision,
            keys: summary.keys,
            state_hash: summary.state_hash,
            members: (1..).zip(ADDRESSES).map(|(id, address)| member(id, address)).collect(),
            compacted: summary.compacted,
            space: Space { bytes: summary.bytes, quota: 1 << 31 },
            leases: summary.leases,
            sessions: summary.sessions,
            time_ms: summary.time_ms,
        }
    }
}

impl Inner {
    fn apply(&mut self, command: Bytes) -> Bytes {
        self.index += 1;
        let id = LogId::new(self.index, 1);
        let run = Run::new(vec![Entry { id, payload: Payload::Command(command) }]);
        self.store.apply(&run.expect("one entry is a run")).swap_remove(0)
    }

    fn advance(&mut self, time_ms: u64, seen: Index, renewed: Vec<LeaseId>) -> Vec<u64> {
        let since = Index(std::mem::replace(&mut self.advanced, self.index + 1));
        let action = Action::Advance(Advance { time_ms, seen, renewed, since });
        let reply = self.apply(codec::encode(&Command { request: None, fence: None, action }));
        match codec::decode::<CommandReply>(&reply).expect("the store encodes well") {
            Ok(ActionReply::Advanced { ttls_ms, .. }) => ttls_ms,
            other => panic!("not an answer to the passing of time: {other:?}"),
        }
    }

    fn before_read(&mut self) {
        if self.faults.write_before_reads {
            self.reads += 1;
            let key = format!("zz/{}", self.reads);
            let action = Action::Op(Op::Put(Put::new(key, Bytes::new())));
            self.apply(codec::encode(&Command { request: None, fence: None, action }));
        }
    }
}

impl Connector for Cluster {
    fn connect(&self, address: &str) -> BoxFuture<Result<Arc<dyn Channel>, CallError>> {
        let node = (1..).zip(&ADDRESSES[..2]).find(|(_, known)| **known == address);
        let channel = node.map(|(node, _)| Node { cluster: self.clone(), node });
        Box::pin(async move {
            let channel = channel.ok_or_else(|| CallError::NotSent("connection refused".into()))?;
            Ok(Arc::new(channel) as Arc<dyn Channel>)
        })
    }
}

struct Node {
    cluster: Cluster,
    node: u64,
}

impl Channel for Node {
    fn call(&self, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        let (cluster, node) = (self.cluster.clone(), self.node);
        Box::pin(async move { cluster.answer(node, request).await })
    }
}

/// Runs a verb and returns what it printed and how it ended.
pub(crate) fn printed(
    format: Format,
    verb: impl AsyncFnOnce(&mut Output<'_>) -> Result<(), Failure>,
) -> (String, Result<(), Failure>) {
    let mut bytes = Vec::new();
    let mut output = Output::new(format, &mut bytes);
    let outcome = block_on(verb(&mut output));
    output.finish().expect("a Vec takes everything");
    drop(output);
    (String::from_utf8(bytes).expect("output is text"), outcome)
}

/// Runs a future on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be had").block_on(future)
}

/// Parses a command line and gives the arguments of its verb.
#[macro_export]
macro_rules! parse {
    ($verb:ident, $($word:expr),* $(,)?) => {{
        use clap::Parser;
        let cli = raft_cli::args::Cli::try_parse_from(["raft", $($word),*]);
        match cli.expect("the command line is right").verb {
            raft_cli::args::Verb::$verb(args) => args,
            other => panic!("another verb: {other:?}"),
        }
    }};
}

/// A change of users as a node puts it into the log.
fn hashed(command: Bytes) -> Bytes {
    let Ok(mut known) = codec::decode::<Command>(&command) else { return command };
    match &mut known.action {
        Action::Auth(
            AuthChange::AddUser { password, .. } | AuthChange::ChangePassword { password, .. },
        ) => {
            if let Password::Plain(typed) = password {
                *password = Password::Hashed(format!("of {typed}"));
            }
            codec::encode(&known)
        }
        _ => command,
    }
}

/// The same whatever there is.
fn told(question: AuthQuestion) -> AuthAnswer {
    let names = |names: [&str; 2]| names.map(ToString::to_string).into();
    match question {
        AuthQuestion::Status => AuthAnswer::Status(AuthStatus { enabled: true, revision: 7 }),
        AuthQuestion::User(_) => AuthAnswer::User(names(["readers", "writers"])),
        AuthQuestion::Users => AuthAnswer::Users(names(["alice", "root"])),
        AuthQuestion::Roles => AuthAnswer::Roles(names(["readers", "root"])),
        AuthQuestion::Role(_) => AuthAnswer::Role(vec![
            Permission { access: Access::Read, keys: Keys::One("a".into()) },
            Permission { access: Access::ReadWrite, keys: Keys::prefix("b\u{1}") },
            Permission {
                access: Access::Write,
                keys: Keys::Range { start: "c".into(), end: None },
            },
        ]),
    }
}
