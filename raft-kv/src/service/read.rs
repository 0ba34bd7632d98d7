//! Reads: answered by this node from what it has applied, once that is as fresh as it has to be.
//! Those that go through many keys do so a part at a time, and few of them at once: what is applied
//! waits for no more than that.

use super::auth::Whose;
use super::cause::Why;
use super::replica::Replica;
use super::turns::Line;
use super::{Clock, Door, frame, not_understood};
use crate::api::{Consistency, Freshness, Keys, KvError, Position, Query, Range, Summary};
use crate::codec;
use bytes::Bytes;
use raft_core::node::{Queried, QueryError, ReadMode};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a read of a range waits until it can begin. It may take long then, and its client
/// gives it the time; where there is no quorum it is to learn of that as soon as of other reads.
const BEGUN_MAX: Duration = Duration::from_millis(900);

impl<N: Replica> Door<N> {
    /// Reads on this node; the encoded reply, which says how fresh it is if it is to be `dated`.
    #[expect(clippy::manual_async_fn, reason = "an async function keeps its arguments twice")]
    pub(super) fn read(
        &self,
        whose: Whose,
        range: Range,
        consistency: Consistency,
        dated: bool,
        clock: Clock,
    ) -> impl Future<Output = Result<Bytes, KvError>> {
        async move {
            let mode = match consistency {
                // Without a lease a quorum is asked; whether there are any is for the core to say.
                Consistency::Linearizable => ReadMode::Lease,
                Consistency::Serializable => ReadMode::Local,
                Consistency::AtLeast(position) => {
                    Box::pin(self.reach(position, clock)).await?;
                    ReadMode::Local
                }
            };
            let found = match range.keys {
                Keys::One(_) => self.query(&Query::Range(range), mode, clock).await?,
                Keys::Range { .. } => Box::pin(self.scan(whose, range, mode, clock)).await?,
            };
            if let Consistency::AtLeast(position) = consistency {
                // A read in parts is of now; that may be another history by the last of them.
                self.check_history(position)?;
            }
            let dated = dated.then(|| {
                let epoch = self.node.status().membership.epoch();
                Freshness { epoch, staleness: found.staleness }
            });
            frame::range_reply(dated.as_ref(), &found.reply).map_err(|error| not_understood(&error))
        }
    }

    /// Reads a range, a part at a time. Nearly all reads end with the first part; the others begin
    /// anew once it is their turn, as what was found would have to be kept until then.
    async fn scan(
        &self,
        whose: Whose,
        range: Range,
        mode: ReadMode,
        clock: Clock,
    ) -> Result<Queried, KvError> {
        let first = {
            let scan = self.store.begin_scan(range.clone());
            self.query_bytes(scan.query(), mode, clock.within(BEGUN_MAX)).await?
        };
        if !first.reply.is_empty() {
            return Ok(first);
        }
        let page = match range.visits_all() {
            true => None,
            false => self.scan_in(Line::Pages, whose, &range, clock).await?,
        };
        let found = match page {
            Some(found) => found,
            None => {
                let found = self.scan_in(Line::Everything, whose, &range, clock).await?;
                // No store has so many keys that this line is too short for them.
                found.ok_or(KvError::Overloaded)?
            }
        };
        // What is applied now was when the first part was read, which was as fresh as it had to be.
        let staleness = if mode == ReadMode::Local { found.staleness } else { first.staleness };
        Ok(Queried { staleness, ..found })
    }

    /// Reads a range when it is its turn; `None` if it takes more than this line is for.
    async fn scan_in(
        &self,
        line: Line,
        whose: Whose,
        range: &Range,
        clock: Clock,
    ) -> Result<Option<Queried>, KvError> {
        let _turn = self.turns.take(line, whose, clock).await?;
        let begun = Instant::now();
        let scan = self.store.begin_scan(range.clone());
        let mut staleness = None;
        for part in 0..line.parts_max() {
            let found = self.query_bytes(scan.query(), ReadMode::Local, clock).await?;
            if part == 0 {
                staleness = found.staleness;
            }
            if !found.reply.is_empty() {
                // All of it is as of when the first part was read.
                let staleness = staleness.map(|then| then + begun.elapsed());
                return Ok(Some(Queried { staleness, ..found }));
            }
        }
        Ok(None)
    }

    /// Waits until this node has applied what `position` has.
    async fn reach(&self, position: Position, clock: Clock) -> Result<(), KvError> {
        let status = self.node.status();
        if status.membership.is_empty() {
            return Err(Why::of(&status, clock.waited()).unavailable());
        }
        self.check_history(position)?;
        let mut mode = ReadMode::Local;
        let mut reached = None;
        loop {
            let query = self.query(&Query::Summary, mode, clock).await;
            let seen = match (query, reached) {
                (Err(KvError::Unavailable(_)), Some(revision)) => {
                    let asked = position.revision;
                    let text = format!("revision {asked} has not come here yet, {revision} has");
                    return Err(KvError::Unavailable(text));
                }
                (seen, _) => seen?,
            };
            let summary = summary(&seen)?;
            if summary.revision >= position.revision {
                return Ok(());
            }
            // Whatever is applied next may be it; looking is cheap beside applying.
            reached = Some(summary.revision);
            mode = ReadMode::AtLeast(seen.applied.next());
        }
    }

    /// Whether the node's history is the one that a position is of.
    fn check_history(&self, position: Position) -> Result<(), KvError> {
        let (asked, current) = (position.epoch, self.node.status().membership.epoch());
        if asked == current { Ok(()) } else { Err(KvError::OtherHistory { asked, current }) }
    }

    /// Asks the state machine.
    pub(super) async fn query(
        &self,
        query: &Query,
        mode: ReadMode,
        clock: Clock,
    ) -> Result<Queried, KvError> {
        self.query_bytes(codec::encode(query), mode, clock).await
    }

    async fn query_bytes(
        &self,
        query: Bytes,
        mode: ReadMode,
        clock: Clock,
    ) -> Result<Queried, KvError> {
        let asked = async {
            // A turn may come at the very moment at which it is too late for the answer.
            if Instant::now() >= clock.answer_by {
                return std::future::pending().await;
            }
            self.node.query(query, mode).await
        };
        match timeout_at(clock.answer_by, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(QueryError::Overloaded)) => Err(KvError::Overloaded),
            Ok(Err(error)) => Err(KvError::Unavailable(error.to_string())),
            Err(_) if matches!(mode, ReadMode::Local | ReadMode::AtLeast(_)) => {
                Err(KvError::Unavailable(format!(
                    "the state machine did not answer within {:.1} s",
                    clock.waited().as_secs_f64()
                )))
            }
            Err(_) => Err(self.why(clock).unavailable()),
        }
    }
}

/// The answer to a query for the summary.
pub(super) fn summary(answer: &Queried) -> Result<Summary, KvError> {
    codec::decode(&answer.reply).map_err(|error| not_understood(&error))
}
