//! Transactions, printed.

use super::pairs::{self, PairJson, RangeJson};
use raft_kv::api::{OpReply, TxnReply};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// A transaction's answer as JSON: `{"succeeded":true,"revision":8,"replies":[...]}`.
pub struct TxnJson<'a>(pub &'a TxnReply);

impl Serialize for TxnJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let replies: Vec<_> = self.0.replies.iter().map(OpJson).collect();
        let mut object = serializer.serialize_struct("Txn", 3)?;
        object.serialize_field("succeeded", &self.0.succeeded)?;
        object.serialize_field("revision", &self.0.revision)?;
        object.serialize_field("replies", &replies)?;
        object.end()
    }
}

struct OpJson<'a>(&'a OpReply);

impl Serialize for OpJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Op", 1)?;
        match self.0 {
            OpReply::Put { prev_kv, .. } => {
                let prev_kv = prev_kv.as_ref().map(|pair| PairJson(pair, false));
                object.serialize_field("put", &Put { prev_kv })?;
            }
            OpReply::Delete { deleted, prev_kvs } => {
                let prev_kvs = prev_kvs.iter().map(|pair| PairJson(pair, false)).collect();
                object.serialize_field("delete", &Delete { deleted: *deleted, prev_kvs })?;
            }
            OpReply::Range(reply) => {
                object.serialize_field("get", &RangeJson { reply, keys_only: false })?;
            }
            OpReply::Txn(reply) => object.serialize_field("txn", &TxnJson(reply))?,
        }
        object.end()
    }
}

#[derive(Serialize)]
struct Put<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_kv: Option<PairJson<'a>>,
}

#[derive(Serialize)]
struct Delete<'a> {
    deleted: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prev_kvs: Vec<PairJson<'a>>,
}

/// A transaction's answer for people: what was decided, then one line or table per operation.
pub fn text(reply: &TxnReply) -> String {
    let branch = if reply.succeeded { "conditions met: then" } else { "conditions not met: else" };
    let mut text = format!("{branch}, revision {}\n", reply.revision);
    for (number, op) in reply.replies.iter().enumerate() {
        let line = match op {
            OpReply::Put { .. } => "put\n".to_owned(),
            OpReply::Delete { deleted, .. } => format!("deleted {deleted}\n"),
            OpReply::Range(range) if range.kvs.is_empty() => "no keys\n".to_owned(),
            OpReply::Range(range) => format!("get\n{}", pairs::table(&range.kvs, false)),
            OpReply::Txn(reply) => self::text(reply),
        };
        text.push_str(&format!("{}: {line}", number + 1));
    }
    text
}
