//! `raft snapshot` without a cluster: what is refused, and leaves nothing behind.

use crate::fake::printed;
use clap::Parser;
use raft_cli::args::snapshot::SnapshotAction;
use raft_cli::args::{Cli, Verb};
use raft_cli::failure::{Failure, Kind};
use raft_cli::output::Format;
use raft_cli::{recover, verbs};
use raft_core::state_machine::StateMachine;
use raft_core::types::{Entry, LogId, Member, Membership, NodeId, Payload, Run};
use raft_kv::store::KvStore;
use std::fs;
use std::io::Read;
use std::path::Path;

fn run(words: &[&str]) -> (String, Result<(), Failure>) {
    let cli = Cli::try_parse_from(["raft", "snapshot"].iter().chain(words)).unwrap();
    let Verb::Snapshot(args) = cli.verb else { panic!("not snapshot") };
    printed(Format::Table, async |output| match &args.action {
        SnapshotAction::Status(args) => verbs::snapshot::status(args, output),
        SnapshotAction::Restore(args) => recover::restore::run(args, output),
        SnapshotAction::Save(_) => panic!("no cluster is here"),
    })
}

/// Writes a backup of a store with members and nothing else.
fn backup(path: &Path) {
    let membership = Membership::of_voters([(NodeId(1), Member::new("a:1"))].into());
    let payload = Payload::Membership(membership.into());
    let mut store = KvStore::in_memory();
    store.apply(&Run::new(vec![Entry { id: LogId::new(1, 1), payload }]).unwrap());
    let mut bytes = Vec::new();
    store.snapshot().unwrap().data.read_to_end(&mut bytes).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_backup_is_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path().join("backup"), dir.path().join("to"));
    backup(&path);
    let (file, target) = (path.to_str().unwrap(), to.to_str().unwrap());
    let (text, outcome) = run(&["status", file]);
    outcome.unwrap();
    assert!(text.contains("0 keys at revision 1") && text.contains("checksum ok"), "{text}");
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let failure = run(&["status", file]).1.unwrap_err();
        assert_eq!(failure.kind, Kind::Local, "{failure:?}");
        assert!(failure.message.contains(file), "{failure:?}");
        let failure = run(&["restore", file, "--to", target, "--members", "n1=a:1"]).1;
        assert_eq!(failure.unwrap_err().kind, Kind::Local);
    }
    assert!(!to.exists() && !to.with_extension("partial").exists());
    let failure = run(&["status", "/nowhere"]).1.unwrap_err();
    assert_eq!(failure.kind, Kind::Local);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, to) = (dir.path().join("backup"), dir.path().join("to"));
    backup(&path);
    let (file, target) = (path.to_str().unwrap(), to.to_str().unwrap());
    let twice = ["restore", file, "--to", target, "--members", "n1=a:1,n1=b:1"];
    let failure = run(&twice).1.unwrap_err();
    assert!(failure.kind == Kind::Usage && failure.message.contains("n1 twice"), "{failure:?}");
    let restore = ["restore", file, "--to", target, "--members", "n1=a:1,n2=b:1"];
    fs::create_dir_all(to.join("n2")).unwrap();
    fs::write(to.join("n2").join("something"), "").unwrap();
    let failure = run(&restore).1.unwrap_err();
    assert!(failure.kind == Kind::Usage && failure.message.contains("not empty"), "{failure:?}");
    assert!(!to.join("n1").exists(), "none is written if not all can be");
    fs::remove_dir_all(&to).unwrap();
    let (text, outcome) = run(&restore);
    outcome.unwrap();
    assert!(text.contains("raft serve --id 2") && text.contains("begins at revision"), "{text}");
}
