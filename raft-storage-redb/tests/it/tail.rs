//! The tail: small commits are gathered there, and it is never trusted too far.

use crate::disk::open_on;
use crate::support::{Model, append, hard_state, resize_tail, run, settle};
use raft_core::log_store::{LogStore, StorageError};
use raft_core::raft::GroupOp;
use raft_core::testing::Random;
use raft_core::testing::log_store::{CrashPoint, Disk, Loss, Operation};
use raft_storage_redb::{ACK_FILE, LOG_FILE, RedbLog, TAIL_FILE, inspect};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Where frames may begin.
const BLOCK: usize = 4096;

fn small(index: u64) -> [GroupOp; 2] {
    [hard_state(0, index, 1), append(0, run(index, index, index, 100))]
}

/// A directory as it is left by a process that is killed after `writes` small writes.
fn killed_after(writes: u64) -> (tempfile::TempDir, Model) {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut model = Model::default();
    let mut log = RedbLog::open(dir.path()).unwrap();
    for index in 1..=writes {
        log.write(&small(index)).unwrap();
        model.apply(&small(index));
    }
    for name in [LOG_FILE, TAIL_FILE, ACK_FILE] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    (copy, model)
}

fn change_tail(dir: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = dir.join(TAIL_FILE);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
}

/// Lets the side file know of the first `rows` rows only, as it may after a power loss.
fn forget_acknowledged(dir: &Path, rows: u64) {
    let (younger, _) = killed_after(rows);
    fs::copy(younger.path().join(ACK_FILE), dir.join(ACK_FILE)).unwrap();
}

fn refused(dir: &Path, expected: &str) {
    let error = RedbLog::open(dir).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt(_)), "{error:?}");
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn small_commits_leave_the_database_alone() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new();
    let mut log = open_on(dir.path(), &disk).unwrap();
    let before = disk.file(LOG_FILE).contents().unwrap();
    for index in 1..=200 {
        log.write(&small(index)).unwrap();
    }
    assert!(disk.file(LOG_FILE).contents().unwrap() == before, "nothing was written there");
    assert_eq!(log.usage().rows, 200);
    // It has no room for so many: they go into the database together, and it begins anew.
    let mut index = 200;
    while disk.file(LOG_FILE).contents().unwrap() == before {
        index += 1;
        log.write(&small(index)).unwrap();
        assert!(index < 300, "the tail is full now");
    }
    // What is large goes there at once.
    let full = disk.file(TAIL_FILE).contents().unwrap();
    log.write(&[append(0, run(index + 1, index + 1, index, 200_000))]).unwrap();
    assert!(disk.file(TAIL_FILE).contents().unwrap() == full, "the tail has none of it");
}

#[test]
fn what_is_in_the_tail_is_found_again() {
    for writes in [1, 2, 50, 254, 255, 256, 257, 600] {
        let (dir, model) = killed_after(writes);
        let inspection = inspect(dir.path()).unwrap();
        assert_eq!(inspection.rows().unwrap().map(Result::unwrap).count() as u64, writes);
        drop(inspection);
        model.check(&mut RedbLog::open(dir.path()).unwrap());
        // Now it is in the database: what the tail held is not needed any more.
        change_tail(dir.path(), |bytes| bytes[BLOCK..].fill(0));
        let mut log = RedbLog::open(dir.path()).unwrap();
        model.check(&mut log);
        log.write(&small(writes + 1)).unwrap();
    }
}

#[test]
fn a_group_can_be_loaded_again_while_its_rows_are_in_the_tail() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = RedbLog::open(dir.path()).unwrap();
    let mut model = Model::default();
    for index in 1..=300 {
        log.write(&small(index)).unwrap();
        model.apply(&small(index));
        model.check(&mut log);
    }
}

#[test]
fn a_frame_cut_short_was_never_acknowledged() {
    let (dir, _) = killed_after(10);
    let (_, model) = killed_after(9);
    forget_acknowledged(dir.path(), 9);
    change_tail(dir.path(), |bytes| bytes[10 * BLOCK + 60] ^= 1);
    let mut log = RedbLog::open(dir.path()).unwrap();
    model.check(&mut log);
    log.write(&small(10)).unwrap();
    drop(log);
    let (_, model) = killed_after(10);
    model.check(&mut RedbLog::open(dir.path()).unwrap());
}

#[test]
fn a_frame_that_was_acknowledged_is_missed() {
    let (dir, _) = killed_after(10);
    change_tail(dir.path(), |bytes| bytes[10 * BLOCK + 60] ^= 1);
    refused(dir.path(), "row 10 was acknowledged, but the log ends at row 9");
}

#[test]
fn a_broken_frame_before_a_whole_one_is_damage_whatever_the_side_file_knows() {
    for broken in 1..10 {
        let (dir, _) = killed_after(10);
        forget_acknowledged(dir.path(), 1);
        change_tail(dir.path(), |bytes| bytes[broken * BLOCK + 30] ^= 0x40);
        let looked_at = inspect(dir.path()).unwrap();
        assert!(looked_at.rows().unwrap().last().unwrap().is_err());
        drop(looked_at);
        refused(dir.path(), &format!("row {broken} is missing"));
    }
}

#[test]
fn every_bit_of_a_frame_counts() {
    let (dir, model) = killed_after(3);
    forget_acknowledged(dir.path(), 2);
    let whole = fs::read(dir.path().join(TAIL_FILE)).unwrap();
    let used = whole[3 * BLOCK..4 * BLOCK].iter().rposition(|byte| *byte != 0).unwrap();
    for place in 0..=used {
        let bit = 1 << (place % 8);
        change_tail(dir.path(), |bytes| bytes[3 * BLOCK + place] ^= bit);
        let looked_at = inspect(dir.path()).unwrap();
        let rows = looked_at.rows().unwrap().map(Result::unwrap).count();
        assert_eq!(rows, 2, "byte {place} is not looked at");
        change_tail(dir.path(), |bytes| bytes[3 * BLOCK + place] ^= bit);
    }
    model.check(&mut RedbLog::open(dir.path()).unwrap());
}

#[test]
fn a_tail_that_does_not_begin_as_it_was_made_is_refused() {
    for place in 0..28 {
        let (dir, _) = killed_after(2);
        change_tail(dir.path(), |bytes| bytes[place] ^= 1);
        assert!(inspect(dir.path()).unwrap().damage().is_some());
        refused(dir.path(), "log.tail: it does not begin as it was made");
    }
    let (dir, _) = killed_after(2);
    change_tail(dir.path(), Vec::clear);
    refused(dir.path(), "log.tail: it does not begin as it was made");
}

#[test]
fn a_lost_tail_is_missed() {
    let (dir, _) = killed_after(5);
    forget_acknowledged(dir.path(), 0);
    fs::remove_file(dir.path().join(TAIL_FILE)).unwrap();
    assert!(inspect(dir.path()).unwrap().damage().is_some());
    refused(dir.path(), "log.tail: it is missing");
    let disk = Disk::new();
    disk.create(LOG_FILE, fs::read(dir.path().join(LOG_FILE)).unwrap()).unwrap();
    let error = open_on(dir.path(), &disk).unwrap_err().to_string();
    assert!(error.contains("log.tail: it is missing"), "{error}");
}

#[test]
fn the_tail_of_a_log_that_is_gone_is_not_taken_up() {
    let (dir, _) = killed_after(5);
    for gone in [LOG_FILE, ACK_FILE] {
        fs::remove_file(dir.path().join(gone)).unwrap();
    }
    let log = RedbLog::open(dir.path()).unwrap();
    assert_eq!(log.usage().rows, 0);
}

#[test]
fn frames_of_another_log_are_none() {
    let (dir, model) = killed_after(3);
    let (other, _) = killed_after(100);
    let foreign = fs::read(other.path().join(TAIL_FILE)).unwrap();
    // As if the value of a client lay there, made to look like later frames.
    change_tail(dir.path(), |bytes| {
        bytes[10 * BLOCK..50 * BLOCK].copy_from_slice(&foreign[20 * BLOCK..60 * BLOCK]);
    });
    model.check(&mut RedbLog::open(dir.path()).unwrap());
}

#[test]
fn a_tail_has_the_length_it_was_made_with() {
    for length in [28, 4096, 4097, 40_000, (1 << 20) - 1, (1 << 20) + 1] {
        let (dir, _) = killed_after(2);
        forget_acknowledged(dir.path(), 0);
        change_tail(dir.path(), |bytes| bytes.resize(length, 0));
        refused(dir.path(), "log.tail: it was made 1048576 bytes long, and is not");
    }
}

#[test]
fn a_shorter_one_holds_less() {
    for length in [28, 4096, 4097, 40_000] {
        let (dir, mut model) = killed_after(300);
        settle(dir.path());
        change_tail(dir.path(), |bytes| resize_tail(bytes, length));
        let mut log = RedbLog::open(dir.path()).unwrap();
        for index in 301..=320 {
            log.write(&small(index)).unwrap();
            model.apply(&small(index));
        }
        drop(log);
        model.check(&mut RedbLog::open(dir.path()).unwrap());
    }
}

#[test]
fn what_a_newer_version_has_written_is_not_called_damage() {
    let (dir, model) = killed_after(2);
    let whole = fs::read(dir.path().join(TAIL_FILE)).unwrap();
    change_tail(dir.path(), |bytes| {
        bytes[..8].copy_from_slice(b"raft-tl9");
        resize_tail(bytes, 1 << 20);
    });
    let error = RedbLog::open(dir.path()).unwrap_err();
    assert!(matches!(&error, StorageError::Format(text) if text.contains("log.tail")), "{error}");
    fs::write(dir.path().join(TAIL_FILE), whole).unwrap();

    let path = dir.path().join(ACK_FILE);
    let whole = fs::read(&path).unwrap();
    let mut newer = whole.clone();
    for slot in newer.chunks_mut(512) {
        slot[..8].copy_from_slice(b"raft-ac9");
        let checksum = crc32c::crc32c(&slot[..20]);
        slot[20..24].copy_from_slice(&checksum.to_le_bytes());
    }
    fs::write(&path, newer).unwrap();
    let error = RedbLog::open(dir.path()).unwrap_err();
    assert!(matches!(&error, StorageError::Format(text) if text.contains("log.ack")), "{error}");
    fs::write(&path, whole).unwrap();
    model.check(&mut RedbLog::open(dir.path()).unwrap());
}

/// What a process reads that takes up after another may be in memory only: killed before its flush,
/// or after one that failed. It is on the disk before anybody builds on it.
#[test]
fn what_was_read_at_open_survives_a_power_loss() {
    for writes in 1..=5 {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new();
        drop(open_on(dir.path(), &disk).unwrap());
        let recording = disk.record();
        let mut log = open_on(dir.path(), &disk).unwrap();
        let mut model = Model::default();
        for index in 1..writes {
            log.write(&small(index)).unwrap();
        }
        disk.fail(Operation::Flush, ErrorKind::Other);
        log.write(&small(writes)).unwrap_err();
        drop(log);
        disk.heal();
        (1..=writes).for_each(|index| model.apply(&small(index)));
        model.check(&mut open_on(dir.path(), &disk).unwrap());

        let mut image = None;
        let mut random = Random::new(writes);
        let last = |point: &CrashPoint| {
            image = Some(point.image(Loss::All, &mut random));
            Ok::<_, ()>(())
        };
        recording.replay(last).unwrap();
        model.check(&mut open_on(dir.path(), &image.unwrap()).unwrap());
    }
}

#[test]
fn a_failure_while_it_opens_loses_nothing() {
    let begun = tempfile::tempdir().unwrap();
    let killed = Disk::new();
    let mut log = open_on(begun.path(), &killed).unwrap();
    let mut model = Model::default();
    for index in 1..=40 {
        log.write(&small(index)).unwrap();
        model.apply(&small(index));
    }
    let killed = killed.copy();
    drop(log);
    let mut failed = 0;
    for number in 0.. {
        let disk = killed.copy();
        disk.fail_once(number);
        let Err(_) = open_on(begun.path(), &disk) else { break };
        failed += 1;
        disk.heal();
        model.check(&mut open_on(begun.path(), &disk).unwrap());
    }
    assert!(failed > 10, "{failed}");
}

#[test]
fn a_log_gets_its_tail_however_far_that_had_come() {
    for renewed in [&[][..], &[0], &[1]] {
        let (dir, model) = killed_after(3);
        settle(dir.path());
        let path = dir.path().join(ACK_FILE);
        let mut bytes = fs::read(&path).unwrap();
        for (number, slot) in bytes.chunks_mut(512).enumerate() {
            if !renewed.contains(&number) {
                slot[..8].copy_from_slice(b"raft-ack");
                let checksum = crc32c::crc32c(&slot[..20]);
                slot[20..24].copy_from_slice(&checksum.to_le_bytes());
            }
        }
        fs::write(&path, bytes).unwrap();
        if renewed.is_empty() {
            fs::remove_file(dir.path().join(TAIL_FILE)).unwrap();
        }
        model.check(&mut RedbLog::open(dir.path()).unwrap());
        let renewed = fs::read(&path).unwrap();
        assert!(renewed.chunks(512).all(|slot| slot.starts_with(b"raft-ac2")));
    }
}

#[test]
fn a_log_that_is_gone_is_missed_though_its_side_file_is_behind() {
    let (dir, _) = killed_after(5);
    forget_acknowledged(dir.path(), 0);
    fs::remove_file(dir.path().join(LOG_FILE)).unwrap();
    refused(dir.path(), "log.redb: is gone, log.tail continues it");
    let disk = Disk::new();
    disk.create(TAIL_FILE, fs::read(dir.path().join(TAIL_FILE)).unwrap()).unwrap();
    let error = open_on(dir.path(), &disk).unwrap_err().to_string();
    assert!(error.contains("log.tail continues it"), "{error}");
}
