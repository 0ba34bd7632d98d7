//! `raft del`.

use crate::args::del::Del;
use crate::client::Store;
use crate::failure::{Failure, Kind};
use crate::output::pairs::{self, PairJson};
use crate::output::{Output, printable};
use crate::transaction::keys;
use serde_json::json;

/// Deletes a key, a range or a prefix.
///
/// # Errors
/// Of every kind; `No` if a single key is not there.
pub async fn run(store: &Store, args: &Del, output: &mut Output<'_>) -> Result<(), Failure> {
    let key = args.escaped.bytes(&args.key)?;
    let end = args.escaped.optional(args.range_end.as_ref())?;
    let single = !args.prefix && end.is_none();
    let store = store.fenced(args.fenced.fence(args.escaped)?);
    let reply = store.delete(keys(key.clone(), args.prefix, end), args.prev_kv).await?;
    let (deleted, revision, prev_kvs) = (reply.deleted, reply.revision, &reply.prev_kvs);
    let mut json = json!({ "deleted": deleted, "revision": revision });
    if args.prev_kv {
        json["prev_kvs"] = prev_kvs.iter().map(|pair| json!(PairJson(pair, false))).collect();
    }
    let simple = || {
        let mut lines = format!("{deleted}\n").into_bytes();
        lines.extend(pairs::simple(prev_kvs, false));
        lines
    };
    output.show(&json, simple, || {
        let keys = if deleted == 1 { "key" } else { "keys" };
        let done = format!("deleted {deleted} {keys} at revision {revision}\n");
        if prev_kvs.is_empty() { done } else { done + &pairs::table(prev_kvs, false) }
    })?;
    if deleted == 0 && single {
        return Err(Failure::new(Kind::No, format!("no such key: {}", printable(&key))));
    }
    Ok(())
}
