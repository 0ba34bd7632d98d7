//! The leader's clock: how time, and with it the end of leases, enters the log.
//!
//! A task on every node. While the node leads, it proposes *stamps* ([`Advance`]): for every batch
//! of requests to keep leases alive, once a second while leases live, once a minute while only
//! sessions do or tokens have to age, at once when more has come to its end than one entry ends,
//! and some each second while the memory of what was compacted is given back; none on an idle empty
//! store. While it does not lead, it remembers when it saw the last stamp.
//!
//! # Why no lease ends early
//!
//! Log time is a clock that only stamps move. Let `m` be the moment at which the leader that made a
//! stamp looked at its monotonic clock, and `T` the time it says.
//!
//! 1. *Log time is never faster than real time.* Each stamp names the one before, which its leader
//!    had applied, and adds no more than what that leader's monotonic clock measured from a moment
//!    not before that one's `m`: from its own look, or from when it saw another's stamp applied. A
//!    stamp that names another than the last has no effect, so what two leaders have measured of
//!    the same time is never added up. Hence `T' - T <= m' - m` for consecutive stamps, and so for
//!    any two. Who sets the wall clock changes nothing. (Clocks that run at different rates: `m' -
//!    m` is what the faster of the leaders' own clocks says.)
//! 2. *A lease counts from a stamp whose leader looked at its clock afterwards.* One that was
//!    granted at index `i` begins to run at the first stamp with `seen >= i`, and `seen` was
//!    applied before the look. One that is renewed was asked for before the look: requests are
//!    taken off the queue first. So its `ttl` begins at an `m` that is not before the request.
//! 3. *It ends in the log*, at a stamp whose time is more than `ttl` later - more, because stamps
//!    are cut to milliseconds - and with 1 at least `ttl` later in real time.
//!
//! Deadlines are part of the replicated state: a new leader neither extends nor shortens what is
//! left of a lease; what passed between the last stamp and the next leader's first look at it is
//! given to the holders (compare etcd-io/etcd#9888, where every new leader began anew).
//!
//! A leader that was paused for however long may propose stamps and renewals as it wakes up. If
//! another node leads by then, they never come into the log; if it leads again, they name a stamp
//! that is not the last any more, and are refused; if nobody has led meanwhile, they are right, and
//! a lease that another entry ended is not there to be renewed. An answer to a holder is given only
//! after its stamp is applied.

use super::cause::not_leader;
use super::compact::Compactor;
use super::growth::{UNDERSTOOD_SINCE, upgrading};
use super::replica::Replica;
use super::stamp::LastStamp;
use super::write::Try;
use crate::api::{
    Action, ActionReply, Advance, Authority, Command, CommandReply, KEEP_ALIVE_MAX, KvError,
    LeaseId, Query, ReplyBody, Revision, Summary,
};
use crate::store::StoreHandle;
use crate::{codec, wire};
use raft_core::node::{Queried, ReadMode};
use raft_core::types::{Index, NodeId};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, warn};

/// Most requests to keep leases alive that wait on a node.
pub(super) const KEEP_ALIVES_MAX: usize = 1024;
/// How often stamps are made while leases live.
const TICK: Duration = Duration::from_secs(1);
/// How often stamps are made while only sessions live.
const IDLE_TICK: Duration = Duration::from_secs(60);
/// Most stamps a second that are made for what a store purges with each: it has to give memory back
/// also when nothing else is written, or a full one would stay full.
const PURGING_STAMPS: usize = 16;
/// How long nothing is proposed after a stamp that failed.
const PAUSE: Duration = Duration::from_millis(20);

/// A request to keep leases alive.
pub(super) struct KeepAlive {
    /// Which; [`KEEP_ALIVE_MAX`] at most.
    pub(super) leases: Vec<LeaseId>,
    /// What became of it. Closed when nobody waits any more.
    pub(super) answer: oneshot::Sender<Try>,
}

/// The clock of one node.
pub(super) struct Ticker<N> {
    node: N,
    id: NodeId,
    store: StoreHandle,
    asked: mpsc::Receiver<KeepAlive>,
    /// The leader this node knows.
    leader: watch::Receiver<Option<NodeId>>,
    /// Taken off the queue, for the next stamp.
    waiting: Option<KeepAlive>,
    last: LastStamp,
    /// The highest entry it has proposed and seen applied.
    applied: Index,
    compactor: Compactor,
}

/// Why a reign ends.
enum Over {
    /// Another node leads, or none.
    Deposed,
    /// The node or its service has stopped.
    Stopped,
}

impl<N: Replica> Ticker<N> {
    pub(super) fn new(
        node: N,
        id: NodeId,
        store: StoreHandle,
        asked: mpsc::Receiver<KeepAlive>,
        leader: watch::Receiver<Option<NodeId>>,
        compactor: Compactor,
    ) -> Self {
        let (waiting, last, applied) = (None, LastStamp::default(), Index(0));
        Self { node, id, store, asked, leader, waiting, last, applied, compactor }
    }

    /// Runs until node or service stops.
    pub(super) async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Ok(()) | Err(Over::Deposed) = self.turn(&mut tick).await {}
    }

    /// Waits for whatever comes next, and does it.
    async fn turn(&mut self, tick: &mut tokio::time::Interval) -> Result<(), Over> {
        if self.waiting.is_none() {
            self.waiting = tokio::select! {
                asked = self.asked.recv() => Some(asked.ok_or(Over::Stopped)?),
                _ = tick.tick() => None,
                _ = self.node.stopped() => return Err(Over::Stopped),
            };
        }
        if !self.leads() {
            self.refuse(&KvError::Unavailable(not_leader(self.node.status().leader)));
            return self.follow().await;
        }
        if let Some(error) = upgrading(&self.node.status(), UNDERSTOOD_SINCE) {
            self.refuse(&error);
            return Ok(());
        }
        if self.waiting.is_none() {
            return self.on_tick().await;
        }
        while self.advance().await? || self.waiting.is_some() {}
        Ok(())
    }

    /// Whether this node leads, as far as it knows: what it proposes otherwise comes to nothing.
    fn leads(&self) -> bool {
        *self.leader.borrow() == Some(self.id)
    }

    /// Answers whoever waits that nothing was done.
    fn refuse(&mut self, error: &KvError) {
        while let Some(asked) = self.next_asked() {
            // Whoever does not wait any more is not told.
            let _ = asked.answer.send(Try::NotDone(error.clone()));
        }
    }

    fn next_asked(&mut self) -> Option<KeepAlive> {
        self.waiting.take().or_else(|| self.asked.try_recv().ok())
    }

    /// Remembers when the last stamp was seen.
    async fn follow(&mut self) -> Result<(), Over> {
        self.look(ReadMode::Local).await.map(drop)
    }

    /// Looks at the state, and at its last stamp.
    async fn look(&mut self, mode: ReadMode) -> Result<Option<Summary>, Over> {
        let query = codec::encode(&Query::Summary);
        let queried = tokio::select! {
            queried = self.node.query(query, mode) => queried,
            _ = self.node.stopped() => return Err(Over::Stopped),
            () = deposed(&self.leader, self.id), if mode != ReadMode::Local => {
                return Err(Over::Deposed);
            }
        };
        let decode = |answer: Queried| codec::decode::<Summary>(&answer.reply).ok();
        let Some(summary) = queried.ok().and_then(decode) else { return Ok(None) };
        self.last.saw(&summary, Instant::now());
        Ok(Some(summary))
    }

    /// A leader's second.
    async fn on_tick(&mut self) -> Result<(), Over> {
        let Some(summary) = self.look(ReadMode::Local).await? else { return Ok(()) };
        let quiet = self.last.age(Instant::now()) >= IDLE_TICK;
        // Tokens are as old as the log's time says.
        let seldom = summary.sessions > 0 || summary.auth_enabled;
        if summary.leases > 0 || seldom && quiet {
            while self.advance().await? || self.waiting.is_some() {}
        }
        for _ in 0..PURGING_STAMPS {
            if self.store.gauges().purge_pending == 0 {
                break;
            }
            self.advance().await?;
        }
        if let Some(revision) = self.compactor.due(&summary, Instant::now()) {
            self.compact(revision).await;
        }
        Ok(())
    }

    /// Proposes a stamp, with the requests that wait, and answers them. Returns whether the next
    /// one is due at once.
    async fn advance(&mut self) -> Result<bool, Over> {
        if !self.last.is_known() {
            self.look(ReadMode::Linearizable).await?;
        }
        let (asked, renewed) = self.batch();
        // Requests first, then what is applied, then the clock: see the argument above.
        let seen = self.node.status().last_applied.max(self.applied);
        let Some(next) = self.last.next(Instant::now()) else {
            answer(asked, |_| Try::NotDone(KvError::Overloaded));
            return Ok(false);
        };
        let advance = Advance { time_ms: next.time_ms, seen, renewed, since: next.since };
        let command = Command { request: None, fence: None, action: Action::Advance(advance) };
        let proposed = match self.node.propose(codec::encode(&command)).await {
            Ok(proposed) => proposed,
            Err(error) => {
                debug!(%error, "time was not advanced");
                answer(asked, |_| Try::of_propose(&error));
                return self.begin_anew().await;
            }
        };
        self.applied = proposed.id.index;
        match codec::decode::<CommandReply>(&proposed.reply) {
            Ok(Ok(ActionReply::Advanced { ttls_ms, more })) => {
                self.last.taken(next, proposed.id.index);
                let mut ttls_ms = ttls_ms.into_iter();
                answer(asked, |leases| {
                    let kept = ttls_ms.by_ref().take(leases.len()).collect();
                    Try::Answered(wire::encode_reply(&Ok(ReplyBody::KeptAlive(kept))))
                });
                Ok(more)
            }
            reply => {
                debug!(?reply, "time was not advanced");
                let text = "another leader has advanced the time meanwhile";
                answer(asked, |_| Try::NotDone(KvError::Unavailable(text.into())));
                self.begin_anew().await
            }
        }
    }

    /// After a stamp that may not be the last.
    async fn begin_anew(&mut self) -> Result<bool, Over> {
        self.last.forget();
        tokio::select! {
            () = sleep(PAUSE) => Ok(false),
            () = deposed(&self.leader, self.id) => Err(Over::Deposed),
        }
    }

    /// Takes requests off the queue, as many as one stamp holds; with all their leases.
    fn batch(&mut self) -> (Vec<KeepAlive>, Vec<LeaseId>) {
        let (mut asked, mut renewed) = (Vec::new(), Vec::new());
        while let Some(next) = self.next_asked() {
            if renewed.len() + next.leases.len() > KEEP_ALIVE_MAX {
                self.waiting = Some(next);
                break;
            }
            // Nobody is told of a lease that is kept alive for one who has given up.
            if !next.answer.is_closed() {
                renewed.extend(&next.leases);
                asked.push(next);
            }
        }
        (asked, renewed)
    }

    async fn compact(&self, revision: Revision) {
        let action = Action::Compact(revision);
        // An alarm that stops it is not to fill the log with tries.
        if self.store.alarms().check(&action).is_err() {
            return;
        }
        let action = match self.store.is_auth_enabled() {
            true => Action::As(Authority::Cluster, Box::new(action)),
            false => action,
        };
        let command = codec::encode(&Command { request: None, fence: None, action });
        match self.node.propose(command).await {
            Ok(_) => debug!(%revision, "compacted"),
            Err(error) => warn!(%revision, %error, "not compacted"),
        }
    }
}

fn answer(asked: Vec<KeepAlive>, mut what: impl FnMut(&[LeaseId]) -> Try) {
    for asked in asked {
        // Whoever does not wait any more is not told.
        let _ = asked.answer.send(what(&asked.leases));
    }
}

/// Waits until another node leads, or none.
async fn deposed(leader: &watch::Receiver<Option<NodeId>>, id: NodeId) {
    // An error means that the node has stopped, and leads nobody.
    let _ = leader.clone().wait_for(|leader| *leader != Some(id)).await;
}
