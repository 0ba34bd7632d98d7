//! What must hold after every step, on one node and from one state to the next. Scripts, the
//! simulator and the model checker call these; they are cheap enough for any test.

use super::{Raft, Role};
use crate::types::{Index, LogId, NodeId};

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
        for (peer, progress) in leader.progress() {
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
    let (old, new) = (&before.state, &after.state);
    let id = new.id();
    assert!(new.term() >= old.term(), "{id}: term falls from {} to {}", old.term(), new.term());
    if new.term() == old.term() && old.vote().is_some() {
        assert!(new.vote() == old.vote(), "{id}: vote changes in term {}", new.term());
    }
    let (was, is) = (old.commit_index(), new.commit_index());
    assert!(is >= was, "{id}: commit index falls from {was} to {is}");
    assert!(new.handed_index() >= old.handed_index(), "{id}: entries are handed out twice");
    // An entry once committed stays what it is (§5.4.3).
    if was >= new.log.start().index && was >= old.log.start().index {
        let (before, now) = (old.log.term_at(was), new.log.term_at(was));
        assert!(before == now, "{id}: committed entry {was} changes from {before:?} to {now:?}");
    }
    if before.is_leader() && after.is_leader() && old.term() == new.term() {
        let kept = new.log.term_at(old.log.last().index);
        let last = old.log.last();
        assert!(kept == Some(last.term), "{id}: a leader dropped its own entry {last} (§5.3)");
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
