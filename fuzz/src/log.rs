//! The durable log: what its files may have become, and what its rows may hold.

use super::disk::Disk;
use super::target::Target;
use bytes::Bytes;
use raft_core::log_store::{LogStore, StorageError};
use raft_core::raft::{GroupOp, Loaded, LogOp};
use raft_core::types::{
    ClusterId, Entry, GroupId, HardState, Identity, Incarnation, LogId, Member, Membership, NodeId,
    Payload, Run, SnapshotMeta, Term,
};
use raft_storage_redb::{ACK_FILE, LOG_FILE, RedbLog, TAIL_FILE, inspect};
use redb::{Database, ReadableDatabase, TableDefinition};
use std::fs;
use std::sync::OnceLock;
use tempfile::TempDir;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "redb_file", run: file, mutants: 5 },
    Target { name: "redb_rows", run: rows, mutants: 25 },
];

const TABLE: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("raft_log");

/// The groups that are looked at.
const GROUPS: [GroupId; 3] = [GroupId(0), GroupId(1), GroupId(2)];

/// What one of the three files becomes by the changes that `bytes` tell: the file (0 the database,
/// 1 the side file, 2 the tail), then for each the place (three bytes) and what to flip there (one
/// byte); 0 cuts the file off.
fn changed(bytes: &[u8], whole: &Files) -> Option<Files> {
    let (which, changes) = bytes.split_first()?;
    let mut files = whole.clone();
    let file = match which % 3 {
        0 => &mut files.log,
        1 => &mut files.ack,
        _ => &mut files.tail,
    };
    for change in changes.chunks_exact(4) {
        let place = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize;
        if file.is_empty() {
            return None;
        }
        let place = place % file.len();
        match change[3] {
            0 => file.truncate(place),
            flipped => file[place] ^= flipped,
        }
    }
    Some(files)
}

#[derive(Clone)]
struct Files {
    log: Vec<u8>,
    ack: Vec<u8>,
    tail: Vec<u8>,
}

/// A log as a killed process leaves it, with rows in the database and in the tail, and what is in
/// it.
fn example() -> &'static (Files, Vec<Loaded>) {
    static EXAMPLE: OnceLock<(Files, Vec<Loaded>)> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let dir = TempDir::new().expect("a directory");
        let read = |name| fs::read(dir.path().join(name)).expect("a file of the log");
        for ops in writes() {
            let mut log = RedbLog::open(dir.path()).expect("a new log");
            log.write(&ops).expect("a healthy disk");
        }
        let mut open = RedbLog::open(dir.path()).expect("a whole log");
        let log = read(LOG_FILE);
        for ops in last_writes() {
            open.write(&ops).expect("a healthy disk");
        }
        let loaded = GROUPS.map(|group| open.load(group).expect("what was written"));
        (Files { log, ack: read(ACK_FILE), tail: read(TAIL_FILE) }, loaded.into())
    })
}

/// What is written into the example: every kind of record, one of them over several rows.
fn writes() -> Vec<Vec<GroupOp>> {
    let op = |group, op| GroupOp { group: GroupId(group), op };
    let members = (1..=3).map(|id| (NodeId(id), Member::new(format!("n{id}:1"))));
    let membership = Membership::of_voters(members.collect());
    let meta = SnapshotMeta { last: LogId::new(2, 1), membership: membership.clone() };
    let identity = Identity { cluster: ClusterId(7), node: NodeId(1), incarnation: Incarnation(9) };
    let hard_state = HardState { term: Term(2), vote: Some(NodeId(3)) };
    let first = Entry { id: LogId::new(1, 1), payload: Payload::Membership(membership.into()) };
    let first = Run::new(vec![first]).expect("one entry");
    vec![
        vec![op(0, LogOp::Identity(identity)), op(0, LogOp::Append(first))],
        vec![op(0, append(2, 6, 1, 20)), op(1, LogOp::HardState(hard_state))],
        vec![op(0, LogOp::HardState(hard_state)), op(0, append(5, 5, 2, 10))],
        vec![op(0, LogOp::Compact(meta.clone())), op(1, append(1, 1, 1, 70_000))],
        vec![op(2, LogOp::Reset(meta)), op(2, append(3, 9, 2, 5))],
    ]
}

/// What is written into its tail.
fn last_writes() -> Vec<Vec<GroupOp>> {
    let op = |group, op| GroupOp { group: GroupId(group), op };
    let hard_state = HardState { term: Term(3), vote: None };
    let writes = [op(2, append(10, 12, 3, 7)), op(0, LogOp::HardState(hard_state))];
    writes.into_iter().chain([op(1, append(2, 2, 3, 9000))]).map(|op| vec![op]).collect()
}

/// Entries `first..=last` with commands of `bytes` bytes.
fn append(first: u64, last: u64, term: u64, bytes: usize) -> LogOp {
    let entry = |index| {
        let payload = Payload::Command(vec![index as u8; bytes].into());
        Entry { id: LogId::new(index, term), payload }
    };
    LogOp::Append(Run::new((first..=last).map(entry).collect()).expect("there are entries"))
}

/// Whether the log opens; then it holds what was written. A refusal says what is wrong.
fn file(bytes: &[u8]) -> bool {
    let (whole, written) = example();
    let Some(Files { log, ack, tail }) = changed(bytes, whole) else { return false };
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join(ACK_FILE), ack).expect("room on disk");
    match RedbLog::with_backends(dir.path(), Disk::of(&log), Disk::of(&tail)) {
        Ok(mut opened) => {
            let found = GROUPS.map(|group| opened.load(group));
            for (found, written) in found.into_iter().zip(written) {
                assert_eq!(content(&found.expect("an open log loads")), content(written));
            }
        }
        Err(StorageError::Corrupt(_) | StorageError::Format(_)) => {}
        Err(other) => panic!("{other:?}"),
    }
    // Who looks at it sees as much as can be read.
    fs::write(dir.path().join(LOG_FILE), log).expect("room on disk");
    fs::write(dir.path().join(TAIL_FILE), tail).expect("room on disk");
    if let Ok(inspection) = inspect(dir.path())
        && let Ok(rows) = inspection.rows()
    {
        rows.for_each(|row| drop(row.map(|row| row.to_string())));
    }
    true
}

/// A log without how its entries are grouped.
fn content(loaded: &Loaded) -> (Option<Identity>, HardState, &SnapshotMeta, Vec<&Entry>) {
    let entries = loaded.entries.iter().flat_map(|run| run.entries());
    (loaded.identity, loaded.hard_state, &loaded.snapshot, entries.collect())
}

/// Bytes in front of each row: sequence number, version, flags, number of records, length.
const FRONT: usize = 6;

/// Rows that match their checksums, in a database without a flaw, whatever they hold. If they make
/// a log it loads the same twice, and once more from another log that it was written into.
fn rows(bytes: &[u8]) -> bool {
    let dir = TempDir::new().expect("a directory");
    let Some(rows) = sealed(bytes) else { return false };
    let (seq, checksum) = rows.last().map_or((0, 0), |(seq, row)| (*seq, checksum_of(row)));
    fs::write(dir.path().join(ACK_FILE), acknowledged(seq, checksum)).expect("room on disk");
    let mut log = match RedbLog::with_backends(dir.path(), database_of(&rows), Disk::default()) {
        Ok(log) => log,
        Err(StorageError::Corrupt(text)) => {
            assert!(!text.contains("inside the engine"), "{text}");
            return false;
        }
        Err(StorageError::Format(_)) => return false,
        Err(other) => panic!("{other:?}"),
    };
    for group in GROUPS {
        let loaded = log.load(group).expect("an open log loads");
        assert_eq!(content(&log.load(group).expect("it did before")), content(&loaded));
        let copy = TempDir::new().expect("a directory");
        let mut other = RedbLog::with_backends(copy.path(), Disk::default(), Disk::default());
        let other = other.as_mut().expect("a new log");
        // A term that falls within a log is for the core to refuse: it would be two runs.
        let ops = ops_of(&loaded).map(|op| GroupOp { group, op }).collect::<Vec<_>>();
        other.write(&ops).expect("what loads can be written");
        assert_eq!(content(&other.load(group).expect("it was written")), content(&loaded));
    }
    true
}

/// What makes an empty log into `loaded`.
fn ops_of(loaded: &Loaded) -> impl Iterator<Item = LogOp> {
    let boundary = LogOp::Reset(loaded.snapshot.clone());
    let appends = loaded.entries.iter().cloned().map(LogOp::Append);
    let identity = loaded.identity.map(LogOp::Identity);
    let hard_state = LogOp::HardState(loaded.hard_state);
    identity.into_iter().chain([hard_state, boundary]).chain(appends)
}

/// The rows that `bytes` tell, with their checksums; `None` if they are not told in order.
fn sealed(bytes: &[u8]) -> Option<Vec<(u64, Bytes)>> {
    let mut rows: Vec<(u64, Bytes)> = Vec::new();
    let mut rest = bytes;
    while let Some((front, tail)) = rest.split_first_chunk::<FRONT>() {
        let [seq, version, flags, records, l0, l1] = *front;
        let (body, tail) = tail.split_at_checked(u16::from_le_bytes([l0, l1]).into())?;
        let seq = u64::from(seq);
        let previous = rows.last().map_or(0, |(_, row)| checksum_of(row));
        if rows.last().is_some_and(|(last, _)| *last >= seq) {
            return None;
        }
        let mut head = vec![version, flags, records, 0];
        head.extend_from_slice(&previous.to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&seq.to_le_bytes()), &head);
        let checksum = crc32c::crc32c_append(checksum, body);
        rows.push((seq, [&head, &checksum.to_le_bytes()[..], body].concat().into()));
        rest = tail;
    }
    rest.is_empty().then_some(rows)
}

fn checksum_of(row: &[u8]) -> u32 {
    u32::from_le_bytes(row[8..12].try_into().expect("four bytes"))
}

/// The side file of a log whose last row is `seq`, and which has no tail yet.
fn acknowledged(seq: u64, checksum: u32) -> Vec<u8> {
    let mut slot = b"raft-ack".to_vec();
    slot.extend_from_slice(&seq.to_le_bytes());
    slot.extend_from_slice(&checksum.to_le_bytes());
    let own = crc32c::crc32c(&slot);
    slot.extend_from_slice(&own.to_le_bytes());
    slot.resize(1024, 0);
    slot
}

/// A database with these rows.
fn database_of(rows: &[(u64, Bytes)]) -> Disk {
    let disk = Disk::default();
    let database = Database::builder().create_with_backend(disk.clone()).expect("in memory");
    let transaction = database.begin_write().expect("in memory");
    let mut table = transaction.open_table(TABLE).expect("in memory");
    for (seq, row) in rows {
        table.insert(seq, &row[..]).expect("in memory");
    }
    drop(table);
    transaction.commit().expect("in memory");
    disk
}

/// The first rows of the example as [`rows`] takes them: one, two, three. What spans rows is too
/// large to be told.
pub(crate) fn example_rows() -> Vec<Vec<u8>> {
    let database = Database::builder().create_with_backend(Disk::of(&example().0.log));
    let database = database.expect("a whole file");
    let read = database.begin_read().expect("in memory");
    let table = read.open_table(TABLE).expect("it is there");
    let mut together = Vec::new();
    let mut told = Vec::new();
    for seq in 1..=3_u8 {
        let row = table.get(u64::from(seq)).expect("in memory").expect("it is there");
        let (head, body) = row.value().split_at(12);
        let length = u16::try_from(body.len()).expect("a small row").to_le_bytes();
        let front = [seq, head[0], head[1], head[2], length[0], length[1]];
        together.extend_from_slice(&[&front, body].concat());
        told.push(together.clone());
    }
    told
}
