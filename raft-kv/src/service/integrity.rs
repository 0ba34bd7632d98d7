//! Compares this node's state with the other members', on and on, and keeps it apart if it differs.
//!
//! Every few seconds the hashes of the state are compared at entries that several members have
//! applied; slowly, all contents are, chunk by chunk at one revision each, with the versions of
//! before that can still be read, then leases and sessions, and the checkpoint file is read back.
//! Each node judges for itself, and acts on itself alone: if it differs from a quorum of voters
//! that agree, it serves, leads and sends snapshots no more, and tells its owner, who is to replace
//! its data. It never touches data. Without such a quorum nobody is trusted to be right, and all
//! raise an alarm.

mod exchange;
mod parts;
mod scrub;

use super::replica::Replica;
use super::turns::Line;
use super::{Asker, Clock, Door, not_understood};
use crate::api::{
    Alarm, ChunkAnswer, Divergence, Finding, Hashes, Inquiry, Integrity, KvError, Place, Query,
    Reply, ReplyBody, RollAnswer,
};
use crate::codec;
use crate::integrity::{Search, Verdict, common, judge};
use crate::store::StoreCheck;
pub(super) use exchange::Exchange;
use raft_core::node::{ReadMode, Status};
use raft_core::raft::RoleName;
use raft_core::types::{Index, Membership, NodeId, Version};
use scrub::Scrub;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info, warn};

/// How a node's state is compared with the others'.
#[derive(Clone)]
pub struct IntegrityConfig {
    /// How often hashes are compared; `None` for never. Default 10 s.
    pub compare_every: Option<Duration>,
    /// How long a look at all data takes, spread out; `None` for only when asked. Default a day.
    pub scrub_every: Option<Duration>,
}

impl Default for IntegrityConfig {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self { compare_every: Some(Duration::from_secs(10)), scrub_every: Some(DAY) }
    }
}

/// What is known of this node's data, for the service and its owner.
#[derive(Default)]
pub(super) struct Known {
    integrity: watch::Sender<Integrity>,
    /// Somebody wants a look at all data now.
    scrub: Notify,
}

impl Known {
    pub(super) fn integrity(&self) -> Integrity {
        self.integrity.borrow().clone()
    }

    /// Why clients are not served; `None` if they are.
    pub(super) fn refusal(&self) -> Option<KvError> {
        match &self.integrity.borrow().alarm {
            Some(Alarm::Divergent(divergence)) => Some(KvError::Unavailable(format!(
                "this node's data is not to be trusted and is about to be replaced, ask another \
                 node: {divergence}"
            ))),
            _ => None,
        }
    }

    /// Waits until this node's data is to be replaced.
    pub(super) async fn divergence(&self) -> Divergence {
        let mut integrity = self.integrity.subscribe();
        loop {
            if let Some(Alarm::Divergent(divergence)) = &integrity.borrow_and_update().alarm {
                return divergence.clone();
            }
            // The sender is `self`'s.
            let _ = integrity.changed().await;
        }
    }

    fn is_sound(&self) -> bool {
        // Of a split between members, this one may be on the right side.
        self.refusal().is_none()
    }
}

impl<N: Replica> Door<N> {
    /// Answers another member, or whoever looks after this one.
    pub(super) async fn inquire(&self, asker: &Asker, inquiry: Inquiry, clock: Clock) -> Reply {
        let mut mode = ReadMode::Local;
        let mut turn = None;
        if let Inquiry::Chunk(_, applied) | Inquiry::Roll(_, applied) = &inquiry {
            mode = ReadMode::AtLeast(*applied);
            // Members take their time by themselves. A client may ask for what is yet to come: that
            // is waited for first, as whoever has a turn keeps others waiting.
            if asker.caller.is_client() {
                self.query(&Query::Summary, mode, clock).await?;
                turn = Some(self.turns.take(Line::Everything, asker.whose(), clock).await?);
                mode = ReadMode::Local;
            }
        }
        let finding = match inquiry {
            Inquiry::Hashes(at) => {
                let found = self.query(&Query::Hashes(at), ReadMode::Local, clock).await?;
                let hashes: Hashes = codec::decode(&found.reply).map_err(|e| not_understood(&e))?;
                let sound = hashes.sound && self.known.is_sound();
                Finding::Hashes(Hashes { sound, ..hashes })
            }
            Inquiry::Chunk(chunk, _) => {
                let found = self.query(&Query::Chunk(chunk), mode, clock).await?;
                let answer: ChunkAnswer =
                    codec::decode(&found.reply).map_err(|error| not_understood(&error))?;
                Finding::Chunk(answer?)
            }
            Inquiry::Roll(part, _) => {
                let found = self.query(&Query::Roll(part), mode, clock).await?;
                let answer: RollAnswer =
                    codec::decode(&found.reply).map_err(|error| not_understood(&error))?;
                Finding::Roll(answer?)
            }
            Inquiry::Scrub => {
                self.known.scrub.notify_one();
                Finding::Begun
            }
        };
        drop(turn);
        Ok(ReplyBody::Integrity(finding))
    }
}

/// What one comparison of hashes has found.
enum Compared {
    /// Too few answer, or all that do agree, up to this entry.
    Equal(Index),
    /// Others differ from a quorum, at this entry.
    Others(Index, Vec<NodeId>),
    /// This node does; those agree.
    Own(Index, Vec<NodeId>),
    /// There is no quorum that agrees at this entry.
    Split(Index, Vec<Vec<NodeId>>),
}

/// The task that compares.
pub(super) struct Comparison<N> {
    exchange: Exchange<N>,
    config: IntegrityConfig,
    /// The store of the node: its file is read back, too, and it makes no snapshots once its data
    /// is not to be trusted.
    store: StoreCheck,
    known: Arc<Known>,
    scrub: Scrub,
    /// Why there is an alarm: no majority of equal hashes.
    split: Option<String>,
}

impl<N: Replica> Comparison<N> {
    pub(super) fn new(
        exchange: Exchange<N>,
        config: IntegrityConfig,
        store: StoreCheck,
        known: Arc<Known>,
    ) -> Self {
        let scrub = Scrub::new(config.scrub_every);
        Self { exchange, config, store, known, scrub, split: None }
    }

    /// Compares until the node stops, or is found to differ: then it is kept apart.
    pub(super) async fn run(mut self) {
        let node = self.exchange.node.clone();
        tokio::select! {
            biased;
            _ = node.stopped() => {}
            divergence = self.until_divergent() => {
                error!(
                    "this node's data is not to be trusted: {divergence}. It serves no clients, \
                     leads no more and sends no snapshots"
                );
                self.publish(|integrity| {
                    integrity.alarm = Some(Alarm::Divergent(divergence.clone()));
                });
                self.distrust();
                tokio::select! {
                    _ = node.stopped() => {}
                    () = never_lead(&node) => {}
                }
            }
        }
    }

    async fn until_divergent(&mut self) -> Divergence {
        let mut next = self.config.compare_every.map(|every| Instant::now() + every);
        let known = Arc::clone(&self.known);
        loop {
            let found = tokio::select! {
                biased;
                () = until(next) => {
                    let found = self.compare().await;
                    next = self.config.compare_every.map(|every| Instant::now() + every);
                    found
                }
                () = self.scrub.due() => self.scrub_step().await,
                () = known.scrub.notified() => {
                    self.hurry().await;
                    None
                }
            };
            if let Some(divergence) = found {
                return divergence;
            }
        }
    }

    /// Compares hashes; how this node differs, if it does.
    async fn compare(&mut self) -> Option<Divergence> {
        let status = self.exchange.node.status();
        let membership = &status.membership;
        if !is_comparable(&status) {
            return None;
        }
        let mut others = Vec::new();
        let mut split = None;
        match self.look(membership).await {
            Compared::Equal(index) => {
                self.publish(|known| known.compared = known.compared.max(index));
            }
            Compared::Others(index, wrong) => {
                self.publish(|known| known.compared = known.compared.max(index));
                others = wrong;
            }
            Compared::Split(index, camps) => {
                split = Some(format!("at entry {index} {}", camps_of(&camps)));
            }
            Compared::Own(..) => {
                // Once more, from the beginning: this node may just have got another state.
                if let Compared::Own(differs, agreeing) = self.look(membership).await {
                    let place = self.first_difference(differs, &agreeing).await;
                    return Some(Divergence { place, agreeing });
                }
            }
        }
        self.note(others, split);
        self.damaged().await
    }

    /// The others, if a quorum of them, without this node, has all of it and agrees.
    async fn others_agreeing(&self, membership: &Membership) -> Option<Vec<NodeId>> {
        let own = self.exchange.own();
        let extents = self.exchange.hashes(membership, &[]).await;
        let at = common(extents.values());
        let found = self.exchange.hashes(membership, &at).await;
        (0..at.len()).find_map(|place| {
            let mut hashes: BTreeMap<u64, Vec<NodeId>> = BTreeMap::new();
            for (node, answer) in found.iter().filter(|(node, _)| **node != own) {
                if let Some(hash) = answer.at.get(place).copied().flatten() {
                    hashes.entry(hash).or_default().push(*node);
                }
            }
            let quorum = |nodes: &Vec<NodeId>| membership.is_quorum(|node| nodes.contains(&node));
            hashes.into_values().find(quorum)
        })
    }

    /// One comparison.
    async fn look(&self, membership: &Membership) -> Compared {
        let extents = self.exchange.hashes(membership, &[]).await;
        let at = common(extents.values());
        let found = self.exchange.hashes(membership, &at).await;
        let own = self.exchange.own();
        let mut equal = Index::ZERO;
        let mut others = None;
        for (place, index) in at.iter().enumerate() {
            let hash = |(node, hashes): (&NodeId, &Hashes)| {
                Some((*node, hashes.at.get(place).copied().flatten()?))
            };
            let answers: BTreeMap<NodeId, u64> = found.iter().filter_map(hash).collect();
            match judge(membership, &answers) {
                Verdict::Equal if answers.len() > 1 => equal = equal.max(*index),
                Verdict::Equal => {}
                Verdict::Differ { right, wrong } if wrong.contains(&own) => {
                    return Compared::Own(*index, right);
                }
                Verdict::Differ { wrong, .. } => {
                    others.get_or_insert((*index, wrong));
                }
                Verdict::Split(camps) => return Compared::Split(*index, camps),
            }
        }
        others.map_or(Compared::Equal(equal), |(index, wrong)| Compared::Others(index, wrong))
    }

    /// Where this node's state began to differ from that of `agreeing`.
    async fn first_difference(&self, differs: Index, agreeing: &[NodeId]) -> Place {
        let mut found = (differs, None);
        for peer in agreeing {
            let Some((one, other)) = self.exchange.pair(*peer, &[]).await else { continue };
            let mut search = Search::new(differs, [&one, &other]);
            loop {
                let at = search.next();
                if at.is_empty() {
                    break;
                }
                let Some((one, other)) = self.exchange.pair(*peer, &at).await else { break };
                if !search.learn(&at, &one, &other) {
                    break;
                }
            }
            found = (search.differs, search.equal);
            if search.equal.is_some() {
                break;
            }
        }
        Place::Entry { first: found.0, after: found.1 }
    }

    /// Takes note of what is wrong with others, and tells it once.
    fn note(&mut self, others: Vec<NodeId>, split: Option<String>) {
        if split != self.split
            && let Some(split) = &split
        {
            error!("CORRUPT: the members' states differ, and no quorum agrees: {split}");
        } else if split.is_none() && self.split.is_some() {
            info!("the members' states agree again");
        }
        self.split = split;
        if !others.is_empty() && self.known.integrity.borrow().divergent != others {
            warn!(?others, "other members' states differ from that of a quorum");
        }
        let alarm = self.alarm();
        self.publish(|known| {
            known.divergent = others;
            known.alarm = alarm;
        });
    }

    fn alarm(&self) -> Option<Alarm> {
        let of_hashes = self.split.as_ref().map(|split| format!("the states differ {split}"));
        let texts: Vec<String> = of_hashes.into_iter().chain(self.scrub.alarms()).collect();
        (!texts.is_empty()).then(|| Alarm::Corrupt(texts.join("; ")))
    }

    fn publish(&self, change: impl FnOnce(&mut Integrity)) {
        self.known.integrity.send_modify(change);
    }

    fn distrust(&self) {
        self.store.distrust();
    }
}

/// Whether the node is a member, and all members count alike.
fn is_comparable(status: &Status) -> bool {
    let membership = &status.membership;
    membership.contains(status.identity.node) && membership.version() >= Version(3)
}

/// Has others lead whenever this node would.
async fn never_lead<N: Replica>(node: &N) {
    /// Between tries, where nobody else can lead.
    const PAUSE: Duration = Duration::from_secs(1);
    loop {
        if node.status().role == RoleName::Leader {
            match timeout(PAUSE, node.transfer_leadership(None)).await {
                Ok(Ok(leader)) => info!(%leader, "leadership handed over"),
                Ok(Err(error)) => {
                    warn!("leadership not handed over: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(_) => warn!("leadership not handed over yet"),
            }
        }
        node.status_changed().await;
    }
}

/// Who agrees with whom: `n1 alone; n2, n3 together`.
fn camps_of(camps: &[Vec<NodeId>]) -> String {
    let camp = |camp: &Vec<NodeId>| {
        let names: Vec<String> = camp.iter().map(ToString::to_string).collect();
        let how = if camp.len() == 1 { "alone" } else { "together" };
        format!("{} {how}", names.join(", "))
    };
    camps.iter().map(camp).collect::<Vec<_>>().join("; ")
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
