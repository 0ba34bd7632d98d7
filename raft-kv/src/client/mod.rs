//! The asynchronous client: one handle for a whole cluster.
//!
//! It is given any node of the cluster and learns the others. It finds a node that works, moves on
//! when that one does not answer, and sends a request again until the deadline - which is safe
//! because every write is named within a session, and the cluster answers a name it knows instead
//! of running the write again. What it cannot find out it says: see [`ClientError`].
//!
//! It owns connections, the session and the renewal of leases, never data: nothing is cached. It
//! knows no transport; it is handed a [`Connector`].
//!
//! What a call comes to is one of three: done (`Ok`), certainly not done
//! ([`ClientError::NotDone`], [`ClientError::Refused`]) or unknown ([`ClientError::Unknown`]).

mod alarm;
mod auth;
mod backup;
mod call;
mod cluster;
mod directory;
mod error;
mod exchange;
pub(crate) mod frame;
mod keep;
mod lease;
mod read;
mod session;
mod watch;
mod write;

pub use backup::{Backup, BackupError};
pub use cluster::{EndpointScrub, EndpointStatus, ScrubBegun};
pub use error::{Cause, ClientError};
pub use keep::Lease;
pub use lease::{Granted, Revoked};
pub use read::{Pages, ReadReply};
pub use watch::{WatchBatch, WatchServer, Watcher};
pub use write::{DeleteReply, PutReply, SwapReply};

#[cfg(doc)]
use crate::api::KvError;
use crate::api::{Fence, TXN_OPS_MAX};
use auth::{Credentials, Login};
use call::{millis, unexpected};
use directory::Directory;
use error::Trouble;
use keep::Keeper;
use raft_core::transport::{Channel, Connector};
use raft_core::types::ClusterId;
use session::Session;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

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
    /// changes: a write then saves the way from the node asked to the leader. Every node takes
    /// every request either way. Default no, so that clients stay with the node they name first.
    pub prefer_leader: bool,
    /// Most compares, and most operations of one branch, of a transaction; one within it has what
    /// the longest of its lists leaves of that. What is longer is refused before it is sent.
    /// Default [`TXN_OPS_MAX`], what the store takes of all lists together.
    pub txn_ops_max: usize,
    credentials: Option<Credentials>,
}

impl ClientOptions {
    /// The defaults, with these endpoints.
    pub fn new<A: Into<String>>(endpoints: impl IntoIterator<Item = A>) -> Self {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        let (deadline, attempt) = (Duration::from_secs(5), Duration::from_secs(1));
        Self {
            endpoints,
            deadline,
            attempt,
            prefer_leader: false,
            txn_ops_max: TXN_OPS_MAX,
            credentials: None,
        }
    }

    /// The same for a user: it logs in by itself, and again whenever it has to.
    #[must_use]
    pub fn user(self, name: impl Into<String>, password: impl Into<String>) -> Self {
        let credentials = Credentials { user: name.into(), password: password.into() };
        Self { credentials: Some(credentials), ..self }
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
    /// What its requests show, if that is not for it to find out.
    token: Option<Arc<str>>,
    /// The way its requests go, if that is another one than the connection to the node.
    way: Option<Arc<dyn Channel>>,
}

struct Shared {
    connector: Arc<dyn Connector>,
    directory: Directory,
    attempt: Duration,
    prefer_leader: bool,
    txn_ops_max: usize,
    /// Whether the leader is being followed already.
    following: AtomicBool,
    /// The cluster, once a node has told. Members of another one are not taken in.
    cluster: OnceLock<ClusterId>,
    /// Who it is for, if it is for a user.
    login: Option<Login>,
    session: RwLock<Option<Arc<Session>>>,
    /// Held by whoever opens a session.
    opening: tokio::sync::Mutex<()>,
    /// What last went wrong: why a caller failed who only waited for another one.
    trouble: Mutex<Option<Trouble>>,
    /// State of the spread of pauses.
    jitter: AtomicU64,
    /// The leases to be kept alive.
    keeper: Keeper,
    watches: Arc<watch::Watches>,
}

impl Client {
    /// A client of the cluster that `options.endpoints` belong to. Connects when first used; from
    /// then on it needs the tokio runtime, with its clock, that it is used on.
    pub fn new(connector: Arc<dyn Connector>, options: ClientOptions) -> Self {
        let ClientOptions { endpoints, deadline, attempt, prefer_leader, .. } = options;
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
            txn_ops_max: options.txn_ops_max,
            following: AtomicBool::new(false),
            cluster,
            login: options.credentials.map(Login::of),
            session,
            opening,
            trouble,
            jitter,
            keeper: Keeper::default(),
            watches: Arc::default(),
        };
        Self { shared: Arc::new(shared), deadline, fence: None, token: None, way: None }
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

    /// The same client without a fence.
    fn unfenced(&self) -> Self {
        Self { fence: None, ..self.clone() }
    }
}
