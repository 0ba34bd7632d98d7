//! The server side of the store: requests from clients and other nodes into a raft-core [`Node`].
//!
//! It routes: writes to the leader, wherever that is, reads to this node. It answers every request
//! within its deadline, and says of one that it cannot answer whether it may have run. It never
//! touches the data itself, keeps no request beyond its deadline and knows nothing of sockets.

mod auth;
mod backup;
mod cause;
mod clock;
mod compact;
mod describe;
pub(crate) mod frame;
mod growth;
#[cfg(feature = "etcd")]
mod inside;
mod integrity;
mod lease;
mod members;
mod read;
mod replica;
mod stamp;
#[cfg(all(test, feature = "client"))]
mod tests;
mod turns;
mod watches;
mod write;

use crate::api::{
    Consistency, Divergence, Inquiry, KvError, Published, REQUEST_BYTES_MAX, Range, Reply,
    ReplyBody, RequestBody, SIGNED_BYTES_MAX,
};
use crate::codec::WireError;
use crate::store::StoreHandle;
pub use crate::watch::{LocalStream, LocalWatches, WatchOptions};
use crate::wire;
pub(crate) use auth::Asker;
#[cfg(feature = "etcd")]
pub(crate) use auth::Kept;
#[cfg(feature = "testing")]
pub(crate) use auth::sample as sample_tokens;
use auth::{Hashing, Need, Tokens};
use bytes::Bytes;
use cause::Why;
use clock::{KEEP_ALIVES_MAX, KeepAlive, Ticker};
pub use compact::Compaction;
use compact::Compactor;
pub use integrity::IntegrityConfig;
use integrity::{Comparison, Exchange, Known};
use raft_core::node::{Node, TransferError};
use raft_core::transport::{BoxFuture, CallError, Caller, Duplex, Peers, Service};
use raft_core::types::{GroupId, NodeId};
use replica::Replica;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::debug;
use turns::Turns;
use watches::Watches;

/// What a [`KvService`] serves, and how.
pub struct ServiceConfig {
    /// The node whose state machine is the store.
    pub node: Node,
    /// The store that the node owns.
    pub store: StoreHandle,
    /// Its group, which forwarded requests carry.
    pub group: GroupId,
    /// How to reach the other nodes.
    pub peers: Arc<dyn Peers>,
    /// Version of the program, for the status.
    pub version: String,
    /// Longest time a request may take; a longer deadline is cut to this.
    pub deadline_max: Duration,
    /// What it has compacted by itself while it leads.
    pub compaction: Compaction,
    /// From how many bytes of all versions of all keys on growth is refused while it leads; see
    /// [`Space`](crate::api::Space). 0 is the default, as with etcd; `u64::MAX` is no limit.
    pub quota_bytes: u64,
    /// How watches are served.
    pub watch: WatchOptions,
    /// How its state is compared with the other members'.
    pub integrity: IntegrityConfig,
    /// What the hash of a password costs: of the function bcrypt, 4 to 31. Each one more takes
    /// twice as long.
    pub password_cost: u32,
    /// How long a token is valid after its last use on this node, and after it was made.
    pub token_life: Duration,
}

/// What the hash of a password costs if nothing is said: etcd's.
pub const PASSWORD_COST: u32 = 10;

/// How long a token is valid after its last use if nothing is said: five minutes, etcd's.
pub const TOKEN_LIFE: Duration = Duration::from_secs(300);

/// 2 GiB.
const QUOTA_BYTES: u64 = 2 * 1024 * 1024 * 1024;

impl ServiceConfig {
    /// A service of `node`, which owns `store`, with deadlines up to a minute, the default
    /// compaction and a quota of 2 GiB.
    pub fn new(
        node: Node,
        store: StoreHandle,
        group: GroupId,
        peers: Arc<dyn Peers>,
        version: String,
    ) -> Self {
        Self {
            node,
            store,
            group,
            peers,
            version,
            deadline_max: Duration::from_secs(60),
            compaction: Compaction::default(),
            quota_bytes: QUOTA_BYTES,
            watch: WatchOptions::default(),
            integrity: IntegrityConfig::default(),
            password_cost: PASSWORD_COST,
            token_life: TOKEN_LIFE,
        }
    }
}

/// Answers requests of the store's own protocol on one node.
pub struct KvService {
    door: Arc<Door<Node>>,
    watches: Arc<Watches>,
    /// Work in the background, which ends with the service.
    _tasks: JoinSet<()>,
}

impl KvService {
    /// A service on a running node.
    ///
    /// # Panics
    /// Outside a tokio runtime with a clock: it starts tasks there, which follow the leader and
    /// the store, do what leaders have to, and end with the service or the node.
    pub fn new(config: ServiceConfig) -> Arc<Self> {
        let ServiceConfig {
            node,
            store,
            group,
            peers,
            version,
            deadline_max,
            compaction,
            quota_bytes,
            watch,
            integrity,
            password_cost,
            token_life,
        } = config;
        let exchange = Exchange { node: node.clone(), group, peers: Arc::clone(&peers) };
        let check = store.check().clone();
        let watches = Watches::new(&store, watch);
        let mut door = Door::new(node, store, deadline_max, group, peers, version);
        door.quota_bytes = if quota_bytes == 0 { QUOTA_BYTES } else { quota_bytes };
        door.hashing = Hashing::new(password_cost);
        door.tokens = Tokens::new(token_life);
        let known = Arc::clone(&door.known);
        let mut tasks = JoinSet::new();
        tasks.spawn(door.take_ticker(compaction).run());
        tasks.spawn(Comparison::new(exchange, integrity, check, known).run());
        Arc::new(Self { door: Arc::new(door), watches, _tasks: tasks })
    }

    /// Waits until this node's data is found to differ from a quorum's, or to be damaged where a
    /// quorum of others has it: then it serves nobody any more, and its owner is to stop the node
    /// and have it get its data from the others anew.
    pub fn divergence(&self) -> impl Future<Output = Divergence> + use<> {
        let known = Arc::clone(&self.door.known);
        async move { known.divergence().await }
    }
}

impl Service for KvService {
    fn call(&self, caller: Caller, request: Bytes) -> BoxFuture<Bytes> {
        let door = Arc::clone(&self.door);
        Box::pin(async move { door.answer(Asker::of(caller), request).await })
    }

    fn serve_stream(&self, caller: Caller, first: Bytes, stream: Duplex) {
        let door = Arc::clone(&self.door);
        watches::serve(&self.watches, door, Asker::of(caller), &first, stream);
    }
}

/// The service over any replica.
struct Door<N> {
    node: N,
    id: NodeId,
    /// Longest deadline.
    deadline_max: Duration,
    group: GroupId,
    peers: Arc<dyn Peers>,
    version: String,
    /// The leader this node knows; follows the node's status closely.
    leader: watch::Receiver<Option<NodeId>>,
    store: StoreHandle,
    quota_bytes: u64,
    /// To the clock.
    keep_alives: mpsc::Sender<KeepAlive>,
    /// What is known of this node's data.
    known: Arc<Known>,
    backups: backup::Backups,
    /// What it tells of itself, once there is something.
    published: OnceLock<Published>,
    /// Who goes through much of the data, and when.
    turns: Turns,
    hashing: Hashing,
    tokens: Tokens,
}

/// When a request came and when it must be answered.
#[derive(Clone, Copy)]
struct Clock {
    started: Instant,
    answer_by: Instant,
}

impl Clock {
    fn new(deadline_ms: u32, deadline_max: Duration) -> Self {
        let deadline = Duration::from_millis(deadline_ms.into()).min(deadline_max);
        // The answer must be with the caller, not on its way, when the caller stops waiting.
        let way_back = (deadline / 10).min(Duration::from_millis(100));
        let started = Instant::now();
        Self { started, answer_by: started + (deadline - way_back) }
    }

    /// The same for what is to be done within `time` of the beginning.
    fn within(self, time: Duration) -> Self {
        Self { answer_by: self.answer_by.min(self.started + time), ..self }
    }

    fn waited(&self) -> Duration {
        self.started.elapsed()
    }

    /// The deadline for a node that does the work instead, in milliseconds.
    fn remaining_ms(&self) -> u32 {
        let left = self.answer_by.saturating_duration_since(Instant::now());
        u32::try_from(left.as_millis()).unwrap_or(u32::MAX)
    }
}

impl<N: Replica> Door<N> {
    /// It keeps no lease alive before it has its clock.
    fn new(
        node: N,
        store: StoreHandle,
        deadline_max: Duration,
        group: GroupId,
        peers: Arc<dyn Peers>,
        version: String,
    ) -> Self {
        let status = node.status();
        let (sender, leader) = watch::channel(status.leader);
        tokio::spawn(follow_leader(node.clone(), sender));
        Self {
            node,
            id: status.identity.node,
            deadline_max,
            group,
            peers,
            version,
            leader,
            store,
            quota_bytes: QUOTA_BYTES,
            keep_alives: mpsc::channel(1).0,
            known: Arc::default(),
            backups: backup::Backups::default(),
            published: OnceLock::new(),
            turns: Turns::new(),
            hashing: Hashing::new(PASSWORD_COST),
            tokens: Tokens::new(TOKEN_LIFE),
        }
    }

    /// Connects it with a clock, which is to be run.
    fn take_ticker(&mut self, compaction: Compaction) -> Ticker<N> {
        let (keep_alives, asked) = mpsc::channel(KEEP_ALIVES_MAX);
        self.keep_alives = keep_alives;
        let (node, leader) = (self.node.clone(), self.leader.clone());
        Ticker::new(node, self.id, self.store.clone(), asked, leader, Compactor::new(compaction))
    }

    /// Answers one request, whatever it is.
    async fn answer(&self, asker: Asker, frame: Bytes) -> Bytes {
        let (asker, body, clock) = match self.open(asker, &frame) {
            Ok(opened) => opened,
            Err(refusal) => return wire::encode_reply(&Err(refusal)),
        };
        match self.answer_body(&asker, frame, body, clock).await {
            Ok(reply) => reply,
            Err(error) => {
                debug!(caller = ?asker.caller, %error, "request failed");
                wire::encode_reply(&Err(error))
            }
        }
    }

    /// What is asked for, by whom, and how long it may take.
    fn open(&self, asker: Asker, frame: &Bytes) -> Result<(Asker, RequestBody, Clock), KvError> {
        if frame.len() > REQUEST_BYTES_MAX + SIGNED_BYTES_MAX {
            return Err(too_large(frame.len(), REQUEST_BYTES_MAX));
        }
        let request = wire::decode_request(frame).map_err(|error| {
            debug!(?asker, %error, "request refused");
            KvError::Malformed(error.to_string())
        })?;
        let clock = Clock::new(request.deadline_ms, self.deadline_max);
        let (asker, body) = match request.body {
            RequestBody::Signed { token, body } => (asker.signed(token), *body),
            body => (asker, body),
        };
        match self.refusal(&body) {
            Some(refusal) => Err(refusal),
            None => Ok((asker, body, clock)),
        }
    }

    /// The encoded reply to a request of `asker`; `frame` is all of it.
    #[expect(clippy::manual_async_fn, reason = "an async function keeps its arguments twice")]
    fn answer_body(
        &self,
        asker: &Asker,
        frame: Bytes,
        body: RequestBody,
        clock: Clock,
    ) -> impl Future<Output = Result<Bytes, KvError>> {
        async move {
            let reply = match body {
                RequestBody::Write(command) => {
                    return Ok(self.write(asker, frame, command, clock).await);
                }
                RequestBody::Read { range, consistency } => {
                    return self.read_allowed(asker, range, consistency, false, clock).await;
                }
                RequestBody::DatedRead { range, consistency } => {
                    return self.read_allowed(asker, range, consistency, true, clock).await;
                }
                RequestBody::Members => self.members(clock).await,
                RequestBody::ChangeMembers(changes) => {
                    let root = self.allow(asker, Need::Root, false, clock).await?;
                    let body = || RequestBody::ChangeMembers(changes.clone());
                    let frame = self.forwarded(frame, root.as_ref(), body, clock);
                    return Ok(self.change_members(asker.clone(), frame, changes, clock).await);
                }
                RequestBody::Health => self.health(clock).await,
                RequestBody::KeepAlive(leases) => {
                    let user = self.allow(asker, Need::User, false, clock).await?;
                    let body = || RequestBody::KeepAlive(leases.clone());
                    let frame = self.forwarded(frame, user.as_ref(), body, clock);
                    return Ok(self.keep_alive(asker.clone(), frame, leases, clock).await);
                }
                RequestBody::Lease { id, keys } => {
                    self.allow(asker, Need::User, false, clock).await?;
                    let reply = self.lease(id, keys, clock).await;
                    if let Ok(ReplyBody::Lease(lease)) = &reply {
                        self.check_lease_told(asker, lease.as_deref())?;
                    }
                    reply
                }
                RequestBody::Leases => {
                    self.allow(asker, Need::User, false, clock).await?;
                    self.leases(clock).await
                }
                RequestBody::Status => self.describe(clock).await,
                RequestBody::Published => {
                    Ok(ReplyBody::Published(self.published.get().cloned().map(Box::new)))
                }
                RequestBody::Integrity(inquiry) => {
                    self.allow_inquiry(asker, &inquiry, clock).await?;
                    self.inquire(asker, inquiry, clock).await
                }
                RequestBody::TransferLeadership { to } => {
                    let root = self.allow(asker, Need::Root, false, clock).await?;
                    let body = || RequestBody::TransferLeadership { to };
                    let frame = self.forwarded(frame, root.as_ref(), body, clock);
                    return Ok(self.transfer(asker.caller, &frame, to, clock).await);
                }
                RequestBody::Authenticate { name, password } => {
                    self.authenticate(name, password, clock).await
                }
                RequestBody::Auth(question) => self.tell_auth(asker, question, clock).await,
                RequestBody::Signed { .. } => Err(KvError::Malformed("signed twice".into())),
            };
            Ok(wire::encode_reply(&Ok(reply?)))
        }
    }

    /// Reads, if the asker may: before, so that nothing is done for who may not, and after it, as
    /// users and roles are where it was read, or later.
    #[expect(clippy::manual_async_fn, reason = "an async function keeps its arguments twice")]
    fn read_allowed(
        &self,
        asker: &Asker,
        range: Range,
        consistency: Consistency,
        dated: bool,
        clock: Clock,
    ) -> impl Future<Output = Result<Bytes, KvError>> {
        async move {
            let keys = range.keys.clone();
            let local = consistency == Consistency::Serializable;
            self.allow(asker, Need::Read(&keys), local, clock).await?;
            let reply = self.read(asker.whose(), range, consistency, dated, clock).await?;
            self.judge(asker, Need::Read(&keys))?;
            Ok(reply)
        }
    }

    /// Members ask each other about their data; to anybody else it tells much.
    async fn allow_inquiry(
        &self,
        asker: &Asker,
        inquiry: &Inquiry,
        clock: Clock,
    ) -> Result<(), KvError> {
        let among_members = matches!(asker.caller, Caller::Node(_));
        if among_members && !matches!(inquiry, Inquiry::Scrub) {
            return Ok(());
        }
        // A node that has no quorum is to be asked, too.
        self.allow(asker, Need::Root, true, clock).await.map(drop)
    }

    /// Why a node whose data is not to be trusted does not answer; it still says how it is.
    fn refusal(&self, body: &RequestBody) -> Option<KvError> {
        let about_itself =
            matches!(body, RequestBody::Status | RequestBody::Health | RequestBody::Integrity(_));
        if about_itself { None } else { self.known.refusal() }
    }

    /// Hands leadership over, or has the leader do it; the encoded reply.
    async fn transfer(
        &self,
        caller: Caller,
        frame: &Bytes,
        to: Option<NodeId>,
        clock: Clock,
    ) -> Bytes {
        let leader = self.node.status().leader;
        let work = async {
            let reply = match leader {
                Some(leader) if to == Some(leader) => Ok(ReplyBody::Transferred),
                Some(leader) if leader == self.id => self.transfer_own(to).await,
                Some(leader) if caller.is_client() => {
                    match self.call_peer(leader, frame, clock).await {
                        Ok(reply) => return reply,
                        Err(CallError::NotSent(why) | CallError::Refused(why)) => {
                            Err(KvError::Unavailable(why))
                        }
                        Err(error) => Err(KvError::Unknown(error.to_string())),
                    }
                }
                _ => Err(KvError::Unavailable(cause::not_leader(leader))),
            };
            wire::encode_reply(&reply)
        };
        match timeout_at(clock.answer_by, work).await {
            Ok(reply) => reply,
            Err(_) => wire::encode_reply(&Err(self.why(clock).unknown())),
        }
    }

    async fn transfer_own(&self, to: Option<NodeId>) -> Reply {
        match self.node.transfer_leadership(to).await {
            Ok(leader) => {
                debug!(%leader, "leadership transferred");
                Ok(ReplyBody::Transferred)
            }
            Err(TransferError::NotLeader { leader }) => {
                Err(KvError::Unavailable(cause::not_leader(leader)))
            }
            Err(error @ TransferError::NotVoter { .. }) => {
                Err(KvError::Malformed(error.to_string()))
            }
            Err(error @ (TransferError::NoTarget | TransferError::TimedOut)) => {
                Err(KvError::Unavailable(error.to_string()))
            }
            Err(error) => Err(KvError::Unknown(error.to_string())),
        }
    }

    fn why(&self, clock: Clock) -> Why {
        Why::of(&self.node.status(), clock.waited())
    }
}

/// Keeps `known` at the leader the node knows, until nobody looks or the node stops.
async fn follow_leader<N: Replica>(node: N, known: watch::Sender<Option<NodeId>>) {
    loop {
        let leader = node.status().leader;
        known.send_if_modified(|known| std::mem::replace(known, leader) != leader);
        tokio::select! {
            () = known.closed() => return,
            _ = node.stopped() => return,
            () = node.leader_changed(leader) => {}
        }
    }
}

fn not_understood(error: &WireError) -> KvError {
    KvError::Unavailable(format!("the state machine's answer: {error}"))
}

fn too_large(size: usize, limit: usize) -> KvError {
    KvError::TooLarge { what: "request".into(), size: size as u64, limit: limit as u64 }
}
