//! The bytes on the wire.

use bytes::Bytes;
use raft_core::types::{ClusterId, Incarnation, Index, LogId, NodeId, Term};
use raft_kv::api::{
    Action, ActionReply, Command, Consistency, KeyValue, Keys, KvError, MemberStatus, NodeStatus,
    Op, OpReply, Range, RangeReply, Reply, ReplyBody, Request, RequestBody, RequestId, Revision,
    SessionId, VERSION,
};
use raft_kv::codec::{WireError, decode, encode};
use raft_kv::wire::{decode_reply, decode_request, encode_reply, encode_request};

fn command() -> Command {
    let request = RequestId { session: SessionId(9), seq: 300, unanswered_from: 290 };
    let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"value"));
    Command { request: Some(request), action: Action::Op(Op::Put { key, value, prev_kv: true }) }
}

fn requests() -> Vec<Request> {
    let range = Range::of(Keys::prefix("a"));
    let bodies = [
        RequestBody::Write(encode(&command())),
        RequestBody::Read { range, consistency: Consistency::Serializable },
        RequestBody::Status,
        RequestBody::TransferLeadership { to: Some(NodeId(3)) },
    ];
    bodies.into_iter().map(|body| Request { deadline_ms: 5000, body }).collect()
}

fn replies() -> Vec<Reply> {
    let pair = KeyValue {
        key: Bytes::from_static(b"key"),
        value: Bytes::from_static(b"value"),
        create_revision: Revision(2),
        mod_revision: Revision(300),
        version: 4,
    };
    let member = MemberStatus {
        id: NodeId(2),
        address: "localhost:1".into(),
        voter: true,
        heard_ms: Some(12),
        match_index: Some(Index(7)),
        flow: Some("replicate".into()),
    };
    let status = NodeStatus {
        cluster: ClusterId(1),
        id: NodeId(2),
        incarnation: Incarnation(3),
        version: "0.1.0".into(),
        role: "leader".into(),
        term: Term(4),
        leader: None,
        commit_index: Index(5),
        last_applied: Index(5),
        last_log: LogId::new(6, 4),
        log_bytes: 7,
        revision: Revision(8),
        keys: 9,
        state_hash: u64::MAX,
        members: vec![member],
    };
    let range = RangeReply { revision: Revision(1), kvs: vec![pair], more: true, count: 2 };
    let put = OpReply::Put { prev_kv: None };
    let written = ActionReply::Op { revision: Revision(5), reply: put };
    vec![
        Ok(ReplyBody::Write(encode(&Ok::<_, KvError>(written)))),
        Ok(ReplyBody::Range(range)),
        Ok(ReplyBody::Status(Box::new(status))),
        Ok(ReplyBody::Transferred),
        Err(KvError::Overloaded),
        Err(KvError::Unknown("why".into())),
    ]
}

#[test]
fn what_is_encoded_is_decoded() {
    for request in requests() {
        assert_eq!(decode_request(&encode_request(&request)), Ok(request));
    }
    for reply in replies() {
        assert_eq!(decode_reply(&encode_reply(&reply)), Ok(reply));
    }
    assert_eq!(decode(&encode(&command())), Ok(command()));
}

/// The forms that borrow are a matter of speed: serde's own give the same bytes.
#[test]
fn borrowed_and_owned_forms_are_the_same_bytes() {
    for request in requests() {
        assert_eq!(encode_request(&request), encode(&request));
    }
    for reply in replies() {
        assert_eq!(encode_reply(&reply), encode(&reply));
    }
}

#[test]
fn commands_and_their_replies_share_the_frame() {
    let inside = |frame: &Bytes, part: &Bytes| frame.as_ptr_range().contains(&part.as_ptr());
    let frame = encode_request(&requests()[0]);
    let request = decode_request(&frame).unwrap();
    assert!(matches!(request.body, RequestBody::Write(command) if inside(&frame, &command)));
    let frame = encode_reply(&replies()[0]);
    let reply = decode_reply(&frame).unwrap();
    assert!(matches!(reply, Ok(ReplyBody::Write(reply)) if inside(&frame, &reply)));
}

#[test]
fn the_format_of_version_1() {
    let golden: &[u8] =
        &[1, 1, 9, 0xac, 2, 0xa2, 2, 1, 0, 3, 107, 101, 121, 5, 118, 97, 108, 117, 101, 1];
    assert_eq!(encode(&command()), golden);
    let request = [&[1, 0x88, 0x27, 0, 20][..], golden].concat();
    assert_eq!(encode_request(&requests()[0]), request);
    assert_eq!(encode_reply(&Ok(ReplyBody::Transferred)), &[1, 0, 3][..]);
    assert_eq!(encode_reply(&Err(KvError::Overloaded)), &[1, 1, 8][..]);
}

#[test]
fn damaged_bytes_are_refused() {
    for frame in requests().iter().map(encode_request).chain(replies().iter().map(encode_reply)) {
        for end in 0..frame.len() {
            let part = frame.slice(..end);
            let _ = decode_request(&part);
            let _ = decode_reply(&part);
        }
        let mut foreign = frame.to_vec();
        foreign[0] = VERSION + 1;
        let foreign = Bytes::from(foreign);
        assert_eq!(decode_request(&foreign), Err(WireError::Version(VERSION + 1)));
        assert_eq!(decode_reply(&foreign), Err(WireError::Version(VERSION + 1)));
    }
    for request in requests() {
        let frame = encode_request(&request);
        assert_eq!(decode_request(&frame.slice(..frame.len() - 1)), Err(WireError::Malformed));
        let longer = Bytes::from([&frame[..], &[0]].concat());
        assert_eq!(decode_request(&longer), Err(WireError::Malformed));
    }
}
