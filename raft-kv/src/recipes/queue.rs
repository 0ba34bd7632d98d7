//! Work that is done once, in order.

use super::mirror::until_told;
use super::{below, created_at};
use crate::Client;
use crate::api::{Consistency, KeyValue, Keys, Op, Put, Range, Revision, Txn, TxnReply, Watch};
use crate::client::ClientError;
use bytes::Bytes;

/// How many items one try considers: if the first was taken meanwhile, perhaps the next was not.
/// Fewer than transactions may lie within each other.
const CANDIDATES: u64 = 6;

/// A queue: first in, first out, each item taken once.
///
/// ```
/// use raft_kv::Client;
/// use raft_kv::api::{Op, Put};
/// use raft_kv::client::ClientError;
/// use raft_kv::recipes::Queue;
///
/// async fn example(client: &Client) -> Result<(), ClientError> {
///     let queue = Queue::new(client, "queues/mail");
///     queue.put("to: anna").await?;
///     // Taken and worked off in one step: whatever fails, once or not at all.
///     let item = queue.take_with(|item| vec![Op::Put(Put::new("sent", item.value.clone()))]);
///     println!("{:?}", item.await?.value);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Queue {
    client: Client,
    name: Bytes,
}

/// An item of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its key, which it has for itself.
    pub key: Bytes,
    /// What was put.
    pub value: Bytes,
    /// When it was put.
    pub revision: Revision,
}

impl From<KeyValue> for Item {
    fn from(pair: KeyValue) -> Self {
        Self { key: pair.key, value: pair.value, revision: pair.create_revision }
    }
}

impl Queue {
    /// What [`put`](Self::put) puts.
    pub const NORMAL: u16 = 1 << 15;

    /// The queue of this name.
    pub fn new(client: &Client, name: impl Into<Bytes>) -> Self {
        Self { client: client.clone(), name: name.into() }
    }

    /// Puts an item at the end.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put(&self, value: impl Into<Bytes>) -> Result<Revision, ClientError> {
        self.put_at(Self::NORMAL, value).await
    }

    /// Puts an item behind those of its own and of lower `rank`, before those of higher ones.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put_at(
        &self,
        rank: u16,
        value: impl Into<Bytes>,
    ) -> Result<Revision, ClientError> {
        let key = below(&self.name, format!("{rank:05}/").as_bytes());
        let put = Put { sequential: true, ..Put::new(key, value) };
        Ok(self.client.put_with(put).await?.revision)
    }

    /// Takes the first item, and waits while there is none. Once this returns, nobody else gets it.
    /// Dropping the future may lose an item; [`take_with`](Self::take_with) loses none.
    ///
    /// # Errors
    /// See [`ClientError`]. After [`ClientError::Unknown`] an item may have been taken.
    pub async fn take(&self) -> Result<Item, ClientError> {
        self.take_with(|_| Vec::new()).await
    }

    /// Takes the first item and does with it what `work` says, in one transaction: nobody else gets
    /// the item, and the work is done exactly when it is taken. `work` may be asked for several
    /// items of which one is taken, and must touch neither the queue nor a key twice.
    ///
    /// # Errors
    /// See [`ClientError`]. After [`ClientError::Unknown`] both may have been done, or neither.
    pub async fn take_with(
        &self,
        mut work: impl FnMut(&Item) -> Vec<Op>,
    ) -> Result<Item, ClientError> {
        loop {
            let found = self.first().await?;
            let from = Some(Revision(found.revision.0 + 1));
            if let Some(item) = self.take_one_of(found, &mut work).await? {
                return Ok(item);
            }
            let watch = Watch { from, no_deletes: true, ..Watch::of(self.items()) };
            until_told(&self.client, watch, |_| true).await?;
        }
    }

    /// Takes the first item, `None` if there is none.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub async fn try_take(&self) -> Result<Option<Item>, ClientError> {
        let found = self.first().await?;
        self.take_one_of(found, &mut |_| Vec::new()).await
    }

    /// Waits until there is an item. Whether it is still there when it is to be taken is another
    /// question. Dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn until_any(&self) -> Result<(), ClientError> {
        loop {
            let range = Range { limit: 1, keys_only: true, ..Range::of(self.items()) };
            let found = self.client.get(range, Consistency::Linearizable).await?;
            if !found.kvs.is_empty() {
                return Ok(());
            }
            let from = Some(Revision(found.revision.0 + 1));
            let watch = Watch { from, no_deletes: true, ..Watch::of(self.items()) };
            if until_told(&self.client, watch, |_| true).await? {
                return Ok(());
            }
        }
    }

    /// How many items wait to be taken.
    ///
    /// # Errors
    /// See [`ClientError`]; never [`ClientError::Unknown`].
    pub async fn waiting(&self) -> Result<u64, ClientError> {
        let range = Range { count_only: true, ..Range::of(self.items()) };
        Ok(self.client.get(range, Consistency::Linearizable).await?.count)
    }

    fn items(&self) -> Keys {
        Keys::prefix(below(&self.name, b""))
    }

    async fn first(&self) -> Result<crate::api::RangeReply, ClientError> {
        let range = Range { limit: CANDIDATES, ..Range::of(self.items()) };
        self.client.get(range, Consistency::Linearizable).await
    }

    /// Takes the first of those found that is still there, and of those that come after if none is;
    /// `None` once there is none at all.
    async fn take_one_of(
        &self,
        mut found: crate::api::RangeReply,
        work: &mut impl FnMut(&Item) -> Vec<Op>,
    ) -> Result<Option<Item>, ClientError> {
        while !found.kvs.is_empty() {
            let items: Vec<Item> = found.kvs.into_iter().map(Item::from).collect();
            // The first within which the second lies, and so on: they are tried in order.
            let tries = items.iter().rev().fold(None, |rest: Option<Txn>, item| {
                let mut success = work(item);
                success.push(Op::Delete { keys: Keys::One(item.key.clone()), prev_kv: false });
                let compares = vec![created_at(&item.key, item.revision)];
                let failure = rest.map(|rest| Op::Txn(Box::new(rest))).into_iter().collect();
                Some(Txn { compares, success, failure })
            });
            let reply = self.client.txn(tries.unwrap_or_default()).await?;
            if let Some(taken) = taken(&reply) {
                return Ok(items.into_iter().nth(taken));
            }
            found = self.first().await?;
        }
        Ok(None)
    }
}

/// Which try has succeeded, counted from 0.
fn taken(reply: &TxnReply) -> Option<usize> {
    if reply.succeeded {
        return Some(0);
    }
    match reply.replies.first() {
        Some(crate::api::OpReply::Txn(inner)) => taken(inner).map(|place| place + 1),
        _ => None,
    }
}
