//! The end of faults: what must then come about, and within what time.

use super::clients::Client;
use super::{Simulation, Workload};
use crate::state_machine::StateMachine;
use crate::types::{Index, LogId, NodeId};

/// Longest election timeouts within which there must be a leader that has committed something of
/// its own term, once faults end. One is enough for most. More pass if votes are split, if the
/// restarted first wait until what they may have promised is over, if the node with the newest log
/// is busy with a snapshot, or if what was held back for long tells of other terms: some 10 were
/// seen among thousands of seeds, and twice that says that something is wrong.
const LEADER_TIMEOUTS_MAX: u64 = 20;
/// Longest election timeouts within which all is as if nothing had ever happened: clients give up
/// within 8, a lost snapshot is sent again after some, and who lost its directory is taken back by
/// three changes of the membership. Some 20 were seen.
const WHOLE_TIMEOUTS_MAX: u64 = 40;

/// How long it took until all was well, in ticks since faults ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// Until a leader had committed something of its own term.
    pub leader_ticks: u64,
    /// Until all members had applied the same, and every client had its answer.
    pub whole_ticks: u64,
}

impl<M: StateMachine, W: Workload<M>> Simulation<M, W> {
    /// The faults end: there is a leader, every client has its answer, what the leader has is
    /// committed, and all members have applied all of it, each within a bounded time.
    pub(super) fn recover(&mut self) {
        self.heal();
        for id in self.ids() {
            self.start(id);
        }
        let timeout = u64::from(self.config.raft.election_ticks_max);
        let mut leader_ticks = None;
        let mut last: Option<LogId> = None;
        for ticks in 0..WHOLE_TIMEOUTS_MAX * timeout {
            self.calm_turn();
            leader_ticks = leader_ticks.or_else(|| self.leads().then_some(ticks));
            assert!(
                leader_ticks.is_some() || ticks < LEADER_TIMEOUTS_MAX * timeout,
                "no leader within {LEADER_TIMEOUTS_MAX} election timeouts:\n{}",
                self.describe()
            );
            let is_whole = self.is_whole(&mut last);
            if let (Some(leader_ticks), true) = (leader_ticks, is_whole) {
                self.recovery = Some(Recovery { leader_ticks, whole_ticks: ticks });
                return;
            }
        }
        panic!("no recovery within {WHOLE_TIMEOUTS_MAX} election timeouts:\n{}", self.describe());
    }

    /// Whether there is a leader that has committed something of its term.
    fn leads(&self) -> bool {
        let raft = self.cluster.leader().and_then(|leader| self.cluster.server(leader).raft());
        let own = |raft: &crate::raft::Raft| raft.log_id_at(raft.commit_index());
        raft.is_some_and(|raft| own(raft).is_some_and(|id| id.term == raft.term()))
    }

    /// Whether nobody waits for anything, and everyone has applied `last`, which is what the leader
    /// had when nobody waited any more.
    fn is_whole(&self, last: &mut Option<LogId>) -> bool {
        if self.clients.iter().any(Client::waits) {
            return false;
        }
        let raft = self.cluster.leader().and_then(|leader| self.cluster.server(leader).raft());
        let committed = raft.map(|raft| (raft.last_log(), raft.commit_index()));
        let (lowest, highest) = self.cluster.applied();
        *last = last.filter(|last| committed.is_some_and(|(log, _)| log >= *last));
        match (*last, committed) {
            (None, Some((log, _))) if log.index > Index(0) => {
                *last = Some(log);
                false
            }
            (Some(last), Some((_, commit))) => {
                commit >= last.index && lowest == highest && lowest >= last.index
            }
            _ => false,
        }
    }

    fn calm_turn(&mut self) {
        for id in self.ids() {
            self.cluster.persist(id, None);
            self.send_snapshots(id, true);
            self.cluster.restore(id);
            self.cluster.flush(id);
            // A store may refuse to open, or fail to write, a few times.
            self.start(id);
        }
        for _ in 0..self.cluster.pool().len() {
            self.cluster.deliver(0);
        }
        self.tick_all();
        self.tell();
        self.give_up();
    }

    fn describe(&self) -> String {
        let line = |id: NodeId| match self.cluster.server(id).raft() {
            Some(raft) => format!("{} members={}\n", raft.status(), raft.membership()),
            None => format!("{id} down\n"),
        };
        self.ids().map(line).collect()
    }
}
