//! One change of one key: a single allocation that is at once the value in memory, the bytes in
//! the checkpoint and the snapshot, and the input of the state hash.
//!
//! Layout, little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | mod revision: the revision that made the change |
//! | 8..16 | create revision; 0 marks a deletion |
//! | 16..24 | version: changes since creation, from 1; 0 in a deletion |
//! | 24..28 | sub: counts the changes of one revision, from 0 |
//! | 28..32 | length of the key; the highest bit says that a lease follows |
//! | 32..40 | the lease, if there is one: never of a deletion |
//! | then | the key, then the value to the end |

use crate::api::{
    KEY_BYTES_MAX, KeyValue, LeaseId, PAIR_OVERHEAD_BYTES, Revision, VALUE_BYTES_MAX,
};
use bytes::Bytes;
use std::sync::Arc;

const HEADER: usize = 32;
const LEASE: usize = 8;
/// Set in the length of the key if a lease follows. Without one a record has the bytes that it had
/// in version 1.
const LEASED: u32 = 1 << 31;
/// Longest record, in bytes.
pub(super) const RECORD_BYTES_MAX: usize = HEADER + LEASE + KEY_BYTES_MAX + VALUE_BYTES_MAX;
/// Bytes a version counts beside its record: what the map and the history hold of it.
const VERSION_OVERHEAD_BYTES: u64 = 64;

/// Highest revision and version that are read from outside: they leave room to count on.
pub(super) const COUNT_MAX: u64 = 1 << 62;

/// Where a change stands among all changes: its revision and its number within that.
pub(super) type Position = (u64, u32);

/// What a change says beside key and value.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) mod_revision: u64,
    pub(super) create_revision: u64,
    pub(super) version: u64,
    pub(super) sub: u32,
    /// What the key ends with.
    pub(super) lease: Option<LeaseId>,
}

/// One change. A clone shares the bytes.
#[derive(Clone)]
pub(super) struct Record(Arc<[u8]>);

impl Record {
    /// Key and value are copied out of the frame they came in, which is not kept. `scratch` is
    /// only there to be reused.
    pub(super) fn new(header: Header, key: &[u8], value: &[u8], scratch: &mut Vec<u8>) -> Self {
        let key_length = u32::try_from(key.len()).expect("keys are far below 2 GiB");
        let leased = if header.lease.is_some() { LEASED } else { 0 };
        scratch.clear();
        scratch.extend_from_slice(&header.mod_revision.to_le_bytes());
        scratch.extend_from_slice(&header.create_revision.to_le_bytes());
        scratch.extend_from_slice(&header.version.to_le_bytes());
        scratch.extend_from_slice(&header.sub.to_le_bytes());
        scratch.extend_from_slice(&(key_length | leased).to_le_bytes());
        if let Some(LeaseId(lease)) = header.lease {
            scratch.extend_from_slice(&lease.to_le_bytes());
        }
        scratch.extend_from_slice(key);
        scratch.extend_from_slice(value);
        Self(Arc::from(scratch.as_slice()))
    }

    /// Reads a record from outside. `None` if it is not well-formed.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER || bytes.len() > RECORD_BYTES_MAX {
            return None;
        }
        let record = Self(Arc::from(bytes));
        let (front, key_length) = (record.front(), record.key_length());
        let fits = (1..=KEY_BYTES_MAX).contains(&key_length) && front + key_length <= bytes.len();
        if !fits {
            return None;
        }
        let header = record.header();
        let consistent = if header.create_revision == 0 {
            header.version == 0 && header.lease.is_none() && record.value().is_empty()
        } else {
            (1..=COUNT_MAX).contains(&header.version)
                && header.create_revision <= header.mod_revision
        };
        let leased = header.lease.is_none_or(|LeaseId(id)| (1..=i64::MAX as u64).contains(&id));
        (consistent && leased).then_some(record)
    }

    pub(super) fn header(&self) -> Header {
        Header {
            mod_revision: self.u64_at(0),
            create_revision: self.u64_at(8),
            version: self.u64_at(16),
            sub: self.u32_at(24),
            lease: self.lease(),
        }
    }

    /// What the key ends with.
    pub(super) fn lease(&self) -> Option<LeaseId> {
        self.is_leased().then(|| LeaseId(self.u64_at(HEADER)))
    }

    pub(super) fn mod_revision(&self) -> u64 {
        self.u64_at(0)
    }

    /// Where it stands among all changes.
    pub(super) fn position(&self) -> Position {
        (self.u64_at(0), self.u32_at(24))
    }

    pub(super) fn is_deletion(&self) -> bool {
        self.u64_at(8) == 0
    }

    pub(super) fn key(&self) -> &[u8] {
        let front = self.front();
        &self.0[front..front + self.key_length()]
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.0[self.front() + self.key_length()..]
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Bytes it counts in a quota.
    pub(super) fn quota_size(&self) -> u64 {
        self.0.len() as u64 + VERSION_OVERHEAD_BYTES
    }

    /// Bytes this pair counts in a reply.
    pub(super) fn pair_size(&self, keys_only: bool) -> usize {
        let data = if keys_only { self.key_length() } else { self.0.len() - self.front() };
        data + PAIR_OVERHEAD_BYTES
    }

    /// The pair as replies carry it.
    pub(super) fn pair(&self, keys_only: bool) -> KeyValue {
        let header = self.header();
        KeyValue {
            key: Bytes::copy_from_slice(self.key()),
            value: if keys_only { Bytes::new() } else { Bytes::copy_from_slice(self.value()) },
            create_revision: Revision(header.create_revision),
            mod_revision: Revision(header.mod_revision),
            version: header.version,
            lease: header.lease,
        }
    }

    /// Where the key begins.
    fn front(&self) -> usize {
        if self.is_leased() { HEADER + LEASE } else { HEADER }
    }

    fn is_leased(&self) -> bool {
        self.u32_at(28) & LEASED != 0
    }

    fn key_length(&self) -> usize {
        (self.u32_at(28) & !LEASED) as usize
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }
}
