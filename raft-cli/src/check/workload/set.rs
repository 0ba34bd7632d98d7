//! Sets of keys under a common front: members are created if absent, and read all together.

use super::{Session, ending, value};
use crate::check::history::{Action, Ending};
use crate::failure::Failure;
use raft_kv::api::{Consistency, Keys, Range, Revision};
use raft_kv::client::ClientError;
use serde_json::Value;

/// Members of a set: few enough that clients get in each other's way.
const MEMBERS: u64 = 40;

pub(super) async fn run(session: &mut Session) -> Result<(), Failure> {
    while session.goes_on().await {
        let key = session.next_key();
        if session.random.once_in(3) {
            read(session, &key).await;
            continue;
        }
        let member = session.random.below(MEMBERS);
        let start = session.recorder.now();
        let full = format!("{}/{member}", session.full(&key));
        let created = session.client.create_if_absent(full, member.to_string()).await;
        let outcome = created.as_ref().map_or_else(ending, |_| Ending::Ok);
        let position = created.as_ref().ok().map(|reply| reply.revision);
        let result = created.ok().map(|reply| reply.swapped);
        let action = Action::Add { value: member.into(), result };
        session.record(&key, action, start, outcome, position);
    }
    Ok(())
}

pub(super) async fn read(session: &Session, key: &str) {
    let start = session.recorder.now();
    let (result, outcome, position) = match members(session, key).await {
        Ok((members, position)) => (members, Ending::Ok, position),
        Err(_) => (Value::Null, Ending::Failed, None),
    };
    let action = Action::Read { result, token: None, revision: None };
    session.record(key, action, start, outcome, position);
}

/// The members, and the revision of the store that they are as of.
async fn members(session: &Session, key: &str) -> Result<(Value, Option<Revision>), ClientError> {
    let range = Range::of(Keys::prefix(format!("{}/", session.full(key))));
    let mut pages = session.client.pages(range, Consistency::Linearizable);
    let mut members = Vec::new();
    while let Some(page) = pages.next().await? {
        members.extend(page.kvs.iter().map(|pair| value(&pair.value)));
    }
    Ok((members.into(), pages.position().map(|position| position.revision)))
}
