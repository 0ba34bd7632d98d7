//! Damaged data is moved aside, and wherever that is cut off, the node begins anew and forms no
//! cluster.

use bytes::Bytes;
use raft_cli::failure::Failure;
use raft_cli::serve::GROUP;
use raft_cli::serve::data::{CHECKPOINT_FILE, Data};
use raft_cli::serve::plan::Plan;
use raft_core::log_store::LogStore;
use raft_core::raft::{GroupOp, Loaded, LogOp};
use raft_core::state_machine::StateMachine;
use raft_core::types::{
    ClusterId, Entry, Identity, Incarnation, LogId, NodeId, Payload, Run, Term,
};
use raft_kv::store::KvStore;
use raft_storage_redb::{ACK_FILE, LOG_FILE, RedbLog, TAIL_FILE};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn plan(dir: &Path, more: &[&str]) -> Plan {
    let dir = dir.to_str().unwrap();
    let files = ["--ca", "ca.pem", "--cert", "n.pem", "--key", "n-key.pem"];
    let line = ["raft", "serve", "--id", "1", "--data-dir", dir].into_iter().chain(files);
    let formation = ["--cluster", "n1=a:1,n2=b:1,n3=c:1"];
    let more = if more.is_empty() { &formation[..] } else { more };
    let cli =
        <raft_cli::args::Cli as clap::Parser>::try_parse_from(line.chain(more.iter().copied()));
    let raft_cli::args::Verb::Serve(args) = cli.unwrap().verb else { panic!("not serve") };
    Plan::of(&args).unwrap()
}

/// The directory of a node that has applied ten entries and made a checkpoint of them.
fn filled() -> TempDir {
    let dir = TempDir::new().unwrap();
    let mut log = RedbLog::open(dir.path()).unwrap();
    let identity =
        Identity { cluster: ClusterId(42), node: NodeId(1), incarnation: Incarnation(7) };
    let entry = |index| Entry {
        id: LogId::new(index, 1),
        payload: Payload::Command(Bytes::from_static(b"something that is found again")),
    };
    let run = Run::new((1..=10).map(entry).collect()).unwrap();
    for op in [LogOp::Identity(identity), LogOp::Append(run.clone())] {
        log.write(&[GroupOp { group: GROUP, op }]).unwrap();
    }
    drop(log);
    // What was in its tail goes into its database.
    drop(RedbLog::open(dir.path()).unwrap());
    let mut machine = KvStore::open(&dir.path().join(CHECKPOINT_FILE)).unwrap();
    machine.apply(&run);
    machine.checkpoint().unwrap()().unwrap();
    dir
}

fn break_log(dir: &Path) {
    let path = dir.join(LOG_FILE);
    let mut bytes = fs::read(&path).unwrap();
    let needle = b"something that is found again";
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn break_checkpoint(dir: &Path) {
    fs::OpenOptions::new()
        .write(true)
        .open(dir.join(CHECKPOINT_FILE))
        .unwrap()
        .set_len(5000)
        .unwrap();
}

/// Does what a start does until the node would run.
fn start(plan: &Plan) -> Result<(Data, Loaded), Failure> {
    let mut data = Data::open(plan)?;
    let mut loaded = data.log.load(GROUP).unwrap();
    if loaded.identity.is_none() && data.machine.applied().last != LogId::ZERO {
        drop(data);
        data = Data::replace(plan, "the log is lost")?;
        loaded = data.log.load(GROUP).unwrap();
    }
    Ok((data, loaded))
}

fn assert_begins_anew(dir: &Path, case: &str) {
    let (data, loaded) = start(&plan(dir, &[])).unwrap();
    assert!(data.moved_aside, "{case}: it would form a cluster");
    assert_eq!(loaded, Loaded::default(), "{case}: it keeps what it cannot rely on");
    assert_eq!(data.machine.applied().last, LogId::ZERO, "{case}");
    drop(data);
    // And at every start after that.
    assert!(start(&plan(dir, &[])).unwrap().0.moved_aside, "{case}");
}

#[test]
fn whatever_is_damaged_goes_aside_and_stays_there() {
    let breaks: [fn(&Path); 3] = [break_log, break_checkpoint, |dir| {
        fs::remove_file(dir.join(LOG_FILE)).unwrap();
        fs::remove_file(dir.join(ACK_FILE)).unwrap();
    }];
    for damage in breaks {
        let dir = filled();
        damage(dir.path());
        let before = fs::read(dir.path().join(CHECKPOINT_FILE)).unwrap();
        assert_begins_anew(dir.path(), "damaged");
        let kept = dir.path().join("damaged-1").join(CHECKPOINT_FILE);
        assert_eq!(fs::read(kept).unwrap().len(), before.len());
    }
}

/// A disk that damages data again and again is not filled with copies of it.
#[test]
fn the_newest_two_folders_are_kept() {
    let dir = filled();
    let kept = dir.path().join("damaged-by-hand");
    fs::create_dir(&kept).unwrap();
    for number in 1..=12 {
        fs::write(dir.path().join("note"), number.to_string()).unwrap();
        Data::give_up(&plan(dir.path(), &[]), "a test").unwrap();
        let folders: Vec<u32> = (1..=12)
            .filter(|number| dir.path().join(format!("damaged-{number}")).exists())
            .collect();
        assert_eq!(folders, (number.max(2) - 1..=number).collect::<Vec<_>>());
        let note = dir.path().join(format!("damaged-{number}")).join("note");
        assert_eq!(fs::read_to_string(note).unwrap(), number.to_string());
    }
    assert!(kept.exists(), "nobody has numbered it");
    assert!(start(&plan(dir.path(), &[])).unwrap().0.moved_aside);
}

/// After any part of the moves, in any order a power cut may leave them in, the next start does not
/// take what is left for whole, and never forms a cluster.
#[test]
fn a_crash_between_the_moves_changes_nothing() {
    let breaks: [fn(&Path); 2] = [break_log, break_checkpoint];
    // The log's files are moved, and that is durable, before the checkpoint is.
    let cuts: [&[&str]; 10] = [
        &[],
        &[LOG_FILE],
        &[ACK_FILE],
        &[TAIL_FILE],
        &[LOG_FILE, ACK_FILE],
        &[LOG_FILE, TAIL_FILE],
        &[ACK_FILE, TAIL_FILE],
        &[LOG_FILE, TAIL_FILE, ACK_FILE],
        &[LOG_FILE, ACK_FILE, CHECKPOINT_FILE],
        &[LOG_FILE, TAIL_FILE, ACK_FILE, CHECKPOINT_FILE],
    ];
    for damage in breaks {
        for moved in cuts {
            let dir = filled();
            damage(dir.path());
            let folder = dir.path().join("damaged-1");
            fs::create_dir(&folder).unwrap();
            for name in moved {
                fs::rename(dir.path().join(name), folder.join(name)).unwrap();
            }
            assert_begins_anew(dir.path(), &format!("moved {moved:?}"));
        }
    }
}

#[test]
fn a_whole_directory_is_left_alone() {
    let dir = filled();
    let (data, loaded) = start(&plan(dir.path(), &[])).unwrap();
    assert!(!data.moved_aside);
    assert_eq!(loaded.last_index().0, 10);
    assert_eq!(data.machine.applied().last.term, Term(1));
}

/// Where nobody has the data, or somebody said so, nothing is touched.
#[test]
fn damage_stops_where_it_should() {
    let cluster = ["--cluster", "n1=a:1,n2=b:1,n3=c:1", "--on-damage", "stop"];
    let cases: [(&[&str], &str); 2] =
        [(&cluster, "--on-damage rejoin"), (&["--single", "--listen", "a:1"], "raft recover")];
    for (more, says) in cases {
        let dir = filled();
        break_log(dir.path());
        let failure = start(&plan(dir.path(), more)).err().unwrap();
        assert!(failure.message.contains(LOG_FILE), "{failure}");
        assert!(failure.advice.unwrap().contains(says));
        assert!(!dir.path().join("damaged-1").exists());
    }
}
