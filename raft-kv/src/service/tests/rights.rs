//! What users may is looked at whenever something is told them, not only when they ask.

use super::watches::{next, stream_of};
use super::*;
use crate::api::{
    Access, AuthChange, Authority, Command, Password, Permission, Position, ROOT, Secret,
    StreamRequest, Token, Watch, WatchId, WatchReply, WatchRequest,
};
use crate::store::KvStore;
use raft_core::state_machine::StateMachine;
use raft_core::types::{Entry, Payload, Run};

/// Applies these, one entry each, whoever may do them.
fn apply(store: &mut KvStore, actions: impl IntoIterator<Item = Action>) {
    let from = store.applied().last.index.0 + 1;
    for (index, action) in (from..).zip(actions) {
        let action = Action::As(Authority::Cluster, Box::new(action));
        let command = codec::encode(&Command { request: None, fence: None, action });
        let entry = Entry { id: LogId::new(index, 1), payload: Payload::Command(command) };
        store.apply(&Run::new(vec![entry]).unwrap());
    }
}

fn put_of(key: &'static str, length: usize) -> Action {
    Action::Op(Op::Put(Put::new(key, vec![0; length])))
}

/// A store where alice may read what is below `a/`.
fn of_alice() -> KvStore {
    let mut store = KvStore::in_memory();
    let (user, role, root) = (|| "alice".to_owned(), || "a".to_owned(), || ROOT.to_owned());
    let permission = Permission { access: Access::Read, keys: Keys::prefix("a/") };
    let users = [
        AuthChange::AddUser { user: root(), password: Password::None },
        AuthChange::GrantRole { user: root(), role: root() },
        AuthChange::AddUser { user: user(), password: Password::None },
        AuthChange::AddRole { role: role() },
        AuthChange::GrantPermission { role: role(), permission },
        AuthChange::GrantRole { user: user(), role: role() },
        AuthChange::Enable { secret: Secret([3; 32]) },
    ];
    apply(&mut store, users.map(Action::Auth));
    store
}

fn revoke() -> Action {
    Action::Auth(AuthChange::RevokePermission { role: "a".into(), keys: Keys::prefix("a/") })
}

fn token(at: &Fixture) -> Token {
    at.door.token_for("alice").unwrap().into()
}

/// What was read may be what has come after the right to it was taken back.
#[tokio::test(start_paused = true)]
async fn a_right_is_needed_still_when_all_was_read() {
    let mut store = of_alice();
    let at = Fixture::of(None, store.handle());
    let range = Range::of(Keys::prefix("a/"));
    let consistency = Consistency::AtLeast(Position { epoch: 0, revision: Revision(9) });
    let body = || RequestBody::Signed {
        token: token(&at),
        body: Box::new(RequestBody::DatedRead { range: range.clone(), consistency }),
    };
    let reading = async |apply: &mut dyn FnMut()| {
        at.node.revision.send_replace(7);
        let meanwhile = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            apply();
            at.node.revision.send_replace(9);
        };
        tokio::join!(at.request(body()), meanwhile).0
    };
    reading(&mut || {}).await.unwrap();
    let refused = reading(&mut || apply(&mut store, [revoke()])).await;
    assert_eq!(refused, Err(AuthError::Denied.into()));
}

/// What waits to be told when a watch is canceled is told only to those who may be told it: of a
/// watch that is gone, nobody would know any more what right it needed.
#[tokio::test(start_paused = true)]
async fn a_watch_that_is_canceled_tells_nothing_without_the_right() {
    let mut store = of_alice();
    let at = Fixture::of(Some(2), store.handle());
    let token = token(&at);
    let request = Box::new(StreamRequest::Watch { require_leader: true });
    let first = StreamRequest::Signed { token, request };
    let mut stream = stream_of(&at, &store.handle(), first).await;
    let create = WatchRequest::Create(WatchId(1), Watch::of(Keys::prefix("a/")));
    stream.sink.send(codec::encode_sequence([&create])).await.unwrap();
    assert!(matches!(next(&mut stream).await, WatchReply::Created(..)));
    // More than fits on the way: the rest waits.
    // The clock goes on once there is nothing left to do.
    let idle = || tokio::time::sleep(Duration::from_millis(1));
    apply(&mut store, [put_of("a/1", 300 << 10), put_of("a/2", 300 << 10)]);
    idle().await;
    apply(&mut store, [revoke(), put_of("a/secret", 1)]);
    idle().await;
    let cancel = codec::encode_sequence([&WatchRequest::Cancel(WatchId(1))]);
    stream.sink.send(cancel).await.unwrap();
    idle().await;
    loop {
        let frame = stream.source.receive().await.unwrap().expect("it says why it ends");
        for reply in codec::decode_sequence::<WatchReply>(&frame) {
            match reply.unwrap() {
                WatchReply::Ended(error) => {
                    return assert_eq!(error, AuthError::Denied.into());
                }
                WatchReply::Events { events, .. } => {
                    assert!(events.iter().all(|event| event.key() != "a/secret"), "it was told");
                }
                reply => panic!("{reply:?}"),
            }
        }
    }
}
