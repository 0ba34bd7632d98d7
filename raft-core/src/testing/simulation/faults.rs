//! What happens to a simulated cluster, event by event.

use super::{Event, Simulation, Workload};
use crate::raft::Envelope;
use crate::state_machine::StateMachine;
use crate::types::{Change, NodeId, WriteSeq};

/// Most messages under way that are still doubled.
const DOUBLED_MAX: usize = 200;

impl<M: StateMachine, W: Workload<M>> Simulation<M, W> {
    /// `event` happens to `id`; whether it did anything.
    pub(super) fn happens(&mut self, event: Event, id: NodeId) -> bool {
        let up = self.cluster.server(id).raft().is_some();
        match event {
            Event::Deliver | Event::Reorder | Event::Drop | Event::Duplicate => {
                return self.network(event);
            }
            Event::Tick | Event::Persist if self.paused == Some(id) => return false,
            Event::Tick => {
                self.later();
                self.tick(id);
            }
            Event::TickAll => self.tick_all(),
            Event::Persist => {
                let until = self.some_write(id);
                self.cluster.persist(id, until);
                return until.is_some();
            }
            Event::Client => return self.client(id),
            Event::Crash => {
                let kept = self.some_write(id).filter(|_| self.random.once_in(2));
                self.cluster.crash(id, kept);
                return up;
            }
            Event::Restart => {
                self.cluster.restart(id);
                return !up;
            }
            Event::Pause => self.paused = self.cluster.leader().or(Some(id)),
            Event::Cut | Event::Isolate | Event::Heal => self.links(event, id),
            Event::Transfer => return self.cluster.transfer(id, None).is_some_and(|it| it.is_ok()),
            Event::Campaign => self.cluster.campaign(id),
            Event::Freeze if up => self.cluster.freeze(id),
            Event::Flush if up => self.cluster.flush(id),
            Event::Freeze | Event::Flush => return false,
            Event::Snapshot => {
                let ok = self.random.below(4) > 0;
                return self.send_snapshots(id, ok);
            }
            Event::Restore | Event::Damage => {
                let restores = self.cluster.server(id).restoring().is_some();
                match event {
                    Event::Restore => self.cluster.restore(id),
                    _ => self.cluster.refuse_restore(id),
                }
                return restores;
            }
            Event::Change => return self.change(id),
        }
        up
    }

    fn later(&mut self) {
        self.ticks += 1;
        self.workload.tick(self.ticks);
    }

    pub(super) fn tick_all(&mut self) {
        self.later();
        for id in self.ids() {
            if self.paused != Some(id) {
                self.tick(id);
            }
        }
    }

    fn network(&mut self, event: Event) -> bool {
        let len = self.cluster.pool().len();
        if len == 0 {
            return false;
        }
        let any = self.random.below(len as u64) as usize;
        let waits = |envelope: &Envelope| self.paused == Some(envelope.to);
        match event {
            Event::Deliver => {
                let first = self.cluster.pool().iter().position(|envelope| !waits(envelope));
                let Some(first) = first else { return false };
                self.cluster.deliver(first);
            }
            Event::Reorder if waits(&self.cluster.pool()[any]) => return false,
            Event::Reorder => self.cluster.deliver(any),
            Event::Duplicate if len < DOUBLED_MAX => self.cluster.duplicate(any),
            _ => self.cluster.drop_message(any),
        }
        true
    }

    /// A random one of the writes under way.
    fn some_write(&mut self, id: NodeId) -> Option<WriteSeq> {
        let writes = self.cluster.server(id).writes();
        if writes.is_empty() {
            return None;
        }
        Some(writes[self.random.below(writes.len() as u64) as usize].seq)
    }

    fn links(&mut self, event: Event, id: NodeId) {
        match event {
            Event::Heal => {
                self.paused = None;
                self.cluster.heal();
            }
            Event::Cut => {
                let all = self.config.nodes + self.config.spares;
                let other = NodeId(1 + self.random.below(all));
                self.cluster.cut(id, other);
            }
            _ => {
                for other in self.ids().filter(|other| *other != id) {
                    self.cluster.cut(id, other);
                    self.cluster.cut(other, id);
                }
            }
        }
    }

    pub(super) fn send_snapshots(&mut self, id: NodeId, ok: bool) -> bool {
        let asked: Vec<NodeId> = self.cluster.server(id).asked().collect();
        for to in &asked {
            self.cluster.send_snapshot(id, *to, ok);
        }
        !asked.is_empty()
    }

    /// Asks the leader for a change that concerns `id`, whether or not it makes sense.
    fn change(&mut self, id: NodeId) -> bool {
        let Some(leader) = self.cluster.leader() else { return false };
        let change = match self.random.below(8) {
            0..3 => {
                let promote = self.random.below(4) > 0;
                Change::Add { node: id, address: id.to_string(), promote }
            }
            3..5 => Change::Promote { node: id },
            5 => Change::Demote { node: id },
            6 => {
                let priority = self.random.below(4) as u8;
                Change::Prioritize { node: id, priority }
            }
            _ => Change::Remove { node: id },
        };
        self.cluster.change(leader, &[change]).is_some_and(|changed| changed.is_ok())
    }
}
