//! Transactions, printed.

use super::pairs::{self, PairJson, RangeJson};
use super::{BytesField, printable};
use raft_kv::api::{KeyValue, OpReply, TxnReply};
use serde::ser::{SerializeMap, SerializeStruct};
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
            OpReply::Put { prev_kv, key } => {
                object.serialize_field("put", &PutJson(prev_kv.as_ref(), key.as_deref()))?;
            }
            OpReply::Delete { deleted, prev_kvs } => {
                let prev_kvs = prev_kvs.iter().map(|pair| PairJson(pair, false)).collect();
                object.serialize_field("delete", &Delete { deleted: *deleted, prev_kvs })?;
            }
            OpReply::Range(reply) => {
                object
                    .serialize_field("get", &RangeJson { reply, keys_only: false, dated: None })?;
            }
            OpReply::Txn(reply) => object.serialize_field("txn", &TxnJson(reply))?,
        }
        object.end()
    }
}

/// What was there, and the key if it is a sequential one.
struct PutJson<'a>(Option<&'a KeyValue>, Option<&'a [u8]>);

impl Serialize for PutJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(key) = self.1 {
            BytesField::KEY.write(&mut map, key)?;
        }
        if let Some(pair) = self.0 {
            map.serialize_entry("prev_kv", &PairJson(pair, false))?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Delete<'a> {
    deleted: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prev_kvs: Vec<PairJson<'a>>,
}

/// A transaction's answer for people: what was decided, then one line or table per operation,
/// those of a transaction within it indented.
pub fn text(reply: &TxnReply) -> String {
    let branch = if reply.succeeded { "conditions met: then" } else { "conditions not met: else" };
    let mut text = format!("{branch}, revision {}\n", reply.revision);
    for (number, op) in reply.replies.iter().enumerate() {
        let lines = match op {
            OpReply::Put { prev_kv, key } => {
                let key =
                    key.as_ref().map_or_else(String::new, |key| " ".to_owned() + &printable(key));
                format!("put{key}\n{}", before(prev_kv.as_slice()))
            }
            OpReply::Delete { deleted, prev_kvs } => {
                format!("deleted {deleted}\n{}", before(prev_kvs))
            }
            OpReply::Range(range) if range.kvs.is_empty() => format!("{} keys\n", range.count),
            OpReply::Range(range) => format!("get\n{}", pairs::table(&range.kvs, false)),
            OpReply::Txn(reply) => {
                self::text(reply).replace('\n', "\n  ").trim_end().to_owned() + "\n"
            }
        };
        text.push_str(&format!("{}: {lines}", number + 1));
    }
    text
}

/// What was there before, as a table; nothing if nothing was, or was not asked for.
fn before(pairs: &[KeyValue]) -> String {
    if pairs.is_empty() { String::new() } else { pairs::table(pairs, false) }
}

/// A transaction's answer as `etcdctl` prints it: SUCCESS or FAILURE, then what each operation
/// answers, an empty line before each.
pub fn simple(reply: &TxnReply) -> Vec<u8> {
    let mut lines = if reply.succeeded { b"SUCCESS\n".to_vec() } else { b"FAILURE\n".to_vec() };
    for op in &reply.replies {
        lines.push(b'\n');
        match op {
            OpReply::Put { prev_kv, key } => {
                match key {
                    Some(key) => lines.extend_from_slice(key),
                    None => lines.extend_from_slice(b"OK"),
                }
                lines.push(b'\n');
                lines.extend(pairs::simple(prev_kv.as_slice(), false));
            }
            OpReply::Delete { deleted, prev_kvs } => {
                lines.extend_from_slice(format!("{deleted}\n").as_bytes());
                lines.extend(pairs::simple(prev_kvs, false));
            }
            OpReply::Range(range) => lines.extend(pairs::simple(&range.kvs, false)),
            OpReply::Txn(reply) => lines.extend(simple(reply)),
        }
    }
    lines
}
