//! What changes the store: puts, deletes, transactions, compaction.

use super::call::unexpected;
use super::{Client, ClientError};
use crate::api::{
    Action, ActionReply, Compare, KeyValue, Keys, Op, OpReply, Operator, Put, Range, Revision,
    Target, Txn, TxnReply,
};
use bytes::Bytes;

/// What a put answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutReply {
    /// The store's revision after it: the pair's mod revision.
    pub revision: Revision,
    /// What was there before, if that was asked for.
    pub prev_kv: Option<KeyValue>,
    /// The key, if it is a sequential one.
    pub key: Option<Bytes>,
}

/// What a delete answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteReply {
    /// The store's revision after it.
    pub revision: Revision,
    /// How many keys were deleted.
    pub deleted: u64,
    /// What was there before, if that was asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// What a compare-and-swap answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapReply {
    /// Whether the value was set.
    pub swapped: bool,
    /// The store's revision after it: if swapped, the pair's mod revision.
    pub revision: Revision,
    /// If not swapped, what is there instead; `None` if the key does not exist.
    pub found: Option<KeyValue>,
}

impl Client {
    /// Sets a key. What was there is not returned; [`replace`](Self::replace) does that.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<PutReply, ClientError> {
        self.put_with(Put::new(key, value)).await
    }

    /// Sets a key and returns what was there.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn replace(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<PutReply, ClientError> {
        self.put_with(Put { prev_kv: true, ..Put::new(key, value) }).await
    }

    /// Sets a key, with every choice there is: a lease, the value or the lease kept as it is, a
    /// sequential key.
    ///
    /// ```
    /// # use raft_kv::{Client, api::Put, client::ClientError};
    /// # async fn example(client: Client) -> Result<(), ClientError> {
    /// let message = Put { sequential: true, ..Put::new("inbox/", "hello") };
    /// let key = client.put_with(message).await?.key.expect("sequential keys are told");
    /// assert!(key.starts_with(b"inbox/0000"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put_with(&self, put: Put) -> Result<PutReply, ClientError> {
        match self.write(&Action::Op(Op::Put(put))).await? {
            ActionReply::Op { revision, reply: OpReply::Put { prev_kv, key } } => {
                Ok(PutReply { revision, prev_kv, key })
            }
            _ => Err(unexpected(true)),
        }
    }

    /// Deletes keys. What was there is not returned; [`take`](Self::take) does that.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete(&self, keys: Keys) -> Result<DeleteReply, ClientError> {
        self.delete_op(keys, false).await
    }

    /// Deletes keys and returns what was there.
    ///
    /// # Errors
    /// See [`ClientError`]; [`KvError::TooLarge`](crate::api::KvError::TooLarge) if no reply holds
    /// what was there.
    pub async fn take(&self, keys: Keys) -> Result<DeleteReply, ClientError> {
        self.delete_op(keys, true).await
    }

    async fn delete_op(&self, keys: Keys, prev_kv: bool) -> Result<DeleteReply, ClientError> {
        match self.op(Op::Delete { keys, prev_kv }).await? {
            (revision, OpReply::Delete { deleted, prev_kvs }) => {
                Ok(DeleteReply { revision, deleted, prev_kvs })
            }
            _ => Err(unexpected(true)),
        }
    }

    /// Runs one operation through the log; returns the store's revision after it, and its answer.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn op(&self, op: Op) -> Result<(Revision, OpReply), ClientError> {
        match self.write(&Action::Op(op)).await? {
            ActionReply::Op { revision, reply } => Ok((revision, reply)),
            _ => Err(unexpected(true)),
        }
    }

    /// Runs a transaction: all of one branch, at one revision.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn txn(&self, txn: Txn) -> Result<TxnReply, ClientError> {
        match self.write(&Action::Txn(txn)).await? {
            ActionReply::Txn(reply) => Ok(reply),
            _ => Err(unexpected(true)),
        }
    }

    /// Sets a key if its mod revision is `expected`; 0 to set it only if it does not exist.
    ///
    /// # Errors
    /// See [`ClientError`]. That the key was changed is not an error but the answer.
    pub async fn compare_and_swap(
        &self,
        key: impl Into<Bytes>,
        expected: Revision,
        value: impl Into<Bytes>,
    ) -> Result<SwapReply, ClientError> {
        let (key, value) = (key.into(), value.into());
        let target = Target::ModRevision(expected);
        let reply = self
            .txn(Txn {
                compares: vec![Compare {
                    keys: Keys::One(key.clone()),
                    operator: Operator::Equal,
                    target,
                }],
                success: vec![Op::Put(Put::new(key.clone(), value))],
                failure: vec![Op::Range(Range::of(Keys::One(key)))],
            })
            .await?;
        let TxnReply { revision, succeeded: swapped, replies } = reply;
        let found = match replies.into_iter().next() {
            Some(OpReply::Range(range)) => range.kvs.into_iter().next(),
            _ => None,
        };
        Ok(SwapReply { swapped, revision, found })
    }

    /// Sets a key if it does not exist: of all who try, through whatever nodes, one succeeds.
    ///
    /// # Errors
    /// See [`ClientError`]. That the key exists is not an error but the answer.
    pub async fn create_if_absent(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<SwapReply, ClientError> {
        self.compare_and_swap(key, Revision(0), value).await
    }

    /// Has the store forget what was before `revision`: reads and watches from it on stay possible.
    /// Memory and disk come back bit by bit. Returns the store's revision.
    ///
    /// # Errors
    /// See [`ClientError`]. [`KvError::Compacted`](crate::api::KvError::Compacted) if that was done
    /// before, [`KvError::FutureRevision`](crate::api::KvError::FutureRevision) if the store has
    /// not come so far.
    pub async fn compact(&self, revision: Revision) -> Result<Revision, ClientError> {
        match self.write(&Action::Compact(revision)).await? {
            ActionReply::Compacted(revision) => Ok(revision),
            _ => Err(unexpected(true)),
        }
    }
}
