//! Holders of a lock, one at a time, that write under its token. They read what they write first
//! and at the end: a write of an earlier holder that nobody answered may come late, and is seen by
//! nobody else.

use super::{Session, ending, value};
use crate::check::history::{Action, Ending};
use crate::failure::Failure;
use raft_kv::recipes::Lock;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// The lock is gone so long after its holder has died.
const TTL: Duration = Duration::from_secs(3);
/// Writes of one holder.
const WRITES: u64 = 4;
/// One lock, for which all contend.
const KEY: &str = "0";

pub(super) async fn run(session: &mut Session) -> Result<(), Failure> {
    let name = session.full(KEY);
    while session.goes_on().await {
        let start = session.recorder.now();
        let acquiring = Lock::acquire(&session.client, name.clone(), TTL);
        let stopped = session.stop.clone();
        let acquired = tokio::select! {
            acquired = timeout(TTL * 4, acquiring) => acquired.ok().and_then(Result::ok),
            () = until(stopped) => None,
        };
        let Some(lock) = acquired else {
            // Its place in the line goes with its lease; nobody has, or will have, this token.
            session.record(KEY, Action::Acquire { token: None }, start, Ending::Failed, None);
            continue;
        };
        let fence = lock.fence();
        // Its place in the line was made then; it knows whose turn was before its own.
        let (token, position) = (Some(fence.token.0), Some(fence.token));
        session.record(KEY, Action::Acquire { token }, start, Ending::Ok, position);
        let holder = session.client.fenced(fence);
        read(session, token).await;
        for _ in 0..WRITES {
            if !session.goes_on().await {
                break;
            }
            let value = session.recorder.unique();
            let start = session.recorder.now();
            let put = holder.put(data(session), value.to_string()).await;
            let outcome = put.as_ref().map_or_else(ending, |_| Ending::Ok);
            let position = put.ok().map(|put| put.revision);
            let revision = position.map(|position| position.0);
            let action = Action::Write { value: value.into(), token, revision };
            session.record(KEY, action, start, outcome, position);
        }
        read(session, token).await;
        let start = session.recorder.now();
        let released = lock.release().await;
        let outcome = if released.is_ok() { Ending::Ok } else { Ending::Unknown };
        session.record(KEY, Action::Release, start, outcome, None);
    }
    Ok(())
}

/// The key that holders write.
fn data(session: &Session) -> String {
    format!("{}-data", session.full(KEY))
}

/// Reads what holders write, as the holder of `token` if there is one.
pub(super) async fn read(session: &Session, token: Option<u64>) {
    let start = session.recorder.now();
    let (result, revision, outcome, position) = match session.look(data(session)).await {
        Ok((pair, position)) => {
            let revision = pair.as_ref().map_or(0, |pair| pair.mod_revision.0);
            let value = pair.map(|pair| value(&pair.value));
            (value.unwrap_or_default(), Some(revision), Ending::Ok, Some(position))
        }
        Err(_) => (Value::Null, None, Ending::Failed, None),
    };
    session.record(KEY, Action::Read { result, token, revision }, start, outcome, position);
}

async fn until(mut stop: tokio::sync::watch::Receiver<bool>) {
    // Whoever could have said stop is gone: that is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}
