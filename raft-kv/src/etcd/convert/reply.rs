//! Answers in the interface's form.

use crate::api::{Event, EventKind, KeyValue, LeaseId, OpReply, RangeReply, Revision, TxnReply};
use crate::client::{DeleteReply, PutReply};
use crate::etcd::core::signed;
use crate::etcd::proto::etcdserverpb as pb;
use crate::etcd::proto::mvccpb;
use mvccpb::event::EventType;
use pb::response_op::Response;

/// A pair.
pub(in crate::etcd) fn pair(pair: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: pair.key,
        create_revision: signed(pair.create_revision.0),
        mod_revision: signed(pair.mod_revision.0),
        version: signed(pair.version),
        value: pair.value,
        lease: lease(pair.lease),
    }
}

fn lease(lease: Option<LeaseId>) -> i64 {
    lease.map_or(0, |lease| signed(lease.0))
}

/// A change.
pub(in crate::etcd) fn event(event: Event) -> mvccpb::Event {
    let (r#type, kv) = match event.kind {
        EventKind::Put(put) => (EventType::Put, pair(put)),
        EventKind::Delete { key, mod_revision } => {
            let mod_revision = signed(mod_revision.0);
            (EventType::Delete, mvccpb::KeyValue { key, mod_revision, ..Default::default() })
        }
    };
    let prev_kv = event.prev_kv.map(pair);
    mvccpb::Event { r#type: r#type.into(), kv: Some(kv), prev_kv }
}

/// To a read.
pub(in crate::etcd) fn range_reply(
    header: pb::ResponseHeader,
    reply: RangeReply,
) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: reply.kvs.into_iter().map(pair).collect(),
        more: reply.more,
        count: signed(reply.count),
    }
}

/// To a put.
pub(in crate::etcd) fn put_reply(header: pb::ResponseHeader, reply: PutReply) -> pb::PutResponse {
    pb::PutResponse { header: Some(header), prev_kv: reply.prev_kv.map(pair) }
}

/// To a deletion.
pub(in crate::etcd) fn delete_reply(
    header: pb::ResponseHeader,
    reply: DeleteReply,
) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: Some(header),
        deleted: signed(reply.deleted),
        prev_kvs: reply.prev_kvs.into_iter().map(pair).collect(),
    }
}

/// To a transaction. The answers within it tell the revision only, as etcd has it.
pub(in crate::etcd) fn txn_reply(header: pb::ResponseHeader, reply: TxnReply) -> pb::TxnResponse {
    let revision = reply.revision;
    let responses = reply.replies.into_iter().map(|reply| op_reply(revision, reply)).collect();
    pb::TxnResponse { header: Some(header), succeeded: reply.succeeded, responses }
}

fn op_reply(revision: Revision, reply: OpReply) -> pb::ResponseOp {
    let header = pb::ResponseHeader { revision: signed(revision.0), ..Default::default() };
    let response = match reply {
        OpReply::Put { prev_kv, key } => {
            Response::ResponsePut(put_reply(header, PutReply { revision, prev_kv, key }))
        }
        OpReply::Delete { deleted, prev_kvs } => {
            let reply = DeleteReply { revision, deleted, prev_kvs };
            Response::ResponseDeleteRange(delete_reply(header, reply))
        }
        OpReply::Range(reply) => Response::ResponseRange(range_reply(header, reply)),
        // Not even that, of a transaction within it.
        OpReply::Txn(reply) => Response::ResponseTxn(txn_reply(Default::default(), reply)),
    };
    pb::ResponseOp { response: Some(response) }
}
