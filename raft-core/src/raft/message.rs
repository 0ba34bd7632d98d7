//! What nodes say to each other: the paper's messages, as an enum with data.

use crate::types::{Incarnation, Index, LogId, NodeId, Run, Sender, SnapshotMeta, Term, Version};
use serde::{Deserialize, Serialize};

/// A message with its sender, its receiver and the sender's term (§5.1).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Envelope {
    /// Who sends it.
    pub from: NodeId,
    /// Who is to receive it.
    pub to: NodeId,
    /// The sender's own current term, always; a pre-vote implies `term + 1`.
    pub term: Term,
    /// Which life of `from` speaks. Not part of the bytes: the receiving transport, which has
    /// verified it, fills it in.
    pub sender: Sender,
    /// What it says.
    pub message: Message,
}

/// The messages of Raft.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// A candidate asks for a vote (§5.2, figure 2).
    RequestVote {
        /// The candidate's last entry: the voter refuses if its own log is newer (§5.4.1).
        last_log: LogId,
        /// Only asks whether a vote would be granted; no term is raised (thesis §9.6).
        pre_vote: bool,
        /// The leader itself asked for this election, so a live leader is no reason to refuse
        /// (thesis §3.10).
        transfer: bool,
    },
    /// The answer to [`Message::RequestVote`].
    RequestVoteResponse {
        /// Whether the vote was, or for a pre-vote would be, granted.
        granted: bool,
        /// Which kind of request this answers.
        pre_vote: bool,
    },
    /// The leader replicates entries, or tells that it lives (§5.3, figure 2).
    AppendEntries(AppendEntries),
    /// The answer to [`Message::AppendEntries`] and [`Message::InstallSnapshot`].
    AppendEntriesResponse {
        /// What became of the entries.
        outcome: AppendOutcome,
        /// The `read_seq` of the request, which thereby confirms the leader (thesis §6.4).
        read_seq: u64,
        /// For how long the sender's disk has owed it a write, in ticks; 0 if not for long. Only
        /// shown, so that a cluster without a quorum can say whose disk hangs.
        stalled_ticks: u32,
    },
    /// The header of a snapshot whose bytes have arrived on a stream of their own (§7). The
    /// transport's receiver hands it to the core only once all bytes are there.
    InstallSnapshot {
        /// What the snapshot covers. Boxed, because it is large and rare.
        meta: Box<SnapshotMeta>,
    },
    /// The leader asks a caught-up follower to campaign at once (thesis §3.10).
    TimeoutNow,
    /// The leader tells a follower what is committed of what it has (§5.3). Nobody answers:
    /// should it be lost, the next heartbeat says the same.
    Commit {
        /// The last entry of the follower's that is committed. Who holds it holds all before it.
        entry: LogId,
    },
    /// A follower asks the leader for an index at which a read is linearizable (thesis §6.4).
    ReadIndex {
        /// Unique per try and per process start of the follower.
        request: ReadRequestId,
    },
    /// The answer to [`Message::ReadIndex`], given once the leader was confirmed by a quorum.
    ReadIndexResponse {
        /// Which try this answers.
        request: ReadRequestId,
        /// A read that has applied up to here is linearizable.
        index: Index,
    },
    /// A node without a log announces itself to the members it is to form a cluster with.
    Hello {
        /// Those members, itself included, sorted: a cluster is formed only of nodes that agree.
        members: Vec<NodeId>,
        /// The life of the receiver that last said hello to the sender: so that what was said to
        /// an earlier life of the receiver is not taken for said to this one.
        seen: Option<Incarnation>,
    },
}

/// The body of [`Message::AppendEntries`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AppendEntries {
    /// The entry just before `entries`; the follower must hold it (§5.3).
    pub prev_log: LogId,
    /// New entries, or `None` in a heartbeat.
    pub entries: Option<Run>,
    /// The leader's commit index; in a heartbeat capped at the follower's match index.
    pub leader_commit: Index,
    /// The newest read sequence the leader wants confirmed; 0 if none yet. Its highest bit says
    /// that the leader holds leases: then whoever answers elects nobody else for a shortest
    /// election timeout, whatever it hears of the leader.
    pub read_seq: u64,
}

/// The bit of a read sequence that says that its leader holds leases.
pub(super) const LEASED: u64 = 1 << 63;

/// What became of an append.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum AppendOutcome {
    /// The follower's log equals the leader's up to here, durably.
    Matched(Index),
    /// The follower does not hold `prev_log`; its log can agree with the leader's at the earliest
    /// below or at `hint`, an entry of its own log (fast back-off: one probe per term, §5.3).
    Conflict {
        /// The index of the `prev_log` refused, so that a late answer is told from a current one.
        refused: Index,
        /// The follower's last entry that may agree.
        hint: LogId,
    },
}

/// Names one try of one batch of reads: an answer to an earlier try, or to an earlier life of the
/// process, must never confirm a later one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ReadRequestId {
    /// Drawn from the seed at process start.
    pub nonce: u64,
    /// Counts the tries.
    pub seq: u64,
}

impl Envelope {
    /// Whether nothing it tells of is newer than its sender's term. A late snapshot may break this:
    /// asked for by a leader, and made after it was deposed.
    pub(super) fn is_consistent(&self) -> bool {
        let newest = match &self.message {
            Message::RequestVote { last_log, .. } => last_log.term,
            Message::AppendEntries(append) => {
                append.entries.as_ref().map_or(append.prev_log, Run::last).term
            }
            Message::InstallSnapshot { meta } => meta.last.term,
            Message::Commit { entry } => entry.term,
            _ => return true,
        };
        newest <= self.term
    }
}

impl Message {
    /// The version from which on receivers understand it; to older ones it is not sent.
    pub const fn since(&self) -> Version {
        match self {
            Self::Hello { .. } => Version(2),
            Self::AppendEntriesResponse { stalled_ticks: 1.., .. } => Version(2),
            Self::Commit { .. } => Version(4),
            _ => Version::OLDEST,
        }
    }

    /// Whether only the leader of its term says this.
    pub(crate) const fn is_of_leader(&self) -> bool {
        matches!(self, Self::AppendEntries(_) | Self::Commit { .. } | Self::InstallSnapshot { .. })
    }

    /// Whether the message carries entries. Transports send the others ahead, on a stream of their
    /// own, so that votes and heartbeats never wait behind bulk.
    pub const fn is_bulk(&self) -> bool {
        matches!(self, Self::AppendEntries(AppendEntries { entries: Some(_), .. }))
    }
}
