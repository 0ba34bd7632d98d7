//! A cluster that is made anew from a backup while clients work with it, as far as they can tell:
//! the same data, of another history.

use crate::cluster::{Cluster, Doors};
use bytes::Bytes;
use raft_core::transport::{
    BoxFuture, CallError, Channel, Connector, Duplex, FrameSink, FrameSource,
};
use raft_kv::Client;
use raft_kv::api::{
    Consistency, KvError, Position, Reply, ReplyBody, Request, RequestBody, WatchReply,
};
use raft_kv::client::ClientOptions;
use raft_kv::{codec, wire};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::task::AbortHandle;

/// Doors that tell of another history than the nodes behind them do.
pub(super) struct Histories {
    doors: Arc<Doors>,
    epoch: Arc<AtomicU64>,
    streams: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Histories {
    pub(super) fn of(cluster: &Cluster) -> Arc<Self> {
        let (doors, epoch) = (Arc::clone(&cluster.doors), Arc::default());
        Arc::new(Self { doors, epoch, streams: Arc::default() })
    }

    pub(super) fn client(self: &Arc<Self>) -> Client {
        let connector = Arc::clone(self) as Arc<dyn Connector>;
        Client::new(connector, ClientOptions::new(["n1"])).with_deadline(super::PATIENCE)
    }

    /// The cluster is made anew.
    pub(super) fn begin(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::SeqCst);
        self.streams.lock().unwrap().drain(..).for_each(|stream| stream.abort());
    }
}

impl Connector for Histories {
    fn connect(&self, address: &str) -> BoxFuture<Result<Arc<dyn Channel>, CallError>> {
        let connected = self.doors.connect(address);
        let (epoch, streams) = (Arc::clone(&self.epoch), Arc::clone(&self.streams));
        Box::pin(async move {
            let inner = connected.await?;
            Ok(Arc::new(Door { inner, epoch, streams }) as Arc<dyn Channel>)
        })
    }
}

struct Door {
    inner: Arc<dyn Channel>,
    epoch: Arc<AtomicU64>,
    streams: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Channel for Door {
    fn call(&self, frame: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        let current = self.epoch.load(Ordering::SeqCst);
        let Request { deadline_ms, body } = wire::decode_request(&frame).unwrap();
        let body = match body {
            RequestBody::DatedRead { consistency: Consistency::AtLeast(position), .. }
                if position.epoch != current =>
            {
                let error = KvError::OtherHistory { asked: position.epoch, current };
                let reply = wire::encode_reply(&Err(error));
                return Box::pin(async move { Ok(reply) });
            }
            RequestBody::DatedRead { range, consistency: Consistency::AtLeast(position) } => {
                let consistency = Consistency::AtLeast(Position { epoch: 0, ..position });
                RequestBody::DatedRead { range, consistency }
            }
            body => body,
        };
        let answer = self.inner.call(wire::encode_request(&Request { deadline_ms, body }));
        Box::pin(async move {
            let reply: Reply = wire::decode_reply(&answer.await?).unwrap();
            Ok(wire::encode_reply(&reply.map(|body| match body {
                ReplyBody::Dated(mut freshness, range) => {
                    freshness.epoch = current;
                    ReplyBody::Dated(freshness, range)
                }
                body => body,
            })))
        })
    }

    fn open_stream(&self, first: Bytes) -> BoxFuture<Result<Duplex, CallError>> {
        let (opening, epoch) = (self.inner.open_stream(first), Arc::clone(&self.epoch));
        let streams = Arc::clone(&self.streams);
        Box::pin(async move {
            let there = opening.await?;
            let (near, far) = Duplex::pair(256 * 1024);
            let task = tokio::spawn(async move {
                let to = relay(far.source, there.sink, |frame| frame);
                let fro = relay(there.source, far.sink, |frame| told(&frame, &epoch));
                tokio::join!(to, fro);
            });
            streams.lock().unwrap().push(task.abort_handle());
            Ok(near)
        })
    }
}

async fn relay(
    mut source: Box<dyn FrameSource>,
    mut sink: Box<dyn FrameSink>,
    change: impl Fn(Bytes) -> Bytes,
) {
    while let Ok(Some(frame)) = source.receive().await {
        if sink.send(change(frame)).await.is_err() {
            return;
        }
    }
    // Whoever is gone does not need to be told.
    let _ = sink.finish().await;
}

fn told(frame: &Bytes, epoch: &AtomicU64) -> Bytes {
    let replies = codec::decode_sequence::<WatchReply>(frame).map(Result::unwrap);
    let replies: Vec<WatchReply> = replies
        .map(|reply| match reply {
            WatchReply::Opened(_) => WatchReply::Opened(epoch.load(Ordering::SeqCst)),
            reply => reply,
        })
        .collect();
    codec::encode_sequence(&replies)
}
