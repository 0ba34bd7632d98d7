//! A writer: creates, changes and deletes objects, each by a transaction on what it last saw.

use super::{REGISTRY, Shared};
use crate::etcd::grpc::Connection;
use pb::request_op::Request;
use pb::response_op::Response;
use raft_core::testing::Random;
use raft_kv::etcd::proto::etcdserverpb as pb;
use raft_kv::etcd::proto::mvccpb::KeyValue;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tonic::Status;

/// Objects that all writers want to change.
const CONTENDED: u64 = 5;
/// Objects of each writer's own.
const OWN: u64 = 20;
/// How long events live, in seconds.
const EVENT_TTL: i64 = 2;

/// Writes until there was enough of it; every change that was acknowledged, by key and revision.
pub(super) async fn run(shared: Arc<Shared>, number: usize) -> Vec<(Vec<u8>, i64)> {
    let mut random = Random::new(number as u64);
    let (mut acknowledged, mut failures) = (Vec::new(), 0);
    let mut connection = shared.connect(number).await;
    let mut events = 0;
    while !shared.is_done() {
        let written = if random.below(10) == 0 {
            events += 1;
            event(&connection, &format!("{REGISTRY}events/{number}-{events}")).await
        } else {
            let key = match random.below(4) {
                0 => format!("{REGISTRY}pods/shared-{}", random.below(CONTENDED)),
                _ => format!("{REGISTRY}pods/{number}-{}", random.below(OWN)),
            };
            change(&connection, &key, &mut random).await
        };
        match written {
            Ok(Some(written)) => acknowledged.push(written),
            // Somebody else was first.
            Ok(None) => {}
            // It is not known whether it was done; whoever asks next sees it.
            Err(_) => {
                failures += 1;
                connection = shared.connect(number + failures).await;
            }
        }
        sleep(Duration::from_millis(random.below(10))).await;
    }
    acknowledged
}

/// Creates, changes or deletes an object, as it is there or not.
async fn change(
    connection: &Connection,
    key: &str,
    random: &mut Random,
) -> Result<Option<(Vec<u8>, i64)>, Status> {
    let found = connection.kv().range(get(key)).await?.into_inner();
    let known = found.kvs.first().map_or(0, |object: &KeyValue| object.mod_revision);
    let request = if known > 0 && random.below(4) == 0 {
        let key = key.to_owned().into();
        Request::RequestDeleteRange(pb::DeleteRangeRequest { key, ..Default::default() })
    } else {
        Request::RequestPut(put(key, &random.next().to_string(), 0))
    };
    txn(connection, key, known, request).await
}

/// Creates an object that goes with its lease.
async fn event(connection: &Connection, key: &str) -> Result<Option<(Vec<u8>, i64)>, Status> {
    let grant = pb::LeaseGrantRequest { ttl: EVENT_TTL, id: 0 };
    let lease = connection.lease().lease_grant(grant).await?.into_inner().id;
    txn(connection, key, 0, Request::RequestPut(put(key, "it happened", lease))).await
}

/// Does `request` if the object was last changed at `known`; the revision, if it was done.
async fn txn(
    connection: &Connection,
    key: &str,
    known: i64,
    request: Request,
) -> Result<Option<(Vec<u8>, i64)>, Status> {
    let compare = pb::Compare {
        target: pb::compare::CompareTarget::Mod.into(),
        key: key.to_owned().into(),
        target_union: Some(pb::compare::TargetUnion::ModRevision(known)),
        ..Default::default()
    };
    let request = pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(request)],
        failure: vec![op(Request::RequestRange(get(key)))],
    };
    let reply = connection.kv().txn(request).await?.into_inner();
    let revision = reply.header.expect("there is one").revision;
    if !reply.succeeded {
        let found = reply.responses.into_iter().next().and_then(|found| found.response);
        assert!(matches!(found, Some(Response::ResponseRange(_))), "{found:?}");
        return Ok(None);
    }
    Ok(Some((key.as_bytes().to_vec(), revision)))
}

fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

fn put(key: &str, value: &str, lease: i64) -> pb::PutRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    pb::PutRequest { key, value, lease, ..Default::default() }
}

pub(super) const fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}
