//! `raft queue`: work that is done once, in order.

use super::pages::Pages;
use super::read_value;
use crate::args::queue::{Action, List, Pop, Push, Queue as Args};
use crate::args::text::Escaped;
use crate::client::{Store, failure};
use crate::failure::{Failure, Kind};
use crate::output::pairs::{self, PairJson};
use crate::output::{BytesField, Output, printable};
use raft_kv::api::{Consistency, Keys, Range};
use raft_kv::recipes::{Item, Queue};
use serde_json::{Value, json};
use std::ffi::OsStr;

/// Pushes, pops or lists.
///
/// # Errors
/// Of every kind; `No` if there is nothing to pop.
pub async fn run(store: &Store, args: &Args, output: &mut Output<'_>) -> Result<(), Failure> {
    match &args.action {
        Action::Push(args) => push(store, args, output).await,
        Action::Pop(args) => pop(store, args, output).await,
        Action::List(args) => list(store, args, output).await,
    }
}

fn queue(store: &Store, name: &OsStr, escaped: Escaped) -> Result<Queue, Failure> {
    Ok(Queue::new(store.client(), escaped.bytes(name)?))
}

async fn push(store: &Store, args: &Push, output: &mut Output<'_>) -> Result<(), Failure> {
    let queue = queue(store, &args.name, args.escaped)?;
    let value = read_value(&args.value, args.escaped)?;
    let revision = queue.put_at(args.rank, value).await.map_err(failure)?;
    let json = json!({ "revision": revision });
    output.show(&json, || b"OK\n".to_vec(), || format!("pushed at revision {revision}"))
}

async fn pop(store: &Store, args: &Pop, output: &mut Output<'_>) -> Result<(), Failure> {
    let queue = queue(store, &args.name, args.escaped)?;
    let item = match args.no_wait {
        true => queue.try_take().await.map_err(failure)?,
        false => Some(queue.take().await.map_err(failure)?),
    };
    let Some(item) = item else {
        let name = printable(args.name.as_encoded_bytes());
        return Err(Failure::new(Kind::No, format!("the queue {name} is empty")));
    };
    if args.raw {
        return output.raw(&item.value);
    }
    let simple = || [&item.value[..], b"\n"].concat();
    output.show(&item_json(&item), simple, || printable(&item.value))
}

fn item_json(item: &Item) -> Value {
    let mut json = json!({ "revision": item.revision });
    BytesField::KEY.insert(&mut json, &item.key);
    BytesField::VALUE.insert(&mut json, &item.value);
    json
}

async fn list(store: &Store, args: &List, output: &mut Output<'_>) -> Result<(), Failure> {
    let name = args.escaped.bytes(&args.name)?;
    let items = Keys::prefix([&name[..], b"/"].concat());
    let mut pages = Pages::new(Range::of(items), Consistency::Linearizable);
    let mut pairs = Vec::new();
    while let Some(page) = pages.next(store).await? {
        pairs.extend(page.kvs);
    }
    let items: Vec<PairJson<'_>> = pairs.iter().map(|pair| PairJson(pair, false)).collect();
    let simple = || pairs.iter().flat_map(|pair| [&pair.value[..], b"\n"].concat()).collect();
    output.show(&json!({ "items": items }), simple, || match pairs.is_empty() {
        true => "no items".to_owned(),
        false => pairs::table(&pairs, false),
    })
}
