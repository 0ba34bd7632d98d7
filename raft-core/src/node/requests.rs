//! Requests that wait for something: proposals for their commit, queries for their index.

use super::event::Query;
use super::waiter::Waiter;
use super::{ProposeError, QueryError};
use crate::types::{Index, LogId, ReadId, Run};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// What waits. Its size is bounded by the node's bound on requests.
#[derive(Default)]
pub(super) struct Requests {
    /// Proposals appended and not yet handed to the state machine, by the first's index.
    proposals: VecDeque<(LogId, Waiter)>,
    /// When the first proposal of each turn was taken in.
    accepted: VecDeque<(Index, Instant)>,
    /// Queries whose batch has no index yet.
    unconfirmed: BTreeMap<ReadId, Vec<Query>>,
    /// Queries whose index is not yet handed to the state machine.
    confirmed: BTreeMap<Index, Vec<Query>>,
}

impl Requests {
    pub(super) fn proposed(&mut self, id: LogId, waiter: Waiter) {
        self.proposals.push_back((id, waiter));
    }

    /// The proposals from `first` on were taken in by a turn that began at `at`.
    pub(super) fn turn_proposed(&mut self, first: Index, at: Instant) {
        self.accepted.push_back((first, at));
    }

    /// For how long the oldest proposal up to `index` has waited, which is committed by a turn that
    /// began `now`.
    pub(super) fn committed(&mut self, index: Index, now: Instant) -> Option<Duration> {
        let mut oldest = None;
        while let Some((_, at)) = self.accepted.front().filter(|(first, _)| *first <= index) {
            oldest.get_or_insert(*at);
            self.accepted.pop_front();
        }
        oldest.map(|at| now.saturating_duration_since(at))
    }

    pub(super) fn queried(&mut self, batch: ReadId, query: Query) {
        self.unconfirmed.entry(batch).or_default().push(query);
    }

    /// Those who proposed entries of `run`, which is about to be applied.
    pub(super) fn waiters_of(&mut self, run: &Run) -> Vec<(Index, Waiter)> {
        let mut waiters = Vec::with_capacity(self.proposals.len().min(run.len()));
        while self.proposals.front().is_some_and(|(id, _)| id.index <= run.last().index) {
            let Some((id, mut waiter)) = self.proposals.pop_front() else { break };
            let here = (run.last().index.0 + 1 - id.index.0) as usize;
            if let Some(rest) = waiter.split_off(here) {
                let index = Index(id.index.0 + here as u64);
                self.proposals.push_front((LogId { index, ..id }, rest));
            }
            let last = Index(id.index.0 + waiter.count() as u64 - 1);
            // Terms only grow along the log: what has this one at both ends has no other.
            let ours = |index| run.term_at(index) == Some(id.term);
            if ours(id.index) && ours(last) {
                waiters.push((id.index, waiter));
            } else {
                waiter.fail(ProposeError::LeadershipLost);
            }
        }
        waiters
    }

    /// Leadership is lost: the outcome of what was appended is unknown.
    pub(super) fn leadership_lost(&mut self) {
        self.accepted.clear();
        for (_, waiter) in self.proposals.drain(..) {
            waiter.fail(ProposeError::LeadershipLost);
        }
    }

    /// A batch may be answered once `index` is applied.
    pub(super) fn confirmed(&mut self, batch: ReadId, index: Index) {
        let queries = self.unconfirmed.remove(&batch).unwrap_or_default();
        self.confirmed.entry(index).or_default().extend(queries);
    }

    /// Waits until `index` is applied.
    pub(super) fn waits_for(&mut self, index: Index, query: Query) {
        self.confirmed.entry(index).or_default().push(query);
    }

    /// Whether queries wait for an index that they know.
    pub(super) fn any_confirmed(&self) -> bool {
        !self.confirmed.is_empty()
    }

    /// The queries that may be handed to the state machine behind entry `handed`.
    pub(super) fn ready(&mut self, handed: Index) -> impl Iterator<Item = Query> + use<> {
        let later = self.confirmed.split_off(&handed.next());
        std::mem::replace(&mut self.confirmed, later).into_values().flatten()
    }

    /// Forgets queries whose askers have given up, so that they do not count against the bound
    /// while there is no leader.
    pub(super) fn forget_abandoned(&mut self) {
        for queries in self.unconfirmed.values_mut().chain(self.confirmed.values_mut()) {
            queries.retain(|query| !query.reply.is_closed());
        }
        self.unconfirmed.retain(|_, queries| !queries.is_empty());
        self.confirmed.retain(|_, queries| !queries.is_empty());
    }

    /// The node stops.
    pub(super) fn stop(&mut self) {
        for (_, waiter) in self.proposals.drain(..) {
            waiter.fail(ProposeError::Stopped);
        }
        let unconfirmed = std::mem::take(&mut self.unconfirmed).into_values().flatten();
        let confirmed = std::mem::take(&mut self.confirmed).into_values().flatten();
        for query in unconfirmed.chain(confirmed) {
            query.resolve(Err(QueryError::Stopped));
        }
    }
}

#[cfg(test)]
mod tests;
