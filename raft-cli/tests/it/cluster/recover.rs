//! A quorum is lost for good: a new cluster is made of the survivor.

use super::support::{GUARD, TestCluster};
use raft_core::types::NodeId;
use raft_kv::api::NodeStatus;
use raft_kv::store::HISTORY_REVISIONS;
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Runs the binary, which must do what it is asked, and parses what it prints.
pub(super) async fn printed(cluster: &TestCluster, args: &[&str]) -> Value {
    let mut command = Command::new(cluster.processes.binary());
    let output = command.args(["-o", "json"]).args(args).output().await.unwrap();
    let (text, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {text}{errors}");
    serde_json::from_str(&text).unwrap()
}

/// A node that was started to join, on a directory of its own and its old address.
pub(super) async fn join(
    cluster: &TestCluster,
    id: NodeId,
    data: &Path,
    cluster_id: &str,
) -> Child {
    let folder = cluster.processes.folder();
    let mut args = folder.serve_args(id);
    for option in ["--cluster", "--cluster-token", "--data-dir"] {
        let place = args.iter().position(|arg| arg == option).unwrap();
        args.drain(place..=place + 1);
    }
    let data = data.display().to_string();
    let more = ["--join", "--cluster-id", cluster_id, "--listen", folder.address(id)];
    let log = OpenOptions::new().create(true).append(true).open(folder.log_file(id));
    let mut child = Command::new(cluster.processes.binary())
        .args(args)
        .args(["--data-dir", &data, "--exit-with-parent", "--log-level", "info"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log.unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    timeout(GUARD, reader.read_line(&mut line)).await.expect("it serves").unwrap();
    assert!(line.contains("listening"), "{id} did not start: {}", cluster.log_of(id));
    child
}

/// Three nodes with data, two of them gone for good. The third goes on as a new cluster of one with
/// all data, keeps the old cluster's nodes out, and grows to three.
#[tokio::test]
async fn a_survivor_goes_on_as_a_new_cluster() {
    let mut cluster = TestCluster::start().await;
    for number in 0..100 {
        cluster.put(&format!("key{number}"), &format!("value{number}")).await;
    }
    cluster.observer.converged(GUARD).await.unwrap();
    cluster.processes.kill_all().await;
    let folder = cluster.processes.folder();
    let data = |id| -> PathBuf { folder.data_dir(NodeId(id)) };
    // What is left of n3 turns up later.
    let aside = data(3).with_extension("aside");
    fs::rename(data(3), &aside).unwrap();
    fs::remove_dir_all(data(2)).unwrap();

    let survivor = data(1).display().to_string();
    let plan = printed(&cluster, &["recover", "plan", &survivor]).await;
    assert_eq!((&plan["best"]["node"], &plan["quorum"]), (&1.into(), &false.into()), "{plan}");
    assert_eq!(plan["missing"], serde_json::json!([2, 3]));
    let new = data(1).with_extension("new").display().to_string();
    let address = folder.address(NodeId(1));
    let apply = ["recover", "apply", "--from", &survivor, "--to", &new, "--advertise", address];
    let made = printed(&cluster, &[&apply[..], &["--yes"]].concat()).await;
    assert!(made["epoch"].as_u64().unwrap() > 1, "{made}");
    let cluster_id = made["cluster"].as_str().unwrap();

    let _first = join(&cluster, NodeId(1), Path::new(&new), cluster_id).await;
    for number in 0..100 {
        let value = cluster.value(&format!("key{number}")).await;
        assert_eq!(value.unwrap(), format!("value{number}"));
    }
    cluster.put("after", "recovery").await;

    // A node of the old cluster is kept out, and keeps out the new one.
    fs::rename(&aside, data(3)).unwrap();
    cluster.processes.start(NodeId(3)).await.unwrap();
    cluster.put("while", "the old one tries").await;
    let old = cluster.observer.status(NodeId(3)).await.unwrap();
    assert_ne!(old.cluster.to_string(), cluster_id);
    assert_eq!(old.leader, None);
    cluster.processes.kill(NodeId(3)).await;

    // It grows again, on blank directories.
    let mut joined = Vec::new();
    for id in [NodeId(2), NodeId(3)] {
        let data = cluster.processes.folder().data_dir(id).with_extension("new");
        joined.push(join(&cluster, id, &data, cluster_id).await);
        cluster.until_logged(id, &format!("`raft member add {id}=")).await;
        let member = format!("{id}={}", cluster.processes.folder().address(id));
        let files = cluster.processes.folder().dir().display().to_string();
        let first = cluster.processes.folder().address(NodeId(1));
        let args = ["--dir", &files, "--endpoints", first, "--deadline", "60s"];
        printed(&cluster, &[&args[..], &["member", "add", &member]].concat()).await;
    }
    let grown = cluster.observer.until("three voters", GUARD, |answers| {
        let statuses = answers.iter().filter_map(|(_, status)| status.as_ref().ok());
        let voters = |status: &NodeStatus| status.members.iter().filter(|one| one.voter).count();
        let knows = |status: &&NodeStatus| voters(status) == 3 && status.leader.is_some();
        (statuses.filter(knows).count() == 3).then_some(())
    });
    grown.await.unwrap();
    let status = cluster.observer.converged(GUARD).await.unwrap();
    assert_eq!(status.cluster.to_string(), cluster_id);
    assert_eq!(status.keys, 102);
    // Whoever knew the old history is told: its revisions are all far below.
    assert!(status.revision.0 > HISTORY_REVISIONS, "{status:?}");
}
