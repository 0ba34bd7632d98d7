//! Writers, and watchers that are told what they write.

use super::{PATIENCE, Session, ending, number};
use crate::check::history::{Action, Ending, Operation};
use crate::failure::Failure;
use raft_kv::api::{Consistency, Event, EventKind, Keys, Range, Revision, Watch};
use raft_kv::client::{WatchBatch, Watcher};
use serde_json::Value;
use tokio::time::timeout;

pub(super) async fn write(session: &mut Session) -> Result<(), Failure> {
    while session.goes_on().await {
        let key = session.next_key();
        let value = session.recorder.unique();
        let start = session.recorder.now();
        let put = session.client.put(session.full(&key), value.to_string()).await;
        let outcome = put.as_ref().map_or_else(ending, |_| Ending::Ok);
        let revision = put.ok().map(|put| put.revision.0);
        let value = value.into();
        session.record(&key, Action::Write { value, token: None, revision }, start, outcome);
    }
    Ok(())
}

pub(super) async fn watch(session: &mut Session) -> Result<(), Failure> {
    let patient = session.client.with_deadline(PATIENCE);
    let nothing = Range { limit: 1, keys_only: true, ..Range::of(Keys::all()) };
    let now = patient.get(nothing.clone(), Consistency::Linearizable).await;
    let after = now.map_err(crate::client::failure)?.revision;
    let start = session.recorder.now();
    let from = Some(Revision(after.0 + 1));
    let keys = Keys::prefix(session.prefix.clone());
    let mut watcher = session.client.watch(Watch { from, ..Watch::of(keys) });
    let mut stop = session.stop.clone();
    // Up to here it was told everything, if nothing better is known at the end.
    let mut told = after;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            batch = watcher.next() => match batch {
                Some(Ok(batch)) => {
                    record(session, &batch.events);
                    told = batch.revision;
                }
                // The store has compacted what was to be told, and says so.
                _ => break,
            },
        }
    }
    let revision = patient.get(nothing, Consistency::Linearizable).await.map(|it| it.revision);
    if let Ok(revision) = revision
        && let Some(batches) = rest(&mut watcher, revision).await
    {
        batches.iter().for_each(|batch| record(session, &batch.events));
        told = revision.max(told);
    }
    let (after, revision) = (after.0, told.0);
    session.record("", Action::Watched { after, revision }, start, Ending::Ok);
    Ok(())
}

async fn rest(watcher: &mut Watcher, revision: Revision) -> Option<Vec<WatchBatch>> {
    timeout(PATIENCE, watcher.caught_up(revision)).await.ok()?.ok()
}

fn record(session: &Session, events: &[Event]) {
    let start = session.recorder.now();
    for event in events {
        let key = String::from_utf8_lossy(event.key());
        let key = key.strip_prefix(&session.prefix).unwrap_or(&key);
        let value = match &event.kind {
            EventKind::Put(pair) => number(&pair.value)
                .map_or_else(|| Value::from(String::from_utf8_lossy(&pair.value)), Value::from),
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
        });
    }
}
