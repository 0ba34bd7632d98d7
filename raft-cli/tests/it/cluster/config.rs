//! A node and its clients, told everything by one file.

use super::support::{GUARD, TestCluster, binary};
use raft_core::types::NodeId;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

#[tokio::test]
async fn one_file_serves_a_node_and_its_clients() {
    let cluster = TestCluster::new(1);
    let folder = cluster.processes.folder();
    let address = folder.address(NodeId(1));
    let text = format!(
        "[serve]\nid = 1\nsingle = true\nlisten = \"{address}\"\ndata-dir = \"n1\"\n\
         ca = \"ca.pem\"\ncert = \"n1.pem\"\nkey = \"n1-key.pem\"\n\n\
         [client]\nendpoints = [\"{address}\"]\nca = \"ca.pem\"\ncert = \"client.pem\"\n\
         key = \"client-key.pem\"\ndeadline = \"1m\"\n"
    );
    let file = folder.dir().join("raft.toml");
    std::fs::write(&file, text).unwrap();
    let raft = |words: &[&str]| {
        let mut command = Command::new(binary());
        command.arg("--config").arg(&file).args(words).stdin(Stdio::null()).kill_on_drop(true);
        command
    };
    let mut node = raft(&["serve"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(node.stdout.take().unwrap());
    timeout(GUARD, stdout.read_line(&mut line)).await.expect("it serves").unwrap();
    assert_eq!(line, format!("n1 listening on {address}\n"));

    let put = timeout(GUARD, raft(&["put", "key", "value"]).output()).await.expect("done").unwrap();
    assert!(put.status.success(), "{put:?}");
    let get = raft(&["-o", "simple", "get", "key"]).output();
    let get = timeout(GUARD, get).await.expect("done").unwrap();
    assert_eq!(get.stdout, b"key\nvalue\n");
    node.kill().await.unwrap();
}
