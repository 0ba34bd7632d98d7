//! Data that is damaged, lost, or there twice: the node comes back by itself, or is kept out.

use super::support::{GUARD, TestCluster, run, slow};
use nix::sys::signal::Signal;
use raft_core::types::{Incarnation, LogId, NodeId};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::UdpSocket;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

pub(super) const NEEDLE: &str = "a value that is found again in the file";
const KEYS: usize = 50;

/// A way to damage the data directory of a node that does not run.
pub(super) type Damage = fn(&Path);

/// A cluster with data, one node of which was stopped and its directory damaged.
pub(super) async fn damaged(damage: Damage) -> (TestCluster, NodeId, Incarnation) {
    let mut cluster = TestCluster::new(3);
    for id in cluster.processes.folder().ids().collect::<Vec<_>>() {
        // Checkpoints are made soon, so that there are some.
        cluster.processes.start_with(id, &["--checkpoint-bytes", "4096"]).await.unwrap();
    }
    cluster.leader().await;
    for number in 0..KEYS {
        cluster.put(&format!("key{number}"), NEEDLE).await;
    }
    let id = cluster.others(cluster.leader().await)[0];
    cluster.observer.converged(GUARD).await.unwrap();
    let life = cluster.observer.status(id).await.unwrap().incarnation;
    cluster.processes.stop(id).await;
    damage(&cluster.processes.folder().data_dir(id));
    (cluster, id, life)
}

/// Waits until another life of the node is a voter with all data, and reads everything back.
pub(super) async fn comes_back(cluster: &TestCluster, id: NodeId, old: Incarnation) {
    let back = cluster.observer.until("voter in its new life", GUARD, |answers| {
        let statuses = || answers.iter().filter_map(|(_, status)| status.as_ref().ok());
        let own = statuses().find(|status| status.id == id)?;
        let leader = statuses().find(|status| status.leader == Some(status.id))?;
        let member = leader.members.iter().find(|member| member.id == id)?;
        let votes = member.voter && leader.members.iter().filter(|one| one.voter).count() == 3;
        (own.incarnation != old && votes).then_some(())
    });
    back.await.unwrap();
    let status = cluster.observer.converged(GUARD).await.unwrap();
    assert!(status.keys >= KEYS as u64, "{status:?}");
    for number in 0..KEYS {
        let value = cluster.value(&format!("key{number}")).await;
        assert_eq!(value.unwrap(), NEEDLE, "key{number}");
    }
}

/// Whatever part of the data is damaged or lost while a node is down, the same command line brings
/// it back: learner, then voter, and nothing that was acknowledged is lost.
#[tokio::test]
async fn damaged_data_is_got_back_from_the_others() {
    let all: [Damage; 5] = [flip_a_byte, cut_the_end, lose_the_log, cut_the_checkpoint, lose_all];
    for damage in if slow() { &all[..] } else { &all[..1] } {
        let (mut cluster, id, life) = damaged(*damage).await;
        let data = cluster.processes.folder().data_dir(id);
        let lost = fs::read_dir(&data).is_ok_and(|mut names| names.next().is_some());
        cluster.put("meanwhile", "written").await;
        cluster.processes.start(id).await.unwrap();
        comes_back(&cluster, id, life).await;
        assert_eq!(data.join("damaged-1").exists(), lost);
        if lost {
            let log = cluster.log_of(id);
            let line = log.lines().find(|line| line.contains("damaged-1")).expect("it is told");
            assert!(line.contains("ERROR") && line.contains("cannot be used"), "{line}");
        }
        // And it counts: with it, one of the others may fail.
        cluster.processes.kill(cluster.others(id)[0]).await;
        cluster.put("after", "written").await;
    }
}

/// `rm -rf` while it is down, and the same command line.
#[tokio::test]
async fn a_deleted_directory_is_got_back_from_the_others() {
    let (mut cluster, id, life) = damaged(lose_all).await;
    cluster.processes.start(id).await.unwrap();
    comes_back(&cluster, id, life).await;
}

/// All nodes of a cluster are damaged at once. They wait, at every start, for what nobody can give
/// them any more: a cluster without the data under the old name would be worse.
#[tokio::test]
async fn damaged_nodes_never_form_a_cluster() {
    let (mut cluster, id, _) = damaged(flip_a_byte).await;
    cluster.processes.stop_all().await;
    for other in cluster.others(id) {
        flip_a_byte(&cluster.processes.folder().data_dir(other));
    }
    for start in 0..2 {
        cluster.processes.start_all().await.unwrap();
        let (begun, mut answered) = (Instant::now(), BTreeSet::new());
        while answered.len() < 3
            || begun.elapsed() < Duration::from_secs(if slow() { 10 } else { 2 })
        {
            for (id, status) in cluster.observer.statuses().await {
                // A connection to the process before this one ends with an error.
                let Ok(status) = status else { continue };
                answered.insert(id);
                let blank = status.leader.is_none() && status.last_log == LogId::ZERO;
                assert!(blank && status.members.is_empty(), "start {start}: {id} is {status:?}");
            }
        }
        cluster.processes.kill_all().await;
    }
    assert!(cluster.log_of(id).contains("to take this node back"), "{}", cluster.log_of(id));
    let data = cluster.processes.folder().data_dir(id);
    assert!(data.join("damaged-1").join("log.redb").exists());
    assert!(!data.join("damaged-2").exists(), "blank data is as good as any");
}

/// Told to stop, it stops: the error says which file and what to do, `inspect` says the same.
#[tokio::test]
async fn damaged_data_stops_a_node_that_is_told_to() {
    let (cluster, id, _) = damaged(flip_a_byte).await;
    let failed = cluster.serve_fails(id, &[("--on-damage", "stop")]).await;
    assert_eq!(failed.code, 6, "{failed:?}");
    for says in ["corrupt", "log.redb", "must not vote", "--on-damage rejoin"] {
        assert!(failed.error.contains(says), "{says}: {failed:?}");
    }
    let data = cluster.processes.folder().data_dir(id);
    assert!(!data.join("damaged-1").exists());
    let failed = run(&["inspect".into(), "log".into(), data.display().to_string()]).await;
    assert_eq!(failed.code, 6, "{failed:?}");
    assert!(failed.error.contains("corrupt"), "{failed:?}");
    cluster.put("still", "here").await;
}

/// A second process with the certificate of a node that lives, on a blank directory and another
/// port: the one that lives keeps its vote, however long the other tries.
#[tokio::test]
async fn a_blank_double_does_not_evict_a_live_node() {
    let cluster = TestCluster::start().await;
    cluster.put("key", "value").await;
    let id = cluster.others(cluster.leader().await)[0];
    let life = cluster.observer.status(id).await.unwrap().incarnation;

    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut args = cluster.processes.folder().serve_args(id);
    let place = args.iter().position(|arg| arg == "--data-dir").unwrap();
    args[place + 1].push_str("-double");
    args.extend(["--listen".into(), format!("127.0.0.1:{port}"), "--exit-with-parent".into()]);
    let mut double = Command::new(cluster.processes.binary())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(double.stdout.take().unwrap());
    timeout(GUARD, reader.read_line(&mut line)).await.expect("it serves").unwrap();

    // Several times as long as a node must be silent to be replaced.
    let tries = Instant::now();
    while tries.elapsed() < Duration::from_secs(if slow() { 15 } else { 5 }) {
        cluster.put("key", "other").await;
        let answers = cluster.observer.statuses().await;
        for status in answers.iter().filter_map(|(_, status)| status.as_ref().ok()) {
            let member = status.members.iter().find(|member| member.id == id).unwrap();
            assert!(member.voter, "{} sees it evicted", status.id);
        }
    }
    assert_eq!(cluster.observer.status(id).await.unwrap().incarnation, life);
    cluster.observer.converged(GUARD).await.unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(double.id().unwrap().try_into().unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
}

/// Nodes say whom they wait for, and go on by themselves when all are there.
#[tokio::test]
async fn a_cluster_that_is_not_complete_says_who_is_missing() {
    let mut cluster = TestCluster::new(3);
    cluster.processes.start(NodeId(1)).await.unwrap();
    cluster.until_logged(NodeId(1), "waiting for n2, n3 to form the cluster").await;
    cluster.processes.start(NodeId(2)).await.unwrap();
    cluster.until_logged(NodeId(1), "waiting for n3 to form the cluster").await;
    cluster.processes.start(NodeId(3)).await.unwrap();
    cluster.leader().await;
    cluster.until_logged(NodeId(2), "its voters are n1, n2, n3").await;
}

/// Flips a byte of the value wherever the log has it: in its database, in its tail, or both.
fn flip_a_byte(dir: &Path) {
    let flipped = ["log.redb", "log.tail"].map(|name| flip_in(&dir.join(name)));
    assert!(flipped.contains(&true), "the log holds the value");
}

fn flip_in(path: &Path) -> bool {
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    let found = bytes.windows(NEEDLE.len()).position(|window| window == NEEDLE.as_bytes());
    let Some(position) = found else { return false };
    file.seek(SeekFrom::Start(position as u64)).unwrap();
    file.write_all(&[bytes[position] ^ 1]).unwrap();
    true
}

fn cut_the_end(dir: &Path) {
    cut(&dir.join("log.redb"));
}

fn cut_the_checkpoint(dir: &Path) {
    cut(&dir.join("kv.redb"));
}

fn cut(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length / 2).unwrap();
}

fn lose_the_log(dir: &Path) {
    for name in ["log.redb", "log.tail", "log.ack"] {
        fs::remove_file(dir.join(name)).unwrap();
    }
}

fn lose_all(dir: &Path) {
    fs::remove_dir_all(dir).unwrap();
}
