//! What an import remembers: in any order of acknowledgements, never more than is written.

use raft_cli::failure::Kind;
use raft_cli::verbs::import::ledger::{Ledger, Resume};
use raft_cli::verbs::import::source::{self, Batch, Stop};
use std::io::{self, Cursor, Read};
use std::path::Path;

use crate::fake::block_on;
use raft_cli::records::Format;

fn resume(path: &Path, source: &str) -> Resume {
    Resume { path: path.into(), source: source.into() }
}

#[test]
fn only_leading_lines_count() {
    let dir = tempfile::tempdir().expect("a temporary folder can be had");
    let (path, acked) = (dir.path().join("state"), dir.path().join("acked"));
    let open = || Ledger::open(Some(&acked), Some(resume(&path, "a"))).expect("opened");
    let saved = || resume(&path, "a").load().expect("readable");

    let mut ledger = open();
    assert_eq!((ledger.leading(), saved()), (0, 0));
    ledger.written(2).expect("noted");
    ledger.written(4).expect("noted");
    ledger.save().expect("saved");
    assert_eq!(saved(), 0, "line 1 is not written");
    ledger.written(1).expect("noted");
    ledger.done(3);
    ledger.save().expect("saved");
    assert_eq!((ledger.leading(), saved()), (4, 4));
    assert_eq!(std::fs::read_to_string(&acked).expect("readable"), "2\n4\n1\n");

    let mut ledger = open();
    assert_eq!(ledger.leading(), 4);
    ledger.written(5).expect("noted");
    ledger.save().expect("saved");
    assert_eq!(saved(), 5);
    assert_eq!(std::fs::read_to_string(&acked).expect("readable"), "2\n4\n1\n5\n");
    let left = std::fs::read_dir(dir.path()).expect("readable").count();
    assert_eq!(left, 2, "no temporary file stays");
}

#[test]
#[should_panic(expected = "line 1 is done twice")]
fn a_line_is_done_once() {
    let mut ledger = Ledger::open(None, None).expect("opened");
    ledger.done(1);
    ledger.done(1);
}

#[test]
fn a_resume_file_belongs_to_one_import() {
    let dir = tempfile::tempdir().expect("a temporary folder can be had");
    let path = dir.path().join("state");
    resume(&path, "a").store(7).expect("stored");
    let failure = resume(&path, "b").load().expect_err("another import's");
    assert_eq!(failure.kind, Kind::Usage);
    assert!(failure.message.ends_with("belongs to the import of a, not b"), "{failure}");
    std::fs::write(&path, "garbage").expect("written");
    let failure = resume(&path, "a").load().expect_err("garbage");
    assert_eq!(failure.kind, Kind::Usage);
    assert!(failure.message.contains("is not a resume file"), "{failure}");
    let nowhere = dir.path().join("no/such/folder");
    assert_eq!(resume(&nowhere, "a").store(1).expect_err("no folder").kind, Kind::Local);
}

fn read(reader: impl Read + Send + 'static, skip: u64) -> (Vec<u64>, u64, Option<Stop>) {
    let mut batches = source::read(reader, Format::Tsv, skip).expect("a thread can be had");
    block_on(async {
        let (mut numbers, mut total, mut end) = (Vec::new(), 0, None);
        while let Some(Batch { lines, bytes, stop }) = batches.recv().await {
            assert!(end.is_none(), "nothing follows a stop");
            numbers.extend(lines.iter().map(|line| line.number));
            total += bytes;
            end = stop;
        }
        (numbers, total, end)
    })
}

#[test]
fn lines_are_numbered_from_one_and_skipped() {
    let text = "a\t1\n\nb\t2\nc\t3";
    let all = text.len() as u64;
    assert_eq!(read(text.as_bytes(), 0), (vec![1, 2, 3, 4], all, None));
    assert_eq!(read(text.as_bytes(), 2), (vec![3, 4], all, None));
    assert_eq!(read(text.as_bytes(), 4), (vec![], all, None));
    assert_eq!(read(text.as_bytes(), 5), (vec![], all, Some(Stop::Short(4))));
    assert_eq!(read(&b""[..], 0), (vec![], 0, None));
}

#[test]
fn many_lines_keep_their_order() {
    let text: String = (0..10_000).map(|number| format!("{number}\tv\n")).collect();
    let (numbers, bytes, stop) = read(Cursor::new(text.clone()), 0);
    assert_eq!(numbers, (1..=10_000).collect::<Vec<_>>());
    assert_eq!((bytes, stop), (text.len() as u64, None));
}

#[test]
fn a_bad_line_ends_it_after_those_before() {
    let (numbers, _, stop) = read(&b"a\t1\nb\t2\nbad\nc\t3\n"[..], 0);
    assert_eq!(numbers, [1, 2]);
    assert_eq!(stop, Some(Stop::Malformed(3, "no tab between key and value".into())));
    let endless = Cursor::new(b"k\tv\n").chain(io::repeat(b'x'));
    let (numbers, _, stop) = read(endless, 0);
    assert_eq!(numbers, [1]);
    let error = "the line is longer than 8388608 bytes".to_owned();
    assert_eq!(stop, Some(Stop::Malformed(2, error)));
}

#[test]
fn a_reader_that_fails_is_told_apart_from_the_end() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("disk gone"))
        }
    }
    let (numbers, _, stop) = read(Cursor::new(b"k\tv\n").chain(Broken), 0);
    assert_eq!((numbers, stop), (vec![1], Some(Stop::Unreadable(1, "disk gone".into()))));
}
