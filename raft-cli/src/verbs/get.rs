//! `raft get`.

use super::pages::Pages;
use crate::args::get::{Direction, Freshness, Get, SortBy};
use crate::client::Store;
use crate::failure::{Failure, Kind};
use crate::output::pairs::{self, Dated, RangeJson};
use crate::output::{Format, Output, printable};
use crate::transaction::keys;
use bytes::Bytes;
use raft_kv::api::{
    Consistency, Filter, KeyValue, Keys, Order, OrderBy, Range, RangeReply, Revision,
};
use serde_json::json;
use std::cmp::Ordering;

/// Reads a key, a range or a prefix.
///
/// # Errors
/// Of every kind; `No` if a single key is not there.
pub async fn run(store: &Store, args: &Get, output: &mut Output<'_>) -> Result<(), Failure> {
    let key = args.escaped.bytes(&args.key)?;
    let end = args.escaped.optional(args.end.as_ref())?;
    let single = end.is_none() && !args.prefix;
    let range = range(args, key.clone(), end, output.format);
    let (reply, dated) = read(store, range, consistency(args)?).await?;
    print(&reply, dated, args, output)?;
    let no = |why: &str| Err(Failure::new(Kind::No, format!("{why}: {}", printable(&key))));
    match single {
        true if reply.count == 0 => no("no such key"),
        true if reply.kvs.is_empty() && !args.count_only => no("not of these revisions"),
        _ => Ok(()),
    }
}

fn range(args: &Get, key: Bytes, end: Option<Bytes>, format: Format) -> Range {
    let by = match args.sort_by {
        SortBy::Key => OrderBy::Key,
        SortBy::Version => OrderBy::Version,
        SortBy::Create => OrderBy::CreateRevision,
        SortBy::Mod => OrderBy::ModRevision,
        SortBy::Value => OrderBy::Value,
    };
    let order = Order { by, descending: args.order == Direction::Desc };
    let natural = Order { by: OrderBy::Key, descending: false };
    let filter = Filter {
        min_mod_revision: args.min_mod_rev.map(Revision),
        max_mod_revision: args.max_mod_rev.map(Revision),
        min_create_revision: args.min_create_rev.map(Revision),
        max_create_revision: args.max_create_rev.map(Revision),
    };
    let keys = keys(key, args.prefix, end);
    Range {
        limit: args.limit,
        revision: args.rev.map(Revision),
        keys_only: args.keys_only,
        count_only: args.count_only,
        count_all: matches!(keys, Keys::One(_)) || is_count_needed(args, filter, format),
        order: (order != natural).then_some(order),
        filter,
        ..Range::of(keys)
    }
}

/// Whether it is printed how many keys there are, and the pairs found do not tell. To count them
/// all the cluster has to go through them.
fn is_count_needed(args: &Get, filter: Filter, format: Format) -> bool {
    match format {
        _ if args.raw => false,
        Format::Json => args.limit > 0 || filter != Filter::NONE,
        Format::Table => args.limit > 0,
        Format::Simple => false,
    }
}

fn consistency(args: &Get) -> Result<Consistency, Failure> {
    match (args.consistency, args.token) {
        (None | Some(Freshness::Causal), Some(position)) => Ok(Consistency::AtLeast(position)),
        (Some(Freshness::Causal), None) => Err(Failure::usage("a causal read needs --token")
            .advice("print one with --print-token, with what the reader must see")),
        (Some(_), Some(_)) => {
            Err(Failure::usage("--token is for causal reads").advice("leave --consistency out"))
        }
        (Some(Freshness::Serializable), None) => Ok(Consistency::Serializable),
        (None, None) if args.serializable => Ok(Consistency::Serializable),
        _ => Ok(Consistency::Linearizable),
    }
}

/// Reads everything there is into one reply, and says how fresh it is unless it is linearizable.
async fn read(
    store: &Store,
    range: Range,
    consistency: Consistency,
) -> Result<(RangeReply, Option<Dated>), Failure> {
    let Some(order) = range.order else { return pages(store, range, consistency).await };
    let first = store.read(range.clone(), consistency).await?;
    let (position, staleness) = (first.position, first.staleness);
    let reply = first.range;
    let limit_reached = range.limit != 0 && reply.kvs.len() as u64 >= range.limit;
    if !reply.more || limit_reached || range.count_only {
        return Ok((reply, Some(Dated { position, staleness })));
    }
    // More than one reply holds: only in the order of keys can a read go on where it stopped.
    let limit = range.limit;
    let revision = Some(range.revision.unwrap_or(reply.revision));
    let keys_only = range.keys_only && order.by != OrderBy::Value;
    let all = Range { order: None, limit: 0, revision, keys_only, ..range };
    let (mut all, _) = pages(store, all, Consistency::AtLeast(position)).await?;
    all.kvs.sort_by(|a, b| compare(order, a, b));
    if limit != 0 && all.kvs.len() as u64 > limit {
        all.kvs.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        all.more = true;
    }
    all.revision = reply.revision;
    Ok((all, Some(Dated { position, staleness })))
}

async fn pages(
    store: &Store,
    range: Range,
    consistency: Consistency,
) -> Result<(RangeReply, Option<Dated>), Failure> {
    let is_counted = range.count_all || range.count_only;
    let mut pages = Pages::new(range, consistency);
    let mut all = RangeReply::default();
    while let Some(page) = pages.next(store).await? {
        if all.revision == Revision(0) {
            all.revision = page.revision;
            all.count = page.count;
        } else if !is_counted {
            all.count += page.count;
        }
        all.kvs.extend(page.kvs);
        all.more = page.more;
    }
    Ok((all, pages.dated()))
}

/// The order that the cluster would have put pairs in.
fn compare(order: Order, a: &KeyValue, b: &KeyValue) -> Ordering {
    let by = match order.by {
        OrderBy::Key => a.key.cmp(&b.key),
        OrderBy::Version => a.version.cmp(&b.version),
        OrderBy::CreateRevision => a.create_revision.cmp(&b.create_revision),
        OrderBy::ModRevision => a.mod_revision.cmp(&b.mod_revision),
        OrderBy::Value => a.value.cmp(&b.value),
    };
    let by = if order.descending { by.reverse() } else { by };
    by.then_with(|| a.key.cmp(&b.key))
}

fn print(
    reply: &RangeReply,
    dated: Option<Dated>,
    args: &Get,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    if args.raw {
        return reply.kvs.iter().try_for_each(|pair| output.raw(&pair.value));
    }
    let told = args.print_token || !matches!(consistency(args), Ok(Consistency::Linearizable));
    let dated = dated.filter(|_| told);
    // People get whole sentences, shells only what they asked for.
    let token = dated.filter(|_| args.print_token).map(|dated| dated.token());
    if args.count_only {
        let mut json = json!({ "revision": reply.revision, "count": reply.count });
        if let Some(dated) = &dated {
            json["token"] = json!(dated.token());
            json["staleness_ms"] = json!(dated.staleness_ms());
        }
        let simple = || lines(format!("{}\n", reply.count).into_bytes(), token.as_deref());
        return output.show(&json, simple, || {
            format!("{}\n{}", reply.count, remarks(dated, token.as_deref()))
        });
    }
    let keys_only = args.keys_only;
    let json = RangeJson { reply, keys_only, dated };
    let simple = || lines(pairs::simple(&reply.kvs, keys_only), token.as_deref());
    let remarks = remarks(dated, token.as_deref());
    if reply.kvs.is_empty() && output.format == Format::Table {
        return output.raw(remarks.as_bytes());
    }
    output.show(&json, simple, || {
        let mut text = pairs::table(&reply.kvs, keys_only);
        if reply.more {
            text.push_str(&format!("{} of {} keys\n", reply.kvs.len(), reply.count));
        }
        text + &remarks
    })
}

/// What is to be said of an answer's freshness, a line each.
fn remarks(dated: Option<Dated>, token: Option<&str>) -> String {
    let mut text = dated.map_or_else(String::new, |dated| dated.text() + "\n");
    if let Some(token) = token {
        text.push_str(&format!("token {token}\n"));
    }
    text
}

fn lines(mut lines: Vec<u8>, token: Option<&str>) -> Vec<u8> {
    if let Some(token) = token {
        lines.extend_from_slice(format!("{token}\n").as_bytes());
    }
    lines
}
