//! One value per key: read, write, compare-and-set. Values are numbers that no two writes share.

use super::{Session, ending, value};
use crate::check::history::{Action, Ending};
use crate::failure::Failure;
use raft_kv::api::{Compare, Keys, Op, Operator, Put, Target, Txn};
use serde_json::Value;

pub(super) async fn run(session: &mut Session) -> Result<(), Failure> {
    // What was last seen, to have something to expect.
    let mut seen: Option<(String, Value)> = None;
    while session.goes_on().await {
        let key = session.next_key();
        let value = session.recorder.unique();
        match (session.random.below(5), &seen) {
            (0 | 1, Some((of, expected))) if *of == key => {
                let swapped = cas(session, &key, expected.clone(), value).await;
                seen = swapped.then(|| (key, value.into()));
            }
            (2, _) => write(session, &key, value).await,
            _ => seen = look(session, &key).await.map(|value| (key, value)),
        }
    }
    Ok(())
}

pub(super) async fn read(session: &Session, key: &str) {
    look(session, key).await;
}

async fn look(session: &Session, key: &str) -> Option<Value> {
    let start = session.recorder.now();
    let (result, outcome, position) = match session.look(session.full(key)).await {
        Ok((pair, position)) => {
            let value = pair.map(|pair| value(&pair.value));
            (value.unwrap_or_default(), Ending::Ok, Some(position))
        }
        Err(_) => (Value::Null, Ending::Failed, None),
    };
    let action = Action::Read { result: result.clone(), token: None, revision: None };
    session.record(key, action, start, outcome, position);
    (outcome == Ending::Ok).then_some(result)
}

async fn write(session: &Session, key: &str, value: u64) {
    let start = session.recorder.now();
    let put = session.client.put(session.full(key), value.to_string()).await;
    let outcome = put.as_ref().map_or_else(ending, |_| Ending::Ok);
    let position = put.ok().map(|put| put.revision);
    let revision = position.map(|position| position.0);
    let action = Action::Write { value: value.into(), token: None, revision };
    session.record(key, action, start, outcome, position);
}

/// Whether it was as expected.
async fn cas(session: &Session, key: &str, expected: Value, value: u64) -> bool {
    let full = session.full(key);
    let target = match &expected {
        Value::Null => Target::Version(0),
        other => Target::Value(other.to_string().into()),
    };
    let keys = Keys::One(full.clone().into());
    let txn = Txn {
        compares: vec![Compare { keys, operator: Operator::Equal, target }],
        success: vec![Op::Put(Put::new(full, value.to_string()))],
        failure: Vec::new(),
    };
    let start = session.recorder.now();
    let reply = session.client.txn(txn).await;
    let outcome = reply.as_ref().map_or_else(ending, |_| Ending::Ok);
    let position = reply.as_ref().ok().map(|reply| reply.revision);
    let result = reply.ok().map(|reply| reply.succeeded);
    let action = Action::Cas { expected, value: value.into(), result };
    session.record(key, action, start, outcome, position);
    result == Some(true)
}
