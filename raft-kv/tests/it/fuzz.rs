//! The fuzz targets of this crate in a short run that is the same every time; see `fuzz/README.md`.

#[path = "../../../fuzz/src/disk.rs"]
mod disk;
#[cfg(feature = "etcd")]
#[path = "../../../fuzz/src/door.rs"]
mod door;
#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/requests.rs"]
mod requests;
#[path = "../../../fuzz/src/store.rs"]
mod store;
#[path = "../../../fuzz/src/target.rs"]
mod target;

use super::wire;
use bytes::{Bytes, BytesMut};
use raft_core::codec::put;
use raft_core::types::{Index, LogId, NodeId, SnapshotMeta};
use raft_kv::api::*;
use raft_kv::codec::{encode, encode_sequence};
use raft_kv::wire::{encode_reply, encode_request};
use replay::{plant, replay};
use std::path::Path;

#[test]
fn changed_bytes_harm_no_request() {
    replay(requests::TARGETS, |target, bytes| (target.run)(bytes));
}

#[test]
fn changed_bytes_harm_no_state() {
    replay(store::TARGETS, |target, bytes| (target.run)(bytes));
}

#[cfg(feature = "etcd")]
#[test]
fn changed_bytes_harm_no_door() {
    replay(door::TARGETS, |target, bytes| (target.run)(bytes));
}

/// A snapshot with nothing in it but a revision, up to which all is compacted.
fn snapshot_at(revision: u64) -> Vec<u8> {
    told_at(&SnapshotMeta::default(), revision)
}

/// The same as a stream that a store restores.
pub(crate) fn stream_at(meta: &SnapshotMeta, revision: u64) -> Vec<u8> {
    store::sealed(&told_at(meta, revision)[1..]).expect("it is of frames")
}

fn told_at(meta: &SnapshotMeta, revision: u64) -> Vec<u8> {
    let mut header = BytesMut::new();
    // Neither changes nor sessions; no time has passed, and there are no leases.
    let compacted = revision;
    put(&(meta.clone(), revision, 0_u64, 0_u64, 0_u64), &mut header);
    put(&(compacted, (0_u64, 0_u64, Vec::<(u64, u64)>::new()), 0_u64), &mut header);
    let length = u16::try_from(header.len()).expect("a small one").to_le_bytes();
    [&[1, 3, 0, 1][..], &length, &header].concat()
}

/// What comes next is a revision that is higher by one, or by far more in a new history.
#[test]
fn a_revision_that_leaves_no_room_is_refused() {
    let [_, snapshot, _] = store::TARGETS else { panic!("other targets") };
    assert!((snapshot.run)(&snapshot_at(1 << 62)));
    assert!(!(snapshot.run)(&snapshot_at((1 << 62) + 1)));
    assert!(!(snapshot.run)(&snapshot_at(u64::MAX)));
}

#[test]
fn the_corpora_are_of_real_requests() {
    let [command, request, reply, value, watch] = requests::TARGETS else {
        panic!("other targets")
    };
    plant(command, commands().iter().map(|it| encode(it).into()));
    plant(request, wire::requests().iter().map(|it| encode_request(it).into()));
    plant(reply, wire::replies().iter().map(|it| encode_reply(it).into()));
    plant(value, values());
    plant(watch, watches());
}

#[cfg(feature = "etcd")]
#[test]
fn the_corpora_are_of_real_connections() {
    let [named, token, ..] = door::TARGETS else { panic!("other targets") };
    let frame = |kind, flags, payload: &[u8]| {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend_from_slice(payload);
        frame
    };
    // A request with a server's name, as it is, padded and with a priority, or packed.
    let block = |name: &[u8]| [&[0x83, 0x86, 0x44, 2, b'/', b'a', 0x41], name].concat();
    let (settings, data) = (frame(4, 0, b""), frame(0, 0, &[1; 300]));
    let padded = [&[2, 0, 0, 0, 0, 9], &block(b"\x0dhttps://[::1]")[..], &[0, 0]].concat();
    let packed = b"\x8b\x08\x9d\x5c\x0b\x81\x70\xdc\x13\x2f\xbe\xff";
    let connections = [
        [&settings[..], &frame(1, 4, &block(b"\x03a:1")), &data].concat(),
        [&settings[..], &frame(1, 4, &block(b"\x0ahttp://a:1")), &data].concat(),
        [frame(1, 0x2c, &padded), data.clone()].concat(),
        [frame(1, 4, &block(packed)), frame(1, 0, &block(b"\x0ahttp://a:1"))].concat(),
    ];
    let pieces = [7, 255, 1, 100].into_iter();
    plant(named, pieces.zip(connections).map(|(piece, bytes)| [vec![piece], bytes].concat()));
    plant(token, [raft_kv::fuzzing::token().into_bytes()]);
}

#[cfg(feature = "etcd")]
fn watch() -> raft_kv::etcd::proto::etcdserverpb::WatchRequest {
    use raft_kv::etcd::proto::etcdserverpb as pb;
    let create = pb::WatchCreateRequest {
        key: "a".into(),
        range_end: "b".into(),
        start_revision: 3,
        progress_notify: true,
        filters: vec![1],
        ..Default::default()
    };
    pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) }
}

/// What clients of the door say, by the number that [`door`] knows it by.
#[cfg(feature = "etcd")]
fn messages() -> Vec<(u8, Vec<u8>, Vec<u8>)> {
    use prost::Message;
    use raft_kv::etcd::proto::{etcdserverpb as pb, v3electionpb, v3lockpb};
    fn both<M: Message + serde::Serialize>(what: u8, message: &M) -> (u8, Vec<u8>, Vec<u8>) {
        (what, message.encode_to_vec(), serde_json::to_vec(message).expect("it has a form"))
    }
    let range = pb::RangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        limit: 3,
        revision: 7,
        sort_order: 2,
        sort_target: 3,
        serializable: true,
        count_only: true,
        min_mod_revision: 2,
        ..Default::default()
    };
    let put = pb::PutRequest {
        key: "a".into(),
        value: vec![0, 255].into(),
        lease: 7,
        prev_kv: true,
        ..Default::default()
    };
    let delete =
        pb::DeleteRangeRequest { key: "a".into(), range_end: vec![0].into(), prev_kv: true };
    let op = |request| pb::RequestOp { request: Some(request) };
    let inner = pb::TxnRequest {
        success: vec![op(pb::request_op::Request::RequestPut(put.clone()))],
        ..Default::default()
    };
    let txn = pb::TxnRequest {
        compare: vec![pb::Compare {
            result: 1,
            target: 3,
            key: "a".into(),
            target_union: Some(pb::compare::TargetUnion::Value("1".into())),
            ..Default::default()
        }],
        success: vec![
            op(pb::request_op::Request::RequestRange(range.clone())),
            op(pb::request_op::Request::RequestTxn(inner)),
        ],
        failure: vec![op(pb::request_op::Request::RequestDeleteRange(delete.clone()))],
    };
    let watch = watch();
    let mut all = vec![
        both(0, &range),
        both(1, &put),
        both(2, &delete),
        both(3, &txn),
        both(4, &pb::CompactionRequest { revision: 9, physical: true }),
        both(5, &pb::LeaseGrantRequest { ttl: 60, id: 7 }),
        both(6, &pb::LeaseTimeToLiveRequest { id: 7, keys: true }),
        both(8, &watch),
        both(17, &v3lockpb::LockRequest { name: "lock".into(), lease: 7 }),
        both(18, &v3electionpb::CampaignRequest { name: "e".into(), lease: 7, value: "v".into() }),
    ];
    let (_, bytes, json) = both(8, &watch);
    all.push((u8::MAX, bytes, [&json[..], b"\n", &json].concat()));
    all
}

#[cfg(feature = "etcd")]
#[test]
fn the_corpora_are_of_real_messages() {
    let [.., protobuf, json, framed] = door::TARGETS else { panic!("other targets") };
    let of = |what: u8, bytes: &[u8]| [&[what], bytes].concat();
    let all = messages();
    // Several messages in one body have no form in protobuf.
    let alone = all.iter().filter(|(what, ..)| *what != u8::MAX);
    plant(protobuf, alone.map(|(what, bytes, _)| of(*what, bytes)));
    plant(json, all.iter().map(|(what, _, text)| of(*what, text)));
    let frame = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).expect("a small one").to_be_bytes();
        [&[0], &length[..], bytes].concat()
    };
    let frames: Vec<Vec<u8>> = all.iter().map(|(_, bytes, _)| frame(bytes)).collect();
    let bodies = [frames[0].clone(), frames.concat(), frame(&[]), frame(&[1; 300])];
    plant(framed, [7, 1, 255, 0].into_iter().zip(bodies).map(|(piece, body)| of(piece, &body)));
}

#[test]
fn the_corpora_are_of_real_states() {
    let [apply, snapshot, file] = store::TARGETS else { panic!("other targets") };
    let told = |commands: &[Bytes]| -> Vec<u8> {
        let told = |command: &Bytes| {
            let length = u16::try_from(command.len()).expect("a small one").to_le_bytes();
            [&length[..], command].concat()
        };
        commands.iter().flat_map(told).collect()
    };
    let present: Vec<Bytes> = commands().iter().map(encode).collect();
    let (half, all) = (told(&present[..present.len() / 2]), told(&present));
    plant(apply, [half, all, told(&of_version_1())]);

    let snapshots = store::versions().flat_map(|version| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let path = folder.join(version.to_string()).join("snapshot.bin");
        let stream = std::fs::read(path).expect("a fixture");
        [[&[0][..], &stream].concat(), [&[1][..], &store::told(&stream)].concat()]
    });
    plant(snapshot, snapshots);
    // Place and bits for each change.
    let changes: [&[u8]; 4] =
        [&[], &[9, 0, 0, 1], &[0, 0x11, 0, 0x80, 1, 0x22, 1, 4], &[0, 0x10, 0, 0]];
    plant(file, changes.map(<[u8]>::to_vec));
}

/// One of each kind, on the same few keys.
fn commands() -> Vec<Command> {
    let keys = || Keys::prefix("a");
    let range = Range { limit: 3, count_all: true, ..Range::of(keys()) };
    let put = |key: &'static str| Op::Put(Put { prev_kv: true, ..Put::new(key, "value") });
    let compare = Compare {
        keys: Keys::One("a".into()),
        operator: Operator::Greater,
        target: Target::Version(0),
    };
    let inner = Txn { compares: vec![], success: vec![put("ab")], failure: vec![] };
    let txn = Txn {
        compares: vec![compare],
        success: vec![put("aa"), Op::Range(range.clone()), Op::Txn(Box::new(inner))],
        failure: vec![Op::Delete { keys: keys(), prev_kv: true }],
    };
    let leased = Op::Put(Put::new("al", "1").with_lease(LeaseId(7)));
    let in_turn = Op::Put(Put { sequential: true, ..Put::new("at/", "1") });
    let advance = Advance { time_ms: 5000, seen: Index(9), ..Advance::default() };
    let renewed = Advance { time_ms: 90_000, renewed: vec![LeaseId(7)], ..advance };
    let plain = |action| Command { request: None, fence: None, action };
    let named = |seq, action| {
        let request = RequestId { session: SessionId(2), seq, unanswered_from: 1 };
        Command { request: Some(request), ..plain(action) }
    };
    let fence = Fence { key: "a".into(), token: Revision(2) };
    vec![
        plain(Action::OpenSession),
        named(1, Action::Op(put("a"))),
        named(1, Action::Op(put("a"))),
        Command { fence: Some(fence), ..named(2, Action::Op(put("b"))) },
        plain(Action::Txn(txn)),
        plain(Action::Grant { id: Some(LeaseId(7)), ttl_ms: 60_000 }),
        plain(Action::Op(leased)),
        plain(Action::Op(in_turn)),
        plain(Action::Op(Op::Range(range))),
        plain(Action::Compact(Revision(4))),
        plain(Action::Advance(advance)),
        plain(Action::Advance(renewed)),
        plain(Action::Op(Op::Delete { keys: keys(), prev_kv: true })),
        plain(Action::Revoke(LeaseId(7))),
    ]
}

/// Commands as programs of version 1 have encoded them.
fn of_version_1() -> Vec<Bytes> {
    let commands: [&[u8]; 4] = [
        b"\x01\x00\x00",                                                // open a session
        b"\x01\x01\x02\x01\x01\x01\x00\x01a\x011\x01", // in it: put a, return what was there
        b"\x01\x00\x02\x01\x01a\x00\x01\x01\x01\x00\x01b\x012\x00\x00", // a transaction
        b"\x01\x00\x01\x01\x00\x01a\x01",              // delete a
    ];
    commands.map(Bytes::from_static).into()
}

/// What [`requests`] has as values: which one, then its bytes.
fn values() -> Vec<Vec<u8>> {
    let of = |what: u8, bytes: Bytes| [&[what], &bytes[..]].concat();
    let reply: CommandReply = Ok(ActionReply::Session(SessionId(2)));
    let refused: CommandReply = Err(KvError::KeyEmpty);
    let queries = [
        Query::Range(Range::of(Keys::all())),
        Query::Summary,
        Query::Lease { id: LeaseId(7), keys: true },
        Query::Hashes(vec![Index(1), Index(300)]),
    ];
    let mut values = vec![of(0, encode(&reply)), of(0, encode(&refused))];
    values.extend(queries.iter().map(|query| of(1, encode(query))));
    for reply in wire::replies() {
        if let Ok(ReplyBody::Range(range)) = reply {
            values.push(of(2, encode::<RangeAnswer>(&Ok(range))));
        }
    }
    values.push(of(3, encode(&Summary::default())));
    values.push(of(4, encode(&StreamRequest::Watch { require_leader: true })));
    values.push(of(4, encode(&StreamRequest::Backup { local: false })));
    let (node, last, revision) = (NodeId(1), LogId::new(9, 2), Revision(7));
    let begun = BackupBegun { node, last, revision, bytes: 300 };
    values.push(of(5, encode::<Result<BackupBegun, KvError>>(&Ok(begun))));
    values
}

/// Frames of a stream of watches: which way, then what.
fn watches() -> Vec<Vec<u8>> {
    let watch = Watch { from: Some(Revision(3)), ..Watch::of(Keys::prefix("a")) };
    let requests = [
        WatchRequest::Create(WatchId(1), watch),
        WatchRequest::Cancel(WatchId(1)),
        WatchRequest::Progress,
        WatchRequest::Reach(Revision(300)),
    ];
    let pair = KeyValue {
        key: "a".into(),
        value: "1".into(),
        create_revision: Revision(2),
        mod_revision: Revision(3),
        version: 2,
        lease: None,
    };
    let put = Event { kind: EventKind::Put(pair.clone()), prev_kv: Some(pair) };
    let kind = EventKind::Delete { key: "a".into(), mod_revision: Revision(4) };
    let events = vec![put, Event { kind, prev_kv: None }];
    let replies = [
        WatchReply::Opened(1),
        WatchReply::Created(WatchId(1), Revision(2)),
        WatchReply::Events { id: WatchId(1), revision: Revision(4), events, fragment: false },
        WatchReply::Progress(None, Revision(4)),
        WatchReply::Canceled(WatchId(1), None),
        WatchReply::Ended(KvError::KeyEmpty),
    ];
    let frame = |way: u8, bytes: Bytes| [&[way], &bytes[..]].concat();
    vec![
        frame(0, encode_sequence(&requests)),
        frame(1, encode_sequence(&replies)),
        frame(1, encode_sequence(&replies[2..3])),
    ]
}
