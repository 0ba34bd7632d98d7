//! That rights are known before what they are about is told, and who is none looks like others.

use crate::api::{Action, AuthChange, Command, Op, Password, Put};
use crate::codec::encode;
use crate::store::{KvStore, Observer, StoreHandle};
use raft_core::state_machine::StateMachine;
use raft_core::types::{Entry, LogId, Payload, Run};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Looks at the rights whenever something is told.
struct Looking {
    handle: StoreHandle,
    revisions: Mutex<Vec<u64>>,
}

impl Observer for Looking {
    fn changed(&self) {
        self.revisions.lock().unwrap().push(self.handle.auth().revision());
    }

    fn seen(&self) -> u64 {
        u64::MAX
    }
}

#[test]
fn what_is_told_is_held_against_the_rights_of_then() {
    let mut store = KvStore::in_memory();
    let handle = store.handle();
    let looking = Arc::new(Looking { handle: handle.clone(), revisions: Mutex::default() });
    let looks = Arc::downgrade(&looking);
    handle.history().observe(looks);
    let before = handle.auth().revision();
    let actions = [
        Action::Auth(AuthChange::AddRole { role: "readers".into() }),
        Action::Op(Op::Put(Put::new("key", "value"))),
    ];
    apply(&mut store, actions);
    assert_eq!(*looking.revisions.lock().unwrap(), [before + 1]);
}

/// Applies these to a store where nothing was.
fn apply(store: &mut KvStore, actions: impl IntoIterator<Item = Action>) {
    let entry = |(index, action)| {
        let command = encode(&Command { request: None, fence: None, action });
        Entry { id: LogId::new(index, 1), payload: Payload::Command(command) }
    };
    store.apply(&Run::new((1..).zip(actions).map(entry).collect()).unwrap());
}

/// What a password costs to look at is that of some user for a name that nobody has, always the
/// same: when it was set may differ from user to user.
#[test]
fn who_is_none_has_the_hash_of_somebody() {
    let mut store = KvStore::in_memory();
    assert_eq!(store.handle().auth().some_hash("nobody"), None);
    let add =
        |user: &str, password| Action::Auth(AuthChange::AddUser { user: user.into(), password });
    let hashed = |hash: &str| Password::Hashed(hash.into());
    let users = [add("a", hashed("1")), add("b", Password::None), add("c", hashed("3"))];
    apply(&mut store, users);
    let (auth, mut drawn) = (store.handle().auth(), BTreeSet::new());
    for number in 0..64 {
        let name = format!("nobody-{number}");
        let hash = auth.some_hash(&name).unwrap();
        assert_eq!(auth.some_hash(&name), Some(hash));
        drawn.insert(hash.clone());
    }
    assert_eq!(drawn, ["1", "3"].map(String::from).into());
}
