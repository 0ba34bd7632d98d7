//! The forms that only this crate uses.

use super::*;
use crate::api::{
    Action, AlarmChange, AlarmKind, Command, Fence, MemberAlarm, Op, Put, RequestId, Revision,
    SessionId, VERSION,
};
use crate::client::frame::encode_write;
use crate::service::frame::{CommandHead, is_ok, range_reply};

fn action(value: usize) -> Action {
    let (key, value) = (Bytes::from_static(b"key"), Bytes::from(vec![7; value]));
    Action::Op(Op::Put(Put::new(key, value)))
}

fn name() -> RequestId {
    RequestId { session: SessionId(u64::MAX), seq: 300, unanswered_from: 1 }
}

/// The bytes the plain encoder gives.
fn plain(deadline_ms: u32, request: Option<RequestId>, action: Action) -> Bytes {
    let body = RequestBody::Write(encode(&Command { request, fence: None, action }));
    encode_request(&Request { deadline_ms, body })
}

#[test]
fn a_write_encoded_in_one_go_is_the_same_bytes() {
    for value in [0, 10, 127, 128, 20_000, 1 << 20] {
        for deadline_ms in [0, 127, 5000, u32::MAX] {
            let quick = encode_write(deadline_ms, Some(name()), None, &action(value), value);
            assert_eq!(quick, plain(deadline_ms, Some(name()), action(value)));
        }
    }
}

#[test]
fn a_deadline_is_exchanged_alone() {
    let frame = encode_write(5000, Some(name()), None, &action(10), 0);
    for deadline_ms in [0, 127, 4999, u32::MAX] {
        let sooner = with_deadline(&frame, deadline_ms).unwrap();
        assert_eq!(sooner, plain(deadline_ms, Some(name()), action(10)));
    }
    assert_eq!(with_deadline(&Bytes::new(), 1), Err(WireError::Malformed));
    assert_eq!(with_deadline(&Bytes::from_static(&[VERSION, 0x80]), 1), Err(WireError::Malformed));
}

#[test]
fn the_front_of_a_command_tells_whether_it_may_be_repeated() {
    let repeatable = |request, action| {
        let fence = Some(Fence { key: "lock".into(), token: Revision(7) });
        let bytes = encode(&Command { request, fence, action });
        let head = CommandHead::of(&bytes).unwrap();
        assert_eq!(head.request, request);
        head.repeatable()
    };
    assert!(repeatable(Some(name()), action(1)));
    assert!(repeatable(None, Action::OpenSession));
    assert!(!repeatable(None, action(1)));
    assert!(CommandHead::of(&[VERSION, 1]).is_err());
}

#[test]
fn the_front_of_a_command_tells_whether_it_changes_alarms() {
    let alarm = MemberAlarm { kind: AlarmKind::Corrupt, member: NodeId(1) };
    for change in [AlarmChange::Raise(alarm), AlarmChange::Clear(alarm)] {
        let command = Command { request: None, fence: None, action: Action::Alarm(change) };
        assert!(CommandHead::of(&encode(&command)).unwrap().changes_alarms());
    }
    for action in [action(1), Action::OpenSession] {
        let command = Command { request: Some(name()), fence: None, action };
        assert!(!CommandHead::of(&encode(&command)).unwrap().changes_alarms());
    }
}

#[test]
fn a_range_passes_into_the_reply_as_it_is() {
    let range = RangeReply { count: 300, more: true, ..RangeReply::default() };
    let answers = [Ok(range), Err(KvError::Overloaded), Err(KvError::Malformed("x".into()))];
    for answer in answers {
        let reply = range_reply(None, &encode(&answer)).unwrap();
        assert_eq!(reply, encode_reply(&answer.clone().map(ReplyBody::Range)));
        assert_eq!(is_ok(&reply), answer.is_ok());
        for staleness in [None, Some(std::time::Duration::MAX)] {
            let freshness = Freshness { epoch: u64::MAX, staleness };
            let reply = range_reply(Some(&freshness), &encode(&answer)).unwrap();
            let dated = answer.clone().map(|range| ReplyBody::Dated(freshness, range));
            assert_eq!(reply, encode_reply(&dated));
        }
    }
    assert!(range_reply(None, &Bytes::new()).is_err());
    assert!(range_reply(None, &Bytes::from_static(&[VERSION, 2])).is_err());
}
