//! The asynchronous client: one handle for a whole cluster.
//!
//! It is given any node of the cluster and learns the others. It finds a node that works, moves on
//! when that one does not answer, and sends a request again until the deadline - which is safe
//! because every write is named within a session, and the cluster answers a name it knows instead
//! of running the write again. What it cannot find out it says: see [`ClientError`].
//!
//! It owns connections and the session, never data: nothing is cached. It knows no transport; it
//! is handed a [`Connector`].

mod backup;
mod cluster;
mod directory;
mod error;
mod exchange;
pub(crate) mod frame;
mod session;
mod watch;

pub use backup::{Backup, BackupError};
pub use cluster::EndpointStatus;
pub use error::{Cause, ClientError};
pub use watch::{WatchBatch, Watcher};

use crate::api::{
    Action, ActionReply, CommandReply, Compare, Consistency, Fence, Freshness, KeyValue, Keys,
    KvError, Op, OpReply, Operator, Position, Put, REQUEST_BYTES_MAX, Range, RangeReply, ReplyBody,
    Request, RequestBody, Revision, SESSION_WINDOW_MAX, Target, Txn, TxnReply,
};
use crate::codec::{self, WireError};
use crate::wire;
use bytes::Bytes;
use directory::Directory;
use error::{Trouble, gave_up};
use exchange::Exchange;
use raft_core::transport::Connector;
use raft_core::types::ClusterId;
use session::{Session, Ticket};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How a client finds the cluster and how patient it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientOptions {
    /// Addresses of nodes, `host:port`, the preferred one first. One is enough: the others are
    /// learned from it.
    pub endpoints: Vec<String>,
    /// How long a call may take altogether. Default 5 s.
    pub deadline: Duration,
    /// How long one node may take to answer, or to be connected, before another one is tried.
    /// Default 1 s.
    pub attempt: Duration,
    /// Whether to move on to the leader once a node has told who that is, and to follow when that
    /// changes: a write then saves the way from the node asked to the leader. Every node takes every
    /// request either way. Default no, so that clients stay with the node they name first.
    pub prefer_leader: bool,
}

impl ClientOptions {
    /// The defaults, with these endpoints.
    pub fn new<A: Into<String>>(endpoints: impl IntoIterator<Item = A>) -> Self {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        let (deadline, attempt) = (Duration::from_secs(5), Duration::from_secs(1));
        Self { endpoints, deadline, attempt, prefer_leader: false }
    }
}

/// A client of a cluster. A clone is cheap, and shares the connections and the session.
///
/// Every call ends within the deadline. Dropping a call's future gives it up: a write may then have
/// run or not, as with [`ClientError::Unknown`].
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    deadline: Duration,
    /// Every write runs only while this holds.
    fence: Option<Arc<Fence>>,
}

struct Shared {
    connector: Arc<dyn Connector>,
    directory: Directory,
    attempt: Duration,
    prefer_leader: bool,
    /// Whether the leader is being followed already.
    following: AtomicBool,
    /// The cluster, once a node has told. Members of another one are not taken in.
    cluster: OnceLock<ClusterId>,
    session: RwLock<Option<Arc<Session>>>,
    /// Held by whoever opens a session.
    opening: tokio::sync::Mutex<()>,
    /// What last went wrong: why a caller failed who only waited for another one.
    trouble: Mutex<Option<Trouble>>,
    /// State of the spread of pauses.
    jitter: AtomicU64,
    watches: Arc<watch::Watches>,
}

/// What a put answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutReply {
    /// The store's revision after it: the pair's mod revision.
    pub revision: Revision,
    /// What was there before, if that was asked for.
    pub prev_kv: Option<KeyValue>,
}

/// What a read answers that says how fresh it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadReply {
    /// What was found; its revision is the one it saw.
    pub range: RangeReply,
    /// How far the store had come: the token for [`Consistency::AtLeast`].
    pub position: Position,
    /// How old it may be: how long ago the node last heard of a leader, or a leader of a quorum;
    /// `None` if it never did. 0 of a linearizable read.
    pub staleness: Option<Duration>,
}

/// What a delete answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteReply {
    /// The store's revision after it.
    pub revision: Revision,
    /// How many keys were deleted.
    pub deleted: u64,
    /// What was there before, if that was asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// What a compare-and-swap answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapReply {
    /// Whether the value was set.
    pub swapped: bool,
    /// The store's revision after it: if swapped, the pair's mod revision.
    pub revision: Revision,
    /// If not swapped, what is there instead; `None` if the key does not exist.
    pub found: Option<KeyValue>,
}

impl Client {
    /// A client of the cluster that `options.endpoints` belong to. Connects when first used; from
    /// then on it needs the tokio runtime, with its clock, that it is used on.
    pub fn new(connector: Arc<dyn Connector>, options: ClientOptions) -> Self {
        let ClientOptions { endpoints, deadline, attempt, prefer_leader } = options;
        let directory = Directory::new(&endpoints);
        // A bad seed only makes pauses of several clients alike.
        let jitter = AtomicU64::new(getrandom::u64().unwrap_or_default());
        let (session, trouble) = (RwLock::default(), Mutex::default());
        let (cluster, opening) = (OnceLock::new(), tokio::sync::Mutex::default());
        let shared = Shared {
            connector,
            directory,
            attempt,
            prefer_leader,
            following: AtomicBool::new(false),
            cluster,
            session,
            opening,
            trouble,
            jitter,
            watches: Arc::default(),
        };
        Self { shared: Arc::new(shared), deadline, fence: None }
    }

    /// The same client with another deadline for each call.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// The same client, whose writes run only while `fence` holds: what it writes after the lock
    /// was lost is refused by the store with [`KvError::Fenced`], however late it comes.
    #[must_use]
    pub fn fenced(&self, fence: Fence) -> Self {
        Self { fence: Some(Arc::new(fence)), ..self.clone() }
    }

    /// Sets a key. What was there is not returned; [`replace`](Self::replace) does that.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<PutReply, ClientError> {
        self.put_op(key.into(), value.into(), false).await
    }

    /// Sets a key and returns what was there.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn replace(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<PutReply, ClientError> {
        self.put_op(key.into(), value.into(), true).await
    }

    async fn put_op(
        &self,
        key: Bytes,
        value: Bytes,
        prev_kv: bool,
    ) -> Result<PutReply, ClientError> {
        match self.op(Op::Put(Put { prev_kv, ..Put::new(key, value) })).await? {
            (revision, OpReply::Put { prev_kv, .. }) => Ok(PutReply { revision, prev_kv }),
            _ => Err(unexpected(true)),
        }
    }

    /// Deletes keys. What was there is not returned; [`op`](Self::op) can do that.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete(&self, keys: Keys) -> Result<DeleteReply, ClientError> {
        match self.op(Op::Delete { keys, prev_kv: false }).await? {
            (revision, OpReply::Delete { deleted, prev_kvs }) => {
                Ok(DeleteReply { revision, deleted, prev_kvs })
            }
            _ => Err(unexpected(true)),
        }
    }

    /// Runs one operation through the log; returns the store's revision after it, and its answer.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn op(&self, op: Op) -> Result<(Revision, OpReply), ClientError> {
        match self.write(Action::Op(op)).await? {
            ActionReply::Op { revision, reply } => Ok((revision, reply)),
            _ => Err(unexpected(true)),
        }
    }

    /// Runs a transaction: all of one branch, at one revision.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn txn(&self, txn: Txn) -> Result<TxnReply, ClientError> {
        match self.write(Action::Txn(txn)).await? {
            ActionReply::Txn(reply) => Ok(reply),
            _ => Err(unexpected(true)),
        }
    }

    /// Sets a key if its mod revision is `expected`; 0 to set it only if it does not exist.
    ///
    /// # Errors
    /// See [`ClientError`]. That the key was changed is not an error but the answer.
    pub async fn compare_and_swap(
        &self,
        key: impl Into<Bytes>,
        expected: Revision,
        value: impl Into<Bytes>,
    ) -> Result<SwapReply, ClientError> {
        let (key, value) = (key.into(), value.into());
        let target = Target::ModRevision(expected);
        let reply = self
            .txn(Txn {
                compares: vec![Compare {
                    keys: Keys::One(key.clone()),
                    operator: Operator::Equal,
                    target,
                }],
                success: vec![Op::Put(Put::new(key.clone(), value))],
                failure: vec![Op::Range(Range::of(Keys::One(key)))],
            })
            .await?;
        let TxnReply { revision, succeeded: swapped, replies } = reply;
        let found = match replies.into_iter().next() {
            Some(OpReply::Range(range)) => range.kvs.into_iter().next(),
            _ => None,
        };
        Ok(SwapReply { swapped, revision, found })
    }

    /// Reads a range. One reply holds about a mebibyte at most; see [`RangeReply::more`].
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn get(
        &self,
        range: Range,
        consistency: Consistency,
    ) -> Result<RangeReply, ClientError> {
        match self.request(RequestBody::Read { range, consistency }, true).await? {
            ReplyBody::Range(reply) => Ok(reply),
            _ => Err(unexpected(false)),
        }
    }

    /// Reads one key, linearizably; `None` if it does not exist.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_one(&self, key: impl Into<Bytes>) -> Result<Option<KeyValue>, ClientError> {
        let range = Range::of(Keys::One(key.into()));
        let reply = self.get(range, Consistency::Linearizable).await?;
        Ok(reply.kvs.into_iter().next())
    }

    /// Reads a range, and says how fresh the answer is. Its position is not behind any later
    /// answer to [`Consistency::AtLeast`] that position, whichever node gives it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn read(
        &self,
        range: Range,
        consistency: Consistency,
    ) -> Result<ReadReply, ClientError> {
        match self.request(RequestBody::DatedRead { range, consistency }, true).await? {
            ReplyBody::Dated(Freshness { epoch, staleness }, range) => {
                let position = Position { epoch, revision: range.revision };
                Ok(ReadReply { range, position, staleness })
            }
            _ => Err(unexpected(false)),
        }
    }

    async fn request(&self, body: RequestBody, repeatable: bool) -> Result<ReplyBody, ClientError> {
        let read = body.is_read();
        let deadline = Instant::now() + self.deadline;
        let attempt = self.shared.attempt;
        match self.exchange(body, repeatable, attempt, deadline).await {
            // A read has no effect that could be in doubt.
            Err(ClientError::Unknown { reason, source }) if read => {
                Err(ClientError::NotDone { reason, source })
            }
            answer => answer,
        }
    }

    /// Has one request answered; one node may take as long as `attempt`.
    async fn exchange(
        &self,
        body: RequestBody,
        repeatable: bool,
        attempt: Duration,
        deadline: Instant,
    ) -> Result<ReplyBody, ClientError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let frame_ms = millis(attempt.min(left));
        let frame = wire::encode_request(&Request { deadline_ms: frame_ms, body });
        let mut exchange =
            Exchange { frame, frame_ms, attempt, deadline, repeatable, in_doubt: false };
        self.shared.exchange(&mut exchange).await
    }

    /// Puts an action through the log, exactly once.
    async fn write(&self, action: Action) -> Result<ActionReply, ClientError> {
        let deadline = Instant::now() + self.deadline;
        loop {
            let ticket = self.ticket(deadline).await?;
            let frame_ms = self.frame_ms(deadline);
            let request = ticket.request();
            let frame = frame::encode_write(
                frame_ms,
                Some(request),
                self.fence.as_deref(),
                &action,
                size_of(&action),
            );
            if frame.len() > REQUEST_BYTES_MAX {
                return Err(ClientError::Refused(over_limit(&action, frame.len())));
            }
            let mut exchange = self.repeatable(frame, frame_ms, deadline);
            let body = self.shared.exchange(&mut exchange).await?;
            match command_reply(&body) {
                Ok(Ok(reply)) => return Ok(reply),
                // Nothing was sent under the old session that could have run: start over in a new
                // one.
                Ok(Err(KvError::SessionUnknown(session)))
                    if !exchange.in_doubt && Instant::now() < deadline =>
                {
                    self.shared.forget_session(session);
                }
                Ok(Err(error @ KvError::SessionUnknown(session))) => {
                    self.shared.forget_session(session);
                    let trouble = Trouble { address: None, cause: Cause::Node(error) };
                    return Err(gave_up(exchange.in_doubt, Some(trouble)));
                }
                Ok(Err(error)) => return Err(ClientError::refused(error)),
                Err(_) => return Err(unexpected(true)),
            }
        }
    }

    /// A name for a new write.
    async fn ticket(&self, deadline: Instant) -> Result<Ticket, ClientError> {
        let session = match self.shared.current_session() {
            Some(session) => session,
            None => self.open_session(deadline).await?,
        };
        timeout_at(deadline, session.ticket()).await.map_err(|_| {
            let cause = Cause::WindowFull(SESSION_WINDOW_MAX);
            gave_up(false, Some(Trouble { address: None, cause }))
        })
    }

    /// The session, opened by one caller while the others wait.
    async fn open_session(&self, deadline: Instant) -> Result<Arc<Session>, ClientError> {
        let shared = &self.shared;
        let Ok(_opening) = timeout_at(deadline, shared.opening.lock()).await else {
            return Err(gave_up(false, shared.last_trouble()));
        };
        if let Some(session) = shared.current_session() {
            return Ok(session);
        }
        let frame_ms = self.frame_ms(deadline);
        let frame = frame::encode_write(frame_ms, None, None, &Action::OpenSession, 0);
        let mut exchange = self.repeatable(frame, frame_ms, deadline);
        let body = match shared.exchange(&mut exchange).await {
            Ok(body) => body,
            // A session that may have been opened has no effect on what the caller wants.
            Err(ClientError::Unknown { reason, source }) => {
                return Err(ClientError::NotDone { reason, source });
            }
            Err(error) => return Err(error),
        };
        match command_reply(&body) {
            Ok(Ok(ActionReply::Session(id))) => {
                let session = Arc::new(Session::new(id));
                shared.set_session(Some(Arc::clone(&session)));
                Ok(session)
            }
            Ok(Err(error)) => Err(ClientError::refused(error)),
            _ => Err(unexpected(false)),
        }
    }

    fn repeatable(&self, frame: Bytes, frame_ms: u32, deadline: Instant) -> Exchange {
        let attempt = self.shared.attempt;
        Exchange { frame, frame_ms, attempt, deadline, repeatable: true, in_doubt: false }
    }

    /// The deadline a request is first encoded with.
    fn frame_ms(&self, deadline: Instant) -> u32 {
        millis(self.shared.attempt.min(deadline.saturating_duration_since(Instant::now())))
    }
}

impl Shared {
    fn current_session(&self) -> Option<Arc<Session>> {
        self.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_session(&self, session: Option<Arc<Session>>) {
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = session;
    }

    /// Lets a session go that the cluster does not know any more.
    fn forget_session(&self, id: crate::api::SessionId) {
        let mut session = self.session.write().unwrap_or_else(PoisonError::into_inner);
        if session.as_ref().is_some_and(|session| session.id() == id) {
            *session = None;
        }
    }

    fn last_trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_trouble(&self, trouble: &Trouble) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble.clone());
    }
}

/// Milliseconds for a request; never 0, which would leave a node no time at all.
fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1)
}

fn command_reply(body: &ReplyBody) -> Result<CommandReply, WireError> {
    let ReplyBody::Write(reply) = body else { return Err(WireError::Malformed) };
    codec::decode(reply)
}

/// A reply of another kind than the request: the node speaks nonsense.
fn unexpected(may_have_run: bool) -> ClientError {
    let cause = Cause::Answer(WireError::Malformed);
    gave_up(may_have_run, Some(Trouble { address: None, cause }))
}

/// Roughly the bytes of an action, to make room for it at once.
fn size_of(action: &Action) -> usize {
    match action {
        Action::Op(Op::Put(put)) => put.key.len() + put.value.as_ref().map_or(0, Bytes::len),
        Action::Txn(_) => 512,
        _ => 64,
    }
}

/// Why an action does not fit into a request: because of one part of it, or altogether.
fn over_limit(action: &Action, size: usize) -> KvError {
    let (what, size, limit) = ("request".into(), size as u64, REQUEST_BYTES_MAX as u64);
    let altogether = KvError::TooLarge { what, size, limit };
    crate::store::validate(action).err().unwrap_or(altogether)
}
