//! What a turn takes in: the events that wait, proposals first among them.

use super::{BATCH_MAX, Driver};
use crate::node::applier::Job;
use crate::node::event::{Completion, Event, Query};
use crate::node::queue::Queue;
use crate::node::waiter::{Batch, Waiter};
use crate::node::{ProposeError, StopCause};
use crate::raft::{Input, Refusal};
use crate::types::{LogId, NodeId};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc;

impl Driver {
    /// Lets those who were answered in the last turn ask again before this one: what is proposed
    /// together is written and sent together. A runtime of many threads runs whom a task wakes
    /// right after that task; woken by the first of a thousand, the loop would take three of
    /// them. A runtime of one thread lets those go first who were woken before it. Ends when
    /// nobody more has come.
    pub(super) async fn gather(&mut self, events: &mut Queue) {
        let (expected, mut seen) = (std::mem::take(&mut self.answered), 0);
        let mut waiting = if self.jumps_queue { events.len() } else { 0 };
        while seen < waiting && waiting < expected {
            tokio::task::yield_now().await;
            (seen, waiting) = (waiting, events.len());
        }
    }

    /// Takes in what was `completed` first, and all else that waits.
    pub(super) fn take_in(
        &mut self,
        completed: Option<Completion>,
        events: &mut Queue,
        completions: &mut mpsc::UnboundedReceiver<Completion>,
    ) -> Result<(), StopCause> {
        let mut taken = 0;
        if let Some(completion) = completed {
            self.complete(completion)?;
            taken += 1;
        }
        for _ in 0..BATCH_MAX {
            let Some(event) = events.next() else { break };
            self.accept(event, events)?;
            taken += 1;
        }
        for _ in 0..BATCH_MAX {
            let Ok(completion) = completions.try_recv() else { break };
            self.complete(completion)?;
            taken += 1;
        }
        self.threads.metrics.turn_events.record(f64::from(taken));
        self.threads.metrics.events_queued.set(events.len() as f64);
        Ok(())
    }

    fn accept(&mut self, event: Event, events: &Queue) -> Result<(), StopCause> {
        match event {
            Event::Message(envelope) => self.raft.step(Input::Message(envelope)),
            Event::Snapshot { from, sender, term, snapshot } => {
                self.on_snapshot(from, sender, term, *snapshot);
            }
            Event::Refused(peer) => self.on_refused(peer),
            Event::Propose { command, reply } => {
                self.on_propose(command, Waiter::One { reply, permit: events.permit(1) });
            }
            Event::ProposeMany { commands, done } => {
                let batch = Batch::new(events.permit(commands.len()), done);
                self.on_propose_many(commands, &batch);
            }
            Event::Query { query, mode, reply } => {
                self.on_query(Query { query, mode, reply, permit: events.permit(1) });
            }
            Event::Transfer(transfer) => self.on_transfer(transfer),
            Event::Change(request) => self.on_change(request),
            Event::Checkpoint => self.give_applier(Job::Checkpoint),
            Event::Shutdown => return Err(StopCause::Shutdown),
        }
        Ok(())
    }

    fn on_refused(&mut self, peer: NodeId) {
        let role = self.raft.role();
        self.raft.step(Input::Refused(peer));
        if self.raft.role() != role {
            tracing::info!(node = %self.identity.node, leader = %peer,
                "nobody listens where the leader did: standing for election");
        }
    }

    fn on_propose(&mut self, command: Bytes, waiter: Waiter) {
        match self.propose(command) {
            Ok(id) => self.requests.proposed(id, waiter),
            Err(error) => waiter.fail(error),
        }
    }

    /// Those of `commands` that are appended one after the other are waited for together.
    fn on_propose_many(&mut self, commands: Vec<Bytes>, batch: &Arc<Batch>) {
        // The first that was appended since the last refusal, and its place.
        let mut appended: Option<(LogId, usize)> = None;
        let count = commands.len();
        for (place, command) in commands.into_iter().enumerate() {
            match self.propose(command) {
                Ok(id) => drop(appended.get_or_insert((id, place))),
                Err(error) => {
                    self.wait_for(appended.take(), place, batch);
                    batch.resolve(place, std::iter::once(Err(error)));
                }
            }
        }
        self.wait_for(appended, count, batch);
    }

    /// Remembers that `batch` waits for what was appended before its place `end`.
    fn wait_for(&mut self, appended: Option<(LogId, usize)>, end: usize, batch: &Arc<Batch>) {
        let Some((id, first)) = appended else { return };
        let batch = Arc::clone(batch);
        self.requests.proposed(id, Waiter::Part { batch, first, count: end - first });
    }

    fn propose(&mut self, command: Bytes) -> Result<LogId, ProposeError> {
        let metrics = &self.threads.metrics;
        Err(match self.raft.propose(command) {
            Ok(id) => {
                metrics.accepted.increment(1);
                let (first, _) = self.proposed.unwrap_or((id, id));
                self.proposed = Some((first, id));
                return Ok(id);
            }
            Err(Refusal::NotLeader { leader }) => {
                metrics.refused_not_leader.increment(1);
                ProposeError::NotLeader { leader }
            }
            Err(Refusal::Overloaded) => {
                metrics.refused_overloaded.increment(1);
                ProposeError::Overloaded
            }
            Err(Refusal::TooLarge { size, limit }) => {
                metrics.refused_too_large.increment(1);
                ProposeError::TooLarge { size, limit }
            }
        })
    }
}
