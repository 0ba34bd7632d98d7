//! What must hold after every step, on one node and from one state to the next. Scripts, the
//! simulator and the model checker call these; they are cheap enough for any test.

use super::{Raft, Role, RoleName};
use crate::types::{Index, LogId, NodeId, Term};

/// What must hold of one node at any time.
///
/// # Panics
/// With the values, if it does not.
pub fn check(raft: &Raft) {
    let state = &raft.state;
    let (start, last) = (state.log.start(), state.log.last());
    let (commit, handed) = (state.commit_index(), state.handed_index());
    let id = state.id();
    assert!(start <= last, "{id}: the log ends at {last}, before its start {start}");
    assert!(start.index <= commit, "{id}: compacted to {start} beyond commit index {commit}");
    assert!(commit <= last.index, "{id}: commit index {commit} beyond the last entry {last}");
    assert!(handed <= commit, "{id}: handed out {handed} beyond commit index {commit}");
    let persisted = state.persist.persisted_index();
    assert!(persisted <= last.index, "{id}: persisted {persisted} beyond the last entry {last}");
    assert!(
        last.term <= state.term(),
        "{id}: last entry {last} from a term after {}",
        state.term()
    );
    let voters = state.log.membership().voters();
    assert!(last == LogId::ZERO || !voters.is_empty(), "{id}: the membership is lost");
    if let Role::Leader(leader) = &raft.role {
        assert!(state.leader == Some(id), "{id} leads but follows {:?}", state.leader);
        assert!(state.vote() == Some(id), "{id} leads but voted for {:?}", state.vote());
        for (peer, progress) in leader.progress().iter() {
            let (matched, next) = (progress.match_index, progress.next_index);
            assert!(matched < next, "{id}: {peer} match index {matched}, next index {next}");
            assert!(matched <= last.index, "{id}: {peer} matched {matched} beyond {last}");
        }
    }
}

/// What must hold from a state to a later one of the same process.
///
/// # Panics
/// With the values, if it does not.
pub fn check_change(before: &Raft, after: &Raft) {
    Moment::of(before).check(after);
}

/// What checkers keep of a node to hold a later state of it against: a small part, so that it may
/// be taken before every step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The role.
    pub role: RoleName,
    /// The term.
    pub term: Term,
    /// Whom the node voted for in this term.
    pub vote: Option<NodeId>,
    /// The leader it knew in this term.
    pub leader: Option<NodeId>,
    /// Highest entry known committed.
    pub commit_index: Index,
    /// The id of that entry, or none if it was compacted.
    pub committed: Option<LogId>,
    /// Highest entry handed to the state machine.
    pub handed_index: Index,
    /// The last entry, or the boundary.
    pub last_log: LogId,
}

impl Moment {
    /// The node as it is now.
    pub fn of(raft: &Raft) -> Self {
        let state = &raft.state;
        Self {
            role: raft.role(),
            term: state.term(),
            vote: state.vote(),
            leader: state.leader,
            commit_index: state.commit_index(),
            committed: state.log.id_at(state.commit_index()),
            handed_index: state.handed_index(),
            last_log: state.log.last(),
        }
    }

    /// Whether the node led.
    pub fn is_leader(&self) -> bool {
        self.role == RoleName::Leader
    }

    /// What must hold of `after`, a later state of the same process.
    ///
    /// # Panics
    /// With the values, if it does not.
    pub fn check(&self, after: &Raft) {
        let new = &after.state;
        let (id, term) = (new.id(), new.term());
        assert!(term >= self.term, "{id}: term falls from {} to {term}", self.term);
        if term == self.term && self.vote.is_some() {
            assert!(new.vote() == self.vote, "{id}: vote changes in term {term}");
        }
        let (was, is) = (self.commit_index, new.commit_index());
        assert!(is >= was, "{id}: commit index falls from {was} to {is}");
        assert!(new.handed_index() >= self.handed_index, "{id}: entries are handed out twice");
        // An entry once committed stays what it is (§5.4.3).
        if was >= new.log.start().index && self.committed.is_some() {
            let now = new.log.id_at(was);
            let before = self.committed;
            assert!(
                before == now,
                "{id}: committed entry {was} changes from {before:?} to {now:?}"
            );
        }
        if self.is_leader() && after.is_leader() && self.term == term {
            let last = self.last_log;
            let kept = new.log.id_at(last.index);
            assert!(kept == Some(last), "{id}: a leader dropped its own entry {last} (§5.3)");
        }
    }
}

/// For checkers that watch a whole cluster.
impl Raft {
    /// The node this is.
    pub const fn id(&self) -> NodeId {
        self.state.id()
    }

    /// The entry the log starts after.
    pub const fn log_start(&self) -> LogId {
        self.state.log.start()
    }

    /// The last entry, or the boundary.
    pub const fn last_log(&self) -> LogId {
        self.state.log.last()
    }

    /// The id of the entry at `index`, if it is known; also of the boundary.
    pub fn log_id_at(&self, index: Index) -> Option<LogId> {
        self.state.log.id_at(index)
    }

    /// The log as ids, from its boundary on.
    pub fn log_ids(&self) -> Vec<LogId> {
        let indexes = self.log_start().index.0..=self.last_log().index.0;
        indexes.filter_map(|index| self.log_id_at(Index(index))).collect()
    }
}
