//! Reads of any size: put together from our own answers, which hold a mebibyte, as of one revision.

use super::core::Core;
use super::error::{REPLY_TOO_LARGE, TOO_MANY_REQUESTS};
use super::memory::Held;
use crate::api::{
    Consistency, Filter, KEY_BYTES_MAX, KeyValue, Keys, KvError, Op, OpReply, Order, OrderBy,
    PAIR_OVERHEAD_BYTES, PREVIOUS_BYTES_MAX, RANGE_BYTES_MAX, Range, RangeReply, Txn, TxnReply,
    VALUE_BYTES_MAX,
};
use crate::client::{Client, ClientError};
use bytes::Bytes;
use std::cmp::Ordering;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

/// Most bytes of pairs that are put together for one answer; as
/// [`RANGE_BYTES_MAX`](crate::api::RANGE_BYTES_MAX) counts.
const BYTES_MAX: usize = 128 * 1024 * 1024;

/// Most bytes of one pair.
const PAIR_BYTES_MAX: usize = KEY_BYTES_MAX + VALUE_BYTES_MAX + PAIR_OVERHEAD_BYTES;

/// How often a read begins anew that was overtaken by a compaction.
const TRIES_MAX: u32 = 3;

/// What an answer takes, and may still take.
struct Budget {
    held: Held,
    bytes: usize,
}

impl Budget {
    /// Counts pairs that have come.
    fn take(&mut self, pairs: &[KeyValue]) -> Result<(), Failed> {
        let bytes = pairs.iter().map(bytes_of).sum();
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Failed::TooLarge)?;
        if self.held.take(bytes) { Ok(()) } else { Err(Failed::NoRoom) }
    }
}

impl Core {
    /// Reads all of a range that was asked for, and holds what it takes; by `until`, of however
    /// many parts it is put together.
    ///
    /// # Errors
    /// What the client is told.
    pub(super) async fn read_all(
        &self,
        range: Range,
        consistency: Consistency,
        until: Instant,
    ) -> Result<(RangeReply, Held), Status> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut budget = Budget { held: self.memory.hold(), bytes: BYTES_MAX };
            match self.read_whole(&range, consistency, &mut budget, until).await {
                // It read as of now, and that was a while ago.
                Err(Failed::Client(ClientError::Refused(KvError::Compacted { .. })))
                    if range.revision.is_none() && tries < TRIES_MAX => {}
                Err(failed) => return Err(self.why(failed)),
                Ok(reply) => return Ok((reply, budget.held)),
            }
        }
    }

    fn why(&self, failed: Failed) -> Status {
        match failed {
            Failed::Client(error) => self.fail_read(&error),
            Failed::TooLarge => REPLY_TOO_LARGE.into(),
            Failed::NoRoom => TOO_MANY_REQUESTS.into(),
            Failed::Late => self.late_read(),
        }
    }

    async fn read_whole(
        &self,
        range: &Range,
        consistency: Consistency,
        budget: &mut Budget,
        until: Instant,
    ) -> Result<RangeReply, Failed> {
        let reader = Reader { client: self.client_until(until) };
        let read = timeout_at(until, reader.read_whole(range, consistency, budget)).await;
        read.unwrap_or(Err(Failed::Late))
    }

    /// Reads what did not fit into the answer to a transaction, as of the transaction, all of it
    /// together within the bound of one answer; `held` is what the answer takes already, and will.
    /// Where the transaction has written, it has happened, whatever becomes of its reads: of
    /// what cannot be read any more the answer stays cut, and says so. So it does where the
    /// transaction has itself written what is read.
    ///
    /// # Errors
    /// As [`read_all`](Self::read_all), if nothing was written.
    pub(super) async fn complete(
        &self,
        txn: &Txn,
        reply: &mut TxnReply,
        held: Held,
        until: Instant,
    ) -> Result<Held, Status> {
        let mut written = Vec::new();
        writes(txn, reply, &mut written);
        let revision = reply.revision;
        let mut budget = Budget { held, bytes: BYTES_MAX };
        let mut left = vec![(txn, reply)];
        while let Some((txn, reply)) = left.pop() {
            for (op, reply) in branch(txn, reply.succeeded).iter().zip(&mut reply.replies) {
                match (op, reply) {
                    (Op::Txn(txn), OpReply::Txn(reply)) => left.push((&**txn, reply)),
                    (Op::Range(range), OpReply::Range(reply))
                        if is_cut(reply, range.limit)
                            && !written.iter().any(|keys| overlap(keys, &range.keys)) =>
                    {
                        let at = range.revision.or(Some(revision));
                        let at = Range { revision: at, ..range.clone() };
                        let local = Consistency::Serializable;
                        match self.read_whole(&at, local, &mut budget, until).await {
                            Ok(whole) => *reply = RangeReply { revision, ..whole },
                            Err(_) if !written.is_empty() => return Ok(budget.held),
                            Err(failed) => return Err(self.why(failed)),
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(budget.held)
    }
}

/// Who reads the parts.
struct Reader {
    client: Client,
}

impl Reader {
    async fn read_whole(
        &self,
        range: &Range,
        consistency: Consistency,
        budget: &mut Budget,
    ) -> Result<RangeReply, Failed> {
        // Without limit and filter, what is returned is all there is.
        let partly = range.limit > 0 || range.filter != Filter::NONE;
        let count_all = partly && !range.count_only;
        let first = Range { count_all, ..range.clone() };
        let mut reply = self.client.get(first, consistency).await?;
        budget.take(&reply.kvs)?;
        if is_cut(&reply, range.limit) {
            let at = Range { revision: range.revision.or(Some(reply.revision)), ..range.clone() };
            reply = match at.order {
                None | Some(Order { by: OrderBy::Key, .. }) => {
                    Box::pin(self.go_on(at, reply, budget)).await?
                }
                Some(order) => Box::pin(self.sort(at, order, reply, budget)).await?,
            };
            if !partly {
                reply.count = reply.kvs.len() as u64;
            }
        }
        Ok(reply)
    }

    /// Reads the rest of what `reply` begins with.
    async fn go_on(
        &self,
        range: Range,
        mut reply: RangeReply,
        budget: &mut Budget,
    ) -> Result<RangeReply, Failed> {
        let returned = reply.kvs.len() as u64;
        let descending = range.order.is_some_and(|order| order.descending);
        let last = reply.kvs.last().map(|pair| pair.key.clone());
        let rest = last.and_then(|last| after(&range.keys, &last, descending));
        let Some(keys) = rest else { return Ok(reply) };
        let limit = range.limit.saturating_sub(returned);
        let mut pages =
            self.client.pages(Range { keys, limit, ..range }, Consistency::Serializable);
        while let Some(page) = pages.next().await? {
            budget.take(&page.kvs)?;
            reply.kvs.extend(page.kvs);
            reply.more = page.more;
        }
        Ok(reply)
    }

    /// Reads everything and sorts it here: in such an order there are no pages.
    async fn sort(
        &self,
        range: Range,
        order: Order,
        first: RangeReply,
        budget: &mut Budget,
    ) -> Result<RangeReply, Failed> {
        let (limit, keys_only) = (range.limit, range.keys_only);
        let all = Range { order: None, limit: 0, keys_only: false, ..range };
        let mut reply = self.client.get(all.clone(), Consistency::Serializable).await?;
        budget.take(&reply.kvs)?;
        if is_cut(&reply, 0) {
            reply = self.go_on(all, reply, budget).await?;
        }
        reply.kvs.sort_by(|one, other| compare(order, one, other));
        let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        reply.more = reply.kvs.len() > limit;
        reply.kvs.truncate(limit);
        if keys_only {
            reply.kvs.iter_mut().for_each(|pair| pair.value.clear());
        }
        Ok(RangeReply { revision: first.revision, count: first.count, ..reply })
    }
}

/// Most bytes of pairs in the answer to an operation that runs through the log.
pub(super) fn answer_bytes_max(op: &Op) -> usize {
    match op {
        Op::Put(put) if put.prev_kv => PAIR_BYTES_MAX,
        Op::Delete { keys: Keys::One(_), prev_kv: true } => PAIR_BYTES_MAX,
        Op::Delete { prev_kv: true, .. } => PREVIOUS_BYTES_MAX,
        Op::Put(_) | Op::Delete { .. } => 0,
        Op::Range(Range { keys: Keys::One(_), .. }) => PAIR_BYTES_MAX,
        Op::Range(_) => RANGE_BYTES_MAX,
        Op::Txn(txn) => txn_answer_bytes_max(txn),
    }
}

/// The same of a transaction.
pub(super) fn txn_answer_bytes_max(txn: &Txn) -> usize {
    let of = |ops: &[Op]| ops.iter().map(answer_bytes_max).sum::<usize>();
    of(&txn.success).max(of(&txn.failure)).min(PREVIOUS_BYTES_MAX + RANGE_BYTES_MAX)
}

fn branch(txn: &Txn, succeeded: bool) -> &[Op] {
    if succeeded { &txn.success } else { &txn.failure }
}

/// Which keys a transaction has written.
fn writes(txn: &Txn, reply: &TxnReply, written: &mut Vec<Keys>) {
    for (op, reply) in branch(txn, reply.succeeded).iter().zip(&reply.replies) {
        match (op, reply) {
            (Op::Put(put), _) => written.push(Keys::One(put.key.clone())),
            (Op::Delete { keys, .. }, _) => written.push(keys.clone()),
            (Op::Txn(txn), OpReply::Txn(reply)) => writes(txn, reply, written),
            _ => {}
        }
    }
}

/// Whether some key may be among both.
fn overlap(some: &Keys, others: &Keys) -> bool {
    let starts_in = |keys: &Keys, other: &Keys| match other {
        Keys::One(start) | Keys::Range { start, .. } => keys.contains(start),
    };
    starts_in(some, others) || starts_in(others, some)
}

/// The keys that come after `last`; `None` if there can be none.
fn after(keys: &Keys, last: &Bytes, descending: bool) -> Option<Keys> {
    let Keys::Range { start, end } = keys else { return None };
    if descending {
        return Some(Keys::Range { start: start.clone(), end: Some(last.clone()) });
    }
    let next = [&last[..], &[0]].concat();
    Some(Keys::Range { start: next.into(), end: end.clone() })
}

/// Why a read came to nothing.
enum Failed {
    Client(ClientError),
    TooLarge,
    NoRoom,
    /// The time of the request is over.
    Late,
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

/// Whether an answer has less than was asked for, because there was no room.
fn is_cut(reply: &RangeReply, limit: u64) -> bool {
    reply.more && (limit == 0 || (reply.kvs.len() as u64) < limit)
}

const fn bytes_of(pair: &KeyValue) -> usize {
    pair.key.len() + pair.value.len() + PAIR_OVERHEAD_BYTES
}

/// Of equal ones the keys decide; that is the order in which they come.
fn compare(order: Order, one: &KeyValue, other: &KeyValue) -> Ordering {
    let by = match order.by {
        OrderBy::Key => one.key.cmp(&other.key),
        OrderBy::Version => one.version.cmp(&other.version),
        OrderBy::CreateRevision => one.create_revision.cmp(&other.create_revision),
        OrderBy::ModRevision => one.mod_revision.cmp(&other.mod_revision),
        OrderBy::Value => one.value.cmp(&other.value),
    };
    if order.descending { by.reverse() } else { by }
}
