//! A node as it sees itself, with durations instead of ticks.

use super::{NodeConfig, Timing};
use crate::raft::{self, Raft, RoleName};
use crate::types::{Identity, Incarnation, Index, LogId, Membership, NodeId, Term, Version};
use std::fmt;
use std::time::Duration;

/// A node as it sees itself. Durations are exact to the tick; `Display` is one line.
#[derive(Clone, Debug)]
pub struct Status {
    /// Who it is.
    pub identity: Identity,
    /// Its role.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// The leader it knows in this term.
    pub leader: Option<NodeId>,
    /// Highest entry known committed.
    pub commit_index: Index,
    /// Highest entry applied.
    pub last_applied: Index,
    /// Highest entry durable here.
    pub persisted_index: Index,
    /// Its last entry.
    pub last_log: LogId,
    /// The entry the log starts after.
    pub log_start: LogId,
    /// Bytes of entries in memory.
    pub log_bytes: usize,
    /// The membership in force; empty as long as the node belongs to no cluster. It tells the size
    /// of a quorum, how many failures it bears, and the history epoch.
    pub membership: Membership,
    /// Whether the membership knows this life of the node, so that it may vote and lead. False of
    /// a node that waits to be added, and of one whose directory was lost.
    pub bound: bool,
    /// Before there is a cluster: the initial members that have not answered.
    pub missing: Vec<NodeId>,
    /// For how long the own disk has completed nothing although it owes something.
    pub waiting: Duration,
    /// To whom leadership is being handed over.
    pub transfer: Option<NodeId>,
    /// How long ago another leader was heard leading; `None` if none ever was. Whoever is led
    /// expects to hear nobody else.
    pub led: Option<Duration>,
    /// The other members, by id.
    pub peers: Vec<PeerStatus>,
    /// From when on another node is unreachable and a disk stalled.
    pub limits: Limits,
    /// Whether the election timeout suits network and disk. Measured every 16 ticks where there is
    /// more than one voter.
    pub timing: Timing,
}

/// What a node takes for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Limits {
    /// A node that nothing was heard of for longer is unreachable: twice the longest election
    /// timeout, so that whoever campaigns has asked it.
    pub silence: Duration,
    /// A disk that owes something for so long is stalled.
    pub stall: Duration,
}

/// A peer as a node sees it.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The peer.
    pub id: NodeId,
    /// How long ago a message came from it; `None` if none ever did. Whoever follows hears only
    /// its leader.
    pub heard: Option<Duration>,
    /// The newest version it understands; the oldest if nothing was heard of it.
    pub version: Version,
    /// For how long its disk had owed it a write when it last said so; 0 if not for long. Told to
    /// leaders.
    pub stalled: Duration,
    /// Another life of it that was heard of: its directory was lost, or two processes have its
    /// certificate.
    pub other_life: Option<Incarnation>,
    /// A leader's view of its log.
    pub progress: Option<PeerProgress>,
}

/// A leader's view of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// Known replicated up to here.
    pub match_index: Index,
    /// Next entry to send.
    pub next_index: Index,
    /// probe, replicate or snapshot.
    pub flow: &'static str,
    /// For how long it has left the oldest append unanswered.
    pub unanswered: Duration,
}

impl Status {
    /// That of a node which knows of nobody: to make others of, in tests of what shows them.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            role: RoleName::Follower,
            term: Term(0),
            leader: None,
            commit_index: Index::ZERO,
            last_applied: Index::ZERO,
            persisted_index: Index::ZERO,
            last_log: LogId::ZERO,
            log_start: LogId::ZERO,
            log_bytes: 0,
            membership: Membership::default(),
            bound: false,
            missing: Vec::new(),
            waiting: Duration::ZERO,
            transfer: None,
            led: None,
            peers: Vec::new(),
            limits: Limits::default(),
            timing: Timing::default(),
        }
    }

    /// That of a node which has applied everything it has handed out: at its start.
    pub(super) fn at_start(raft: &Raft, identity: Identity, config: &NodeConfig) -> Self {
        let status = raft.status();
        let handed = status.handed_index;
        Self::from(status, identity, handed, config)
    }

    pub(super) fn of(
        raft: &Raft,
        identity: Identity,
        last_applied: Index,
        config: &NodeConfig,
    ) -> Self {
        Self::from(raft.status(), identity, last_applied, config)
    }

    fn from(
        status: raft::Status,
        identity: Identity,
        last_applied: Index,
        config: &NodeConfig,
    ) -> Self {
        let tick = config.tick;
        Self {
            identity,
            role: status.role,
            term: status.term,
            leader: status.leader,
            commit_index: status.commit_index,
            last_applied,
            persisted_index: status.persisted_index,
            last_log: status.last_log,
            log_start: status.log_start,
            log_bytes: status.log_bytes,
            membership: status.membership,
            bound: status.bound,
            missing: status.missing,
            waiting: span(tick, status.waiting_ticks),
            transfer: status.transfer,
            led: status.leader_heard_ticks.map(|ticks| span(tick, ticks)),
            peers: status.peers.into_iter().map(|peer| PeerStatus::of(peer, tick)).collect(),
            limits: Limits {
                silence: span(tick, 2 * u64::from(config.raft.election_ticks_max)),
                stall: span(tick, config.raft.disk_stall_ticks.into()),
            },
            timing: Timing::default(),
        }
    }
}

impl fmt::Display for Status {
    /// The core's notation, with what was applied and the membership: `n1@2 leader last=5@2
    /// commit=5 persisted=5 applied=5 voters=[n1, n2] progress={n2:4/5 probe}`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { term, role, last_log, commit_index, persisted_index, .. } = self;
        let node = self.identity.node;
        write!(f, "{node}@{term} {role}")?;
        if let Some(leader) = self.leader.filter(|leader| *leader != node) {
            write!(f, " leader={leader}")?;
        }
        if self.log_start != LogId::ZERO {
            write!(f, " start={}", self.log_start)?;
        }
        write!(f, " last={last_log} commit={commit_index} persisted={persisted_index}")?;
        write!(f, " applied={} {}", self.last_applied, self.membership)?;
        let mut separator = " progress={";
        for peer in &self.peers {
            if let Some(PeerProgress { match_index, next_index, flow, .. }) = peer.progress {
                write!(f, "{separator}{}:{match_index}/{next_index} {flow}", peer.id)?;
                separator = " ";
            }
        }
        f.write_str(if separator == " " { "}" } else { "" })
    }
}

impl PeerStatus {
    /// A peer that nothing was heard of.
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            heard: None,
            version: Version::OLDEST,
            stalled: Duration::ZERO,
            other_life: None,
            progress: None,
        }
    }

    fn of(peer: raft::PeerStatus, tick: Duration) -> Self {
        let progress = |progress: raft::PeerProgress| PeerProgress {
            match_index: progress.match_index,
            next_index: progress.next_index,
            flow: progress.flow,
            unanswered: span(tick, progress.unanswered_ticks),
        };
        Self {
            id: peer.id,
            heard: peer.heard_ticks.map(|ticks| span(tick, ticks)),
            version: peer.version,
            stalled: span(tick, peer.stalled_ticks.into()),
            other_life: peer.other_life,
            progress: peer.progress.map(progress),
        }
    }
}

/// How long `ticks` are.
fn span(tick: Duration, ticks: u64) -> Duration {
    tick.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
}
