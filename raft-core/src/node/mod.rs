//! The asynchronous driver: runs one core with a log store, a state machine and a transport.
//!
//! One task owns the core and never waits for disk, network or apply. A storage thread does group
//! commit, an applier thread works on the state machine; a log that never waits is written by the
//! task itself, and so is applied what the state machine calls quick. [`Node`] is the handle.

mod applier;
mod background;
mod cause;
mod config;
mod driver;
mod error;
mod event;
mod events;
pub mod metrics;
mod queue;
mod requests;
mod status;
mod storage;
mod timing;
mod waiter;

pub use cause::{Cause, NoQuorum};
pub use config::NodeConfig;
pub use error::{ChangeError, ProposeError, QueryError, StartError, StopCause, TransferError};
pub use events::{Events, NodeEvent, SnapshotStep};
pub use status::{Limits, PeerProgress, PeerStatus, Status};
pub use timing::Timing;

use crate::log_store::LogStore;
use crate::raft::{GroupOp, Loaded, LogOp, Raft};
use crate::state_machine::StateMachine;
use crate::transport::Transport;
use crate::types::{Change, Identity, Index, LogId, Membership, NodeId, SnapshotMeta};
use applier::Thresholds;
use bytes::Bytes;
use driver::{Driver, Threads};
use event::{ChangeRequest, Event, NodeInbox, Transfer};
use metrics::Metrics;
use queue::{Entrance, Room};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Events that may wait for the loop; further messages are dropped, further requests refused.
const EVENTS_MAX: usize = 16 * 1024;

/// A committed and applied command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Where it stands in the log.
    pub id: LogId,
    /// The state machine's reply.
    pub reply: Bytes,
}

/// A membership change that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The entry of the final configuration, which is committed.
    pub id: LogId,
    /// That configuration; it is never a joint one. The one in force may be newer already.
    pub membership: Membership,
}

/// How fresh a query's answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReadMode {
    /// Sees everything answered before it began (thesis §6.4), on any node. Waits for a leader.
    #[default]
    Linearizable,
    /// As fresh as [`ReadMode::Linearizable`], without asking a quorum, as long as this node leads
    /// and its clock and the others' run about as fast as each other (thesis §6.4.1); a machine
    /// that is suspended does not see its clock run. Where there is no lease, or
    /// [`Config::lease_reads`](crate::raft::Config::lease_reads) is off, a quorum is asked.
    Lease,
    /// Sees the entry with this index, such as that of an own write ([`Proposed::id`]): on any
    /// node, without a leader. Waits until the entry is applied, for ever if it never is.
    AtLeast(Index),
    /// What this node has applied.
    Local,
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queried {
    /// The state machine's reply.
    pub reply: Bytes,
    /// The last entry applied when it was asked. Whoever asks for [`ReadMode::AtLeast`] this much
    /// later on never sees an older state.
    pub applied: Index,
    /// How long ago this node last heard from a leader that leads, or, of a leader, since a quorum
    /// last answered it: what was committed before that and is not in the reply was still on its
    /// way, or waited to be applied. `None` if it never heard from one, or restores a snapshot. 0
    /// of a linearizable read.
    pub staleness: Option<Duration>,
}

/// A running node: a handle, cheap to clone. The node runs until [`Node::shutdown`], a storage
/// failure, or the end of the runtime it was started on.
#[derive(Clone)]
pub struct Node {
    events: Entrance,
    status: watch::Receiver<Arc<Status>>,
    stopped: watch::Receiver<Option<StopCause>>,
    /// Weak, so that listeners see the end of the node.
    listeners: broadcast::WeakSender<NodeEvent>,
}

impl Node {
    /// Starts a node on the current tokio runtime: loads the log, opens the transport and begins to
    /// follow. Loading blocks: where a runtime does something else as well, call this within
    /// [`spawn_blocking`](tokio::task::spawn_blocking), which belongs to the same runtime.
    ///
    /// A blank log is bound to the configured cluster, node and incarnation. The node then forms a
    /// cluster with the others of [`Config::initial`](crate::raft::Config::initial), once all of
    /// them are there; if that is empty it waits to be added to one by
    /// [`change_membership`](Self::change_membership).
    ///
    /// # Errors
    /// See [`StartError`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        config: NodeConfig,
        mut log: impl LogStore,
        machine: impl StateMachine,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError> {
        config.raft.validate()?;
        let applied = machine.applied();
        let (identity, loaded) = load(&config, &mut log, &applied)?;
        let raft = Raft::new(config.raft.clone(), loaded, applied, config.seed)?;
        let status = Status::at_start(&raft, identity, &config);
        let Status { term, last_log: last, bound, .. } = &status;
        tracing::info!(node = %identity.node, %term, %last, bound, "loaded");

        let (completed, completions) = mpsc::unbounded_channel();
        let node = identity.node;
        let metrics = Arc::new(Metrics::new(config.group, node));
        let storage =
            storage::start(config.group, node, log, Arc::clone(&metrics), completed.clone())?;
        let applier = applier::start(
            machine,
            node,
            Thresholds::of(&config),
            Arc::clone(&metrics),
            completed.clone(),
        )?;
        let room = Room { events: EVENTS_MAX, requests: config.requests_max };
        let (events, queue) = queue::queue(room);
        let (status, status_seen) = watch::channel(Arc::new(status));
        let inbox = NodeInbox::new(events.clone(), completed, Arc::clone(&metrics));
        transport.open(config.group, identity, Arc::new(inbox));

        let threads = Threads { storage, applier, metrics };
        let driver = Driver::new(config, identity, raft, transport, threads, status);
        let listeners = driver.listeners();
        let stopped = driver::spawn(driver, queue, completions);
        Ok(Self { events, status: status_seen, stopped, listeners })
    }

    /// Proposes a command and waits until it is committed and applied here. It has no deadline of
    /// its own; dropping the future gives up waiting, the command may still take effect.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, command: Bytes) -> Result<Proposed, ProposeError> {
        let (reply, answer) = oneshot::channel();
        self.events.ask(Event::Propose { command, reply })?;
        answer.await.unwrap_or(Err(ProposeError::Stopped))
    }

    /// Proposes several commands at once, in order, and waits for all of them. Each has an outcome
    /// of its own; other commands may come between them. Those beyond the node's bound on requests
    /// are refused, the first ones are not.
    pub async fn propose_many(
        &self,
        mut commands: Vec<Bytes>,
    ) -> Vec<Result<Proposed, ProposeError>> {
        let count = commands.len();
        let (done, outcomes) = oneshot::channel();
        let admit = |admitted| {
            commands.truncate(admitted);
            Event::ProposeMany { commands, done }
        };
        let admitted = match self.events.ask_many(count, admit) {
            Ok(admitted) => admitted,
            Err(refused) => return vec![Err(refused.into()); count],
        };
        // In the place that they have.
        let known = outcomes.await.unwrap_or_default().into_iter();
        let stopped = || Err(ProposeError::Stopped);
        let mut outcomes: Vec<_> = known.map(|it| it.unwrap_or_else(stopped)).collect();
        outcomes.resize_with(admitted, stopped);
        outcomes.resize(count, Err(ProposeError::Overloaded));
        outcomes
    }

    /// Queries the state machine, as fresh as `mode` says. A query that has to wait - for a leader
    /// that a quorum follows, or for an entry - has no deadline of its own; dropping the future
    /// gives up.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn query(&self, query: Bytes, mode: ReadMode) -> Result<Queried, QueryError> {
        let (reply, answer) = oneshot::channel();
        self.events.ask(Event::Query { query, mode, reply })?;
        answer.await.unwrap_or(Err(QueryError::Stopped))
    }

    /// Hands leadership to `to`, or to the voter that should lead, by priority and by log (thesis
    /// §3.10); returns
    /// who leads then.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        let (reply, answer) = oneshot::channel();
        let event = Event::Transfer(Transfer { to, reply });
        self.events.send(event).await.map_err(|_| TransferError::Stopped)?;
        answer.await.unwrap_or(Err(TransferError::Stopped))
    }

    /// Changes who is in the cluster (§6): all of `changes` at once, or none. Only a leader can.
    /// Returns once the change is complete, which for a node that is added means that it is a
    /// learner: it becomes a voter by itself when it has caught up, if it was added to be promoted.
    ///
    /// It has no deadline of its own; dropping the future gives up waiting, the change may still
    /// take effect. A leader that removes itself gets its answer, and then hands leadership over.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn change_membership(&self, changes: Vec<Change>) -> Result<Changed, ChangeError> {
        let (reply, answer) = oneshot::channel();
        let event = Event::Change(ChangeRequest { changes, reply });
        self.events.send(event).await.map_err(|_| ChangeError::Stopped)?;
        answer.await.unwrap_or(Err(ChangeError::Stopped))
    }

    /// Has the state machine make a checkpoint now, behind what is being applied, unless one is
    /// being written. Does not wait for it.
    ///
    /// # Errors
    /// [`QueryError::Overloaded`], [`QueryError::Stopped`].
    pub fn checkpoint(&self) -> Result<(), QueryError> {
        Ok(self.events.tell(Event::Checkpoint)?)
    }

    /// The status as of the last tick or change of role, term, leader or membership.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    /// What happens to the node from now on. Whoever needs to know where that begins asks for the
    /// status afterwards.
    pub fn events(&self) -> Events {
        Events(self.listeners.upgrade().map(|listeners| listeners.subscribe()))
    }

    /// Waits until the status is published anew: at once on a change of role, term, leader or
    /// membership, else with the next tick. Returns at once if the node has stopped.
    pub async fn status_changed(&self) {
        let mut status = self.status.clone();
        // A clone has seen only what was there when the node started.
        status.mark_unchanged();
        // An error means that the node has stopped: nothing more will change.
        let _ = status.changed().await;
    }

    /// Waits until this node knows another leader than `from`, or none any more; or until it has
    /// stopped.
    pub async fn leader_changed(&self, from: Option<NodeId>) {
        let mut status = self.status.clone();
        if status.wait_for(|status| status.leader != from).await.is_err() {
            // It stops: nothing more will change.
            self.stopped().await;
        }
    }

    /// Stops the node: what is queued for the disk is written, open requests are answered
    /// `Stopped`. Returns why the node stopped, which may be an earlier failure.
    pub async fn shutdown(&self) -> StopCause {
        // An error means that it has stopped already.
        let _ = self.events.send(Event::Shutdown).await;
        self.stopped().await
    }

    /// Waits until the node has stopped, for whatever cause.
    pub async fn stopped(&self) -> StopCause {
        let mut stopped = self.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(cause) => cause.clone().unwrap_or(StopCause::Shutdown),
            Err(_) => StopCause::Shutdown,
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Loads the log, or binds a blank one.
fn load(
    config: &NodeConfig,
    log: &mut impl LogStore,
    applied: &SnapshotMeta,
) -> Result<(Identity, Loaded), StartError> {
    let node = config.raft.id;
    let loaded = log.load(config.group).map_err(StartError::Log)?;
    if let Some(found) = loaded.identity {
        if found.cluster != config.cluster || found.node != node {
            return Err(StartError::WrongIdentity { found, cluster: config.cluster, node });
        }
        return Ok((found, loaded));
    }
    if applied.last != LogId::ZERO {
        // Votes and acknowledgements given by the lost log would be forgotten.
        return Err(StartError::LogLost { applied: applied.last });
    }
    let identity = Identity { cluster: config.cluster, node, incarnation: config.incarnation };
    let bind = GroupOp { group: config.group, op: LogOp::Identity(identity) };
    log.write(&[bind]).map_err(StartError::Log)?;
    Ok((identity, Loaded { identity: Some(identity), ..loaded }))
}
