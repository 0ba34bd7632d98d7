//! `raft inspect log` shows what was written, and says what is damaged.

use clap::Parser;
use raft_cli::args::{Cli, Verb};
use raft_cli::failure::{Failure, Kind};
use raft_cli::inspect;
use raft_cli::output::{Format, Output};
use raft_core::log_store::LogStore;
use raft_core::raft::{GroupOp, LogOp};
use raft_core::types::{
    ClusterId, Entry, GroupId, HardState, Identity, Incarnation, LogId, NodeId, Payload, Run, Term,
};
use raft_storage_redb::RedbLog;
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

const COMMAND: &str = "a command that is found again in the file";

/// A log with an identity, a vote and twenty entries, one row each.
fn log() -> TempDir {
    let dir = TempDir::new().unwrap();
    let mut log = RedbLog::open(dir.path()).unwrap();
    log.load(GroupId(0)).unwrap();
    let identity =
        Identity { cluster: ClusterId(42), node: NodeId(2), incarnation: Incarnation(7) };
    let mut write = |op| log.write(&[GroupOp { group: GroupId(0), op }]).unwrap();
    write(LogOp::Identity(identity));
    write(LogOp::HardState(HardState { term: Term(3), vote: Some(NodeId(1)) }));
    for index in 1..=20 {
        let payload = Payload::Command(COMMAND.into());
        let entry = Entry { id: LogId::new(index, 3), payload };
        write(LogOp::Append(Run::new(vec![entry]).unwrap()));
    }
    dir
}

fn run(dir: &Path, format: Format, more: &[&str]) -> (String, Result<(), Failure>) {
    let line = ["raft", "inspect", "log", dir.to_str().unwrap()];
    let cli = Cli::try_parse_from(line.iter().chain(more)).unwrap();
    let Verb::Inspect(args) = cli.verb else { panic!("not inspect") };
    let mut text = Vec::new();
    let outcome = inspect::run(&args, &mut Output::new(format, &mut text));
    (String::from_utf8(text).unwrap(), outcome)
}

#[test]
fn every_row_is_shown_and_added_up() {
    let dir = log();
    let (text, outcome) = run(dir.path(), Format::Table, &[]);
    outcome.unwrap();
    assert!(text.contains("identity cluster=000000000000002a node=n2"), "{text}");
    assert!(text.contains("append 20@3 command 41 bytes"), "{text}");
    assert!(text.contains("g0: term 3, voted for n1"), "{text}");
    assert!(text.contains("20 entries after 0@0 up to 20@3"), "{text}");
}

#[test]
fn rows_are_chosen_by_place() {
    let dir = log();
    let rows = |more: &[&str]| -> Vec<u64> {
        let (text, outcome) = run(dir.path(), Format::Json, more);
        outcome.unwrap();
        let values = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        values.filter_map(|value| value["row"].as_u64()).collect()
    };
    assert_eq!(rows(&[]).len(), 22);
    assert_eq!(rows(&["--tail", "2"]), [21, 22]);
    assert_eq!(rows(&["--from", "5", "--limit", "2"]), [5, 6]);
    assert!(rows(&["--limit", "0"]).is_empty());
}

#[test]
fn a_script_finds_an_entry() {
    let dir = log();
    let (text, _) = run(dir.path(), Format::Json, &[]);
    let values: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let records = values.iter().filter_map(|value| value["records"].as_array()).flatten();
    let entry = records.clone().find(|record| record["index"] == 17).unwrap();
    assert_eq!(entry["kind"], "append");
    assert_eq!(entry["term"], 3);
    assert_eq!(entry["payload"], "command");
    let summary = &values.last().unwrap()["summary"];
    assert_eq!(summary["intact"], true);
    assert_eq!(summary["groups"][0]["identity"]["node"], 2);
    assert_eq!(summary["groups"][0]["last"]["index"], 20);
}

/// What is before the damage is shown, the damage is named, and the outcome is a failure.
#[test]
fn damage_is_named() {
    let dir = log();
    // What was in its tail goes into its database.
    drop(RedbLog::open(dir.path()).unwrap());
    let path = dir.path().join("log.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    let found = bytes.windows(COMMAND.len()).rposition(|window| window == COMMAND.as_bytes());
    bytes[found.unwrap()] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (text, outcome) = run(dir.path(), Format::Json, &[]);
    let failure = outcome.unwrap_err();
    assert_eq!(failure.kind, Kind::Local);
    assert!(failure.message.contains("corrupt"), "{failure}");
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["summary"]["intact"], false);
}

#[test]
fn a_directory_without_a_log_is_named() {
    let dir = TempDir::new().unwrap();
    let (_, outcome) = run(dir.path(), Format::Table, &[]);
    let failure = outcome.unwrap_err();
    assert_eq!(failure.kind, Kind::Local);
    assert!(failure.message.contains("log.redb"), "{failure}");
}

#[test]
fn a_log_in_use_is_left_alone() {
    let dir = log();
    let _open = RedbLog::open(dir.path()).unwrap();
    let (_, outcome) = run(dir.path(), Format::Table, &[]);
    assert!(outcome.unwrap_err().message.contains("in use"));
}
