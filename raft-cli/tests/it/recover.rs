//! `raft recover` on the directories of nodes that do not run: what is compared, what is refused,
//! what is written.

use crate::fake::printed;
use bytes::Bytes;
use clap::Parser;
use raft_cli::args::{Cli, Verb};
use raft_cli::failure::{Failure, Kind};
use raft_cli::output::Format;
use raft_cli::recover;
use raft_cli::recover::survivor::Survivor;
use raft_cli::serve::GROUP;
use raft_cli::serve::data::CHECKPOINT_FILE;
use raft_core::log_store::LogStore;
use raft_core::raft::{GroupOp, LogOp};
use raft_core::state_machine::StateMachine;
use raft_core::types::{
    ClusterId, Entry, HardState, Identity, Incarnation, LogId, Member, Membership, NodeId, Payload,
    Run, SnapshotMeta, Term,
};
use raft_kv::store::KvStore;
use raft_storage_redb::{LOG_FILE, RedbLog};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tempfile::TempDir;

/// The members n1 to n3, each bound to the life of its own number.
fn members() -> Membership {
    let member = |id: u64| {
        let incarnation = Some(Incarnation(id));
        (NodeId(id), Member { incarnation, ..Member::new(format!("n{id}:1")) })
    };
    Membership::of_voters((1..=3).map(member).collect())
}

fn command(index: u64, term: u64) -> Entry {
    let payload = Payload::Command(Bytes::from(format!("command {index}@{term}")));
    Entry { id: LogId::new(index, term), payload }
}

/// A node to make a directory of.
#[derive(Clone)]
struct Made {
    node: u64,
    cluster: u64,
    entries: Vec<Entry>,
    /// How many of them are applied and checkpointed.
    applied: usize,
}

impl Made {
    /// The membership as the first entry, then commands, one for each of `terms`.
    fn new(node: u64, terms: &[u64]) -> Self {
        let first = Entry { id: LogId::new(1, 1), payload: Payload::Membership(members().into()) };
        let commands = (2..).zip(terms).map(|(index, term)| command(index, *term));
        Self {
            node,
            cluster: 42,
            entries: [first].into_iter().chain(commands).collect(),
            applied: 2,
        }
    }

    fn write(&self, parent: &Path) -> PathBuf {
        let dir = parent.join(format!("n{}", self.node));
        let mut log = RedbLog::open(&dir).unwrap();
        let term = self.entries.last().unwrap().id.term;
        let identity = Identity {
            cluster: ClusterId(self.cluster),
            node: NodeId(self.node),
            incarnation: Incarnation(self.node),
        };
        let ops = [
            LogOp::Identity(identity),
            LogOp::HardState(HardState { term, vote: Some(NodeId(1)) }),
            LogOp::Append(Run::new(self.entries.clone()).unwrap()),
        ];
        log.write(&ops.map(|op| GroupOp { group: GROUP, op })).unwrap();
        let mut machine = KvStore::open(&dir.join(CHECKPOINT_FILE)).unwrap();
        if self.applied > 0 {
            machine.apply(&Run::new(self.entries[..self.applied].to_vec()).unwrap());
            machine.checkpoint().unwrap()().unwrap();
        }
        dir
    }
}

fn run(format: Format, words: &[&str]) -> (String, Result<(), Failure>) {
    let cli = Cli::try_parse_from(["raft", "recover"].iter().chain(words)).unwrap();
    let Verb::Recover(args) = cli.verb else { panic!("not recover") };
    printed(format, async |output| recover::run(&args, output))
}

fn plan(dirs: &[&Path]) -> (Value, Result<(), Failure>) {
    let dirs = dirs.iter().map(|dir| dir.to_str().unwrap());
    let words: Vec<&str> = ["plan"].into_iter().chain(dirs).collect();
    let (text, outcome) = run(Format::Json, &words);
    (serde_json::from_str(&text).unwrap_or_default(), outcome)
}

/// Later term first, then longer (§5.4.1).
#[test]
fn the_best_is_who_would_be_elected() {
    let cases: [(&[u64], &[u64], u64); 3] = [
        (&[1, 1, 1], &[1, 2], 2),
        (&[1, 1, 2], &[1, 1, 2, 2], 2),
        (&[1, 2, 2], &[1, 1, 1, 1, 1], 1),
    ];
    for (first, second, best) in cases {
        let parent = TempDir::new().unwrap();
        let one = Made::new(1, first).write(parent.path());
        let two = Made::new(2, second).write(parent.path());
        let (json, outcome) = plan(&[&one, &two]);
        outcome.unwrap();
        assert_eq!(json["best"]["node"], best, "{json}");
        assert_eq!(json["missing"], serde_json::json!([3]));
        assert_eq!(json["quorum"], true, "two of three lose nothing");
        assert_eq!(json["lost_after"], Value::Null);
    }
}

#[test]
fn a_plan_says_what_may_be_lost() {
    let parent = TempDir::new().unwrap();
    let dir = Made::new(2, &[1, 1, 3]).write(parent.path());
    let (json, outcome) = plan(&[&dir]);
    outcome.unwrap();
    assert_eq!(json["quorum"], false);
    assert_eq!(json["missing"], serde_json::json!([1, 3]));
    assert_eq!(json["lost_after"], serde_json::json!({ "index": 4, "term": 3 }));
    assert_eq!(json["committed"], serde_json::json!({ "index": 2, "term": 1 }));
    let (text, _) = run(Format::Table, &["plan", dir.to_str().unwrap()]);
    assert!(text.contains("acknowledged after entry 4@3 that only n1,n3 had"), "{text}");
    assert!(text.contains("raft recover apply --from"), "{text}");
}

#[test]
fn what_does_not_belong_together_is_not_compared() {
    let parent = TempDir::new().unwrap();
    let one = Made::new(1, &[1, 1]).write(parent.path());
    let refused = |other: Made, says: &str| {
        let elsewhere = TempDir::new().unwrap();
        let (_, outcome) = plan(&[&one, &other.write(elsewhere.path())]);
        let failure = outcome.unwrap_err();
        assert_eq!(failure.kind, Kind::Usage, "{failure}");
        assert!(failure.message.contains(says), "{failure}");
    };
    refused(Made { cluster: 43, ..Made::new(2, &[1]) }, "of cluster");
    let mut contradicts = Made::new(2, &[1, 1]);
    contradicts.entries[2].payload = Payload::Noop;
    refused(contradicts, "different entries");
    let mut anew = Made::new(2, &[1, 2]);
    let membership = members().recovered(NodeId(2), Member::new("n2:1"));
    anew.entries[2].payload = Payload::Membership(membership.into());
    refused(anew, "history epoch");
}

#[test]
fn damage_is_listed_and_use_is_refused() {
    let parent = TempDir::new().unwrap();
    let one = Made::new(1, &[1, 1]).write(parent.path());
    let two = Made::new(2, &[1]).write(parent.path());
    fs::OpenOptions::new().write(true).open(two.join(LOG_FILE)).unwrap().set_len(9000).unwrap();
    let (json, outcome) = plan(&[&one, &two]);
    outcome.unwrap();
    assert_eq!(json["best"]["node"], 1);
    assert!(json["unusable"][0]["error"].as_str().unwrap().contains("corrupt"), "{json}");
    let (_, outcome) = plan(&[&two]);
    assert_eq!(outcome.unwrap_err().kind, Kind::Local);

    let _open = RedbLog::open(&one).unwrap();
    let failure = plan(&[&one]).1.unwrap_err();
    assert!(failure.message.contains("in use"), "{failure}");
}

fn apply(from: &Path, to: &Path, more: &[&str]) -> (String, Result<(), Failure>) {
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    let words = ["apply", "--from", from, "--to", to, "--advertise", "n9:9"];
    run(Format::Json, &words.iter().chain(more).copied().collect::<Vec<_>>())
}

/// Every byte in a directory, by name.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn a_new_cluster_has_everything_the_survivor_had() {
    let parent = TempDir::new().unwrap();
    let made = Made::new(2, &[1, 1, 3, 3, 3]);
    let from = made.write(parent.path());
    let before = contents(&from);
    let to = parent.path().join("new");
    // An earlier try was cut off.
    fs::create_dir(parent.path().join("new.partial")).unwrap();
    fs::write(parent.path().join("new.partial").join(LOG_FILE), b"half").unwrap();
    let began = now_ms();
    let (text, outcome) = apply(&from, &to, &["--yes"]);
    outcome.unwrap();
    assert_eq!(contents(&from), before, "the survivor is not touched");
    assert!(!parent.path().join("new.partial").exists());
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["node"], 2);
    let epoch = json["epoch"].as_u64().unwrap();
    assert!((began..=now_ms()).contains(&epoch), "made once more, it would be another history");

    let new = Survivor::read(&to).unwrap();
    assert_eq!(new.identity.node, NodeId(2));
    assert_ne!(new.identity.cluster, ClusterId(42));
    assert_ne!(new.identity.incarnation, Incarnation(2));
    assert_eq!(new.hard_state, HardState { term: Term(4), vote: Some(NodeId(2)) });
    let (last, entries) = new.entries.split_last().unwrap();
    assert_eq!(entries, made.entries);
    assert_eq!(last.id, LogId::new(7, 4));
    let membership = new.membership();
    assert_eq!((membership.voters(), membership.epoch()), (&[NodeId(2)][..], epoch));
    assert_eq!(membership.members().len(), 1);
    assert_eq!(membership.members()[&NodeId(2)].address, "n9:9");
    assert!(membership.admits(NodeId(2), new.identity.incarnation));
    assert_eq!(new.checkpoint, Survivor::read(&from).unwrap().checkpoint);
}

/// Where the checkpoint is ahead of the log - a snapshot was installed, and no more - it is where
/// the new log begins.
#[test]
fn a_log_that_was_about_to_start_anew_does() {
    let parent = TempDir::new().unwrap();
    let made = Made { applied: 0, ..Made::new(3, &[1, 1]) };
    let from = made.write(parent.path());
    let mut machine = KvStore::open(&from.join(CHECKPOINT_FILE)).unwrap();
    let ahead = Made::new(3, &[1, 1, 2, 2, 2]);
    machine.apply(&Run::new(ahead.entries).unwrap());
    machine.checkpoint().unwrap()().unwrap();
    drop(machine);
    let to = parent.path().join("new");
    apply(&from, &to, &["--yes", "--cluster-id", "77"]).1.unwrap();
    let new = Survivor::read(&to).unwrap();
    let boundary = SnapshotMeta { last: LogId::new(6, 2), membership: members() };
    assert_eq!((new.boundary.clone(), new.entries.len()), (boundary, 1));
    assert_eq!(new.last(), LogId::new(7, 3));
    assert_eq!(new.identity.cluster, ClusterId(0x77));
}

/// A node of a recovered cluster that has not yet all the old entries knows only the old epoch.
#[test]
fn who_lags_behind_is_of_the_same_history() {
    let parent = TempDir::new().unwrap();
    let mut ahead = Made::new(1, &[1, 2]);
    let membership = members().recovered(NodeId(1), Member::new("n1:1"));
    ahead.entries[2].payload = Payload::Membership(membership.into());
    let behind = Made::new(2, &[1]);
    let (json, outcome) = plan(&[&ahead.write(parent.path()), &behind.write(parent.path())]);
    outcome.unwrap();
    assert_eq!(json["best"]["node"], 1, "{json}");
}

/// The log is damaged or gone, the checkpoint whole: that can be gone on from.
#[test]
fn a_checkpoint_alone_will_do() {
    let breaks: [fn(&Path); 2] = [
        |log| fs::write(log, b"no log at all").unwrap(),
        |log| fs::OpenOptions::new().write(true).open(log).unwrap().set_len(9000).unwrap(),
    ];
    for damage in breaks {
        let parent = TempDir::new().unwrap();
        let mut made = Made::new(2, &[1, 1, 1]);
        let (id, member) =
            (NodeId(2), Member { incarnation: Some(Incarnation(2)), ..Member::new("n2:1") });
        made.entries[0].payload =
            Payload::Membership(Membership::of_voters([(id, member)].into()).into());
        let from = made.write(parent.path());
        damage(&from.join(LOG_FILE));
        let failure = plan(&[&from]).1.unwrap_err();
        assert!(failure.to_string().contains("--checkpoint-only"), "{failure}");
        let to = parent.path().join("new");
        assert!(apply(&from, &to, &["--yes"]).1.is_err());
        apply(&from, &to, &["--yes", "--checkpoint-only"]).1.unwrap();
        let new = Survivor::read(&to).unwrap();
        assert_eq!((new.identity.node, new.boundary.last), (NodeId(2), LogId::new(2, 1)));
        assert_eq!(new.last(), LogId::new(3, 2));
        assert!(new.membership().epoch() > 1);
    }
}

#[test]
fn nothing_is_written_unless_all_is_right() {
    let parent = TempDir::new().unwrap();
    let from = Made::new(2, &[1]).write(parent.path());
    let to = parent.path().join("new");
    let failure = apply(&from, &to, &[]).1.unwrap_err();
    assert_eq!(failure.kind, Kind::Usage);
    assert!(failure.to_string().contains("--yes"), "{failure}");
    let failure = apply(&from, &to, &["--yes", "--cluster-id", "2a"]).1.unwrap_err();
    assert!(failure.message.contains("that of the old cluster"), "{failure}");
    assert!(!to.exists());
    fs::create_dir(&to).unwrap();
    fs::write(to.join("diary"), b"mine").unwrap();
    let failure = apply(&from, &to, &["--yes"]).1.unwrap_err();
    assert!(failure.message.contains("not empty"), "{failure}");
    assert_eq!(contents(&to).len(), 1);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2, "nothing is left beside");
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}
