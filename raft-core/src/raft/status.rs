//! What a node shows of itself, in the notation of scripts and traces.

use super::{Raft, Role};
use crate::types::{Incarnation, Index, LogId, Membership, NodeId, Term, Version};
use std::fmt;

/// The role of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// Follows, or waits for a leader.
    Follower,
    /// Asks whether it would be elected (thesis §9.6).
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
        })
    }
}

/// A node as it sees itself. `Display` is one line, as scripts print it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The node.
    pub id: NodeId,
    /// Its role.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// Whom it voted for in this term.
    pub vote: Option<NodeId>,
    /// The leader it knows in this term.
    pub leader: Option<NodeId>,
    /// Highest entry known committed.
    pub commit_index: Index,
    /// Highest entry handed to the state machine.
    pub handed_index: Index,
    /// Highest entry durable here.
    pub persisted_index: Index,
    /// Its last entry.
    pub last_log: LogId,
    /// The entry the log starts after.
    pub log_start: LogId,
    /// Bytes of entries in memory.
    pub log_bytes: usize,
    /// The membership in force; empty as long as the node belongs to no cluster.
    pub membership: Membership,
    /// Whether the membership knows this life of the node, so that it may vote and lead.
    pub bound: bool,
    /// Before there is a cluster: the initial members that have not answered.
    pub missing: Vec<NodeId>,
    /// For how long the disk has completed nothing although it owes something, in ticks.
    pub waiting_ticks: u64,
    /// To whom leadership is being handed over.
    pub transfer: Option<NodeId>,
    /// Ticks since a leader was heard leading; `None` if none ever was. Whoever is led expects to
    /// hear nobody else.
    pub leader_heard_ticks: Option<u64>,
    /// The other members, by id.
    pub peers: Vec<PeerStatus>,
}

/// A peer as a node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub id: NodeId,
    /// Ticks since a message came from it; `None` if none ever did. Of the life that the
    /// membership is about.
    pub heard_ticks: Option<u64>,
    /// The newest version it understands; the oldest if nothing was heard of it.
    pub version: Version,
    /// For how long its disk had owed it a write when it last said so, in ticks; 0 if not for long.
    pub stalled_ticks: u32,
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
    /// For how long it has left the oldest append unanswered, in ticks.
    pub unanswered_ticks: u64,
}

impl Raft {
    /// The node as it sees itself now.
    pub fn status(&self) -> Status {
        let state = &self.state;
        Status {
            id: state.id(),
            role: self.role(),
            term: state.term(),
            vote: state.vote(),
            leader: state.leader,
            commit_index: state.commit_index(),
            handed_index: state.handed_index(),
            persisted_index: state.persist.persisted_index(),
            last_log: state.log.last(),
            log_start: state.log.start(),
            log_bytes: state.log.bytes(),
            membership: state.log.membership().clone(),
            bound: state.is_bound(),
            missing: state.missing_members(),
            waiting_ticks: state.persist.waiting_ticks(state.now),
            transfer: match &self.role {
                Role::Leader(leader) => leader.transfers_to(),
                _ => None,
            },
            leader_heard_ticks: state.leader_heard_at().map(|at| state.now - at),
            peers: state.peers().into_iter().map(|peer| self.peer_status(peer)).collect(),
        }
    }

    /// The role of this node.
    pub const fn role(&self) -> RoleName {
        match &self.role {
            Role::Follower(_) => RoleName::Follower,
            Role::Candidate(candidate) if candidate.pre_vote => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    /// How many entries of a leader's log the member furthest behind has not acknowledged; 0 where
    /// nobody leads.
    pub fn lag(&self) -> u64 {
        let Role::Leader(leader) = &self.role else { return 0 };
        let matched = leader.progress().values().map(|progress| progress.match_index).min();
        let last = self.state.log.last().index;
        matched.map_or(0, |matched| last.0.saturating_sub(matched.0))
    }

    fn peer_status(&self, id: NodeId) -> PeerStatus {
        let contact = self.state.contacts.of(id);
        let heard_ticks = contact.heard_at.map(|at| self.state.now - at);
        let progress = match &self.role {
            Role::Leader(leader) => leader.progress().get(id),
            _ => None,
        };
        let progress = progress.map(|progress| PeerProgress {
            match_index: progress.match_index,
            next_index: progress.next_index,
            flow: progress.flow_name(),
            unanswered_ticks: progress.unanswered_ticks(self.state.now),
        });
        let other_life = contact.caller;
        let (version, stalled_ticks) = (contact.version, contact.stalled_ticks);
        PeerStatus { id, heard_ticks, version, stalled_ticks, other_life, progress }
    }
}

impl fmt::Display for Status {
    /// `n1@2 leader last=5@2 commit=5 persisted=5 progress={n2:4/5 probe}`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {}", self.id, self.term, self.role)?;
        if let Some(vote) = self.vote {
            write!(f, " vote={vote}")?;
        }
        if let Some(leader) = self.leader.filter(|leader| *leader != self.id) {
            write!(f, " leader={leader}")?;
        }
        if self.log_start != LogId::ZERO {
            write!(f, " start={}", self.log_start)?;
        }
        let Self { last_log, commit_index, persisted_index, .. } = self;
        write!(f, " last={last_log} commit={commit_index} persisted={persisted_index}")?;
        let mut separator = " progress={";
        for peer in &self.peers {
            if let Some(PeerProgress { match_index, next_index, flow, .. }) = peer.progress {
                write!(f, "{separator}{}:{match_index}/{next_index} {flow}", peer.id)?;
                separator = " ";
            }
        }
        if separator == " " {
            f.write_str("}")?;
        }
        Ok(())
    }
}
