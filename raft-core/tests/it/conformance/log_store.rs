//! The kit of log stores.

use super::plain_log::{Bug, PlainLog};
use raft_core::log_store::{LogStore, MemoryLog, StorageError};
use raft_core::raft::{GroupOp, Loaded};
use raft_core::testing::Breach;
use raft_core::testing::Random;
use raft_core::testing::log_store::{Disk, Extent, Loss, Operation, check, check_on_disk};
use raft_core::types::GroupId;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Quick, since these stores are simple.
fn extent() -> Extent {
    Extent { seed: 3, writes: 40, crash_every: 1, failures: 60, flips: 300 }
}

#[test]
fn a_sound_store_passes() {
    let report = check_on_disk(|disk| PlainLog::open(disk, Bug::None), &extent()).unwrap();
    println!("{report}");
    assert!(report.crashes > 300 && report.failures == 60, "{report}");
    assert!(report.flips == 300 && report.flips_noticed > 250, "{report}");
}

fn breach(bug: Bug) -> Breach {
    check_on_disk(|disk| PlainLog::open(disk, bug), &extent()).expect_err(&format!("{bug:?}"))
}

#[test]
fn every_bug_breaks_its_rule() {
    let bugs = [
        (Bug::AcknowledgesBeforeFlush, "durable"),
        (Bug::FlushesEverySecondWrite, "durable"),
        (Bug::TruncatesOnAnyAppend, "append"),
        (Bug::ForgetsTheVote, "identity"),
        (Bug::ForgetsTheVoteOnReset, "term and vote"),
        (Bug::KeepsATruncatedSuffix, "truncate"),
        (Bug::ReordersWrites, "identity"),
        (Bug::ReordersOperations, "order"),
        (Bug::WritesInParts, "durable"),
        (Bug::MixesUpGroups, "groups"),
        (Bug::LosesTheBoundary, "term and vote"),
        (Bug::AcceptsGaps, "gap"),
        (Bug::RetriesAfterAFailure, "failure"),
        (Bug::CutsOffWhatIsBroken, "damage"),
        (Bug::HasNoChecksum, "durable"),
        (Bug::TrustsLengths, "panics"),
        (Bug::CallsDamageAnEngineError, "damage"),
    ];
    let mut wrong = Vec::new();
    for (bug, rule) in bugs {
        let breach = breach(bug);
        println!("{bug:?}: {breach}\n");
        if breach.rule != rule {
            wrong.push(format!("{bug:?} is not told by `{rule}`: {breach}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_breach_says_what_to_fix() {
    let text = breach(Bug::ForgetsTheVoteOnReset).to_string();
    let expected = "the rule `term and vote` is broken
  when:     the process ends right after write 7 of 9, ";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("expected: g0 term 2 vote n3 after 20@2 []"), "{text}");
    assert!(text.contains("found:    g0 term 2 no vote after 20@2 []"), "{text}");
    assert_eq!(format!("{:?}", breach(Bug::ForgetsTheVoteOnReset)), text);
}

/// A log in memory that outlives its store, as if it were a disk.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<MemoryLog>>);

impl LogStore for Kept {
    fn load(&mut self, group: GroupId) -> Result<Loaded, StorageError> {
        self.0.lock().unwrap().load(group)
    }

    fn write(&mut self, ops: &[GroupOp]) -> Result<(), StorageError> {
        let mut log = self.0.lock().unwrap();
        let mut after = log.clone();
        after.write(ops)?;
        *log = after;
        Ok(())
    }
}

#[test]
fn the_log_in_memory_passes_while_it_lives() {
    // The kit copies the directory: the file in it names the log, and a copy of the directory is
    // another way to it.
    let logs = RefCell::new(BTreeMap::new());
    let open = |dir: &Path| {
        let name = dir.join("name");
        if !name.exists() {
            fs::write(&name, dir.display().to_string()).unwrap();
        }
        let name = fs::read_to_string(name).unwrap();
        Ok(logs.borrow_mut().entry(name).or_insert_with(Kept::default).clone())
    };
    let report = check(open).unwrap();
    assert!(report.scenarios > 12, "{report}");
    assert_eq!(check(|_| Ok(MemoryLog::new())).unwrap_err().rule, "identity");
}

#[test]
fn a_store_that_keeps_what_it_should_hand_to_the_system_is_found() {
    // It writes its file when it is closed.
    struct Lazy(PlainLog, Disk, std::path::PathBuf);
    impl LogStore for Lazy {
        fn load(&mut self, group: GroupId) -> Result<Loaded, StorageError> {
            self.0.load(group)
        }
        fn write(&mut self, ops: &[GroupOp]) -> Result<(), StorageError> {
            self.0.write(ops)
        }
    }
    impl Drop for Lazy {
        fn drop(&mut self) {
            fs::write(&self.2, self.1.file("log").contents().unwrap()).unwrap();
        }
    }
    let breach = check(|dir| {
        let (disk, path) = (Disk::new(), dir.join("log"));
        if path.exists() {
            disk.damage("log", |bytes| *bytes = fs::read(&path).unwrap());
        }
        Ok(Lazy(PlainLog::open(&disk, Bug::None)?, disk, path))
    });
    let breach = breach.unwrap_err();
    assert_eq!(breach.rule, "identity");
    assert!(breach.step.starts_with("the process ends right after write 1"), "{breach}");
}

#[test]
fn a_disk_keeps_what_was_flushed_and_any_part_of_the_rest() {
    let disk = Disk::new();
    let recording = disk.record();
    let file = disk.file("a");
    file.write(0, &[1; 2048]).unwrap();
    file.flush().unwrap();
    recording.mark(7);
    file.write(0, &[2; 1536]).unwrap();
    disk.file("b").write(10, &[3; 3]).unwrap();
    assert_eq!(disk.files(), [("a".into(), 2048), ("b".into(), 13)]);
    let mut random = Random::new(1);
    let (mut seen, mut points) = (std::collections::BTreeSet::new(), 0);
    let visited: Result<(), ()> = recording.replay(|point| {
        points += 1;
        if point.number() < 4 {
            assert_eq!(point.mark(), (point.number() > 1).then_some(7));
            return Ok(());
        }
        let bytes = |disk: &Disk, name| disk.file(name).contents().unwrap();
        let (lost, kept) =
            (point.image(Loss::All, &mut random), point.image(Loss::Nothing, &mut random));
        assert_eq!((bytes(&lost, "a"), bytes(&lost, "b")), (vec![1; 2048], vec![]));
        assert_eq!((bytes(&kept, "a"), bytes(&kept, "b")), (bytes(&disk, "a"), bytes(&disk, "b")));
        for _ in 0..400 {
            let image = point.image(Loss::Scattered, &mut random);
            let a = bytes(&image, "a");
            assert!(a.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
            assert_eq!(a[2047], 1);
            seen.insert(([a[0], a[512], a[1024]], image.file("b").is_empty()));
        }
        Ok(())
    });
    visited.unwrap();
    assert_eq!(points, 5);
    // Every combination of three sectors and another file.
    assert_eq!(seen.len(), 16);
}

#[test]
fn a_failed_flush_is_not_made_good_by_the_next() {
    let disk = Disk::new();
    let file = disk.file("a");
    let recording = disk.record();
    file.write(0, b"lost").unwrap();
    disk.fail(Operation::Flush, ErrorKind::Other);
    assert_eq!(file.flush().unwrap_err().kind(), ErrorKind::Other);
    disk.heal();
    file.flush().unwrap();
    assert_eq!(file.contents().unwrap(), b"lost");
    let mut last = Disk::new();
    let visited: Result<(), ()> = recording.replay(|point| {
        last = point.image(Loss::Nothing, &mut Random::new(1));
        Ok(())
    });
    visited.unwrap();
    assert!(last.file("a").is_empty());
    disk.fail_once(1);
    file.write(4, b" and").unwrap();
    assert_eq!(file.write(8, b" more").unwrap_err().kind(), ErrorKind::StorageFull);
    file.write(8, b" found").unwrap();
    assert_eq!((disk.operations(), disk.changes()), (7, 6));
}
