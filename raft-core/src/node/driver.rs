//! The loop: one task that owns the core and never waits for disk, network or apply.
//!
//! It waits for one event, takes in everything else that is queued (bounded), and carries out the
//! output once: so work that piles up meanwhile becomes one write and one message per follower.

mod changes;
mod clock;
mod intake;
mod observe;
mod peers;
mod reads;
mod snapshots;
mod warnings;

use super::applier::{Applier, Job};
use super::event::{Answer, ChangeRequest, Completion, Transfer};
use super::events::{EVENTS_KEPT, NodeEvent};
use super::metrics::{Metrics, record_time};
use super::queue::Queue;
use super::requests::Requests;
use super::storage::Storage;
use super::{NodeConfig, Status, StopCause, TransferError};
use crate::raft::{Apply, Envelope, Input, Message, Output, Raft, TransferRefusal, Write};
use crate::state_machine::Snapshot;
use crate::transport::Transport;
use crate::types::{Identity, Index, LogId, NodeId};
use changes::Changes;
use clock::Clock;
use observe::Seen;
use peers::Directory;
use reads::TickTimes;
use snapshots::Receivers;
use std::sync::Arc;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;
use warnings::Warnings;

/// Most events taken in before their output is carried out.
const BATCH_MAX: usize = 4096;

/// Most that is done at once before anything else is looked at: what is quick is not when there is
/// much of it.
const AT_ONCE_MAX: usize = 64;

/// Ticks between looks for requests that were given up, and at the size of the log.
const HOUSEKEEPING_TICKS: u64 = 16;

/// What works beside the loop, and what measures both.
pub(super) struct Threads {
    pub(super) storage: Storage,
    pub(super) applier: Applier,
    pub(super) metrics: Arc<Metrics>,
}

pub(super) struct Driver {
    config: NodeConfig,
    identity: Identity,
    raft: Raft,
    transport: Arc<dyn Transport>,
    threads: Threads,
    status: watch::Sender<Arc<Status>>,
    requests: Requests,
    transfers: Vec<(u64, Transfer)>,
    changes: Changes,
    receivers: Receivers,
    /// Reports of what was done at once, to be taken in before the turn ends.
    done: Vec<Completion>,
    /// What the core last wanted done and written: the room of their lists is used again.
    output: Output,
    write: Write,
    /// Snapshots stepped into the core since the last output.
    incoming: Vec<Snapshot>,
    /// Whether the runtime may run the loop before others that were woken before it.
    jumps_queue: bool,
    /// Proposals answered since the last turn began.
    answered: usize,
    /// When the present turn began. One look at the clock serves all that is measured of turns.
    turn_began: std::time::Instant,
    /// Entries up to here were handed to the applier.
    handed: Index,
    /// The first and last proposal taken in since the last output.
    proposed: Option<(LogId, LogId)>,
    /// Whether a quorum was asked to confirm reads since the last output.
    asked: bool,
    last_applied: Index,
    ticks: u64,
    tick_times: TickTimes,
    /// The last tick at which whoever leads was heard; see [`Raft::contact`].
    contact: Option<u64>,
    warnings: Warnings,
    /// As of the end of the last turn.
    seen: Seen,
    listeners: broadcast::Sender<NodeEvent>,
    /// Where the transport was told to reach whom; nothing before it was told anything.
    directory: Option<Directory>,
}

impl Driver {
    pub(super) fn new(
        config: NodeConfig,
        identity: Identity,
        raft: Raft,
        transport: Arc<dyn Transport>,
        threads: Threads,
        status: watch::Sender<Arc<Status>>,
    ) -> Self {
        let handed = status.borrow().last_applied;
        Self {
            config,
            identity,
            raft,
            transport,
            threads,
            status,
            requests: Requests::default(),
            transfers: Vec::new(),
            changes: Changes::default(),
            receivers: Receivers::default(),
            done: Vec::new(),
            output: Output::default(),
            write: Write::default(),
            incoming: Vec::new(),
            jumps_queue: Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread,
            answered: 0,
            turn_began: std::time::Instant::now(),
            handed,
            proposed: None,
            asked: false,
            last_applied: handed,
            ticks: 0,
            tick_times: TickTimes::new(),
            contact: None,
            warnings: Warnings::default(),
            seen: Seen::nothing(),
            listeners: broadcast::channel(EVENTS_KEPT).0,
            directory: None,
        }
    }

    /// To listen to what happens to the node, as long as it runs.
    pub(super) fn listeners(&self) -> broadcast::WeakSender<NodeEvent> {
        self.listeners.downgrade()
    }

    /// The loop, until something stops the node.
    async fn run(
        &mut self,
        events: &mut Queue,
        completions: &mut mpsc::UnboundedReceiver<Completion>,
    ) -> StopCause {
        let mut clock = Clock::new(self.config.tick);
        self.publish();
        if let Err(cause) = self.carry_out() {
            return cause;
        }
        loop {
            clock.plan(self.raft.idle_ticks());
            // Whatever comes first, everything else is looked at in the same turn.
            let completed = tokio::select! {
                biased;
                () = events.ready() => None,
                Some(completion) = completions.recv() => Some(completion),
                () = clock.due() => None,
            };
            self.gather(events).await;
            let now = Instant::now();
            self.turn_began = now.into_std();
            self.tick(clock.passed(now));
            let outcome = self.take_in(completed, events, completions);
            clock.taken_in(Instant::now());
            if let Err(cause) = outcome.and_then(|()| self.carry_out()) {
                return cause;
            }
        }
    }

    /// Takes in that `passed` ticks have passed.
    fn tick(&mut self, passed: u32) {
        if passed == 0 {
            return;
        }
        for _ in 0..passed {
            self.ticks += 1;
            self.tick_times.tick();
            self.raft.step(Input::Tick);
            self.contact = self.contact.max(self.raft.contact());
            if self.ticks.is_multiple_of(HOUSEKEEPING_TICKS) {
                self.requests.forget_abandoned();
                self.make_room();
                self.measure();
            }
        }
        self.gauge();
        self.publish();
    }

    /// Half full: does not wait for the usual number of bytes. Asked again and again, because there
    /// may have been nothing to write yet; the applier begins one checkpoint at a time.
    fn make_room(&mut self) {
        if self.raft.log_bytes() > self.config.raft.log_bytes_max / 2 {
            self.give_applier(Job::Checkpoint);
        }
    }

    fn complete(&mut self, completion: Completion) -> Result<(), StopCause> {
        match completion {
            Completion::Persisted { seq, took } => {
                self.warnings.flushes.note(took);
                self.raft.step(Input::Persisted(seq));
            }
            Completion::Applied { last_applied, answers } => {
                self.last_applied = self.last_applied.max(last_applied);
                self.deliver_all(answers);
            }
            Completion::Flushed(meta) => {
                tracing::debug!(node = %self.identity.node, at = %meta.last, "checkpoint written");
                self.raft.step(Input::Flushed(*meta));
            }
            Completion::Restored(meta) => self.on_restored(*meta),
            Completion::NotRestored(what) => {
                let (meta, error) = *what;
                self.on_not_restored(meta, &error.to_string());
            }
            Completion::SnapshotSent { to, meta, ok } => self.on_snapshot_sent(to, *meta, ok),
            Completion::Snapshot { to, snapshot } => {
                self.send_snapshot(to, snapshot.map(|snapshot| *snapshot));
            }
            Completion::Failed(error) => return Err(StopCause::Storage(error.to_string())),
            Completion::Panicked(what) => {
                return Err(StopCause::Internal(format!("{what} panicked")));
            }
        }
        Ok(())
    }

    fn deliver_all(&mut self, answers: Vec<Answer>) {
        if answers.is_empty() {
            return;
        }
        let span = tracing::trace_span!("answer", node = %self.identity.node,
            last_applied = %self.last_applied, answers = answers.len());
        let _entered = span.enter();
        for answer in answers {
            self.deliver(answer);
        }
    }

    fn deliver(&mut self, answer: Answer) {
        match answer {
            Answer::Applied(applied) => {
                self.answered += applied.waiters.len();
                applied.resolve();
            }
            Answer::Queried(query, queried) => query.resolve(Ok(queried)),
            Answer::Expired(query) => self.confirm(query),
        }
    }

    fn on_transfer(&mut self, transfer: Transfer) {
        let refusal = match self.raft.transfer_leadership(transfer.to) {
            Ok(to) => {
                tracing::info!(node = %self.identity.node, %to, "handing leadership over");
                // The core gives up after one shortest election timeout; leave the target time to
                // be elected and to be heard of.
                return self.transfers.push((self.ticks + self.patience(), transfer));
            }
            Err(TransferRefusal::NotLeader { leader }) => TransferError::NotLeader { leader },
            Err(TransferRefusal::NoTarget) => TransferError::NoTarget,
            Err(TransferRefusal::NotVoter { to }) => TransferError::NotVoter { to },
        };
        // Whoever asked may have gone.
        let _ = transfer.reply.send(Err(refusal));
    }

    fn on_change(&mut self, request: ChangeRequest) {
        match self.raft.change_membership(&request.changes) {
            Ok(id) => {
                let changes = &request.changes;
                tracing::info!(node = %self.identity.node, %id, ?changes, "membership change");
                self.changes.begun(id, request);
            }
            // Whoever asked may have gone.
            Err(refusal) => drop(request.reply.send(Err(refusal.into()))),
        }
    }

    /// Does what the core wants done. None of it waits. What is done on return may lead to more.
    fn carry_out(&mut self) -> Result<(), StopCause> {
        while self.carry_out_once()? {}
        self.observe();
        Ok(())
    }

    /// Takes in what was done at once; whether that may lead to more.
    fn complete_done(&mut self) -> Result<bool, StopCause> {
        let mut more = false;
        let mut reports = std::mem::take(&mut self.done);
        for report in reports.drain(..) {
            more |= !report.is_final();
            self.complete(report)?;
        }
        if self.done.is_empty() {
            // Its room is used again.
            self.done = reports;
            return Ok(more);
        }
        Ok(true)
    }

    /// Whether that may have led to more.
    fn carry_out_once(&mut self) -> Result<bool, StopCause> {
        self.write_at_once()?;
        self.asked = false;
        let mut output = self.take_output();
        self.replicate(&mut output.messages);
        if let Some(write) = &mut output.write {
            self.done.extend(self.threads.storage.write(write));
        }
        for item in output.apply.drain(..) {
            self.apply(item);
        }
        // Only now: what this turn committed has an outcome, even if leadership went with it.
        if !self.raft.is_leader() {
            self.requests.leadership_lost();
            self.receivers.leadership_lost();
            self.changes.leadership_lost(self.ticks, self.patience());
        }
        self.incoming.clear();
        for (batch, index) in output.reads.drain(..) {
            self.requests.confirmed(batch, index);
        }
        self.read_ready();
        if let Some(leader) = output.probe {
            self.transport.probe(self.config.group, leader);
        }
        for to in output.send_snapshot.drain(..) {
            self.receivers.ask(to);
        }
        self.make_snapshots();
        self.output = output;
        Ok(self.complete_done()? | self.asked)
    }

    /// Takes what is to be done about the proposals of this turn, which are one run, and all else.
    fn take_output(&mut self) -> Output {
        let span = self.proposed.take().map(|(first, last)| {
            self.requests.turn_proposed(first.index, self.turn_began);
            tracing::trace_span!("propose", node = %self.identity.node, term = %last.term,
                first = %first.index, last = %last.index)
        });
        let _entered = span.as_ref().map(tracing::Span::enter);
        let mut output = std::mem::take(&mut self.output);
        self.raft.take_output_into(&mut output);
        output
    }

    /// What is durable on return is written before the rest is taken, which then has the messages
    /// that waited for it.
    fn write_at_once(&mut self) -> Result<(), StopCause> {
        while self.threads.storage.is_immediate() && self.raft.take_write_into(&mut self.write) {
            let report = self.threads.storage.write(&mut self.write);
            report.map_or(Ok(()), |report| self.complete(report))?;
        }
        Ok(())
    }

    fn replicate(&self, messages: &mut Vec<Envelope>) {
        if messages.is_empty() {
            return;
        }
        let span = tracing::trace_span!("replicate", node = %self.identity.node,
            term = %self.raft.term(), messages = messages.len(), last = ?last_of(messages));
        let _entered = span.enter();
        for envelope in messages.drain(..) {
            self.transport.send(self.config.group, envelope);
        }
    }

    /// How many ticks a new leader may take to be elected and to be heard of.
    const fn patience(&self) -> u64 {
        2 * self.config.raft.election_ticks_max as u64
    }

    fn apply(&mut self, item: Apply) {
        match item {
            Apply::Entries(run) => {
                let (first, last) = (run.first().index, run.last());
                let span = tracing::trace_span!("commit", node = %self.identity.node,
                    term = %last.term, %first, last = %last.index);
                let _entered = span.enter();
                self.handed = last.index;
                if let Some(waited) = self.requests.committed(last.index, self.turn_began) {
                    record_time(&self.threads.metrics.commit_seconds, waited);
                }
                self.changes.committed(&run);
                let waiters = self.requests.waiters_of(&run);
                self.give_applier(Job::Apply { run, waiters });
            }
            Apply::Restore(meta) => {
                let position = self.incoming.iter().position(|snapshot| snapshot.meta == meta);
                let position = position.expect("the core restores only what was just stepped in");
                let snapshot = self.incoming.swap_remove(position);
                self.give_applier(Job::Restore(Box::new(snapshot)));
            }
        }
    }

    fn give_applier(&mut self, job: Job) {
        let report = self.threads.applier.give(job, self.done.len() < AT_ONCE_MAX);
        self.done.extend(report);
    }

    /// Shows the present status, and what follows from it outside.
    fn publish(&mut self) {
        let mut status = Status::of(&self.raft, self.identity, self.last_applied, &self.config);
        status.timing = self.warnings.timing;
        self.warn(&status);
        self.announce_peers();
        self.answer_transfers(status.leader);
        self.status.send_replace(Arc::new(status));
    }

    fn answer_transfers(&mut self, leader: Option<NodeId>) {
        let (own, now) = (self.identity.node, self.ticks);
        let other = leader.filter(|leader| *leader != own);
        let over = |(due, _): &mut (u64, Transfer)| other.is_some() || now >= *due;
        for (_, transfer) in self.transfers.extract_if(.., over) {
            // Whoever asked may have gone.
            let _ = transfer.reply.send(other.ok_or(TransferError::TimedOut));
        }
    }

    /// Ends the threads: what is queued for the disk is written first.
    async fn stop(mut self) {
        self.requests.stop();
        self.changes.stop();
        let Threads { storage, applier, .. } = self.threads;
        let join = move || {
            storage.join();
            applier.join();
        };
        let _ = tokio::task::spawn_blocking(join).await;
    }
}

/// The last entry of any of `messages`.
fn last_of(messages: &[Envelope]) -> Option<Index> {
    let last = |envelope: &Envelope| match &envelope.message {
        Message::AppendEntries(append) => append.entries.as_ref().map(|run| run.last().index),
        _ => None,
    };
    messages.iter().filter_map(last).max()
}

/// Runs the loop on a task, watched by another: should an assertion of the core fail, the node
/// stops and says so instead of hanging.
pub(super) fn spawn(
    mut driver: Driver,
    mut events: Queue,
    mut completions: mpsc::UnboundedReceiver<Completion>,
) -> watch::Receiver<Option<StopCause>> {
    let (stopped, stopped_seen) = watch::channel(None);
    let run = tokio::spawn(async move {
        let cause = driver.run(&mut events, &mut completions).await;
        // Requests still queued are answered by being dropped.
        drop(events);
        driver.stop().await;
        cause
    });
    tokio::spawn(async move {
        let cause = run.await.unwrap_or_else(|error| StopCause::Internal(error.to_string()));
        if cause != StopCause::Shutdown {
            tracing::error!(%cause, "the node stopped");
        }
        stopped.send_replace(Some(cause));
    });
    stopped_seen
}
