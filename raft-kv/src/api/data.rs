//! The data model, which is etcd's: pairs with their history, reads, writes, transactions.

use super::{LeaseId, Revision};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A key with its value and history, as of the revision read.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key, 1 to [`KEY_BYTES_MAX`](super::KEY_BYTES_MAX) bytes.
    pub key: Bytes,
    /// The value; empty in a keys-only read.
    pub value: Bytes,
    /// Revision at which the key was last created.
    pub create_revision: Revision,
    /// Revision of the last change.
    pub mod_revision: Revision,
    /// Changes since creation, from 1.
    pub version: u64,
    /// The lease the key ends with, if there is one.
    pub lease: Option<LeaseId>,
}

/// Which keys: one, or a range.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Keys {
    /// Just this key.
    One(Bytes),
    /// Every key `>= start` and, if there is an end, `< end`.
    Range {
        /// First key included.
        start: Bytes,
        /// First key excluded; `None` for no end.
        end: Option<Bytes>,
    },
}

impl Keys {
    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        let mut end = start.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return Self::Range { start, end: Some(end.into()) };
            }
        }
        Self::Range { start, end: None }
    }

    /// Every key.
    pub const fn all() -> Self {
        Self::Range { start: Bytes::new(), end: None }
    }

    /// Whether `key` is among them.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Range { start, end } => {
                key >= &start[..] && end.as_ref().is_none_or(|end| key < &end[..])
            }
        }
    }
}

/// A read.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Range {
    /// Which keys.
    pub keys: Keys,
    /// Most pairs to return, counted after filter and order; 0 for no limit.
    pub limit: u64,
    /// Read as of this revision; `None`: as it is now.
    pub revision: Option<Revision>,
    /// Leave the values out.
    pub keys_only: bool,
    /// Return only the count.
    pub count_only: bool,
    /// Count all keys in the range even if fewer are returned: visits them all.
    pub count_all: bool,
    /// In which order; `None`: by key, ascending. Any other order visits, and holds, every pair of
    /// the range at once.
    pub order: Option<Order>,
    /// Leave out pairs by their revisions. They count all the same.
    pub filter: Filter,
}

impl Range {
    /// A read of `keys` as of now, in key order, without limit or filter; keys beyond those
    /// returned are not counted.
    pub const fn of(keys: Keys) -> Self {
        Self {
            keys,
            limit: 0,
            revision: None,
            keys_only: false,
            count_only: false,
            count_all: false,
            order: None,
            filter: Filter::NONE,
        }
    }

    /// Whether it may have to go through all of its keys, however few are returned: it counts,
    /// sorts, or leaves some out.
    pub fn visits_all(&self) -> bool {
        let counts = self.count_only || self.count_all;
        let sorts = self.order.is_some_and(|order| order.by != OrderBy::Key);
        counts || sorts || self.filter != Filter::NONE
    }
}

/// The order of a read's pairs. Pairs that are equal in it are in key order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Order {
    /// What of a pair decides.
    pub by: OrderBy,
    /// The greatest first.
    pub descending: bool,
}

/// What of a pair decides its place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum OrderBy {
    /// The key.
    Key,
    /// The version.
    Version,
    /// The create revision.
    CreateRevision,
    /// The mod revision.
    ModRevision,
    /// The value.
    Value,
}

/// Leaves pairs out of a read by their revisions; both ends of each interval are included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Filter {
    /// Lowest mod revision.
    pub min_mod_revision: Option<Revision>,
    /// Highest mod revision.
    pub max_mod_revision: Option<Revision>,
    /// Lowest create revision.
    pub min_create_revision: Option<Revision>,
    /// Highest create revision.
    pub max_create_revision: Option<Revision>,
}

impl Filter {
    /// Leaves nothing out.
    pub const NONE: Self = Self {
        min_mod_revision: None,
        max_mod_revision: None,
        min_create_revision: None,
        max_create_revision: None,
    };
}

/// What a [`Range`] found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RangeReply {
    /// The store's revision when the read ran.
    pub revision: Revision,
    /// The pairs, in the order asked for.
    pub kvs: Vec<KeyValue>,
    /// Whether more keys were in the range than returned: by the limit, or because a reply holds at
    /// most [`RANGE_BYTES_MAX`](super::RANGE_BYTES_MAX). In key order, go on from the last key; in
    /// a transaction, where the ranges share the bytes, there may be none.
    pub more: bool,
    /// All keys in the range if `count_only` or `count_all`, else the pairs returned.
    pub count: u64,
}

/// One condition of a transaction. A missing key has version, revisions and lease 0, and no value.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Compare {
    /// The key, or a range of which every existing key must fulfil it; one without any counts as a
    /// missing key.
    pub keys: Keys,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub target: Target,
}

/// How a compare compares.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Operator {
    /// The key's value equals the given one.
    Equal,
    /// It does not.
    NotEqual,
    /// It is greater.
    Greater,
    /// It is less.
    Less,
}

/// What a compare looks at.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Target {
    /// Changes since creation; 0 if the key does not exist.
    Version(u64),
    /// Create revision; 0 if the key does not exist.
    CreateRevision(Revision),
    /// Mod revision; 0 if the key does not exist.
    ModRevision(Revision),
    /// The value; on a missing key every operator is false.
    Value(Bytes),
    /// The number of the lease; 0, `None`, if the key does not exist or has none.
    Lease(Option<LeaseId>),
}

/// A write of one key.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Put {
    /// The key; of a sequential one what it begins with.
    pub key: Bytes,
    /// Its new value; `None` to keep the one there is, which must exist then.
    pub value: Option<Bytes>,
    /// What becomes of the key's lease.
    pub lease: Attach,
    /// Return what was there.
    pub prev_kv: bool,
    /// Append to the key the revision of this write, as [`SEQUENCE_DIGITS`] decimal digits. Keys
    /// made so with the same beginning are in the order in which they were made.
    pub sequential: bool,
}

/// How many digits end a sequential key.
pub const SEQUENCE_DIGITS: usize = 20;

impl Put {
    /// A plain write: no lease, nothing returned.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        let (key, value) = (key.into(), Some(value.into()));
        Self { key, value, lease: Attach::None, prev_kv: false, sequential: false }
    }

    /// The same, and the key ends with `lease`.
    #[must_use]
    pub fn with_lease(self, lease: LeaseId) -> Self {
        Self { lease: Attach::To(lease), ..self }
    }
}

/// What a write does with the key's lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Attach {
    /// The key has no lease from now on.
    #[default]
    None,
    /// The key ends with this lease.
    To(LeaseId),
    /// As it is; the key must exist.
    Keep,
}

/// One operation of a transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Op {
    /// Set a key.
    Put(Put),
    /// Delete keys.
    Delete {
        /// Which.
        keys: Keys,
        /// Return what was there.
        prev_kv: bool,
    },
    /// Read; sees the writes before it in the same transaction.
    Range(Range),
    /// A transaction within the transaction. Its compares, like all others, see what was there
    /// before the outermost one; its reads see the writes before them. At most
    /// [`TXN_DEPTH_MAX`](super::TXN_DEPTH_MAX) within each other.
    Txn(#[serde(deserialize_with = "crate::codec::nested")] Box<Txn>),
}

/// If all compares hold, run `success`, else `failure`: atomically, at one revision.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Txn {
    /// The conditions.
    #[serde(deserialize_with = "crate::codec::bounded")]
    pub compares: Vec<Compare>,
    /// Run if all of them hold.
    #[serde(deserialize_with = "crate::codec::bounded")]
    pub success: Vec<Op>,
    /// Run otherwise.
    #[serde(deserialize_with = "crate::codec::bounded")]
    pub failure: Vec<Op>,
}

/// The answer to one [`Op`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum OpReply {
    /// To [`Op::Put`].
    Put {
        /// What was there, if asked for.
        prev_kv: Option<KeyValue>,
        /// The key, if it is a sequential one.
        key: Option<Bytes>,
    },
    /// To [`Op::Delete`].
    Delete {
        /// How many keys were deleted.
        deleted: u64,
        /// What was there, if asked for.
        prev_kvs: Vec<KeyValue>,
    },
    /// To [`Op::Range`].
    Range(RangeReply),
    /// To [`Op::Txn`].
    Txn(TxnReply),
}

/// The answer to a [`Txn`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TxnReply {
    /// The revision the transaction took, or the current one if it changed nothing.
    pub revision: Revision,
    /// Whether the compares held.
    pub succeeded: bool,
    /// One answer per operation run.
    pub replies: Vec<OpReply>,
}
