//! The bytes that the checkpoint file and the snapshot stream share, and the check of what is read
//! back: nothing from a disk or a peer reaches the state unchecked. The layout is described in
//! [`crate::store`].

use super::alarms::Alarms;
use super::auth::Auth;
use super::lease::LeaseTerm;
use super::record::{COUNT_MAX, Position, RECORD_BYTES_MAX, Record};
use super::session::Session;
use super::time::Time;
use bytes::BytesMut;
use raft_core::types::{SnapshotMeta, Version};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

const _: () = assert!(Version::CURRENT.0 == 4, "what has the new version brought?");
/// The newest version of files and streams. Version 4 has users and roles, version 5 alarms;
/// memberships have not changed with them.
pub(super) const NEWEST: Version = Version(5);
/// Since when there are users and roles.
const AUTH_SINCE: Version = Version(4);
/// Since when there are alarms.
const ALARMS_SINCE: Version = Version(5);
/// Where a row of changes is closed, in bytes: below a power of two, because that is what a row
/// takes in the file.
pub(super) const ROW_BYTES: usize = 65_400;
const CHECKSUM: usize = 8;
/// Bytes of the length in front of each change.
pub(super) const LENGTH: usize = 4;
/// Longest row of changes, in bytes: one record may be longer than [`ROW_BYTES`].
pub(super) const ROW_BYTES_MAX: usize = CHECKSUM + LENGTH + RECORD_BYTES_MAX;

/// What a checkpoint or snapshot holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Header {
    /// The last entry covered, and the membership there.
    pub(super) applied: SnapshotMeta,
    /// The store's revision there.
    pub(super) revision: u64,
    /// The rolling hash there.
    pub(super) state_hash: u64,
    /// How many changes.
    pub(super) records: u64,
    /// How many sessions.
    pub(super) sessions: u64,
    /// What version 3 has brought; it is written after all the rest.
    #[serde(skip)]
    pub(super) later: Later,
    /// The checksum of the row of users and roles; 0 if there is none. Written after `later`, since
    /// version 4.
    #[serde(skip)]
    pub(super) auth: u64,
    /// The alarms that are raised. Written after `auth`, since version 5.
    #[serde(skip)]
    pub(super) alarms: Arc<Alarms>,
}

/// The part of a header that files and streams have since version 3.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Later {
    /// Up to where changes are compacted; 0 if nowhere.
    pub(super) compacted: u64,
    /// How late it is.
    pub(super) time: Time,
    /// How many leases.
    pub(super) leases: u64,
}

impl Later {
    const SINCE: Version = Version(3);

    /// Whether files and streams of `version` have it.
    pub(super) const fn is_in(version: u16) -> bool {
        version >= Self::SINCE.0
    }
}

impl Header {
    /// The version of a file or stream with this header: the oldest that reads it. All that
    /// version 2 has brought are its memberships.
    pub(super) fn version(&self) -> Version {
        let version = self.applied.membership.version();
        match self {
            Self { alarms, .. } if !alarms.is_untouched() => version.max(ALARMS_SINCE),
            Self { auth: 1.., .. } => version.max(AUTH_SINCE),
            Self { later, .. } if *later != Later::default() => version.max(Later::SINCE),
            _ => version,
        }
    }

    /// Whether a store can be so: one that was read from outside need not be.
    pub(super) fn is_sound(&self) -> bool {
        self.revision <= COUNT_MAX
            && self.later.compacted <= self.revision
            && self.alarms.is_sound()
    }
}

/// Whether this program reads a file or stream of `version`; if not, what is to be said.
pub(super) fn readable(version: u16) -> Result<(), String> {
    let newest = NEWEST.0;
    if version > newest {
        return Err(format!(
            "written by a newer version of this program: it has format version {version}, this \
             one reads up to {newest}"
        ));
    }
    if version == 0 { Err("it has format version 0, which was never used".into()) } else { Ok(()) }
}

/// Why bytes are not what was written.
#[derive(Debug)]
pub(super) struct Damage(pub(super) String);

/// The changes of a row that was written by this module.
pub(super) fn unpack(row: &[u8]) -> Result<Vec<Record>, Damage> {
    let damage = || Damage("a row of changes has rotted".into());
    let mut rest = body(row).ok_or_else(damage)?;
    let mut records = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<LENGTH>() {
        let (bytes, tail) =
            tail.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(damage)?;
        records.push(Record::parse(bytes).ok_or_else(damage)?);
        rest = tail;
    }
    Ok(records)
}

/// Makes the next row of `records` in `out` and takes them off the front; returns the row's
/// position, that of its first change. `None` when there are no more.
pub(super) fn pack(records: &mut &[Record], out: &mut Vec<u8>) -> Option<Position> {
    let position = records.first()?.position();
    out.clear();
    out.extend_from_slice(&[0; CHECKSUM]);
    while let Some((record, rest)) = records.split_first() {
        let bytes = record.bytes();
        if out.len() > CHECKSUM && out.len() + LENGTH + bytes.len() > ROW_BYTES {
            break;
        }
        let length = u32::try_from(bytes.len()).expect("a record is bounded");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(bytes);
        *records = rest;
    }
    seal(out);
    Some(position)
}

/// The row of session `id`.
pub(super) fn session_row(id: u64, session: &Session) -> Vec<u8> {
    match &session.owner {
        None => sealed(&id.to_le_bytes(), session),
        owner => sealed(&id.to_le_bytes(), &(session, owner)),
    }
}

/// What [`session_row`] has made.
fn session_of(row: &[u8], front: &[u8]) -> Option<Session> {
    let plain = unsealed::<Session>(row, front);
    plain.or_else(|| {
        let (session, owner) = unsealed::<(Session, Option<Box<str>>)>(row, front)?;
        Some(session.owned(owner))
    })
}

/// The row of users and roles.
pub(super) fn auth_row(auth: &Auth) -> Vec<u8> {
    sealed(&[], auth)
}

/// Whether files and streams of `version` may have users and roles.
pub(super) const fn has_auth(version: u16) -> bool {
    version >= AUTH_SINCE.0
}

/// Whether files and streams of `version` may have alarms.
pub(super) const fn has_alarms(version: u16) -> bool {
    version >= ALARMS_SINCE.0
}

/// The header as a stream has it.
pub(super) fn header_row(header: &Header) -> Vec<u8> {
    match header.version().0 {
        version if has_alarms(version) => {
            sealed(&[], &(header, &header.later, header.auth, &*header.alarms))
        }
        version if has_auth(version) => sealed(&[], &(header, &header.later, header.auth)),
        version if Later::is_in(version) => sealed(&[], &(header, &header.later)),
        _ => sealed(&[], header),
    }
}

/// What [`header_row`] has made of a stream of `version`.
pub(super) fn header_of(row: &[u8], version: u16) -> Option<Header> {
    let header = if has_alarms(version) {
        let (header, later, auth, alarms) = unsealed(row, &[])?;
        Header { later, auth, alarms: Arc::new(alarms), ..header }
    } else if has_auth(version) {
        let (header, later, auth) = unsealed(row, &[])?;
        Header { later, auth, ..header }
    } else if Later::is_in(version) {
        let (header, later) = unsealed(row, &[])?;
        Header { later, ..header }
    } else {
        unsealed(row, &[])?
    };
    header.is_sound().then_some(header)
}

/// The row of lease `id`.
pub(super) fn lease_row(id: u64, term: &LeaseTerm) -> Vec<u8> {
    sealed(&id.to_le_bytes(), term)
}

/// A checksum, `front`, and the encoding of `value`.
pub(super) fn sealed<T: Serialize>(front: &[u8], value: &T) -> Vec<u8> {
    let mut out = BytesMut::zeroed(CHECKSUM);
    out.extend_from_slice(front);
    raft_core::codec::put(value, &mut out);
    let mut out = Vec::from(out);
    seal(&mut out);
    out
}

/// What [`sealed`] has sealed: the checksum matches, and nothing is left over.
pub(super) fn unsealed<'a, T: Deserialize<'a>>(bytes: &'a [u8], front: &[u8]) -> Option<T> {
    let mut rest = body(bytes)?.strip_prefix(front)?;
    let value = raft_core::codec::take(&mut rest).ok()?;
    rest.is_empty().then_some(value)
}

/// The checksum that a row begins with.
pub(super) fn checksum(row: &[u8]) -> u64 {
    u64::from_le_bytes(row[..CHECKSUM].try_into().expect("a row begins with its checksum"))
}

/// The first `N` bytes after the checksum, if the checksum matches.
pub(super) fn front<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    body(bytes)?.first_chunk().copied()
}

fn seal(row: &mut [u8]) {
    let checksum = xxh3_64(&row[CHECKSUM..]);
    row[..CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

fn body(bytes: &[u8]) -> Option<&[u8]> {
    let (sum, body) = bytes.split_first_chunk::<CHECKSUM>()?;
    (u64::from_le_bytes(*sum) == xxh3_64(body)).then_some(body)
}

/// Checks rows as they are read: intact, in order, and as many as the header says.
pub(super) struct Check {
    header: Header,
    /// Position of the last change seen.
    last: Position,
    last_session: Option<u64>,
    last_lease: Option<u64>,
    records: u64,
    sessions: u64,
    leases: u64,
    auth: u64,
}

impl Check {
    pub(super) fn new(header: &Header) -> Self {
        let header = header.clone();
        let (last_session, last_lease) = (None, None);
        let (records, sessions, leases) = (0, 0, 0);
        Self { header, last: (0, 0), last_session, last_lease, records, sessions, leases, auth: 0 }
    }

    /// Checks a row of changes; `each` gets them. Returns the row's position.
    pub(super) fn row(
        &mut self,
        row: &[u8],
        mut each: impl FnMut(Record),
    ) -> Result<Position, Damage> {
        let last = self.last;
        let damage = |what| {
            Damage(format!("the row of changes after revision {}.{} {what}", last.0, last.1))
        };
        if row.len() > ROW_BYTES_MAX {
            return Err(damage("is too long"));
        }
        let mut rest = body(row).ok_or_else(|| damage("does not match its checksum"))?;
        let mut position = None;
        while let Some((length, tail)) = rest.split_first_chunk::<LENGTH>() {
            let (bytes, tail) = tail
                .split_at_checked(u32::from_le_bytes(*length) as usize)
                .ok_or_else(|| damage("ends within a change"))?;
            let record = Record::parse(bytes).ok_or_else(|| damage("holds a malformed change"))?;
            if record.position() <= self.last || record.mod_revision() > self.header.revision {
                return Err(damage("holds a change out of order"));
            }
            self.last = record.position();
            self.records += 1;
            position.get_or_insert(self.last);
            each(record);
            rest = tail;
        }
        position.filter(|_| rest.is_empty()).ok_or_else(|| damage("is cut short"))
    }

    /// Checks the row of a session; returns its id and the session.
    pub(super) fn session(&mut self, row: &[u8]) -> Result<(u64, Session), Damage> {
        let damage = || Damage(format!("the session after {:?} is damaged", self.last_session));
        let front: [u8; 8] = front(row).ok_or_else(damage)?;
        let id = u64::from_le_bytes(front);
        let session = session_of(row, &front).ok_or_else(damage)?;
        if self.last_session.is_some_and(|last| last >= id) {
            return Err(damage());
        }
        self.last_session = Some(id);
        self.sessions += 1;
        Ok((id, session))
    }

    /// Checks the row of a lease; returns its id and the lease.
    pub(super) fn lease(&mut self, row: &[u8]) -> Result<(u64, LeaseTerm), Damage> {
        let damage = || Damage(format!("the lease after {:?} is damaged", self.last_lease));
        let front: [u8; 8] = front(row).ok_or_else(damage)?;
        let id = u64::from_le_bytes(front);
        let term = unsealed(row, &front).ok_or_else(damage)?;
        if self.last_lease.is_some_and(|last| last >= id) {
            return Err(damage());
        }
        self.last_lease = Some(id);
        self.leases += 1;
        Ok((id, term))
    }

    /// Checks the row of users and roles; returns them.
    pub(super) fn auth(&mut self, row: &[u8]) -> Result<Auth, Damage> {
        let damage = || Damage("users and roles are damaged".into());
        let mut auth: Auth = unsealed(row, &[]).ok_or_else(damage)?;
        if self.auth != 0 || checksum(row) != self.header.auth {
            return Err(damage());
        }
        self.auth = self.header.auth;
        auth.loaded();
        Ok(auth)
    }

    /// Checks that all has been seen.
    pub(super) fn finish(&self) -> Result<(), Damage> {
        let Self { header, records, sessions, leases, .. } = self;
        if self.auth != header.auth {
            return Err(Damage("users and roles are missing".into()));
        }
        if *records != header.records {
            return Err(Damage(format!("{records} changes where {} were written", header.records)));
        }
        if *sessions != header.sessions {
            let written = header.sessions;
            return Err(Damage(format!("{sessions} sessions where {written} were written")));
        }
        if *leases != header.later.leases {
            let written = header.later.leases;
            return Err(Damage(format!("{leases} leases where {written} were written")));
        }
        Ok(())
    }
}
