//! That rights are known before what they are about is told.

use crate::api::{Action, AuthChange, Command, Op, Put};
use crate::codec::encode;
use crate::store::{KvStore, Observer, StoreHandle};
use raft_core::state_machine::StateMachine;
use raft_core::types::{Entry, LogId, Payload, Run};
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
    let entry = |(index, action)| {
        let command = encode(&Command { request: None, fence: None, action });
        Entry { id: LogId::new(index, 1), payload: Payload::Command(command) }
    };
    store.apply(&Run::new((1..).zip(actions).map(entry).collect()).unwrap());
    assert_eq!(*looking.revisions.lock().unwrap(), [before + 1]);
}
