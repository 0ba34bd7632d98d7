//! Leaders that leave, and leaders that were away.

use super::support::{GUARD, TestCluster, ask, read};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use raft_core::types::NodeId;
use raft_kv::api::{Consistency, KvError, ReplyBody};
use std::fs::OpenOptions;
use std::process::Stdio;
use tokio::process::Command;
use tokio::time::timeout;

/// SIGTERM on the leader: it hands leadership over and exits with 0.
#[tokio::test]
async fn a_leader_that_is_stopped_hands_over() {
    let mut cluster = TestCluster::start().await;
    cluster.put("key", "value").await;
    let old = cluster.observer.leader(GUARD).await.unwrap();
    let status = cluster.processes.stop(old.id).await.unwrap();
    assert!(status.success(), "{status}: {}", cluster.log_of(old.id));
    assert!(cluster.log_of(old.id).contains("leadership handed over"));

    let new = cluster.observer.leader(GUARD).await.unwrap();
    assert_ne!(new.id, old.id);
    assert_eq!(new.term, old.term.next(), "nobody had to wait for an election timeout");
    assert_eq!(cluster.value("key").await.unwrap(), "value");
}

/// SIGTERM while a slow disk keeps a node from starting: it exits with 0.
#[tokio::test]
async fn a_node_that_is_starting_can_be_stopped() {
    let cluster = TestCluster::new(1);
    let (id, folder) = (NodeId(1), cluster.processes.folder());
    // A file that does not answer: the node waits for whoever writes into the pipe.
    let ca = folder.dir().join("slow.pem");
    let made = Command::new("mkfifo").arg(&ca).status().await.unwrap();
    assert!(made.success());
    let mut args = folder.serve_args(id);
    let position = args.iter().position(|arg| arg == "--ca").expect("every node has one");
    args[position + 1] = ca.display().to_string();
    let mut command = Command::new(cluster.processes.binary());
    let command = command.args(args).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    // Opens when the node has opened it, and by then it listens for signals.
    let opening = tokio::task::spawn_blocking(|| OpenOptions::new().write(true).open(ca));
    let pipe = timeout(GUARD, opening).await.expect("it reads the file").unwrap().unwrap();
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    let status = timeout(GUARD, child.wait()).await.expect("it stops").unwrap();
    assert!(status.success(), "{status}");
    drop(pipe);
}

/// A leader is frozen, replaced, and thawed with requests before it: it serves no stale read, and
/// takes no write behind the new leader's back.
#[tokio::test]
async fn a_leader_that_was_away_serves_nothing_stale() {
    let cluster = TestCluster::start().await;
    cluster.put("key", "old").await;
    let old = cluster.observer.leader(GUARD).await.unwrap();
    let channels = [cluster.channel(old.id).await, cluster.channel(old.id).await];
    for channel in &channels {
        // The connections are in use before it is frozen.
        ask(channel.clone(), GUARD, read("key", Consistency::Linearizable)).await.unwrap();
    }

    cluster.processes.signal(old.id, Signal::SIGSTOP);
    // These are in its socket when it wakes up.
    let [first, second] = channels.map(|channel| {
        tokio::spawn(ask(channel, GUARD / 2, read("key", Consistency::Linearizable)))
    });
    cluster.observer.new_leader(GUARD, Some(old.term)).await.unwrap();
    cluster.put("key", "new").await;
    cluster.processes.signal(old.id, Signal::SIGCONT);

    for reply in [first.await.unwrap(), second.await.unwrap()] {
        match reply {
            Ok(ReplyBody::Range(range)) => assert_eq!(range.kvs[0].value, "new"),
            Ok(other) => panic!("{other:?} answers a read"),
            // Refusing is right, too.
            Err(KvError::Unavailable(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let status = cluster.observer.converged(GUARD).await.unwrap();
    assert!(status.term > old.term);
    assert_eq!(cluster.value("key").await.unwrap(), "new");
}
