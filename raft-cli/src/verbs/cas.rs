//! `raft cas`.

use super::read_value;
use crate::args::cas::Cas;
use crate::client::Store;
use crate::failure::{Failure, Kind};
use crate::output::pairs::{self, PairJson};
use crate::output::{Output, printable};
use bytes::Bytes;
use raft_kv::api::{
    Compare, KeyValue, Keys, Op, OpReply, Operator, Put, Range, Revision, Target, Txn, TxnReply,
};
use serde_json::json;

/// Sets a key if the condition holds.
///
/// # Errors
/// Of every kind; `No` if the condition does not hold, after printing what is there.
pub async fn run(store: &Store, args: &Cas, output: &mut Output<'_>) -> Result<(), Failure> {
    let key = args.escaped.bytes(&args.key)?;
    let value = read_value(&args.value, args.escaped)?;
    let target = target(args)?;
    let store = store.fenced(args.fenced.fence(args.escaped)?);
    let reply = store.txn(txn(key.clone(), value, target)).await?;
    let revision = reply.revision;
    if reply.succeeded {
        let json = json!({ "succeeded": true, "revision": revision });
        return output.show(&json, || b"OK\n".to_vec(), || format!("set at revision {revision}"));
    }
    let current = current(reply);
    let pair = current.as_ref().map(|pair| PairJson(pair, false));
    let json = json!({ "succeeded": false, "revision": revision, "current": pair });
    let there = current.as_slice();
    output.show(
        &json,
        || pairs::simple(there, false),
        || match &current {
            Some(pair) => pairs::table(std::slice::from_ref(pair), false),
            None => "no such key".to_owned(),
        },
    )?;
    let state = match &current {
        Some(pair) => format!("{} is at revision {}", printable(&key), pair.mod_revision),
        None => format!("{} does not exist", printable(&key)),
    };
    Err(Failure::new(Kind::No, format!("condition not met: {state}")))
}

fn target(args: &Cas) -> Result<Target, Failure> {
    if let Some(revision) = args.if_rev {
        return Ok(Target::ModRevision(Revision(revision)));
    }
    match args.escaped.optional(args.if_value.as_ref())? {
        Some(value) => Ok(Target::Value(value)),
        None => Ok(Target::Version(0)),
    }
}

fn txn(key: Bytes, value: Bytes, target: Target) -> Txn {
    Txn {
        compares: vec![Compare { keys: Keys::One(key.clone()), operator: Operator::Equal, target }],
        success: vec![Op::Put(Put::new(key.clone(), value))],
        failure: vec![Op::Range(Range::of(Keys::One(key)))],
    }
}

fn current(reply: TxnReply) -> Option<KeyValue> {
    match reply.replies.into_iter().next() {
        Some(OpReply::Range(range)) => range.kvs.into_iter().next(),
        _ => None,
    }
}
