//! What a leader sends to one follower: heartbeats, probes, entries, and the steps back after a
//! conflict (§5.3).

use crate::raft::message::{AppendEntries, Message};
use crate::raft::progress::{Flow, Progress, SnapshotStage};
use crate::raft::state::State;
use crate::types::{Index, LogId, NodeId, Version};

/// Sends an empty append. Its `prev_log` is the follower's match index and its commit index capped
/// there, so it may overtake appends: it can neither meet a conflict nor wait for a disk.
pub(super) fn heartbeat(state: &mut State, to: NodeId, progress: &mut Progress, read_seq: u64) {
    let prev_log = state.log.id_at(progress.match_index).unwrap_or(LogId::ZERO);
    let leader_commit = state.commit_index().min(prev_log.index);
    progress.commit_told = progress.commit_told.max(leader_commit);
    let append = AppendEntries { prev_log, entries: None, leader_commit, read_seq };
    state.send(to, Message::AppendEntries(append));
}

/// Tells a follower how much of what it has is committed. A heartbeat says it too, but is answered.
pub(super) fn tell(state: &mut State, to: NodeId, progress: &mut Progress, read_seq: u64) {
    if state.log.membership().version() < Version(4) {
        return heartbeat(state, to, progress, read_seq);
    }
    let index = state.commit_index().min(progress.match_index);
    let Some(entry) = state.log.id_at(index) else { return };
    progress.commit_told = progress.commit_told.max(index);
    state.send(to, Message::Commit { entry });
}

/// Sends what the follower's flow allows.
pub(super) fn replicate(state: &mut State, to: NodeId, progress: &mut Progress, read_seq: u64) {
    match progress.flow {
        Flow::Snapshot(_) => return,
        Flow::Replicate { .. } if progress.next_index > state.log.last().index => return,
        Flow::Replicate { .. } | Flow::Probe { .. } => {}
    }
    let Some(prev_log) = state.log.id_at(progress.next_index.previous()) else {
        // Compacted away: nothing but a snapshot helps (§7).
        let floor = state.log.start().index;
        progress.flow = Flow::Snapshot(SnapshotStage::Asked { floor });
        state.send_snapshot.push(to);
        return;
    };
    if let Flow::Probe { sent } = &mut progress.flow {
        if sent.is_none() {
            *sent = Some(state.now);
            let leader_commit = state.commit_index();
            let append = AppendEntries { prev_log, entries: None, leader_commit, read_seq };
            state.send(to, Message::AppendEntries(append));
        }
        return;
    }
    send_entries(state, to, progress, prev_log, read_seq);
}

fn send_entries(
    state: &mut State,
    to: NodeId,
    progress: &mut Progress,
    mut prev_log: LogId,
    read_seq: u64,
) {
    let in_flight_max = state.config.in_flight_max;
    let in_flight_bytes_max = state.config.in_flight_bytes_max;
    while let Some(window) = progress.window(in_flight_max, in_flight_bytes_max) {
        let bytes_max = state.config.message_bytes_max.min(window);
        let Some((run, size)) = state.log.run_from(progress.next_index, bytes_max) else { return };
        if size > window {
            return;
        }
        let last = run.last();
        let leader_commit = state.commit_index();
        progress.commit_told = progress.commit_told.max(leader_commit.min(last.index));
        let append = AppendEntries { prev_log, entries: Some(run), leader_commit, read_seq };
        state.send(to, Message::AppendEntries(append));
        progress.sent(last.index, size, state.now);
        prev_log = last;
    }
}

/// Backs off to where the logs can agree: one probe per term that differs, not per entry (§5.3).
pub(super) fn on_conflict(state: &State, progress: &mut Progress, refused: Index, hint: LogId) {
    let current = match progress.flow {
        Flow::Probe { .. } => refused == progress.next_index.previous(),
        Flow::Replicate { .. } => refused > progress.match_index && refused < progress.next_index,
        Flow::Snapshot(_) => false,
    };
    if !current || refused <= progress.match_index {
        return;
    }
    let bound = hint.index.min(refused.previous());
    if bound < state.log.start().index {
        // Below the boundary: the next turn finds that only a snapshot helps.
        return progress.probe(bound.next());
    }
    progress.probe(state.log.agreement_bound(bound, hint.term).index.next());
}
