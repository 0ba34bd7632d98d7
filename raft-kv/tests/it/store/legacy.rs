//! Commands of version 1, as logs of older programs hold them.

use super::support::{Fed, one};
use bytes::Bytes;
use raft_core::types::Payload;
use raft_kv::api::*;
use raft_kv::codec;
use serde::Serialize;

/// Puts and deletes alone, as version 1 has encoded them.
#[derive(Serialize)]
struct OldCommand {
    request: Option<RequestId>,
    action: OldAction,
}

#[derive(Serialize)]
enum OldAction {
    OpenSession,
    Op(OldOp),
}

#[derive(Serialize)]
enum OldOp {
    Put { key: Bytes, value: Bytes, prev_kv: bool },
    Delete { keys: Keys, prev_kv: bool },
}

/// The bytes of a command in version 1.
pub(super) fn encode(request: Option<RequestId>, action: Action) -> Bytes {
    let action = match action {
        Action::OpenSession => OldAction::OpenSession,
        Action::Op(Op::Put(Put { key, value: Some(value), prev_kv, .. })) => {
            OldAction::Op(OldOp::Put { key, value, prev_kv })
        }
        Action::Op(Op::Delete { keys, prev_kv }) => OldAction::Op(OldOp::Delete { keys, prev_kv }),
        other => panic!("{other:?} is not written here"),
    };
    let mut out = vec![1].as_slice().into();
    raft_core::codec::put(&OldCommand { request, action }, &mut out);
    out.freeze()
}

/// A string: its length, its bytes.
fn text(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

fn run(fed: &mut Fed, parts: &[&[u8]]) -> CommandReply {
    let bytes = [&[1], parts.concat().as_slice()].concat();
    codec::decode(&fed.entry(Payload::Command(bytes.into()))).unwrap()
}

/// A transaction with a compare of every target, and every operation, byte by byte.
#[test]
fn a_transaction_of_version_1() {
    let mut fed = Fed::in_memory();
    fed.put("a", "1");
    let (a, b) = (text("a"), text("b"));
    let txn: &[&[u8]] = &[
        &[0, 2], // no request, a transaction
        &[4],    // compares:
        &a,
        &[0, 0, 1], // a's version equals 1
        &a,
        &[2, 1, 1], // its create revision is greater than 1
        &a,
        &[3, 2, 3], // its mod revision is less than 3
        &a,
        &[1, 3],
        &b,   // its value is not b
        &[3], // if all hold:
        &[0],
        &b,
        &text("2"),
        &[1], // put b, return what was there
        &[2, 1],
        &a,
        &[0, 5, 1, 2, 1, 0, 1], // from a on, limit 5, at revision 2, keys
        &[1, 1],
        &a,
        &[1],
        &b,
        &[1], // delete from a to b, return them
        &[1], // else:
        &[1, 0],
        &a,
        &[0], // delete a
    ];
    let txn: Vec<&[u8]> = txn.iter().map(|part| -> &[u8] { part }).collect();
    let Ok(ActionReply::Txn(reply)) = run(&mut fed, &txn) else { panic!() };
    assert_eq!((reply.succeeded, reply.revision), (true, Revision(3)));
    assert_eq!(reply.replies[0], OpReply::Put { prev_kv: None, key: None });
    let OpReply::Range(range) = &reply.replies[1] else { panic!() };
    assert_eq!(
        (range.count, &range.kvs[0].key[..], &range.kvs[0].value[..]),
        (1, &b"a"[..], &b""[..])
    );
    let OpReply::Delete { deleted: 1, prev_kvs } = &reply.replies[2] else { panic!() };
    assert_eq!(&prev_kvs[0].value[..], b"1");
    assert_eq!((fed.value("a"), fed.value("b")), (None, Some("2".into())));
}

#[test]
fn what_version_1_did_not_know_is_malformed() {
    let mut fed = Fed::in_memory();
    let malformed = |reply: CommandReply| matches!(reply, Err(KvError::Malformed(_)));
    assert!(malformed(run(&mut fed, &[&[0, 3, 5]])), "a compaction");
    let compare_of_a_lease: &[&[u8]] = &[&[0, 2, 1], &text("a"), &[0, 4, 0], &[0, 0]];
    assert!(malformed(run(&mut fed, compare_of_a_lease)));
    assert!(malformed(run(&mut fed, &[&[0, 0], &[0]])), "a byte too many");
    assert!(malformed(run(&mut fed, &[])));
    for version in [0, VERSION + 1] {
        let reply = fed.entry(Payload::Command(vec![version, 0, 0].into()));
        let reply: CommandReply = codec::decode(&reply).unwrap();
        let text = reply.unwrap_err().to_string();
        assert!(text.contains(&format!("version {version}, where version 2 is spoken")), "{text}");
    }
}

#[test]
fn a_request_of_version_1_is_answered_once_in_whatever_version_it_comes_again() {
    let mut fed = Fed::in_memory();
    let Ok(ActionReply::Session(session)) = run(&mut fed, &[&[0, 0]]) else { panic!() };
    let request = Some(RequestId { session, seq: 1, unanswered_from: 1 });
    let put = |prev_kv| Action::Op(Op::Put(Put { prev_kv, ..Put::new("a", "1") }));
    fed.put("a", "0");
    let first = fed.entry(Payload::Command(encode(request, put(true))));
    let first: CommandReply = codec::decode(&first).unwrap();
    let Ok(ActionReply::Op { reply: OpReply::Put { prev_kv: Some(kv), .. }, .. }) = &first else {
        panic!("{first:?}");
    };
    assert_eq!((&kv.value[..], kv.version), (&b"0"[..], 1));
    assert_eq!(fed.command(request, put(true)), first);
    let again = fed.entry(Payload::Command(encode(request, put(true))));
    assert_eq!(codec::decode::<CommandReply>(&again).unwrap(), first);
    // What was refused stays refused.
    let request = Some(RequestId { session, seq: 2, unanswered_from: 1 });
    let empty = || Action::Op(Op::Delete { keys: one(""), prev_kv: false });
    let first = fed.entry(Payload::Command(encode(request, empty())));
    assert_eq!(codec::decode::<CommandReply>(&first).unwrap(), Err(KvError::KeyEmpty));
    assert_eq!(fed.command(request, empty()), Err(KvError::KeyEmpty));
    assert_eq!(fed.value("a"), Some("1".into()));
}
