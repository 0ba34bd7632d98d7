//! Lists that grow: an element is added by compare-and-set of the whole list. A request that is run
//! twice, or that is run and reported as not run, shows as an element that is there twice.

use super::{Session, ending, value};
use crate::check::history::{Action, Ending};
use crate::failure::Failure;
use raft_kv::api::Revision;
use raft_kv::client::ClientError;
use serde_json::Value;

/// How often an element is tried to be added, others having been faster.
const TRIES_MAX: usize = 5;

pub(super) async fn run(session: &mut Session) -> Result<(), Failure> {
    while session.goes_on().await {
        let key = session.next_key();
        if session.random.once_in(2) {
            let element = session.recorder.unique();
            let start = session.recorder.now();
            let (outcome, position) = append(session, &key, element).await;
            let action = Action::Append { value: element.into() };
            session.record(&key, action, start, outcome, position);
        } else {
            read(session, &key).await;
        }
    }
    Ok(())
}

pub(super) async fn read(session: &Session, key: &str) {
    let start = session.recorder.now();
    let (result, outcome, position) = match list(session, key).await {
        Ok(list) => (elements(&list.text), Ending::Ok, Some(list.position)),
        Err(_) => (Value::Null, Ending::Failed, None),
    };
    let action = Action::Read { result, token: None, revision: None };
    session.record(key, action, start, outcome, position);
}

async fn append(session: &Session, key: &str, element: u64) -> (Ending, Option<Revision>) {
    for _ in 0..TRIES_MAX {
        // Nothing of earlier tries was done: each was answered no.
        let Ok(List { mut text, changed, .. }) = list(session, key).await else {
            return (Ending::Failed, None);
        };
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&element.to_string());
        let swap = session.client.compare_and_swap(session.full(key), changed, text).await;
        match swap {
            Ok(reply) if reply.swapped => return (Ending::Ok, Some(reply.revision)),
            Ok(_) => {}
            Err(error) => return (ending(&error), None),
        }
    }
    (Ending::Failed, None)
}

/// A list as it stands.
struct List {
    text: String,
    /// The revision of its last change.
    changed: Revision,
    /// The revision of the store.
    position: Revision,
}

async fn list(session: &Session, key: &str) -> Result<List, ClientError> {
    let (pair, position) = session.look(session.full(key)).await?;
    let (text, changed) = pair.map_or_else(Default::default, |pair| {
        (String::from_utf8_lossy(&pair.value).into_owned(), pair.mod_revision)
    });
    Ok(List { text, changed, position })
}

fn elements(text: &str) -> Value {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(|part| value(part.as_bytes())).collect()
}
