//! Watches through client, service and store, over memory.

mod leaving;
mod many;
mod model;

use crate::cluster::{Cluster, Doors};
use bytes::Bytes;
use raft_core::transport::{
    BoxFuture, CallError, Channel, Connector, Duplex, FrameSink, FrameSource,
};
use raft_core::types::NodeId;
use raft_kv::Client;
use raft_kv::api::{
    Action, Command, Event, EventKind, Keys, KvError, Op, Put, RequestBody, Revision,
    StreamRequest, Txn, Watch, WatchId, WatchReply, WatchRequest,
};
use raft_kv::client::{ClientError, ClientOptions, Watcher};
use raft_kv::codec::{decode, decode_sequence, encode, encode_sequence};
use raft_kv::wire::decode_request;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::AbortHandle;

/// Whether tests take the time they need to be thorough.
pub(crate) fn is_slow() -> bool {
    std::env::var_os("RUN_SLOW_TESTS").is_some_and(|value| value == "1")
}

/// Connections whose streams can be broken.
pub(crate) struct Lines {
    doors: Arc<Doors>,
    relays: Arc<Mutex<Vec<(String, AbortHandle)>>>,
    faults: Arc<Faults>,
}

/// What is wrong with nodes, by address.
type Faults = Mutex<BTreeMap<String, LineFault>>;

/// How a node that has stopped is seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineFault {
    /// Nothing comes back, and nothing breaks.
    Hangs,
    /// The same of streams and questions how it is; other requests break.
    BreaksRequests,
}

impl Lines {
    pub(crate) fn of(cluster: &Cluster) -> Arc<Self> {
        let (relays, faults) = (Arc::default(), Arc::default());
        Arc::new(Self { doors: Arc::clone(&cluster.doors), relays, faults })
    }

    pub(crate) fn client(self: &Arc<Self>, endpoints: &[NodeId]) -> Client {
        self.client_with(endpoints, |_| {})
    }

    fn client_with(
        self: &Arc<Self>,
        endpoints: &[NodeId],
        change: impl FnOnce(&mut ClientOptions),
    ) -> Client {
        let mut options = ClientOptions::new(endpoints.iter().map(ToString::to_string));
        change(&mut options);
        Client::new(Arc::clone(self) as Arc<dyn Connector>, options)
    }

    fn set(&self, node: NodeId, fault: LineFault) {
        self.faults.lock().unwrap().insert(node.to_string(), fault);
    }

    /// Breaks every stream; how many there were.
    pub(crate) fn cut(&self) -> usize {
        let relays = std::mem::take(&mut *self.relays.lock().unwrap());
        let live = relays.iter().filter(|(_, relay)| !relay.is_finished()).count();
        relays.iter().for_each(|(_, relay)| relay.abort());
        live
    }

    /// Whom the last stream was opened to.
    pub(crate) fn last(&self) -> Option<String> {
        self.relays.lock().unwrap().last().map(|(address, _)| address.clone())
    }
}

impl Connector for Lines {
    fn connect(&self, address: &str) -> BoxFuture<Result<Arc<dyn Channel>, CallError>> {
        let (connected, relays) = (self.doors.connect(address), Arc::clone(&self.relays));
        let (address, faults) = (address.to_owned(), Arc::clone(&self.faults));
        Box::pin(async move {
            if faults.lock().unwrap().contains_key(&address) {
                return std::future::pending().await;
            }
            let inner = connected.await?;
            Ok(Arc::new(Line { inner, address, relays, faults }) as Arc<dyn Channel>)
        })
    }
}

struct Line {
    inner: Arc<dyn Channel>,
    address: String,
    relays: Arc<Mutex<Vec<(String, AbortHandle)>>>,
    faults: Arc<Faults>,
}

impl Channel for Line {
    fn call(&self, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        let fault = self.faults.lock().unwrap().get(&self.address).copied();
        let status = decode_request(&request).unwrap().body == RequestBody::Status;
        match fault {
            None => self.inner.call(request),
            Some(LineFault::BreaksRequests) if !status => {
                Box::pin(async { Err(CallError::Lost("connection lost".into())) })
            }
            Some(_) => Box::pin(std::future::pending()),
        }
    }

    fn open_stream(&self, first: Bytes) -> BoxFuture<Result<Duplex, CallError>> {
        let opening = self.inner.open_stream(first);
        let (address, relays) = (self.address.clone(), Arc::clone(&self.relays));
        let (node, faults) = (self.address.clone(), Arc::clone(&self.faults));
        Box::pin(async move {
            let there = opening.await?;
            let (near, far) = Duplex::pair(256 * 1024);
            let relay = tokio::spawn(async move {
                let stuck = || faults.lock().unwrap().contains_key(&node);
                let (to, fro) = (relay(far.source, there.sink, &stuck), &stuck);
                tokio::join!(to, relay(there.source, far.sink, fro));
            });
            relays.lock().unwrap().push((address, relay.abort_handle()));
            Ok(near)
        })
    }
}

async fn relay(
    mut from: Box<dyn FrameSource>,
    mut to: Box<dyn FrameSink>,
    stuck: impl Fn() -> bool,
) {
    loop {
        let frame = from.receive().await;
        if stuck() {
            return std::future::pending().await;
        }
        match frame {
            Ok(Some(frame)) => {
                if to.send(frame).await.is_err() {
                    return;
                }
            }
            Ok(None) => {
                let _ = to.finish().await;
                return;
            }
            Err(_) => return,
        }
    }
}

/// What events say, in short: `key=value@revision`, `-key@revision`.
pub(crate) fn short(events: &[Event]) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let short = |event: &Event| match &event.kind {
        EventKind::Put(pair) => {
            format!("{}={}@{}", text(&pair.key), text(&pair.value), pair.mod_revision)
        }
        EventKind::Delete { key, mod_revision } => format!("-{}@{mod_revision}", text(key)),
    };
    events.iter().map(short).collect()
}

/// The next `count` events.
pub(crate) async fn events(watcher: &mut Watcher, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let batch = watcher.next().await.unwrap().unwrap();
        assert!(batch.events.iter().all(|event| event.revision() <= batch.revision));
        events.extend(batch.events);
    }
    assert_eq!(events.len(), count);
    events
}

pub(crate) async fn compact(cluster: &Cluster, revision: Revision) {
    let command = Command { request: None, fence: None, action: Action::Compact(revision) };
    loop {
        let leader = cluster.leader().await;
        if let Some(node) = cluster.nodes.get(&leader)
            && node.propose(encode(&command)).await.is_ok()
        {
            return;
        }
    }
}

/// Waits until a node knows who leads: without that it serves no watch.
async fn until_led(cluster: &Cluster, node: NodeId) {
    while cluster.nodes[&node].status().leader.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn key(key: &'static str) -> Watch {
    Watch::of(Keys::One(key.into()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_begins_in_the_past_now_or_in_the_future() {
    let cluster = Cluster::start(1);
    let client = cluster.client(NodeId(1));
    client.put("a", "1").await.unwrap();
    client.put("b", "1").await.unwrap();
    client.put("a", "2").await.unwrap();
    let mut past = client.watch(Watch { from: Some(Revision(1)), prev_kv: true, ..key("a") });
    let mut middle = client.watch(Watch { from: Some(Revision(4)), ..key("a") });
    let mut now = client.watch(Watch::of(Keys::all()));
    let mut future = client.watch(Watch { from: Some(Revision(7)), ..Watch::of(Keys::all()) });
    let deletions = Watch { no_puts: true, prev_kv: true, ..Watch::of(Keys::prefix("a")) };
    let mut deletions = client.watch(deletions);
    let mut puts = client.watch(Watch { no_deletes: true, ..key("a") });
    assert_eq!(now.begun().await, Revision(4));
    for watcher in [&future, &deletions, &puts] {
        watcher.begun().await;
    }
    client.delete(Keys::all()).await.unwrap();
    client.put("c", "1").await.unwrap();
    client.put("a", "3").await.unwrap();

    let told = events(&mut past, 4).await;
    assert_eq!(short(&told), ["a=1@2", "a=2@4", "-a@5", "a=3@7"]);
    let before = told.iter().map(|event| event.prev_kv.as_ref().map(|pair| pair.value.clone()));
    let before: Vec<_> = before.collect();
    assert_eq!(before, [None, Some("1".into()), Some("2".into()), None]);
    assert_eq!(short(&events(&mut middle, 3).await), ["a=2@4", "-a@5", "a=3@7"]);
    let all = ["-a@5", "-b@5", "c=1@6", "a=3@7"];
    assert_eq!(short(&events(&mut now, 4).await), all);
    assert_eq!(short(&events(&mut future, 1).await), ["a=3@7"]);
    let told = events(&mut deletions, 1).await;
    assert_eq!(short(&told), ["-a@5"]);
    assert_eq!(told[0].prev_kv.as_ref().unwrap().value, "2");
    assert_eq!(short(&events(&mut puts, 1).await), ["a=3@7"]);
    assert_eq!(puts.position(), Revision(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_one_revision_come_together() {
    let cluster = Cluster::start(1);
    let client = cluster.client(NodeId(1));
    let mut watcher = client.watch(Watch::of(Keys::all()));
    watcher.begun().await;
    let put = |number: u32| Op::Put(Put::new(format!("{number:03}"), vec![7; 8 * 1024]));
    let success = (0..128).map(put).collect();
    client.txn(Txn { success, ..Txn::default() }).await.unwrap();
    client.put("x", "1").await.unwrap();
    let batch = watcher.next().await.unwrap().unwrap();
    let first = batch.events.iter().filter(|event| event.revision() == Revision(2)).count();
    assert_eq!(first, 128);
    // A watch that allows pieces gets them, in order, and nothing else in between.
    client.delete(Keys::all()).await.unwrap();
    let watch = Watch { from: Some(Revision(2)), fragments: true, prev_kv: true, ..key("x") };
    let mut pieces = client.watch(Watch { keys: Keys::all(), ..watch });
    let told = events(&mut pieces, 128 + 1 + 129).await;
    assert!(told.is_sorted_by_key(Event::revision));
    assert_eq!(told[200].prev_kv.as_ref().unwrap().value.len(), 8 * 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_compacted_is_told_with_the_revision_and_others_go_on() {
    let cluster = Cluster::start(1);
    let client = cluster.client(NodeId(1));
    let mut live = client.watch(key("a"));
    live.begun().await;
    for value in 0..10 {
        client.put("a", value.to_string()).await.unwrap();
    }
    compact(&cluster, Revision(6)).await;
    let mut early = client.watch(Watch { from: Some(Revision(5)), ..key("a") });
    let (requested, compacted) = (Revision(5), Revision(6));
    let error = ClientError::Refused(KvError::Compacted { requested, compacted });
    assert_eq!(early.next().await, Some(Err(error)));
    assert_eq!(early.next().await, None);
    // The revision that was compacted can itself still be watched from.
    let mut exact = client.watch(Watch { from: Some(Revision(6)), prev_kv: true, ..key("a") });
    let told = events(&mut exact, 6).await;
    assert_eq!(short(&told)[..2], ["a=4@6", "a=5@7"]);
    assert_eq!(told[0].prev_kv, None, "compacted");
    assert_eq!(told[1].prev_kv.as_ref().unwrap().value, "4");
    // Whoever listens all the time misses nothing, whatever is compacted.
    compact(&cluster, Revision(11)).await;
    assert_eq!(events(&mut live, 10).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_elsewhere_without_gap_or_repetition() {
    let cluster = Cluster::start(3);
    let lines = Lines::of(&cluster);
    let leader = cluster.leader().await;
    let others: Vec<_> = cluster.nodes.keys().copied().filter(|id| *id != leader).collect();
    let watching = lines.client(&[others[0], others[1], leader]);
    let writing = cluster.client(leader);
    until_led(&cluster, others[0]).await;
    let mut watcher = watching.watch(key("a"));
    let mut once = watching.watch(Watch { from: Some(Revision(100)), ..key("a") });
    watcher.begun().await;
    assert_eq!(lines.last(), Some(others[0].to_string()));
    for number in 2..150_u64 {
        let put = writing.put("a", number.to_string()).await.unwrap();
        assert_eq!(put.revision, Revision(number));
        if number % 20 == 0 {
            lines.cut();
        }
        if number == 90 {
            // Its node is there, and is cut off from the others: it says so.
            cluster.isolate(others[0]);
        }
    }
    let told = events(&mut watcher, 148).await;
    assert!(told.iter().map(|event| event.revision().0).eq(2..150));
    assert_eq!(events(&mut once, 50).await[0].revision(), Revision(100));
    assert_ne!(lines.last(), Some(others[0].to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn learners_serve_watches() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client(NodeId(1));
    client.put("a", "1").await.unwrap();
    cluster.join(NodeId(2));
    let (node, address) = (NodeId(2), "n2".to_owned());
    let add = raft_core::types::Change::Add { node, address, promote: false };
    client.change_members(vec![add]).await.unwrap();
    let lines = Lines::of(&cluster);
    let mut watcher = lines.client(&[node]).watch(Watch { from: Some(Revision(2)), ..key("a") });
    client.put("a", "2").await.unwrap();
    assert_eq!(short(&events(&mut watcher, 2).await), ["a=1@2", "a=2@3"]);
    assert_eq!(lines.last(), Some("n2".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_shot_watches_survive_a_reconnect_to_another_node() {
    let cluster = Cluster::start(3);
    let lines = Lines::of(&cluster);
    let client = lines.client(&[NodeId(1), NodeId(2), NodeId(3)]);
    let read = client.put("a", "1").await.unwrap().revision;
    let watch = Watch { from: Some(Revision(read.0 + 1)), ..key("a") };
    let again = Watch { from: Some(read), ..key("a") };
    let once = tokio::spawn({
        let client = client.clone();
        async move { client.watch_once(watch).await.unwrap() }
    });
    // Let it begin, then take the stream and the node away, and only then change the key.
    while lines.last().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cluster.kill(NodeId(1));
    lines.cut();
    let other = cluster.client(NodeId(2)).with_deadline(Duration::from_secs(30));
    other.put("a", "2").await.unwrap();
    other.put("a", "3").await.unwrap();
    assert_eq!(short(&once.await.unwrap()), ["a=2@3"]);
    assert_eq!(short(&client.watch_once(again).await.unwrap()), ["a=1@2"]);
}

/// On the connection of one client an event is seen before the value can be acted on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caught_up_has_seen_every_event_of_what_was_read() {
    let cluster = Cluster::start(3);
    let writing = cluster.client(cluster.leader().await);
    let client = cluster.client(cluster.other(cluster.leader().await));
    let mut watcher = client.watch(key("a"));
    watcher.begun().await;
    let mut seen = Revision(0);
    for number in 0..200 {
        writing.put(if number % 3 == 0 { "a" } else { "b" }, number.to_string()).await.unwrap();
        let read = client.get_one("a").await.unwrap().unwrap();
        let range = raft_kv::api::Range::of(Keys::One("b".into()));
        let reply = client.get(range, raft_kv::api::Consistency::Linearizable).await.unwrap();
        for batch in watcher.caught_up(reply.revision).await.unwrap() {
            for event in batch.events {
                assert!(event.revision() > seen);
                seen = event.revision();
            }
        }
        assert_eq!(seen, read.mod_revision, "the value was there before its event");
        assert!(watcher.position() >= reply.revision);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_told_when_nothing_happens() {
    let cluster = Cluster::start(1);
    let client = cluster.client(NodeId(1));
    let mut watcher = client.watch(Watch { progress: true, ..key("a") });
    watcher.begun().await;
    let put = client.put("b", "1").await.unwrap().revision;
    loop {
        let batch = watcher.next().await.unwrap().unwrap();
        assert!(batch.events.is_empty());
        if batch.revision >= put {
            break;
        }
    }
}

/// A stream by hand.
struct Talk(Duplex);

impl Talk {
    async fn begin(cluster: &Cluster, node: NodeId, require_leader: bool) -> Self {
        let channel = cluster.doors.connect(&node.to_string()).await.unwrap();
        let request = encode(&StreamRequest::Watch { require_leader });
        Self(channel.open_stream(request).await.unwrap())
    }

    async fn say(&mut self, requests: &[WatchRequest]) {
        self.0.sink.send(encode_sequence(requests)).await.unwrap();
    }

    async fn hear(&mut self) -> Vec<WatchReply> {
        let frame = self.0.source.receive().await.unwrap();
        frame.iter().flat_map(|frame| decode_sequence(frame)).map(Result::unwrap).collect()
    }

    async fn end(&mut self) -> KvError {
        loop {
            if let Some(WatchReply::Ended(error)) = self.hear().await.into_iter().last() {
                assert_eq!(self.0.source.receive().await, Ok(None), "the end is clean");
                return error;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_served_is_told() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let node = cluster.other(leader);
    // Nonsense.
    let (id, watch) = (WatchId(1), key("a"));
    let create = WatchRequest::Create(id, watch.clone());
    let mut talk = Talk::begin(&cluster, leader, true).await;
    assert_eq!(talk.hear().await, [WatchReply::Opened(0)]);
    let empty = WatchRequest::Create(WatchId(2), Watch::of(Keys::One(Bytes::new())));
    talk.say(&[create.clone(), empty, WatchRequest::Cancel(WatchId(9))]).await;
    let mut heard = Vec::new();
    while heard.len() < 2 {
        heard.extend(talk.hear().await);
    }
    let refused = WatchReply::Canceled(WatchId(2), Some(KvError::KeyEmpty));
    assert_eq!(heard, [WatchReply::Created(id, Revision(1)), refused]);
    talk.say(std::slice::from_ref(&create)).await;
    assert_eq!(talk.end().await, KvError::Malformed("watch 1 has begun already".into()));
    let mut talk = Talk::begin(&cluster, leader, true).await;
    talk.0.sink.send(Bytes::from_static(b"\x02\x09")).await.unwrap();
    assert_eq!(talk.end().await, KvError::Malformed("malformed bytes".into()));
    let channel = cluster.doors.connect(&leader.to_string()).await.unwrap();
    let mut talk = Talk(channel.open_stream(Bytes::from_static(b"\x02\x7f")).await.unwrap());
    assert_eq!(talk.end().await, KvError::Malformed("malformed bytes".into()));

    // A node that loses its leader ends the stream of who asked for that, and only that.
    let mut patient = Talk::begin(&cluster, node, false).await;
    let mut strict = Talk::begin(&cluster, node, true).await;
    patient.say(std::slice::from_ref(&create)).await;
    cluster.isolate(node);
    assert_eq!(strict.end().await, KvError::Unavailable("no leader".into()));
    let mut late = Talk::begin(&cluster, node, true).await;
    assert_eq!(late.end().await, KvError::Unavailable("no leader".into()));
    let mut heard = Vec::new();
    while heard.len() < 2 {
        heard.extend(patient.hear().await);
    }
    // One that stops says so.
    cluster.stop(node).await;
    assert_eq!(patient.end().await, KvError::Unavailable("the node is stopping".into()));
    // One that belongs to no cluster has nothing to tell.
    cluster.join(NodeId(9));
    let mut blank = Talk::begin(&cluster, NodeId(9), false).await;
    let nothing = KvError::Unavailable("the node belongs to no cluster yet".into());
    assert_eq!(blank.end().await, nothing);
}

/// Nodes of a fake cluster: each stream is handed to the test.
struct Handed(tokio::sync::mpsc::UnboundedSender<(Bytes, Duplex)>);

impl Connector for Handed {
    fn connect(&self, _address: &str) -> BoxFuture<Result<Arc<dyn Channel>, CallError>> {
        let channel = Arc::new(Self(self.0.clone())) as Arc<dyn Channel>;
        Box::pin(async move { Ok(channel) })
    }
}

impl Channel for Handed {
    fn call(&self, _request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        // It is there, and speaks nonsense.
        Box::pin(async move { Ok(Bytes::new()) })
    }

    fn open_stream(&self, first: Bytes) -> BoxFuture<Result<Duplex, CallError>> {
        let (near, far) = Duplex::pair(1024 * 1024);
        let _ = self.0.send((first, far));
        Box::pin(async move { Ok(near) })
    }
}

#[tokio::test]
async fn another_history_and_a_part_told_twice_are_noticed() {
    let (sender, mut streams) = tokio::sync::mpsc::unbounded_channel();
    let client = Client::new(Arc::new(Handed(sender)), ClientOptions::new(["n1"]));
    let mut watcher = client.watch(Watch { fragments: true, ..key("a") });
    let deletion = |key: &'static str, revision: u64| {
        let kind = EventKind::Delete { key: key.into(), mod_revision: Revision(revision) };
        Event { kind, prev_kv: None }
    };
    let serve = async |streams: &mut tokio::sync::mpsc::UnboundedReceiver<(Bytes, Duplex)>,
                       epoch: u64| {
        let (first, far) = streams.recv().await.unwrap();
        let request: StreamRequest = decode(&first).unwrap();
        assert_eq!(request, StreamRequest::Watch { require_leader: true });
        let mut talk = Talk(far);
        talk.0.sink.send(encode_sequence([&WatchReply::Opened(epoch)])).await.unwrap();
        talk
    };
    let created = async |talk: &mut Talk| {
        let frame = talk.0.source.receive().await.unwrap().unwrap();
        let requests: Vec<WatchRequest> =
            decode_sequence(&frame).collect::<Result<_, _>>().unwrap();
        let WatchRequest::Create(id, watch) = requests[0].clone() else { panic!("{requests:?}") };
        let reply = WatchReply::Created(id, Revision(10));
        talk.0.sink.send(encode_sequence([&reply])).await.unwrap();
        (id, watch.from)
    };
    // Two pieces of revision 12, of which a third does not come.
    let mut talk = serve(&mut streams, 3).await;
    let (id, from) = created(&mut talk).await;
    assert_eq!(from, None);
    let whole = vec![deletion("a", 11)];
    let piece = |events| WatchReply::Events { id, revision: Revision(12), events, fragment: true };
    let replies = [
        WatchReply::Events { id, revision: Revision(11), events: whole, fragment: false },
        piece(vec![deletion("a", 12)]),
        piece(vec![deletion("b", 12)]),
    ];
    talk.0.sink.send(encode_sequence(&replies)).await.unwrap();
    assert_eq!(short(&events(&mut watcher, 3).await), ["-a@11", "-a@12", "-b@12"]);
    drop(talk);
    // It goes on at another node with the revision of which it was told a part.
    let mut talk = serve(&mut streams, 3).await;
    let (id, from) = created(&mut talk).await;
    assert_eq!(from, Some(Revision(12)));
    let all = vec![deletion("a", 12), deletion("b", 12), deletion("c", 12), deletion("a", 14)];
    let reply = WatchReply::Events { id, revision: Revision(14), events: all, fragment: false };
    talk.0.sink.send(encode_sequence([&reply])).await.unwrap();
    assert_eq!(short(&events(&mut watcher, 2).await), ["-c@12", "-a@14"]);
    drop(talk);
    // The cluster was made anew: what the watch told may not be part of its history.
    let _talk = serve(&mut streams, 4).await;
    let error = ClientError::Refused(KvError::OtherHistory { asked: 3, current: 4 });
    assert_eq!(watcher.next().await, Some(Err(error)));
    assert_eq!(watcher.next().await, None);
}
