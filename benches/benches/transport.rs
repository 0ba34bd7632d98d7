//! The transport alone: requests of 256 bytes over QUIC on the loopback, one and 64 at a time, both
//! ends on one thread.

use benches::{Certificates, payload};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raft_core::transport::{BoxFuture, Caller, Connector, Inbox, Service, Transport};
use raft_core::types::{ClusterId, GroupId, Identity, Incarnation, NodeId, SnapshotMeta, Term};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::task::JoinSet;

struct Echo;

impl Service for Echo {
    fn call(&self, _caller: Caller, request: Bytes) -> BoxFuture<Bytes> {
        Box::pin(async move { request })
    }
}

/// Nobody sends messages here.
struct Nobody;

impl Inbox for Nobody {
    fn receive(&self, _envelope: raft_core::raft::Envelope) {}
    fn receive_snapshot(
        &self,
        _from: NodeId,
        _sender: raft_core::types::Sender,
        _term: Term,
        _snapshot: raft_core::state_machine::Snapshot,
    ) {
    }
    fn snapshot_sent(&self, _to: NodeId, _meta: SnapshotMeta, _ok: bool) {}
}

fn transport(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let certificates = Certificates::new();
    let (channel, _transport) = runtime.block_on(async {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let transport = certificates.transport(NodeId(1), any, dir.path());
        let (cluster, node) = (ClusterId(1), NodeId(1));
        let identity = Identity { cluster, node, incarnation: Incarnation(1) };
        transport.open(GroupId(0), identity, Arc::new(Nobody));
        transport.serve(GroupId(0), Arc::new(Echo));
        let address = transport.local_addr().to_string();
        let channel = certificates.connector().connect(&address).await.expect("a server");
        (channel, transport)
    });
    let mut group = criterion.benchmark_group("transport");
    for outstanding in [1, 64] {
        group.throughput(Throughput::Elements(outstanding));
        group.bench_function(format!("round_trip_{outstanding}"), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let mut calls = JoinSet::new();
                    for _ in 0..outstanding {
                        calls.spawn(channel.call(payload()));
                    }
                    calls.join_all().await.into_iter().for_each(|reply| {
                        reply.expect("a reply");
                    });
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, transport);
criterion_main!(benches);
