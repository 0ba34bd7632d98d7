//! A cache: lists, watches from there, and goes on where it was when a connection breaks. It
//! checks everything it is told against what it has.

use super::{Objects, REGISTRY, Shared, end_of, list};
use crate::cluster::support::GUARD;
use crate::etcd::grpc::Connection;
use pb::watch_request::RequestUnion;
use raft_kv::etcd::proto::etcdserverpb as pb;
use raft_kv::etcd::proto::mvccpb::event::EventType;
use raft_kv::etcd::proto::mvccpb::{Event, KeyValue};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

pub(super) struct Cache {
    shared: Arc<Shared>,
    pub(super) number: usize,
    pub(super) objects: Objects,
    /// It has been told everything up to here.
    pub(super) revision: i64,
    /// What it was told, by key and revision.
    pub(super) told: BTreeSet<(Vec<u8>, i64)>,
    pub(super) reconnections: usize,
}

impl Cache {
    pub(super) fn new(shared: Arc<Shared>, number: usize) -> Self {
        let (objects, told) = (Objects::new(), BTreeSet::new());
        Self { shared, number, objects, revision: 0, told, reconnections: 0 }
    }

    /// Until nothing more is written, and nothing hangs on a lease.
    pub(super) async fn run(mut self) -> Self {
        while self.revision == 0 {
            let connection = self.shared.connect(self.number).await;
            if let Ok((objects, revision)) = list(&connection).await {
                (self.objects, self.revision) = (objects, revision);
                let told = self.objects.values();
                let told = told.map(|object| (object.key.to_vec(), object.mod_revision));
                self.told = told.collect();
            }
        }
        while !self.has_settled() {
            let connection = self.shared.connect(self.number + self.reconnections).await;
            if let Some(mut watch) = self.watch(&connection).await {
                self.follow(&mut watch.1).await;
            }
            self.reconnections += 1;
        }
        self.reconnections -= 1;
        self
    }

    async fn watch(&self, connection: &Connection) -> Option<Watch> {
        let (requests, receiver) = mpsc::channel(4);
        let create = pb::WatchCreateRequest {
            key: REGISTRY.into(),
            range_end: end_of(REGISTRY.as_bytes()).into(),
            start_revision: self.revision + 1,
            prev_kv: true,
            progress_notify: true,
            ..Default::default()
        };
        let create = RequestUnion::CreateRequest(create);
        let create = pb::WatchRequest { request_union: Some(create) };
        requests.send(create).await.expect("it is there");
        let answers = connection.watch().watch(ReceiverStream::new(receiver)).await.ok()?;
        Some((requests, answers.into_inner()))
    }

    /// Until the stream breaks, or there is nothing more to come.
    async fn follow(&mut self, answers: &mut Streaming<pb::WatchResponse>) {
        while !self.has_settled() {
            let answer = timeout(GUARD, answers.message()).await;
            let Ok(Some(answer)) = answer.expect("progress is told") else { return };
            let number = self.number;
            assert!(!answer.canceled, "cache {number} at {}: {answer:?}", self.revision);
            let revision = answer.header.expect("there is one").revision;
            if answer.created {
                continue;
            }
            let before = self.revision;
            for event in answer.events {
                self.take(event, before);
            }
            // A bookmark: nothing up to there is still to come. It may tell of less than was seen
            // elsewhere: another node may be behind.
            assert!(revision >= self.revision || self.revision == before, "cache {number}");
            self.revision = self.revision.max(revision);
            self.shared.seen[number].store(self.revision, Ordering::SeqCst);
        }
    }

    fn take(&mut self, event: Event, before: i64) {
        let r#type = event.r#type();
        let object = event.kv.expect("there is one");
        let (number, revision) = (self.number, object.mod_revision);
        assert!(revision > before, "cache {number} has come up to {before}: {object:?}");
        assert!(revision >= self.revision, "cache {number}: {revision} after {}", self.revision);
        self.revision = revision;
        let key = object.key.to_vec();
        assert!(self.told.insert((key.clone(), revision)), "cache {number}: {object:?} again");
        let same = |one: &KeyValue, other: &KeyValue| {
            (one.mod_revision, &one.value) == (other.mod_revision, &other.value)
        };
        match (self.objects.get(&key), &event.prev_kv) {
            (None, None) => assert_eq!(object.version, 1, "cache {number}: {object:?}"),
            (Some(known), Some(previous)) if same(known, previous) => {}
            (known, previous) => panic!("cache {number}: {known:?}, not {previous:?}: {object:?}"),
        }
        match r#type {
            EventType::Put => self.objects.insert(key, object),
            EventType::Delete => self.objects.remove(&key),
        };
    }

    fn has_settled(&self) -> bool {
        let leased = |key: &Vec<u8>| key.starts_with(b"/registry/events/");
        let last = self.shared.last.load(Ordering::SeqCst);
        last > 0 && self.revision >= last && !self.objects.keys().any(leased)
    }
}

/// The requests' end is held open: the stream would end with it.
type Watch = (mpsc::Sender<pb::WatchRequest>, Streaming<pb::WatchResponse>);
