//! Writers, and watchers that are told what they write.

use super::{Session, ending, value};
use crate::check::history::{Action, Ending, Operation};
use crate::failure::Failure;
use raft_kv::api::{Consistency, Event, EventKind, Keys, KvError, Range, Revision, Watch};
use raft_kv::client::{ClientError, WatchBatch, Watcher};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// How a watch has come to its end.
#[derive(Clone, Copy)]
enum Over {
    /// The run is over.
    Stopped,
    /// What it had to be told was compacted, which is the only excuse.
    Compacted,
    /// It ended for another reason, or is told nothing any more.
    Broken,
}

pub(super) async fn write(session: &mut Session) -> Result<(), Failure> {
    while session.goes_on().await {
        let key = session.next_key();
        let value = session.recorder.unique();
        let start = session.recorder.now();
        let put = session.client.put(session.full(&key), value.to_string()).await;
        let outcome = put.as_ref().map_or_else(ending, |_| Ending::Ok);
        let position = put.ok().map(|put| put.revision);
        let (value, revision) = (value.into(), position.map(|position| position.0));
        let action = Action::Write { value, token: None, revision };
        session.record(&key, action, start, outcome, position);
    }
    Ok(())
}

pub(super) async fn watch(session: &mut Session) -> Result<(), Failure> {
    let patient = session.client.with_deadline(session.patience);
    let nothing = Range { limit: 1, keys_only: true, ..Range::of(Keys::all()) };
    let now = patient.get(nothing.clone(), Consistency::Linearizable).await;
    let after = now.map_err(crate::client::failure)?.revision;
    let start = session.recorder.now();
    let from = Some(Revision(after.0 + 1));
    let keys = Keys::prefix(session.prefix.clone());
    let mut watcher = session.client.watch(Watch { from, ..Watch::of(keys) });
    let mut stop = session.stop.clone();
    // Up to here it was told everything.
    let mut told = after;
    let mut over = loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break Over::Stopped,
            batch = watcher.next() => match batch {
                Some(Ok(batch)) => {
                    record(session, &batch.events);
                    told = batch.revision;
                }
                Some(Err(error)) => break why(&error),
                None => break Over::Broken,
            },
        }
    };
    let now = patient.get(nothing, Consistency::Linearizable).await.map(|it| it.revision);
    if let (Over::Stopped, Ok(revision)) = (over, &now) {
        over = match rest(&mut watcher, *revision, session.patience).await {
            Ok(batches) => {
                batches.iter().for_each(|batch| record(session, &batch.events));
                told = told.max(*revision);
                Over::Stopped
            }
            Err(over) => over,
        };
    }
    let (revision, outcome) = match (over, now) {
        (Over::Broken, Ok(revision)) => (revision.max(told), Ending::Failed),
        (Over::Compacted, _) | (Over::Stopped, Ok(_)) => (told, Ending::Ok),
        // There may have been more to be told.
        (_, Err(_)) => (told, Ending::Unknown),
    };
    let action = Action::Watched { after: after.0, revision: revision.0 };
    session.record("", action, start, outcome, (outcome == Ending::Ok).then_some(revision));
    Ok(())
}

/// What is told up to `revision`, of which a read has told.
async fn rest(
    watcher: &mut Watcher,
    revision: Revision,
    patience: Duration,
) -> Result<Vec<WatchBatch>, Over> {
    match timeout(patience, watcher.caught_up(revision)).await {
        Ok(Ok(batches)) => Ok(batches),
        Ok(Err(error)) => Err(why(&error)),
        Err(_) => Err(Over::Broken),
    }
}

const fn why(error: &ClientError) -> Over {
    match error {
        ClientError::Refused(KvError::Compacted { .. }) => Over::Compacted,
        _ => Over::Broken,
    }
}

fn record(session: &Session, events: &[Event]) {
    let start = session.recorder.now();
    for event in events {
        let key = String::from_utf8_lossy(event.key());
        let key = key.strip_prefix(&session.prefix).unwrap_or(&key);
        let value = match &event.kind {
            EventKind::Put(pair) => value(&pair.value),
            EventKind::Delete { .. } => Value::Null,
        };
        let revision = event.revision().0;
        session.recorder.operation(Operation {
            workload: session.workload,
            client: session.number,
            key: key.to_owned(),
            action: Action::Event { value, revision },
            start,
            end: start,
            outcome: Ending::Ok,
            position: Some(revision),
        });
    }
}
