//! Service Watch.

use super::{Connection, Doors};
use pb::watch_request::RequestUnion;
use raft_kv::etcd::proto::etcdserverpb as pb;
use raft_kv::etcd::proto::health::health_check_response::ServingStatus;
use raft_kv::etcd::proto::health::{
    HealthCheckRequest, HealthCheckResponse, health_client::HealthClient,
};
use raft_kv::etcd::proto::mvccpb::event::EventType;
use raft_kv::etcd::proto::v3electionpb::{LeaderRequest, election_client::ElectionClient};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Streaming};

/// A stream of watches.
pub(super) struct Watching {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Watching {
    pub(super) async fn start(connection: &Connection) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        let answers = connection.watch().watch(ReceiverStream::new(receiver)).await.unwrap();
        Self { requests, answers: answers.into_inner() }
    }

    async fn ask(&self, request: RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(request) }).await.unwrap();
    }

    pub(super) async fn create(&self, request: pb::WatchCreateRequest) {
        self.ask(RequestUnion::CreateRequest(request)).await;
    }

    pub(super) async fn ask_progress(&self) {
        self.ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
    }

    async fn cancel(&self, watch_id: i64) {
        self.ask(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })).await;
    }

    pub(super) async fn next(&mut self) -> pb::WatchResponse {
        self.answers.message().await.unwrap().unwrap()
    }

    /// Begins a watch; its id.
    async fn begun(&mut self, request: pb::WatchCreateRequest) -> i64 {
        self.create(request).await;
        let created = self.next().await;
        assert!(created.created && !created.canceled && created.events.is_empty(), "{created:?}");
        created.watch_id
    }
}

fn of(key: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key.to_owned().into(), ..Default::default() }
}

fn prefix(key: &str) -> pb::WatchCreateRequest {
    let mut end = key.as_bytes().to_vec();
    *end.last_mut().unwrap() += 1;
    pb::WatchCreateRequest { range_end: end.into(), ..of(key) }
}

/// What happened, to which key, at which revision.
fn told(response: &pb::WatchResponse) -> Vec<(EventType, String, i64)> {
    let event = |event: &raft_kv::etcd::proto::mvccpb::Event| {
        let pair = event.kv.as_ref().unwrap();
        let key = String::from_utf8(pair.key.to_vec()).unwrap();
        (event.r#type(), key, pair.mod_revision)
    };
    response.events.iter().map(event).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_told_on_every_node() {
    let doors = Doors::start(3).await;
    let mut watchings = Vec::new();
    for id in doors.addresses.keys() {
        let mut watching = Watching::start(&doors.connect(*id).await).await;
        assert_eq!(watching.begun(prefix("k/")).await, 0);
        watchings.push(watching);
    }
    let connection = doors.any().await;
    connection.put("k/1", "a").await;
    connection.put("other", "").await;
    let deletion = pb::DeleteRangeRequest { key: "k/1".into(), ..Default::default() };
    connection.kv().delete_range(deletion).await.unwrap();
    for watching in &mut watchings {
        let mut events = Vec::new();
        while events.len() < 2 {
            let response = watching.next().await;
            events.extend(told(&response));
            let last = events.last().map_or(0, |event| event.2);
            assert!(response.header.unwrap().revision >= last);
        }
        let expected = [(EventType::Put, "k/1".into(), 2), (EventType::Delete, "k/1".into(), 4)];
        assert_eq!(events, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_the_clients_to_choose() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let mut watching = Watching::start(&connection).await;
    assert_eq!(watching.begun(of("a")).await, 0);
    assert_eq!(watching.begun(pb::WatchCreateRequest { watch_id: 1, ..of("b") }).await, 1);
    assert_eq!(watching.begun(of("c")).await, 2);
    watching.create(pb::WatchCreateRequest { watch_id: 1, ..of("d") }).await;
    let refused = watching.next().await;
    assert!(refused.created && refused.canceled);
    assert_eq!(refused.watch_id, -1);
    let reason = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(refused.cancel_reason, reason);
    watching.create(pb::WatchCreateRequest { range_end: "a".into(), ..of("b") }).await;
    let refused = watching.next().await;
    assert!(refused.created && refused.canceled);
    assert_eq!(refused.cancel_reason, "mvcc: watcher range is empty");
    // An unknown one is ended silently; one that was ended may be begun again.
    watching.cancel(99).await;
    watching.cancel(1).await;
    let canceled = watching.next().await;
    assert!(canceled.canceled && !canceled.created);
    assert_eq!((canceled.watch_id, &*canceled.cancel_reason), (1, ""));
    assert_eq!(watching.begun(pb::WatchCreateRequest { watch_id: 1, ..of("d") }).await, 1);
    connection.put("b", "").await;
    connection.put("d", "").await;
    let response = watching.next().await;
    assert_eq!(response.watch_id, 1);
    assert_eq!(told(&response), [(EventType::Put, "d".into(), 3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_is_told_before_the_present_and_the_future_is_waited_for() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    for value in 0..5 {
        connection.put("k", &value.to_string()).await;
    }
    let mut watching = Watching::start(&connection).await;
    let past = pb::WatchCreateRequest { start_revision: 3, prev_kv: true, ..of("k") };
    let past = watching.begun(past).await;
    let mut events = Vec::new();
    while events.len() < 4 {
        let response = watching.next().await;
        assert_eq!(response.watch_id, past);
        assert!(response.header.unwrap().revision >= 6, "{response:?}");
        for event in response.events {
            let previous = event.prev_kv.unwrap();
            events.push((event.kv.unwrap().mod_revision, previous.mod_revision));
        }
    }
    assert_eq!(events, [(3, 2), (4, 3), (5, 4), (6, 5)]);
    watching.cancel(past).await;
    assert!(watching.next().await.canceled);
    let ahead = pb::WatchCreateRequest { start_revision: 8, ..of("k") };
    watching.begun(ahead).await;
    for value in ["7", "8"] {
        connection.put("k", value).await;
    }
    assert_eq!(told(&watching.next().await), [(EventType::Put, "k".into(), 8)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_compacted_is_not_watched() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    for value in 0..5 {
        connection.put("k", &value.to_string()).await;
    }
    let compaction = pb::CompactionRequest { revision: 4, physical: true };
    connection.kv().compact(compaction).await.unwrap();
    let mut watching = Watching::start(&connection).await;
    let id = watching.begun(pb::WatchCreateRequest { start_revision: 3, ..of("k") }).await;
    let refused = watching.next().await;
    assert!(refused.canceled && !refused.created);
    assert_eq!((refused.watch_id, refused.compact_revision), (id, 4));
    let reason = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(refused.cancel_reason, reason);
    // The stream lives on, and the very revision that was compacted can be watched from.
    watching.begun(pb::WatchCreateRequest { start_revision: 4, ..of("k") }).await;
    assert_eq!(told(&watching.next().await)[0].2, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_leave_out_and_revisions_stay_whole() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let mut watching = Watching::start(&connection).await;
    let no_puts = pb::WatchCreateRequest { filters: vec![0], ..prefix("k") };
    let no_deletes = pb::WatchCreateRequest { filters: vec![1], ..prefix("k") };
    let puts = watching.begun(no_deletes).await;
    let deletes = watching.begun(no_puts).await;
    let op = |request| pb::RequestOp { request: Some(request) };
    let put = |key: &str| op(pb::request_op::Request::RequestPut(super::put(key, "")));
    let success = ["k1", "k2", "k3"].map(put).to_vec();
    let txn = pb::TxnRequest { success, ..Default::default() };
    connection.kv().txn(txn).await.unwrap();
    let response = watching.next().await;
    assert_eq!((response.watch_id, response.events.len()), (puts, 3));
    let deletion =
        pb::DeleteRangeRequest { key: "k".into(), range_end: "l".into(), prev_kv: false };
    connection.kv().delete_range(deletion).await.unwrap();
    let response = watching.next().await;
    assert_eq!((response.watch_id, response.events.len()), (deletes, 3));
    assert!(told(&response).iter().all(|event| event.2 == 3));
    let pair = response.events[0].kv.clone().unwrap();
    assert_eq!((pair.create_revision, pair.version, pair.value.len()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_revisions_come_in_pieces_only_where_that_is_wanted() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let value = "x".repeat(500 * 1024);
    for key in 0..20 {
        connection.put(&format!("k{key:02}"), &value).await;
    }
    let mut watching = Watching::start(&connection).await;
    let whole = pb::WatchCreateRequest { prev_kv: true, ..prefix("k") };
    let whole = watching.begun(whole).await;
    let pieces = pb::WatchCreateRequest { prev_kv: true, fragment: true, ..prefix("k") };
    let pieces = watching.begun(pieces).await;
    let deletion =
        pb::DeleteRangeRequest { key: "k".into(), range_end: "l".into(), prev_kv: false };
    connection.kv().delete_range(deletion).await.unwrap();
    let mut events: std::collections::BTreeMap<i64, Vec<usize>> = [(whole, vec![])].into();
    events.insert(pieces, vec![]);
    let mut ended = 0;
    while ended < 2 {
        let response = watching.next().await;
        events.get_mut(&response.watch_id).unwrap().push(response.events.len());
        assert!(!(response.fragment && response.watch_id == whole));
        ended += usize::from(!response.fragment);
    }
    assert_eq!(events[&whole], [20]);
    assert!(events[&pieces].len() > 5, "{events:?}");
    assert_eq!(events[&pieces].iter().sum::<usize>(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_told_when_asked_for_and_when_nothing_happens() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let mut watching = Watching::start(&connection).await;
    watching.begun(of("quiet")).await;
    let revision = connection.put("k", "").await;
    watching.ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
    let told = watching.next().await;
    assert_eq!((told.watch_id, told.events.len()), (-1, 0));
    assert!((1..=revision).contains(&told.header.unwrap().revision));
    let request = pb::WatchCreateRequest { progress_notify: true, ..of("quiet") };
    let id = watching.begun(request).await;
    loop {
        let told = watching.next().await;
        assert_eq!((told.watch_id, told.events.len()), (id, 0));
        if told.header.unwrap().revision == revision {
            break;
        }
    }
}

/// A request of somebody who wants no answer without a leader.
fn led<T>(request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    request
}

async fn assert_unled<T: std::fmt::Debug>(mut answers: Streaming<T>) {
    let ended = loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    super::assert_refused(ended, Code::Unavailable, "etcdserver: no leader");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_every_kind_end_without_a_leader() {
    let doors = Doors::start(3).await;
    let leader = doors.cluster.leader().await;
    let follower = doors.cluster.other(leader);
    let connection = doors.connect(follower).await;
    connection.put("known", "").await;
    // Nobody asks for anything more, and everybody still listens.
    let (_asking, none) = mpsc::channel::<pb::WatchRequest>(1);
    let watch = connection.watch().watch(led(ReceiverStream::new(none))).await.unwrap();
    let (_keeping, none) = mpsc::channel::<pb::LeaseKeepAliveRequest>(1);
    let keep = connection.lease().lease_keep_alive(led(ReceiverStream::new(none))).await.unwrap();
    let name = LeaderRequest { name: "e".into() };
    let observe = ElectionClient::new(connection.clone()).observe(led(name.clone())).await;
    let all = HealthCheckRequest::default();
    let mut health = HealthClient::new(connection.clone());
    let probe = health.watch(led(all.clone())).await.unwrap();
    let mut anyway = health.watch(all).await.unwrap().into_inner();
    doors.cluster.isolate(follower);
    assert_unled(watch.into_inner()).await;
    assert_unled(keep.into_inner()).await;
    assert_unled(observe.unwrap().into_inner()).await;
    assert_unled(probe.into_inner()).await;
    // Who does not say so goes on.
    let status = async |told: &mut Streaming<HealthCheckResponse>| {
        told.message().await.unwrap().unwrap().status()
    };
    while status(&mut anyway).await != ServingStatus::NotServing {}
    let again = ElectionClient::new(connection).observe(led(name)).await;
    super::assert_refused(again, Code::Unavailable, "etcdserver: no leader");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_requires_a_leader_is_told_that_there_is_none() {
    let doors = Doors::start(3).await;
    let leader = doors.cluster.leader().await;
    let follower = doors.cluster.other(leader);
    let connection = doors.connect(follower).await;
    // Then it knows who leads.
    connection.put("known", "").await;
    let (requests, receiver) = mpsc::channel(16);
    let mut request = Request::new(ReceiverStream::new(receiver));
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    let mut answers = connection.watch().watch(request).await.unwrap().into_inner();
    let create = RequestUnion::CreateRequest(of("k"));
    requests.send(pb::WatchRequest { request_union: Some(create) }).await.unwrap();
    assert!(answers.message().await.unwrap().unwrap().created);
    doors.cluster.isolate(follower);
    let ended = answers.message().await;
    super::assert_refused(ended, Code::Unavailable, "etcdserver: no leader");
    let mut request = Request::new(super::get("k"));
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    let refused = connection.kv().range(request).await;
    super::assert_refused(refused, Code::Unavailable, "etcdserver: no leader");
    // Without that, what needs no leader is answered.
    let local = pb::RangeRequest { serializable: true, ..super::get("k") };
    assert_eq!(connection.range(local).await.count, 0);
    let write = connection.kv().put(super::put("k", "v")).await;
    super::assert_refused(write, Code::Unavailable, "etcdserver: no leader");
}
