//! `raft broadcast` and `raft subscribe`: messages that all see in one order.

use super::{hold, read_value};
use crate::args::broadcast::{Broadcast, Subscribe};
use crate::args::text::Place;
use crate::client::{Store, failure};
use crate::failure::{Failure, Kind};
use crate::output::{BytesField, Output, printable};
use raft_kv::api::{KvError, Position, Revision};
use raft_kv::client::ClientError;
use raft_kv::recipes::{RecipeError, Topic};
use serde_json::json;

/// Sends a message, or drops old ones.
///
/// # Errors
/// Of every kind but `No`.
pub async fn broadcast(
    store: &Store,
    args: &Broadcast,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let topic = Topic::new(store.client(), args.escaped.bytes(&args.topic)?);
    let Some(message) = &args.message else {
        let until = Revision(args.drop_until.unwrap_or_default());
        let dropped = topic.drop_until(until).await.map_err(failure)?;
        let json = json!({ "dropped": dropped });
        return output.show(
            &json,
            || b"OK\n".to_vec(),
            || format!("messages up to {dropped} are dropped"),
        );
    };
    let message = read_value(message, args.escaped)?;
    let revision = topic.broadcast(message).await.map_err(failure)?;
    let json = json!({ "revision": revision });
    output.show(&json, || b"OK\n".to_vec(), || format!("message {revision} sent"))
}

/// Prints messages as they come.
///
/// # Errors
/// Of every kind but `No`.
pub async fn subscribe(
    store: &Store,
    args: &Subscribe,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let topic = Topic::new(store.client(), args.escaped.bytes(&args.topic)?);
    let what = format!("the topic {}", args.topic.display());
    let before = |revision: Revision| Revision(revision.0.saturating_sub(1));
    let mut messages = match args.from {
        _ if args.new => topic.subscribe(topic.last().await.map_err(failure)?.unwrap_or_default()),
        Place::At(revision) => topic.subscribe(before(revision)),
        Place::In(Position { epoch, revision }) => {
            topic.subscribe_after(Position { epoch, revision: before(revision) })
        }
    };
    let mut told = 0_u64;
    while args.limit == 0 || told < args.limit {
        let message = messages.next().await.map_err(|error| ended(&what, error))?;
        told += 1;
        let mut json = json!({ "epoch": message.epoch, "revision": message.revision });
        BytesField::VALUE.insert(&mut json, &message.value);
        let simple = || [&message.value[..], b"\n"].concat();
        output.show(&json, simple, || {
            format!("{}  {}", message.position(), printable(&message.value))
        })?;
        output.finish()?;
    }
    Ok(())
}

fn ended(what: &str, error: RecipeError) -> Failure {
    let RecipeError::Client(ClientError::Refused(KvError::OtherHistory { asked, current })) = error
    else {
        return hold::failure(what, error);
    };
    let text = format!(
        "{what} is of history {current} by now, not {asked}: others are told other messages"
    );
    Failure::new(Kind::Refused, text).advice(
        "the cluster was made anew; what was acted on may be gone. `raft subscribe` without --from \
         tells what there is",
    )
}
