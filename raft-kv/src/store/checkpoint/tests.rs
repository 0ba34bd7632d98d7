//! What is sent of a damaged file, and what the engine's errors become.

use super::super::changes::CHANGES;
use super::super::format::sealed;
use super::super::snapshot::SnapshotReader;
use super::*;
use crate::api::{Action, Command, Op, Put};
use crate::codec;
use bytes::Bytes;
use raft_core::types::{Entry, LogId, Payload};
use std::collections::BTreeMap;
use std::io::Read;

/// A file with two checkpoints of 20 values each and a session.
fn filled(path: &Path) {
    let file = CheckpointFile::open(path).unwrap();
    let mut state = State::new(true);
    let mut apply = |number: u64, action| {
        let command = codec::encode(&Command { request: None, fence: None, action });
        let id = LogId::new(number, 1);
        state.apply(&Entry { id, payload: Payload::Command(command) }, &mut Default::default());
        number.is_multiple_of(20).then(|| state.freeze_changes())
    };
    apply(1, Action::OpenSession);
    for number in 2..=40 {
        let value = vec![number as u8; 3000];
        let put = Op::Put(Put::new(format!("k{number}"), value));
        if let Some(frozen) = apply(number, Action::Op(put)) {
            file.write(number / 20 - 1, &frozen).unwrap();
        }
    }
}

/// What is sent of the file, and the file, which is to stay open meanwhile.
fn stream(path: &Path) -> (CheckpointFile, impl Read) {
    let file = CheckpointFile::open(path).unwrap();
    let snapshot = file.snapshot().unwrap().unwrap();
    (file, snapshot.data)
}

/// The file is opened without reading its rows: as if they rotted after the store was loaded.
fn sending_fails(path: &Path, expected: &str) {
    let (_file, mut stream) = stream(path);
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    assert!(error.starts_with("corrupt: ") && error.contains("kv.redb"), "{error}");
    assert!(error.contains(expected), "{error}");
    // Whoever reads on gets nothing that looks like the rest.
    for _ in 0..3 {
        assert!(stream.read(&mut [0; 100]).is_err());
    }
}

fn tamper(path: &Path, work: impl FnOnce(&WriteTransaction)) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    work(&transaction);
    transaction.commit().unwrap();
}

#[test]
fn what_is_intact_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    filled(&path);
    let mut bytes = Vec::new();
    let (_file, mut stream) = stream(&path);
    stream.read_to_end(&mut bytes).unwrap();
    let (reader, header) = SnapshotReader::open(Box::new(io::Cursor::new(bytes))).unwrap();
    assert_eq!((header.records, header.sessions), (39, 1));
    reader.into_state(header).unwrap();
}

#[test]
fn a_value_that_rots_is_not_sent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    filled(&path);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(100).position(|window| window == [25; 100]).unwrap();
    bytes[at + 50] ^= 1;
    fs::write(&path, bytes).unwrap();
    sending_fails(&path, "does not match its checksum");
}

#[test]
fn rows_that_are_missing_or_in_another_place_are_not_made_up_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    filled(&path);
    let mut row = Vec::new();
    tamper(&path, |transaction| {
        let mut table = transaction.open_table(CHANGES).unwrap();
        row = table.pop_last().unwrap().unwrap().1.value().to_vec();
    });
    sending_fails(&path, "19 changes where 39 were written");
    tamper(&path, |transaction| {
        let mut table = transaction.open_table(CHANGES).unwrap();
        table.insert((1000, 0), &row[..]).unwrap();
    });
    sending_fails(&path, "in another's place");
}

#[test]
fn a_session_that_was_exchanged_is_not_sent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    filled(&path);
    tamper(&path, |transaction| {
        // The same session, another time of use.
        let session = (99_u64, 1_u64, BTreeMap::<u64, Option<Bytes>>::new());
        let row = sealed(&1_u64.to_le_bytes(), &session);
        let mut table = transaction.open_table(SESSIONS).unwrap();
        assert_eq!(table.insert(1, &row[..]).unwrap().unwrap().value().len(), row.len());
    });
    sending_fails(&path, "rows were exchanged");
}

#[test]
fn a_file_that_ends_early_or_makes_no_sense_is_corrupt() {
    for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::InvalidData] {
        let error = engine_error("kv.redb".into(), redb::Error::Io(kind.into()));
        assert!(matches!(error, StorageError::Corrupt(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("kv.redb"), "{text}");
        assert!(text.contains("where others hold the data"), "{text}");
    }
    let error = engine_error("kv.redb".into(), redb::Error::Io(io::ErrorKind::StorageFull.into()));
    assert!(matches!(error, StorageError::Io { .. }), "{error:?}");
}
