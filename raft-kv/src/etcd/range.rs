//! Reads of any size: put together from our own answers, which hold a mebibyte, as of one revision.

use super::core::Core;
use super::error::REPLY_TOO_LARGE;
use crate::api::{
    Consistency, Filter, KeyValue, Keys, KvError, Op, OpReply, Order, OrderBy, PAIR_OVERHEAD_BYTES,
    Range, RangeReply, Txn, TxnReply,
};
use crate::client::ClientError;
use bytes::Bytes;
use std::cmp::Ordering;
use tonic::Status;

/// Most bytes of pairs in one answer; as [`RANGE_BYTES_MAX`](crate::api::RANGE_BYTES_MAX) counts.
const BYTES_MAX: usize = 128 * 1024 * 1024;

/// How often a read begins anew that was overtaken by a compaction.
const TRIES_MAX: u32 = 3;

impl Core {
    /// Reads all of a range that was asked for.
    ///
    /// # Errors
    /// What the client is told.
    pub(super) async fn read_all(
        &self,
        range: Range,
        consistency: Consistency,
    ) -> Result<RangeReply, Status> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.read_whole(&range, consistency).await {
                // It read as of now, and that was a while ago.
                Err(Failed::Client(ClientError::Refused(KvError::Compacted { .. })))
                    if range.revision.is_none() && tries < TRIES_MAX => {}
                Err(Failed::Client(error)) => return Err(self.fail(&error)),
                Err(Failed::TooLarge) => return Err(REPLY_TOO_LARGE.into()),
                Ok(reply) => return Ok(reply),
            }
        }
    }

    async fn read_whole(
        &self,
        range: &Range,
        consistency: Consistency,
    ) -> Result<RangeReply, Failed> {
        // Without limit and filter, what is returned is all there is.
        let partly = range.limit > 0 || range.filter != Filter::NONE;
        let count_all = partly && !range.count_only;
        let first = Range { count_all, ..range.clone() };
        let mut reply = self.client.get(first, consistency).await?;
        if is_cut(&reply, range.limit) {
            let at = Range { revision: range.revision.or(Some(reply.revision)), ..range.clone() };
            reply = match at.order {
                None | Some(Order { by: OrderBy::Key, .. }) => self.go_on(at, reply).await?,
                Some(order) => self.sort(at, order, reply).await?,
            };
            if !partly {
                reply.count = reply.kvs.len() as u64;
            }
        }
        Ok(reply)
    }

    /// Reads the rest of what `reply` begins with.
    async fn go_on(&self, range: Range, mut reply: RangeReply) -> Result<RangeReply, Failed> {
        let returned = reply.kvs.len() as u64;
        let descending = range.order.is_some_and(|order| order.descending);
        let last = reply.kvs.last().map(|pair| pair.key.clone());
        let rest = last.and_then(|last| after(&range.keys, &last, descending));
        let Some(keys) = rest else { return Ok(reply) };
        let limit = range.limit.saturating_sub(returned);
        let mut pages =
            self.client.pages(Range { keys, limit, ..range }, Consistency::Serializable);
        let mut bytes = bytes_of(&reply.kvs);
        while let Some(page) = pages.next().await? {
            bytes += bytes_of(&page.kvs);
            if bytes > BYTES_MAX {
                return Err(Failed::TooLarge);
            }
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
    ) -> Result<RangeReply, Failed> {
        let (limit, keys_only) = (range.limit, range.keys_only);
        let all = Range { order: None, limit: 0, keys_only: false, ..range };
        let mut reply = self.client.get(all.clone(), Consistency::Serializable).await?;
        if is_cut(&reply, 0) {
            reply = self.go_on(all, reply).await?;
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

    /// Reads what did not fit into the answer to a transaction, as of the transaction; but where
    /// that has itself written what is read, the answer stays cut, and says so.
    ///
    /// # Errors
    /// As [`read_all`](Self::read_all): the transaction has run.
    pub(super) async fn complete(&self, txn: &Txn, reply: &mut TxnReply) -> Result<(), Status> {
        let mut written = Vec::new();
        writes(txn, reply, &mut written);
        let revision = reply.revision;
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
                        *reply = self.read_all(at, Consistency::Serializable).await?;
                        reply.revision = revision;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
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

fn bytes_of(pairs: &[KeyValue]) -> usize {
    pairs.iter().map(|pair| pair.key.len() + pair.value.len() + PAIR_OVERHEAD_BYTES).sum()
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
