//! The bytes on the wire.

use bytes::Bytes;
use raft_core::types::{
    Change, ClusterId, Incarnation, Index, LogId, Member, Membership, NodeId, Term, Version,
};
use raft_kv::api::{
    Absence, Absent, Access, Action, ActionReply, Alarm, AlarmKind, AuthAnswer, AuthError,
    AuthQuestion, AuthStatus, Chunk, ChunkDigest, Command, Consistency, Divergence, Finding,
    Freshness, Hashes, Health, INTEGRITY_VERSION, Inquiry, Integrity, KeyValue, Keys, KvError,
    LeaseId, LeaseStatus, MemberAlarm, MemberStatus, Members, Moment, NoQuorum, NodeStatus, Op,
    OpReply, Password, PeerHealth, Permission, Place, Point, Position, Published, Put, Range,
    RangeReply, Reply, ReplyBody, Request, RequestBody, RequestId, Revision, Roll, RollDigest,
    RollPart, SessionId, Space, VERSION,
};
use raft_kv::codec::{WireError, decode, encode};
use raft_kv::wire::{decode_reply, decode_request, encode_reply, encode_request};
use std::time::Duration;

fn command() -> Command {
    let request = RequestId { session: SessionId(9), seq: 300, unanswered_from: 290 };
    let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"value"));
    let put = Put { prev_kv: true, ..Put::new(key, value) };
    Command { request: Some(request), fence: None, action: Action::Op(Op::Put(put)) }
}

pub(crate) fn requests() -> Vec<Request> {
    let range = Range::of(Keys::prefix("a"));
    let bodies = [
        RequestBody::Write(encode(&command())),
        RequestBody::Read { range, consistency: Consistency::Serializable },
        RequestBody::Status,
        RequestBody::TransferLeadership { to: Some(NodeId(3)) },
        RequestBody::DatedRead {
            range: Range::of(Keys::all()),
            consistency: Consistency::AtLeast(Position { epoch: 1, revision: Revision(300) }),
        },
        RequestBody::Members,
        RequestBody::ChangeMembers(changes()),
        RequestBody::Health,
        RequestBody::KeepAlive(vec![LeaseId(1), LeaseId(300)]),
        RequestBody::Lease { id: LeaseId(7), keys: true },
        RequestBody::Leases,
        RequestBody::Integrity(Inquiry::Hashes(vec![Index(1), Index(300)])),
        RequestBody::Integrity(Inquiry::Chunk(
            Chunk {
                revision: Some(Revision(3)),
                floor: Some(Revision(2)),
                start: Point { key: Bytes::from_static(b"a"), change: Some((Revision(2), 1)) },
                end: None,
                keys: 7,
            },
            Index(9),
        )),
        RequestBody::Integrity(Inquiry::Scrub),
        RequestBody::Integrity(Inquiry::Roll(
            RollPart {
                of: Roll::Sessions,
                start: 4,
                end: Some(u64::MAX),
                since: Some(Moment { applied: Index(8), now_ms: 300 }),
            },
            Index(9),
        )),
        RequestBody::Published,
        RequestBody::Authenticate { name: "n".into(), password: Password::Plain("p".into()) },
        RequestBody::Auth(AuthQuestion::User("n".into())),
        RequestBody::Signed {
            token: "token".into(),
            body: Box::new(RequestBody::Write(encode(&command()))),
        },
    ];
    bodies.into_iter().map(|body| Request { deadline_ms: 5000, body }).collect()
}

fn changes() -> Vec<Change> {
    let (node, address) = (NodeId(4), String::from("n4:1"));
    vec![
        Change::Add { node, address: address.clone(), promote: true },
        Change::Promote { node },
        Change::Demote { node },
        Change::Remove { node },
        Change::Readdress { node, address },
        Change::Prioritize { node, priority: 7 },
    ]
}

fn members() -> Members {
    let three = [1, 2, 3].map(|id| (NodeId(id), Member::new(format!("n{id}:1"))));
    let membership = Membership::of_voters(three.into());
    let joint = [Change::Remove { node: NodeId(1) }, changes().swap_remove(0)];
    let membership = membership.changed(&joint).unwrap();
    Members { cluster: ClusterId(1), leader: Some(NodeId(2)), membership }
}

fn no_quorum() -> NoQuorum {
    let absent = Absent { node: NodeId(2), why: Absence::Unreachable, for_ms: 4100 };
    let text = "no quorum 1/2: n2 unreachable 4.1 s".into();
    NoQuorum { reachable: 1, needed: 2, voters: 2, absent: vec![absent], text }
}

fn health() -> Health {
    Health {
        members: members(),
        bound: true,
        persisted_index: Index(5),
        waiting_ms: 300,
        transfer: Some(NodeId(3)),
        timing: Some("too short".into()),
        no_quorum: Some(no_quorum()),
        peers: vec![PeerHealth {
            id: NodeId(2),
            version: Version::CURRENT,
            stalled_ms: 1,
            other_life: true,
        }],
        space: Space { bytes: 9, quota: 10 },
        integrity: integrity(),
        alarms: vec![MemberAlarm { kind: AlarmKind::Corrupt, member: NodeId(2) }],
    }
}

fn integrity() -> Integrity {
    let keys = Place::Keys { revision: Revision(9), start: Bytes::from_static(b"a"), end: None };
    let divergence = Divergence { place: keys, agreeing: vec![NodeId(2), NodeId(3)] };
    Integrity {
        alarm: Some(Alarm::Divergent(divergence)),
        compared: Index(5),
        divergent: vec![NodeId(1)],
        scrubs: 3,
        scrubs_incomplete: 1,
        scrubbing: Some(70),
    }
}

fn findings() -> Vec<Finding> {
    let hashes = Hashes {
        version: INTEGRITY_VERSION,
        sound: true,
        oldest: Index(1),
        dense: Index(2),
        newest: Index(9),
        at: vec![Some(u64::MAX), None],
    };
    let (revision, floor) = (Revision(9), Revision(5));
    let end = Some(Point::before(Bytes::from_static(b"z")));
    let version = INTEGRITY_VERSION;
    let digest = ChunkDigest { version, revision, floor, keys: 2, digest: 3, end };
    let roll = RollDigest {
        version,
        at: Moment { applied: Index(8), now_ms: 300 },
        entries: vec![(1, u64::MAX), (3, 0)],
        changed: vec![2],
        end: None,
    };
    vec![Finding::Hashes(hashes), Finding::Chunk(digest), Finding::Begun, Finding::Roll(roll)]
}

fn of_users() -> Vec<Reply> {
    let permission = Permission { access: Access::Write, keys: Keys::prefix("a") };
    let status = AuthStatus { enabled: true, revision: 300 };
    vec![
        Ok(ReplyBody::Token("token".into())),
        Ok(ReplyBody::Auth(AuthAnswer::Status(status))),
        Ok(ReplyBody::Auth(AuthAnswer::Role(vec![permission]))),
        Err(KvError::Auth(AuthError::OldRevision)),
    ]
}

pub(crate) fn replies() -> Vec<Reply> {
    let pair = KeyValue {
        key: Bytes::from_static(b"key"),
        value: Bytes::from_static(b"value"),
        create_revision: Revision(2),
        mod_revision: Revision(300),
        version: 4,
        lease: Some(LeaseId(5)),
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
        compacted: Revision(6),
        space: Space { bytes: 9, quota: 10 },
        leases: 2,
        sessions: 3,
        time_ms: 70_000,
    };
    let range = RangeReply { revision: Revision(1), kvs: vec![pair], more: true, count: 2 };
    let freshness = Freshness { epoch: 1, staleness: Some(Duration::from_millis(12)) };
    let dated = range.clone();
    let put = OpReply::Put { prev_kv: None, key: None };
    let written = ActionReply::Op { revision: Revision(5), reply: put };
    let lease = LeaseStatus { id: LeaseId(5), keys: vec!["a".into()], ..LeaseStatus::default() };
    let mut replies = vec![
        Ok(ReplyBody::Write(encode(&Ok::<_, KvError>(written)))),
        Ok(ReplyBody::Range(range)),
        Ok(ReplyBody::Status(Box::new(status))),
        Ok(ReplyBody::Transferred),
        Err(KvError::Overloaded),
        Err(KvError::Unknown("why".into())),
        Ok(ReplyBody::Dated(freshness, dated)),
        Ok(ReplyBody::Members(Box::new(members()))),
        Ok(ReplyBody::Health(Box::new(health()))),
        Err(KvError::NoQuorum { may_have_run: true, why: Box::new(no_quorum()) }),
        Err(KvError::OtherHistory { asked: 1, current: 2 }),
        Err(KvError::ChangeRefused { reason: "why".into(), advice: "what".into() }),
        Ok(ReplyBody::KeptAlive(vec![0, 5000])),
        Ok(ReplyBody::Lease(Some(Box::new(lease)))),
        Ok(ReplyBody::Leases(vec![LeaseId(1), LeaseId(u64::MAX >> 1)])),
    ];
    replies.extend(findings().into_iter().map(|finding| Ok(ReplyBody::Integrity(finding))));
    let published = Published { name: "n1".into(), client_urls: vec!["http://n1:2379".into()] };
    replies.extend([None, Some(Box::new(published))].map(|own| Ok(ReplyBody::Published(own))));
    replies.extend(of_users());
    replies
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

/// A different byte means a different format: raise `VERSION`, and keep reading old commands.
#[test]
fn the_format_of_version_2() {
    let golden: &[u8] = &[
        2, 1, 9, 0xac, 2, 0xa2, 2, 0, 1, 0, 3, 107, 101, 121, 1, 5, 118, 97, 108, 117, 101, 0, 1, 0,
    ];
    assert_eq!(encode(&command()), golden);
    let request = [&[2, 0x88, 0x27, 0, golden.len() as u8][..], golden].concat();
    assert_eq!(encode_request(&requests()[0]), request);
    assert_eq!(encode_reply(&Ok(ReplyBody::Transferred)), &[2, 0, 3][..]);
    assert_eq!(encode_reply(&Err(KvError::Overloaded)), &[2, 1, 16][..]);
}

/// What comes later is to stand behind what is there: nodes and clients of both kinds understand
/// each other in all that the older one knows.
#[test]
fn every_kind_of_request_and_reply_has_its_place() {
    let tags: Vec<u8> = requests().iter().map(|request| encode_request(request)[3]).collect();
    assert_eq!(tags, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11, 11, 11, 12, 13, 14, 15]);
    let tags: Vec<_> = replies().iter().map(|reply| encode_reply(reply)[1..3].to_vec()).collect();
    let [done, failed] = [0, 1];
    let expected = [
        [done, 0],
        [done, 1],
        [done, 2],
        [done, 3],
        [failed, 16],
        [failed, 18],
        [done, 4],
        [done, 5],
        [done, 6],
        [failed, 19],
        [failed, 20],
        [failed, 21],
        [done, 7],
        [done, 8],
        [done, 9],
        [done, 10],
        [done, 10],
        [done, 10],
        [done, 10],
        [done, 11],
        [done, 11],
        [done, 12],
        [done, 13],
        [done, 13],
        [failed, 24],
    ];
    assert_eq!(tags, expected);
    let [add] = [RequestBody::ChangeMembers(changes()[..1].to_vec())];
    let request = encode_request(&Request { deadline_ms: 1, body: add });
    assert_eq!(request, &[2, 1, 6, 1, 0, 4, 4, 110, 52, 58, 49, 1][..]);
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
