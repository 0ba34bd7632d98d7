//! Clusters that grow and shrink under load.

use super::membership::{add, change, lead};
use super::*;
use bytes::BytesMut;
use raft_core::codec::{decode_op, encode_op};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use tokio::sync::watch;

#[allow(dead_code, unreachable_pub, reason = "an example is a crate of its own, with a main")]
#[path = "../../../examples/grow_and_shrink.rs"]
mod example;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_and_shrinks_under_load_and_loses_nothing() {
    let report = example::grow_and_shrink().await.unwrap();
    assert_eq!(report.lost, 0);
    assert!(report.writes > 1000);
}

/// A log in a file, flushed by every commit; and what it held when it was opened.
struct FileLog {
    file: File,
    loaded: Loaded,
}

impl FileLog {
    fn open(path: &Path) -> Self {
        let mut loaded = Loaded::default();
        let bytes = Bytes::from(fs::read(path).unwrap_or_default());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            loaded.apply(&decode_op(&bytes, &mut rest).unwrap()).unwrap();
        }
        let file = File::options().create(true).append(true).open(path).unwrap();
        Self { file, loaded }
    }
}

impl LogStore for FileLog {
    fn load(&mut self, _group: GroupId) -> Result<Loaded, StorageError> {
        Ok(std::mem::take(&mut self.loaded))
    }

    fn write(&mut self, ops: &[GroupOp]) -> Result<(), StorageError> {
        let mut bytes = BytesMut::new();
        for GroupOp { op, .. } in ops {
            encode_op(op, &mut bytes);
        }
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        written.map_err(|error| StorageError::io("writing", error))
    }
}

/// Proposes to `node` until told to stop; the replies in order.
async fn write(node: Node, mut stop: watch::Receiver<bool>) -> Vec<Bytes> {
    let mut replies = Vec::new();
    while !*stop.borrow_and_update() {
        match node.propose(number(replies.len() as u64)).await {
            Ok(proposed) => replies.push(proposed.reply),
            Err(ProposeError::Overloaded) => node.status_changed().await,
            Err(error) => panic!("{error}"),
        }
    }
    replies
}

#[tokio::test]
async fn one_node_that_flushes_every_write_grows_to_three_without_a_restart() {
    // Of this process alone: the tests may run twice at a time.
    let name = format!("one_node_grows_{}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    let network = MemoryNetwork::new();
    let start = |id, initial| {
        let log = FileLog::open(&folder.join(format!("n{id}")));
        let transport = network.transport(NodeId(id));
        Node::start(config(id, initial), log, Journal::new(), transport).unwrap()
    };
    let mut nodes = vec![start(1, 1), start(2, 0), start(3, 0)];
    lead(&nodes[0]).await;
    let (stop, stopped) = watch::channel(false);
    let writer = tokio::spawn(write(nodes[0].clone(), stopped));
    change(&nodes[0], &[add(2), add(3)]).await.unwrap();
    let voters = |status: &Status| status.membership.voters().len();
    for node in &nodes {
        shows(node, |status| voters(status) == 3 && !status.membership.is_joint()).await;
    }
    stop.send_replace(true);
    let replies = writer.await.unwrap();
    assert!(!replies.is_empty());
    // All of it is in the first one's file too, should it come back.
    nodes[0].shutdown().await;
    network.remove(NodeId(1));
    nodes[0] = start(1, 1);
    for node in &nodes {
        for (position, reply) in replies.iter().enumerate() {
            let read = node.query(reply.clone(), ReadMode::Linearizable).await.unwrap();
            assert_eq!(read.reply, number(position as u64));
        }
    }
    fs::remove_dir_all(&folder).unwrap();
}
