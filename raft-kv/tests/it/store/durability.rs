//! The checkpoint file: what it holds after a crash, and what is made of a damaged one.

use super::support::{Fed, last_index, membership, one, put_bytes, replayed};
use raft_core::log_store::StorageError;
use raft_core::state_machine::StateMachine;
use raft_core::types::{LogId, Payload, SnapshotMeta};
use raft_kv::api::*;
use raft_kv::store::KvStore;
use redb::{Database, ReadableTable, TableDefinition};
use std::fs;
use std::path::{Path, PathBuf};

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    (directory, path)
}

#[test]
fn a_new_file_is_empty() {
    let (_directory, path) = scratch();
    let mut store = KvStore::open(&path).unwrap();
    assert_eq!(store.applied(), SnapshotMeta::default());
    assert_eq!(store.summary().revision, Revision(1));
    assert!(store.checkpoint().is_none(), "there is nothing to write");
    assert!(store.snapshot().is_err(), "there is no checkpoint yet");
    drop(store);
    assert_eq!(KvStore::open(&path).unwrap().applied(), SnapshotMeta::default());
}

#[test]
fn what_was_checkpointed_is_there_and_what_came_after_is_not() {
    let (_directory, path) = scratch();
    let mut fed = Fed::at(&path);
    fed.entry(Payload::Membership(membership("a:1").into()));
    fed.put("a", "1");
    fed.delete(one("a"));
    fed.put("b", "1");
    let meta = fed.checkpoint();
    assert_eq!(meta, SnapshotMeta { last: LogId::new(4, 1), membership: membership("a:1") });
    assert!(fed.store.checkpoint().is_none(), "nothing has changed since");
    let summary = fed.store.summary();
    fed.put("c", "1");
    drop(fed.store);
    let store = KvStore::open(&path).unwrap();
    assert_eq!((store.applied(), store.summary()), (meta, summary));
}

#[test]
fn applying_goes_on_while_a_checkpoint_is_written() {
    let (_directory, path) = scratch();
    let mut fed = Fed::at(&path);
    let session = fed.open_session();
    let request = |seq| Some(RequestId { session, seq, unanswered_from: 1 });
    fed.command(request(1), Action::Op(put_bytes("a", "1".into()))).unwrap();
    let at = fed.store.summary();
    let job = fed.store.checkpoint().unwrap();
    fed.command(request(2), Action::Op(put_bytes("a", "2".into()))).unwrap();
    assert_eq!(job().unwrap().last, LogId::new(2, 1));
    let mut fed = fed;
    let second = fed.store.checkpoint().unwrap();
    let end = fed.store.summary();
    let log = std::mem::take(&mut fed.log);
    drop(fed);
    let reopened = KvStore::open(&path);
    assert!(matches!(reopened, Err(StorageError::InUse(_))), "the job still has the file");
    drop(second);
    let store = KvStore::open(&path).unwrap();
    assert_eq!(store.summary(), at);
    drop(store);
    assert_eq!(Fed { store: KvStore::in_memory(), log }.crash(&path).store.summary(), end);
}

#[test]
fn a_checkpoint_is_never_left_out() {
    let (_directory, path) = scratch();
    let mut fed = Fed::at(&path);
    fed.put("a", "1");
    fed.checkpoint();
    fed.put("b", "1");
    drop(fed.store.checkpoint());
    fed.put("c", "1");
    let error = fed.store.checkpoint().unwrap()().unwrap_err();
    assert!(error.to_string().contains("checkpoint 2 was never written"), "{error}");
    let fed = fed.crash(&path);
    assert_eq!(fed.store.summary(), replayed(&fed.log).summary());
}

#[test]
fn a_change_longer_than_a_row_and_rows_of_many() {
    let (_directory, path) = scratch();
    let mut fed = Fed::at(&path);
    for n in 0..3000 {
        fed.put(&format!("k{n}"), "some value that fills the rows up to their limit");
    }
    fed.op(put_bytes("big", vec![1; VALUE_BYTES_MAX].into())).unwrap();
    fed.op(put_bytes("big", vec![2; VALUE_BYTES_MAX].into())).unwrap();
    assert_eq!(fed.delete(Keys::prefix("k")).1, 3000);
    fed.put("k1", "again");
    fed.checkpoint();
    let summary = fed.store.summary();
    drop(fed.store);
    let store = KvStore::open(&path).unwrap();
    assert_eq!(store.summary(), summary);
    assert_eq!((summary.keys, last_index(&store).0), (2, 3004));
}

#[test]
fn two_stores_cannot_share_a_file() {
    let (_directory, path) = scratch();
    let first = KvStore::open(&path).unwrap();
    assert!(matches!(KvStore::open(&path), Err(StorageError::InUse(_))));
    drop(first);
    assert!(KvStore::open(&path).is_ok());
}

/// A file with some checkpoints, and what it holds.
fn filled(path: &Path) -> Summary {
    let mut fed = Fed::at(path);
    let session = fed.open_session();
    for n in 0..40 {
        let request = Some(RequestId { session, seq: n + 1, unanswered_from: 1 });
        let action = Action::Op(put_bytes(&format!("key{n}"), vec![n as u8; 3000].into()));
        fed.command(request, action).unwrap();
        if n % 10 == 9 {
            fed.checkpoint();
        }
    }
    fed.store.summary()
}

#[test]
fn a_flipped_byte_is_noticed_or_did_not_matter() {
    let (directory, path) = scratch();
    let summary = filled(&path);
    let bytes = fs::read(&path).unwrap();
    let damaged = directory.path().join("damaged.redb");
    let mut refused = 0;
    let mut named = 0;
    for offset in (0..bytes.len()).step_by(bytes.len() / 150) {
        let mut copy = bytes.clone();
        copy[offset] ^= 0x10;
        fs::write(&damaged, copy).unwrap();
        match KvStore::open(&damaged) {
            Ok(store) => assert_eq!(store.summary(), summary, "byte {offset}"),
            Err(error) => {
                refused += 1;
                named += usize::from(error.to_string().contains("revision"));
            }
        }
    }
    assert!(refused > 5 && named > 2, "{refused} refused, {named} naming the revision");
}

#[test]
fn a_damaged_value_is_named_by_its_revision() {
    let (_directory, path) = scratch();
    filled(&path);
    let mut bytes = fs::read(&path).unwrap();
    let value = [25; 100];
    let at = bytes.windows(value.len()).position(|window| window == value).unwrap();
    bytes[at + 50] ^= 1;
    fs::write(&path, bytes).unwrap();
    let Err(StorageError::Corrupt(text)) = KvStore::open(&path) else { panic!() };
    // Revisions 22 to 31 are those of one checkpoint, in one row.
    assert!(text.contains("after revision 21.0 does not match its checksum"), "{text}");
    assert!(text.contains("kv.redb"), "{text}");
}

#[test]
fn a_truncated_or_foreign_file_is_refused() {
    let (_directory, path) = scratch();
    filled(&path);
    let bytes = fs::read(&path).unwrap();
    for length in [1, 100, 4096, bytes.len() / 2, bytes.len() - 4096] {
        fs::write(&path, &bytes[..length]).unwrap();
        let refused = KvStore::open(&path);
        assert!(matches!(refused, Err(StorageError::Corrupt(_))), "{length} bytes");
    }
    fs::write(&path, b"something else altogether").unwrap();
    assert!(matches!(KvStore::open(&path), Err(StorageError::Corrupt(_))));
}

#[test]
fn an_interrupted_restore_is_cleared_away() {
    let (directory, path) = scratch();
    let summary = filled(&path);
    let beside = directory.path().join("kv.redb.restore");
    fs::write(&beside, b"half a snapshot").unwrap();
    assert_eq!(KvStore::open(&path).unwrap().summary(), summary);
    assert!(!beside.exists());
}

const CHANGES: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("changes");
const SESSIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("sessions");

/// What opening says after `tamper` has changed rows behind the store's back, with every row left
/// intact in itself.
fn tampered(path: &Path, tamper: impl FnOnce(&redb::WriteTransaction)) -> String {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    tamper(&transaction);
    transaction.commit().unwrap();
    drop(database);
    match KvStore::open(path) {
        Err(StorageError::Corrupt(text)) => text,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[test]
fn a_missing_row_is_noticed() {
    let (_directory, path) = scratch();
    filled(&path);
    let text = tampered(&path, |transaction| {
        drop(transaction.open_table(CHANGES).unwrap().remove((12, 0)).unwrap().unwrap());
    });
    assert!(text.contains("30 changes where 40 were written"), "{text}");

    let (_directory, path) = scratch();
    filled(&path);
    let text = tampered(&path, |transaction| {
        drop(transaction.open_table(SESSIONS).unwrap().remove(1).unwrap().unwrap());
    });
    assert!(text.contains("0 sessions where 1 were written"), "{text}");
}

#[test]
fn a_row_in_another_place_is_noticed() {
    let (_directory, path) = scratch();
    filled(&path);
    let text = tampered(&path, |transaction| {
        let mut table = transaction.open_table(CHANGES).unwrap();
        let row = table.remove((32, 0)).unwrap().unwrap().value().to_vec();
        table.insert((33, 0), &row[..]).unwrap();
    });
    assert!(text.contains("in another's place"), "{text}");
}

#[test]
fn an_old_row_put_back_is_noticed() {
    let (_directory, path) = scratch();
    let mut fed = Fed::at(&path);
    let session = fed.open_session();
    let request = |seq| Some(RequestId { session, seq, unanswered_from: 1 });
    let mut rows = Vec::new();
    for seq in 1..=2 {
        fed.command(request(seq), Action::Op(put_bytes("a", "1".into()))).unwrap();
        fed.checkpoint();
        let Fed { store, log } = fed;
        drop(store);
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let table = transaction.open_table(SESSIONS).unwrap();
        rows.push(table.get(session.0).unwrap().unwrap().value().to_vec());
        drop(table);
        transaction.abort().unwrap();
        drop(database);
        fed = Fed { store: KvStore::open(&path).unwrap(), log };
    }
    drop(fed);
    assert_ne!(rows[0], rows[1]);
    let text = tampered(&path, |transaction| {
        transaction.open_table(SESSIONS).unwrap().insert(session.0, &rows[0][..]).unwrap();
    });
    assert!(text.contains("rows were exchanged"), "{text}");
}
