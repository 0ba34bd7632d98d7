//! A watch leaves a node that is of no use any more, although nothing tells that its stream is
//! broken.

use super::{LineFault, Lines, Talk, events, key, short, until_led};
use crate::cluster::Cluster;
use bytes::Bytes;
use raft_core::transport::{BoxFuture, CallError, Channel, Connector, Duplex};
use raft_core::types::NodeId;
use raft_kv::Client;
use raft_kv::api::{Revision, WatchReply, WatchRequest};
use raft_kv::client::ClientOptions;
use raft_kv::codec::{decode_sequence, encode_sequence};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch::Sender;
use tokio::time::timeout;

/// Guard against a test that hangs.
const GUARD: Duration = Duration::from_secs(60);
/// Longer than any test waits.
const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_is_left() {
    let cluster = Cluster::start(3);
    let lines = Lines::of(&cluster);
    let leader = cluster.leader().await;
    let node = cluster.other(leader);
    until_led(&cluster, node).await;
    let mut watcher = lines.client(&[node, leader]).watch(key("a"));
    watcher.begun().await;
    assert_eq!(lines.last(), Some(node.to_string()));
    lines.set(node, LineFault::Hangs);
    cluster.client(leader).put("a", "1").await.unwrap();
    let told = timeout(GUARD, events(&mut watcher, 1)).await.expect("told by another node");
    assert_eq!(short(&told), ["a=1@2"]);
    assert_ne!(lines.last(), Some(node.to_string()));
}

/// The watch does not wait for its own question to be answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_left_when_another_request_to_it_fails() {
    let cluster = Cluster::start(3);
    let lines = Lines::of(&cluster);
    let leader = cluster.leader().await;
    let node = cluster.other(leader);
    until_led(&cluster, node).await;
    let client = lines.client_with(&[node, leader], |options| {
        (options.attempt, options.deadline) = (NEVER, NEVER);
    });
    let mut watcher = client.watch(key("a"));
    watcher.begun().await;
    lines.set(node, LineFault::BreaksRequests);
    client.put("a", "1").await.unwrap();
    let told = timeout(GUARD, events(&mut watcher, 1)).await.expect("told by another node");
    assert_eq!(short(&told), ["a=1@2"]);
}

/// A node that says nothing but answers, which is counted.
#[derive(Clone)]
struct Quiet {
    streams: UnboundedSender<Duplex>,
    asked: Arc<Sender<u32>>,
}

impl Connector for Quiet {
    fn connect(&self, _address: &str) -> BoxFuture<Result<Arc<dyn Channel>, CallError>> {
        let channel = Arc::new(self.clone()) as Arc<dyn Channel>;
        Box::pin(async move { Ok(channel) })
    }
}

impl Channel for Quiet {
    fn call(&self, _request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        self.asked.send_modify(|asked| *asked += 1);
        Box::pin(async move { Ok(Bytes::new()) })
    }

    fn open_stream(&self, _first: Bytes) -> BoxFuture<Result<Duplex, CallError>> {
        let (near, far) = Duplex::pair(64 * 1024);
        self.streams.send(far).unwrap();
        Box::pin(async move { Ok(near) })
    }
}

#[tokio::test]
async fn a_node_that_has_nothing_to_tell_but_answers_is_not_left() {
    let (streams, mut opened) = unbounded_channel();
    let (asked, mut times) = tokio::sync::watch::channel(0);
    let quiet = Arc::new(Quiet { streams, asked: Arc::new(asked) });
    let client = Client::new(quiet, ClientOptions::new(["n1"]));
    let watcher = client.watch(key("a"));
    let mut talk = Talk(opened.recv().await.unwrap());
    talk.0.sink.send(encode_sequence([&WatchReply::Opened(0)])).await.unwrap();
    let frame = talk.0.source.receive().await.unwrap().unwrap();
    let request = decode_sequence::<WatchRequest>(&frame).next().unwrap().unwrap();
    let WatchRequest::Create(id, _) = request else { panic!("{request:?}") };
    let created = WatchReply::Created(id, Revision(1));
    talk.0.sink.send(encode_sequence([&created])).await.unwrap();
    watcher.begun().await;
    let before = *times.borrow();
    times.wait_for(|times| *times >= before + 3).await.unwrap();
    assert!(opened.try_recv().is_err(), "no other stream was needed");
}

/// A client outlives the runtime it was used on first.
#[test]
fn a_watch_goes_on_when_the_runtime_that_served_it_ends() {
    let world = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let one_thread = || Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second): (Runtime, Runtime) = (one_thread(), one_thread());
    let cluster = world.block_on(async { Cluster::start(1) });
    let client = cluster.client(NodeId(1));
    let mut watcher = first.block_on(async {
        let watcher = client.watch(key("a"));
        watcher.begun().await;
        watcher
    });
    drop(first);
    world.block_on(async { cluster.client(NodeId(1)).put("a", "1").await.unwrap() });
    let told = second.block_on(async { timeout(GUARD, events(&mut watcher, 1)).await });
    assert_eq!(short(&told.expect("served on the other one")), ["a=1@2"]);
}
