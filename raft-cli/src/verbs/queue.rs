//! `raft queue`: work that is done once, in order.

use super::hold::gave_up;
use super::pages::Pages;
use super::read_value;
use crate::args::queue::{Action, List, Pop, Push, Queue as Args};
use crate::args::text::Escaped;
use crate::client::{Store, failure};
use crate::failure::{Failure, Kind};
use crate::output::pairs::{self, PairJson};
use crate::output::{BytesField, Output, printable};
use crate::serve::stop::StopRequests;
use raft_kv::api::{Consistency, Keys, Range};
use raft_kv::recipes::{Item, Queue};
use serde_json::{Value, json};
use std::ffi::OsStr;
use tokio::time::{Instant, sleep_until};

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
    let what = format!("the queue {}", printable(args.name.as_encoded_bytes()));
    let Some(item) = take(&queue, args, &what).await? else {
        return Err(Failure::new(Kind::No, format!("{what} is empty")));
    };
    if args.raw {
        return output.raw(&item.value);
    }
    let simple = || [&item.value[..], b"\n"].concat();
    output.show(&item_json(&item), simple, || printable(&item.value))
}

/// Takes an item; `None` if there is none in time. It ends only where nothing is lost by it: not
/// between an item's being taken and its being printed.
async fn take(queue: &Queue, args: &Pop, what: &str) -> Result<Option<Item>, Failure> {
    if args.no_wait {
        return queue.try_take().await.map_err(failure);
    }
    let mut stop = StopRequests::listen(false)?.or_hangup()?;
    let late = args.wait.map(|wait| Instant::now() + wait);
    let patience = async || match late {
        Some(late) => sleep_until(late).await,
        None => std::future::pending().await,
    };
    loop {
        if let Some(item) = queue.try_take().await.map_err(failure)? {
            return Ok(Some(item));
        }
        tokio::select! {
            any = queue.until_any() => any.map_err(failure)?,
            () = patience() => return Ok(None),
            request = stop.next() => return Err(gave_up(request, what)),
        }
    }
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
