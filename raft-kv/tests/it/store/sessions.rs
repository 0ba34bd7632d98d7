//! Every request of a session runs exactly once.

use super::support::{Fed, contents, one, put, put_bytes, replayed, restored};
use raft_kv::api::*;
use raft_kv::store::{SESSION_BYTES_MAX, SESSIONS_MAX};

fn id(session: SessionId, seq: u64, unanswered_from: u64) -> Option<RequestId> {
    Some(RequestId { session, seq, unanswered_from })
}

fn set(value: &str) -> Action {
    Action::Op(put("a", value))
}

#[test]
fn a_repeated_request_gets_the_same_reply_and_does_not_run() {
    let mut fed = Fed::in_memory();
    let session = fed.open_session();
    let first = fed.command(id(session, 1, 1), set("1"));
    fed.put("a", "2");
    let before = fed.store.summary();
    assert_eq!(fed.command(id(session, 1, 1), set("1")), first);
    assert_eq!(fed.value("a").unwrap(), "2");
    assert_eq!(fed.store.summary().revision, before.revision);
    assert_ne!(fed.hash(), before.state_hash, "the entry is part of the hash all the same");
}

#[test]
fn errors_are_replies_too() {
    let mut fed = Fed::in_memory();
    let session = fed.open_session();
    let range = Range { revision: Some(Revision(2)), ..Range::of(one("a")) };
    let success = vec![put("a", "1"), Op::Range(range)];
    let txn = || Action::Txn(Txn { success: success.clone(), ..Txn::default() });
    let refused = fed.command(id(session, 1, 1), txn());
    assert!(matches!(refused, Err(KvError::FutureRevision { .. })));
    fed.put("b", "1");
    assert_eq!(fed.command(id(session, 1, 1), txn()), refused, "it would succeed by now");
}

#[test]
fn requests_may_come_in_any_order() {
    let mut fed = Fed::in_memory();
    let session = fed.open_session();
    assert!(fed.command(id(session, 3, 1), set("3")).is_ok());
    assert!(fed.command(id(session, 1, 1), set("1")).is_ok());
    let two = fed.command(id(session, 2, 1), set("2"));
    // 1 has its answer, says the client, and asks for 2 again.
    assert_eq!(fed.command(id(session, 2, 2), set("2")), two);
    assert_eq!(fed.command(id(session, 1, 1), set("1")), Err(KvError::AnsweredBefore(1)));
    // A delayed request does not bring back what was forgotten.
    assert_eq!(fed.command(id(session, 2, 1), set("2")), two);
    assert_eq!(fed.command(id(session, 1, 1), set("1")), Err(KvError::AnsweredBefore(1)));
    assert_eq!(fed.value("a").unwrap(), "2");
}

#[test]
fn an_unknown_session_runs_nothing() {
    let mut fed = Fed::in_memory();
    let unknown = SessionId(77);
    let reply = fed.command(id(unknown, 1, 1), set("1"));
    assert_eq!(reply, Err(KvError::SessionUnknown(unknown)));
    assert_eq!(fed.value("a"), None);
}

#[test]
fn requests_that_make_no_sense() {
    let mut fed = Fed::in_memory();
    let session = fed.open_session();
    for request in [id(session, 0, 0), id(session, 1, 2)] {
        assert!(matches!(fed.command(request, set("1")), Err(KvError::Malformed(_))));
    }
    let nested = fed.command(id(session, 1, 1), Action::OpenSession);
    assert!(matches!(nested, Err(KvError::Malformed(_))));
    assert_eq!(fed.value("a"), None);
}

#[test]
fn the_window_is_bounded() {
    let mut fed = Fed::in_memory();
    let session = fed.open_session();
    let beyond = SESSION_WINDOW_MAX + 1;
    assert_eq!(fed.command(id(session, beyond, 1), set("1")), Err(KvError::Overloaded));
    assert!(fed.command(id(session, beyond - 1, 1), set("1")).is_ok());
    assert!(fed.command(id(session, beyond, 2), set("1")).is_ok(), "it was not run before");
}

#[test]
fn a_full_window_of_puts_is_remembered() {
    let mut fed = Fed::in_memory();
    let session = fed.open_session();
    let replies: Vec<CommandReply> =
        (1..=SESSION_WINDOW_MAX).map(|seq| fed.command(id(session, seq, 1), set("1"))).collect();
    for (seq, reply) in (1..).zip(&replies).step_by(1000) {
        assert_eq!(&fed.command(id(session, seq, 1), set("1")), reply);
    }
}

#[test]
fn a_reply_too_large_to_keep_is_forgotten_but_not_that_it_ran() {
    let mut fed = Fed::in_memory();
    let session = fed.open_session();
    fed.op(put_bytes("a", vec![7; VALUE_BYTES_MAX].into())).unwrap();
    let count = SESSION_BYTES_MAX / VALUE_BYTES_MAX + 1;
    let txn = |n: u64| {
        let key = format!("n{n}");
        let success = vec![put(&key, "1"), Op::Range(Range::of(one("a")))];
        Action::Txn(Txn { success, ..Txn::default() })
    };
    for seq in 1..=count as u64 {
        assert!(fed.command(id(session, seq, 1), txn(seq)).is_ok());
    }
    let revision = fed.store.summary().revision;
    assert!(fed.command(id(session, 1, 1), txn(1)).is_ok());
    let last = count as u64;
    let forgotten = Err(KvError::AnsweredBefore(last));
    assert_eq!(fed.command(id(session, last, 1), txn(last)), forgotten);
    assert_eq!(fed.store.summary().revision, revision);
    // What the client has frees the room.
    assert!(fed.command(id(session, last + 1, last), txn(last + 1)).is_ok());
    assert!(fed.command(id(session, last + 1, last), txn(last + 1)).is_ok());
}

#[test]
fn a_read_is_run_again() {
    let mut fed = Fed::in_memory();
    let session = fed.open_session();
    let read = || Action::Op(Op::Range(Range::of(one("a"))));
    let first = fed.command(id(session, 1, 1), read());
    fed.put("a", "1");
    assert_ne!(fed.command(id(session, 1, 1), read()), first);
}

#[test]
fn the_session_used_least_recently_goes_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let mut fed = Fed::at(&path);
    let first = fed.open_session();
    let second = fed.open_session();
    for _ in 2..SESSIONS_MAX {
        fed.open_session();
    }
    fed.checkpoint();
    assert!(fed.command(id(first, 1, 1), set("1")).is_ok());
    let newest = fed.open_session();
    assert!(fed.command(id(first, 2, 1), set("1")).is_ok(), "it was used last");
    let refused = fed.command(id(second, 1, 1), set("1"));
    assert_eq!(refused, Err(KvError::SessionUnknown(second)));
    assert!(fed.command(id(newest, 1, 1), set("1")).is_ok());
    fed.checkpoint();
    let fed = fed.crash(&path);
    let fresh = replayed(&fed.log);
    assert_eq!(fed.store.summary(), fresh.summary());
    assert!(contents(&restored(&fed.store).unwrap()) == contents(&fresh), "dropped for good");
}

#[test]
fn sessions_survive_checkpoints_and_snapshots() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let mut fed = Fed::at(&path);
    let session = fed.open_session();
    let one = fed.command(id(session, 1, 1), set("1"));
    fed.checkpoint();
    let two = fed.command(id(session, 2, 1), set("2"));
    fed.checkpoint();
    let three = fed.command(id(session, 3, 2), set("3"));
    let mut fed = fed.crash(&path);
    assert_eq!(fed.command(id(session, 2, 2), set("2")), two);
    assert_eq!(fed.command(id(session, 3, 2), set("3")), three);
    assert_eq!(fed.command(id(session, 1, 1), set("1")), Err(KvError::AnsweredBefore(1)));
    assert!(one.is_ok());
    fed.checkpoint();
    let copy = restored(&fed.store).unwrap();
    assert_eq!(contents(&copy), contents(&replayed(&fed.log)));
    let mut copy = Fed { store: copy, log: fed.log };
    assert_eq!(copy.command(id(session, 3, 2), set("3")), three);
}
