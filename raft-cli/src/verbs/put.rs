//! `raft put`.

use super::read_value;
use crate::args::put::Put;
use crate::client::Store;
use crate::failure::Failure;
use crate::output::pairs::{self, PairJson};
use crate::output::{BytesField, Output, printable};
use raft_kv::api::{Attach, Put as Write};
use serde_json::json;

/// Sets a key.
///
/// # Errors
/// Of every kind but `No`.
pub async fn run(store: &Store, args: &Put, output: &mut Output<'_>) -> Result<(), Failure> {
    let key = args.escaped.bytes(&args.key)?;
    let value = args.value.as_ref().map(|value| read_value(value, args.escaped)).transpose()?;
    let lease = match args.lease {
        Some(lease) => Attach::To(lease),
        None if args.ignore_lease => Attach::Keep,
        None => Attach::None,
    };
    let (prev_kv, sequential) = (args.prev_kv, args.sequential);
    let store = store.fenced(args.fenced.fence(args.escaped)?);
    let reply = store.write(Write { key, value, lease, prev_kv, sequential }).await?;
    let revision = reply.revision;
    let mut json = json!({ "revision": revision });
    if let Some(key) = &reply.key {
        BytesField::KEY.insert(&mut json, key);
    }
    if prev_kv {
        json["prev_kv"] = json!(reply.prev_kv.as_ref().map(|pair| PairJson(pair, false)));
    }
    let simple = || {
        let mut lines = b"OK\n".to_vec();
        if let Some(key) = &reply.key {
            lines = [&key[..], b"\n"].concat();
        }
        lines.extend(pairs::simple(reply.prev_kv.as_slice(), false));
        lines
    };
    output.show(&json, simple, || {
        let what = reply.key.as_ref().map_or_else(String::new, |key| printable(key) + " ");
        let done = format!("{what}put at revision {revision}\n");
        match &reply.prev_kv {
            Some(before) => done + &pairs::table(std::slice::from_ref(before), false),
            None => done,
        }
    })
}
