//! `raft get`.

use super::pages::Pages;
use crate::args::get::Get;
use crate::client::Store;
use crate::failure::{Failure, Kind};
use crate::output::pairs::{self, RangeJson};
use crate::output::{Output, printable};
use crate::transaction;
use raft_kv::api::{Consistency, Keys, Range, RangeReply, Revision};
use serde_json::json;

/// Reads a key, a range or a prefix.
///
/// # Errors
/// Of every kind; `No` if a single key is not there.
pub async fn run(store: &Store, args: &Get, output: &mut Output<'_>) -> Result<(), Failure> {
    let key = args.escaped.bytes(&args.key)?;
    let end = args.escaped.optional(args.end.as_ref())?;
    let single = end.is_none() && !args.prefix;
    let keys = match end {
        Some(end) => Keys::Range { start: key.clone(), end: Some(end) },
        None => transaction::keys(key.clone(), args.prefix),
    };
    let range = Range {
        limit: args.limit,
        revision: args.rev.map(Revision),
        keys_only: args.keys_only,
        count_only: args.count_only,
        count_all: true,
        ..Range::of(keys)
    };
    let consistency = match args.serializable {
        true => Consistency::Serializable,
        false => Consistency::Linearizable,
    };
    let reply = read(store, range, consistency).await?;
    print(&reply, args, output)?;
    if single && reply.count == 0 {
        return Err(Failure::new(Kind::No, format!("no such key: {}", printable(&key))));
    }
    Ok(())
}

/// Reads all pages into one reply.
async fn read(
    store: &Store,
    range: Range,
    consistency: Consistency,
) -> Result<RangeReply, Failure> {
    let mut pages = Pages::new(range, consistency);
    let mut all = RangeReply::default();
    while let Some(page) = pages.next(store).await? {
        if all.count == 0 {
            all.revision = page.revision;
            all.count = page.count;
        }
        all.kvs.extend(page.kvs);
        all.more = page.more;
    }
    Ok(all)
}

fn print(reply: &RangeReply, args: &Get, output: &mut Output<'_>) -> Result<(), Failure> {
    if args.raw {
        return reply.kvs.iter().try_for_each(|pair| output.raw(&pair.value));
    }
    if args.count_only {
        let json = json!({ "revision": reply.revision, "count": reply.count });
        return output.print(&json, || reply.count.to_string());
    }
    let json = RangeJson { reply, keys_only: args.keys_only };
    if reply.kvs.is_empty() && output.format == crate::output::Format::Table {
        return Ok(());
    }
    output.print(&json, || {
        let mut text = pairs::table(&reply.kvs, args.keys_only);
        if reply.more {
            text.push_str(&format!("{} of {} keys\n", reply.kvs.len(), reply.count));
        }
        text
    })
}
