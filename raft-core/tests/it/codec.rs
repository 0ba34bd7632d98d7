//! The bytes of messages and log operations: they come back as they were, a change of the format
//! shows, and whatever arrives neither panics nor allocates more than it paid for.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use raft_core::codec::{
    CodecError, decode_envelope, decode_op, encode_envelope, encode_op, put, take,
};
use raft_core::raft::{
    AppendEntries, AppendOutcome, Config, Envelope, Input, Loaded, LogOp, Message, Raft,
    ReadRequestId,
};
use raft_core::types::{
    Change, ClusterId, Entry, GroupId, HardState, Identity, Incarnation, Index, LogId, Member,
    Membership, NodeId, Payload, Run, Sender, SnapshotMeta, Term, Version,
};

/// The largest term or index that is accepted.
const COUNT_MAX: u64 = 1 << 62;

/// Who speaks in all of these: not in the bytes.
const SENDER: Sender = Sender { incarnation: Incarnation(77), version: Version::CURRENT };

pub(crate) fn envelope(message: Message) -> Envelope {
    Envelope { from: NodeId(1), to: NodeId(2), term: Term(300), sender: SENDER, message }
}

fn decoded(frame: &Bytes) -> Result<(GroupId, Envelope), CodecError> {
    decode_envelope(frame, SENDER)
}

pub(crate) fn encoded(envelope: &Envelope) -> Bytes {
    let mut out = BytesMut::new();
    encode_envelope(GroupId(7), envelope, &mut out);
    out.freeze()
}

pub(crate) fn encoded_op(op: &LogOp) -> Bytes {
    let mut out = BytesMut::new();
    encode_op(op, &mut out);
    out.freeze()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn membership() -> Membership {
    let member = |id: u64| {
        let address = format!("h{id}:1");
        (NodeId(id), Member { incarnation: Some(Incarnation(id)), ..Member::new(address) })
    };
    Membership::of_voters((1..=2).map(member).collect()).upgraded(Version(1))
}

/// A joint configuration with all that version 2 has: n2 leaves, n3 has come, n1 is preferred.
pub(crate) fn membership_2() -> Membership {
    let node = NodeId(3);
    let survivor = Member { incarnation: Some(Incarnation(1)), ..Member::new("h1:1") };
    let membership = membership().recovered(NodeId(1), survivor).upgraded(Version(2));
    let add = |node| Change::Add { node, address: format!("h{}:1", node.0), promote: true };
    let membership = membership.changed(&[add(NodeId(2)), add(node)]).unwrap();
    let membership = membership.bound(NodeId(2), Incarnation(2)).bound(node, Incarnation(300));
    let membership = membership.changed(&[Change::Promote { node: NodeId(2) }]).unwrap().left();
    let prioritize = Change::Prioritize { node: NodeId(1), priority: 200 };
    let remove = Change::Remove { node: NodeId(2) };
    membership.changed(&[prioritize, Change::Promote { node }, remove]).unwrap()
}

pub(crate) fn run() -> Run {
    run_with(membership())
}

pub(crate) fn run_with(membership: Membership) -> Run {
    let payloads = [
        Payload::Noop,
        Payload::Command(Bytes::from_static(b"x")),
        Payload::Membership(membership.into()),
    ];
    let entries = payloads
        .into_iter()
        .zip(5..)
        .map(|(payload, index)| Entry { id: LogId::new(index, 300), payload });
    Run::new(entries.collect()).expect("there are entries")
}

fn messages() -> Vec<(Message, &'static str)> {
    let request = ReadRequestId { nonce: 9, seq: 3 };
    let meta = SnapshotMeta { last: LogId::new(5, 2), membership: membership() };
    let append = AppendEntries {
        prev_log: LogId::new(4, 299),
        entries: Some(run()),
        leader_commit: Index(3),
        read_seq: 1,
    };
    let conflict = AppendOutcome::Conflict { refused: Index(8), hint: LogId::new(6, 2) };
    vec![
        (
            Message::RequestVote { last_log: LogId::new(4, 2), pre_vote: true, transfer: false },
            "070102ac020002040100",
        ),
        (Message::RequestVoteResponse { granted: true, pre_vote: false }, "070102ac02010100"),
        (
            Message::AppendEntries(append),
            "070102ac0202ab0204030301ac020500ac0206010178ac020702\
             0201020002010468313a31010100020468323a31010200",
        ),
        (
            Message::AppendEntriesResponse {
                outcome: AppendOutcome::Matched(Index(200)),
                read_seq: 1,
                stalled_ticks: 0,
            },
            "070102ac020300c80101",
        ),
        (
            Message::AppendEntriesResponse { outcome: conflict, read_seq: 0, stalled_ticks: 0 },
            "070102ac02030108020600",
        ),
        (
            Message::InstallSnapshot { meta: meta.into() },
            "070102ac020402050201020002010468313a31010100020468323a31010200",
        ),
        (Message::TimeoutNow, "070102ac0205"),
        (Message::ReadIndex { request }, "070102ac02060903"),
        (Message::ReadIndexResponse { request, index: Index(5) }, "070102ac0207090305"),
    ]
}

pub(crate) fn ops() -> Vec<(LogOp, &'static str)> {
    let identity =
        Identity { cluster: ClusterId(1), node: NodeId(2), incarnation: Incarnation(300) };
    let hard_state = HardState { term: Term(300), vote: Some(NodeId(1)) };
    let meta = SnapshotMeta { last: LogId::new(5, 2), membership: membership() };
    vec![
        (LogOp::Identity(identity), "000102ac02"),
        (LogOp::HardState(hard_state), "01ac020101"),
        (
            LogOp::Append(run()),
            "0203ac020500ac0206010178ac0207020201020002010468313a31010100020468323a31010200",
        ),
        (LogOp::Compact(meta.clone()), "0302050201020002010468313a31010100020468323a31010200"),
        (LogOp::Reset(meta), "0402050201020002010468313a31010100020468323a31010200"),
    ]
}

/// A membership with all that version 2 has.
const MEMBERSHIP_2: &str = "010002020103020102\
    03010468313a31010100c8020468323a3101020100030468333a3101ac02010001\
    0201";

/// What version 2 has brought.
fn messages_2() -> Vec<(Message, String)> {
    let meta = SnapshotMeta { last: LogId::new(5, 2), membership: membership_2() };
    let append = AppendEntries {
        prev_log: LogId::new(4, 299),
        entries: Some(run_with(membership_2())),
        leader_commit: Index(3),
        read_seq: 1,
    };
    let members = vec![NodeId(1), NodeId(200)];
    let matched = AppendOutcome::Matched(Index(200));
    let conflict = AppendOutcome::Conflict { refused: Index(8), hint: LogId::new(6, 2) };
    let stalled = |outcome, stalled_ticks| Message::AppendEntriesResponse {
        outcome,
        read_seq: 1,
        stalled_ticks,
    };
    let of = |message, expected: &str| (message, format!("070102ac02{expected}"));
    let meta_bytes = format!("0205{MEMBERSHIP_2}");
    let run_bytes = format!("ac020500ac0206010178ac020702{MEMBERSHIP_2}");
    vec![
        of(Message::Hello { members: members.clone(), seen: None }, "080201c80100"),
        of(Message::Hello { members, seen: Some(Incarnation(300)) }, "080201c80101ac02"),
        of(stalled(matched, 1), "0900c8010101"),
        of(stalled(conflict, 300), "090108020601ac02"),
        of(Message::InstallSnapshot { meta: meta.into() }, &format!("04{meta_bytes}")),
        of(Message::AppendEntries(append), &format!("02ab0204030301{run_bytes}")),
    ]
}

pub(crate) fn ops_2() -> Vec<(LogOp, String)> {
    let meta = SnapshotMeta { last: LogId::new(5, 2), membership: membership_2() };
    let run_bytes = format!("ac020500ac0206010178ac020702{MEMBERSHIP_2}");
    vec![
        (LogOp::Append(run_with(membership_2())), format!("0203{run_bytes}")),
        (LogOp::Compact(meta.clone()), format!("030205{MEMBERSHIP_2}")),
        (LogOp::Reset(meta), format!("040205{MEMBERSHIP_2}")),
    ]
}

/// A different hex means a different format: raise `codec::VERSION`, and keep reading the old one.
#[test]
fn the_bytes_of_version_1() {
    for (message, expected) in messages() {
        assert_eq!(message.since(), Version(1));
        is_encoded_as(message, expected);
    }
    for (op, expected) in ops() {
        assert_eq!(hex(&encoded_op(&op)), expected, "{op}");
    }
}

#[test]
fn the_bytes_of_version_2() {
    let mut bytes = BytesMut::new();
    put(&membership_2(), &mut bytes);
    assert_eq!(hex(&bytes), MEMBERSHIP_2);
    assert_eq!(take(&mut &bytes[..]), Ok(membership_2()));
    for (message, expected) in messages_2() {
        is_encoded_as(message, &expected);
    }
    for (op, expected) in ops_2() {
        let bytes = encoded_op(&op);
        assert_eq!(hex(&bytes), expected, "{op}");
        assert_eq!(decode_op(&bytes, &mut &bytes[..]), Ok(op));
    }
}

/// What version 3 has brought is in what commands say; here only its number is new.
#[test]
fn the_bytes_of_versions_3_and_4() {
    assert_eq!(raft_core::codec::VERSION, 4);
    let bytes_of = |version| {
        let mut bytes = BytesMut::new();
        put(&membership_2().upgraded(version), &mut bytes);
        bytes
    };
    let commit = Message::Commit { entry: LogId::new(8, 2) };
    assert_eq!(commit.since(), Version(4));
    is_encoded_as(commit, "070102ac020a0208");
    let old = bytes_of(Version(2));
    for version in [3, 4] {
        let new = bytes_of(Version(version));
        assert_eq!(take(&mut &new[..]), Ok(membership_2().upgraded(Version(version))));
        let differences: Vec<_> = old.iter().zip(&new).filter(|(old, new)| old != new).collect();
        assert_eq!((old.len(), differences), (new.len(), vec![(&2, &(version as u8))]));
    }
}

fn is_encoded_as(message: Message, expected: &str) {
    let envelope = envelope(message);
    let bytes = encoded(&envelope);
    assert_eq!(hex(&bytes), expected, "{envelope}");
    assert_eq!(decoded(&bytes), Ok((GroupId(7), envelope)));
}

/// Every message of every version.
pub(crate) fn all_messages() -> impl Iterator<Item = Message> {
    let newer = messages_2().into_iter().map(|(message, _)| message);
    messages().into_iter().map(|(message, _)| message).chain(newer)
}

#[test]
fn every_part_of_a_message_is_malformed() {
    for message in all_messages() {
        let whole = encoded(&envelope(message));
        for len in 0..whole.len() {
            assert!(decoded(&whole.slice(..len)).is_err());
        }
        let mut longer = BytesMut::from(&whole[..]);
        longer.extend_from_slice(b"!!");
        assert_eq!(decoded(&longer.freeze()), Err(CodecError::Trailing(2)));
    }
    let newer = ops_2().into_iter().map(|(op, _)| op);
    for op in ops().into_iter().map(|(op, _)| op).chain(newer) {
        let whole = encoded_op(&op);
        for len in 0..whole.len() {
            let part = whole.slice(..len);
            assert!(decode_op(&part, &mut &part[..]).is_err());
        }
    }
}

/// A count of entries that were not sent must not be believed, or four bytes could ask for
/// gigabytes.
#[test]
fn announced_entries_must_be_there() {
    let append = AppendEntries {
        prev_log: LogId::ZERO,
        entries: None,
        leader_commit: Index(0),
        read_seq: 0,
    };
    let whole = encoded(&envelope(Message::AppendEntries(append)));
    let mut frame = whole.to_vec();
    let count = frame.len() - 3;
    assert_eq!(frame[count], 0);
    frame.splice(count..=count, [0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(decoded(&frame.into()), Err(CodecError::Malformed));
}

#[test]
fn entries_must_be_consecutive() {
    let entry = |index, term| Entry { id: LogId::new(index, term), payload: Payload::Noop };
    let frame = |prev_log: LogId, entries: &[Entry]| {
        // Entry by entry: a run of these cannot be made.
        let run = Run::new(vec![entry(1, 1)]);
        let append = AppendEntries { prev_log, entries: run, leader_commit: Index(0), read_seq: 0 };
        let mut out = BytesMut::new();
        encode_envelope(GroupId(0), &envelope(Message::AppendEntries(append)), &mut out);
        out.truncate(out.len() - 3);
        let count = out.len() - 3;
        assert_eq!(out[count], 1);
        out[count] = u8::try_from(entries.len()).unwrap();
        for entry in entries {
            raft_core::codec::encode_entry(entry, &mut out);
        }
        out.freeze()
    };
    let decoded = |prev, entries: &[Entry]| decoded(&frame(prev, entries)).map(drop);
    let prev = LogId::new(4, 2);
    assert_eq!(decoded(prev, &[entry(5, 2), entry(6, 3)]), Ok(()));
    let refused = Err(CodecError::NotConsecutive);
    assert_eq!(decoded(prev, &[entry(6, 2)]), refused, "a gap after prev_log");
    assert_eq!(decoded(prev, &[entry(5, 1)]), refused, "the term falls after prev_log");
    assert_eq!(decoded(prev, &[entry(5, 2), entry(7, 2)]), refused, "a gap");
    assert_eq!(decoded(prev, &[entry(5, 3), entry(6, 2)]), refused, "the term falls");
}

#[test]
fn terms_and_indexes_beyond_all_reach_are_malformed() {
    for (count, good) in [(COUNT_MAX, true), (COUNT_MAX + 1, false), (u64::MAX, false)] {
        let mut out = BytesMut::new();
        put(&count, &mut out);
        assert_eq!(take::<Term>(&mut &out[..]).is_ok(), good);
        assert_eq!(take::<Index>(&mut &out[..]).is_ok(), good);
    }
}

#[test]
fn memberships_are_checked() {
    type Raw = (Vec<NodeId>, Vec<NodeId>, Vec<(NodeId, (String, Option<Incarnation>, bool))>);
    let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
    let decoded = |voters: &[u64], outgoing: &[u64], members: &[u64]| {
        let members = ids(members).into_iter().map(|id| (id, Default::default())).collect();
        let raw: Raw = (ids(voters), ids(outgoing), members);
        let mut out = BytesMut::new();
        put(&raw, &mut out);
        take::<Membership>(&mut &out[..]).map(|_| ())
    };
    assert_eq!(decoded(&[], &[], &[]), Ok(()));
    assert_eq!(decoded(&[1, 3], &[1, 2], &[1, 2, 3, 4]), Ok(()));
    let refused = Err(CodecError::Malformed);
    assert_eq!(decoded(&[3, 1], &[], &[1, 3]), refused, "unsorted");
    assert_eq!(decoded(&[1, 1], &[], &[1]), refused, "twice the same");
    assert_eq!(decoded(&[1], &[2, 1], &[1, 2]), refused, "outgoing unsorted");
    assert_eq!(decoded(&[1, 2], &[], &[1]), refused, "a voter that is no member");
    assert_eq!(decoded(&[1], &[2], &[1]), refused, "an outgoing voter that is no member");
    assert_eq!(decoded(&[0], &[], &[0]), refused, "node 0");
}

/// The largest values that pass the codec leave the core room to count on.
#[test]
fn the_largest_terms_and_indexes_do_not_overflow_the_core() {
    let last = LogId::new(COUNT_MAX, COUNT_MAX);
    let largest = Index(COUNT_MAX);
    let request = ReadRequestId { nonce: u64::MAX, seq: u64::MAX };
    let meta = SnapshotMeta { last, membership: membership() };
    let append = |prev_log| AppendEntries {
        prev_log,
        entries: None,
        leader_commit: largest,
        read_seq: u64::MAX,
    };
    let outcomes =
        [AppendOutcome::Matched(largest), AppendOutcome::Conflict { refused: largest, hint: last }];
    let mut messages = vec![
        Message::RequestVote { last_log: last, pre_vote: false, transfer: true },
        Message::RequestVote { last_log: last, pre_vote: true, transfer: false },
        Message::AppendEntries(append(last)),
        Message::AppendEntries(append(LogId::ZERO)),
        Message::InstallSnapshot { meta: meta.clone().into() },
        Message::TimeoutNow,
        Message::Commit { entry: last },
        Message::ReadIndex { request },
        Message::ReadIndexResponse { request, index: largest },
        Message::Hello { members: vec![NodeId(u64::MAX)], seen: Some(Incarnation(u64::MAX)) },
    ];
    for outcome in outcomes {
        for stalled_ticks in [0, u32::MAX] {
            let read_seq = u64::MAX;
            messages.push(Message::AppendEntriesResponse { outcome, read_seq, stalled_ticks });
        }
    }
    for message in messages {
        for term in [Term(1), Term(COUNT_MAX)] {
            let mut raft = leader();
            let message = message.clone();
            raft.step(Input::Message(from_n2(term, message)));
            raft.step(Input::Restored(meta.clone()));
            for _ in 0..300 {
                raft.step(Input::Tick);
                persist(&mut raft);
            }
            raft_core::raft::check(&raft);
        }
    }
}

fn from_n2(term: Term, message: Message) -> Envelope {
    let sender = Sender { incarnation: Incarnation(2), version: Version::CURRENT };
    Envelope { from: NodeId(2), to: NodeId(1), term, sender, message }
}

/// `n1` of two, which leads term 2.
fn leader() -> Raft {
    let meta = SnapshotMeta { last: LogId::ZERO, membership: membership() };
    let (cluster, node, incarnation) = (ClusterId(1), NodeId(1), Incarnation(1));
    let identity = Some(Identity { cluster, node, incarnation });
    let mut loaded = Loaded { identity, snapshot: meta.clone(), ..Loaded::default() };
    loaded.hard_state.term = Term(1);
    let config = Config { id: NodeId(1), ..Config::default() };
    let patience = config.election_ticks_max;
    let mut raft = Raft::new(config, loaded, meta, 1).expect("a good configuration");
    // What it promised before it was restarted must have run out.
    for _ in 0..patience {
        raft.step(Input::Tick);
        persist(&mut raft);
    }
    raft.campaign();
    for (term, pre_vote) in [(Term(1), true), (Term(2), false)] {
        let message = Message::RequestVoteResponse { granted: true, pre_vote };
        raft.step(Input::Message(from_n2(term, message)));
        persist(&mut raft);
    }
    assert!(raft.is_leader());
    raft
}

fn persist(raft: &mut Raft) {
    if let Some(write) = raft.take_output().write {
        raft.step(Input::Persisted(write.seq));
    }
}

fn any_log_id() -> impl Strategy<Value = LogId> {
    (0..=COUNT_MAX, 0..=COUNT_MAX).prop_map(|(index, term)| LogId::new(index, term))
}

fn any_membership() -> impl Strategy<Value = Membership> {
    let member = (".{0,20}", any::<Option<u64>>(), any::<bool>(), any::<u8>()).prop_map(
        |(address, life, promote, priority)| {
            let incarnation = life.map(Incarnation);
            Member { address, incarnation, promote, priority }
        },
    );
    prop::collection::btree_map((1..u64::MAX).prop_map(NodeId), member, 0..5)
        .prop_map(Membership::of_voters)
}

fn any_meta() -> impl Strategy<Value = SnapshotMeta> {
    (any_log_id(), any_membership())
        .prop_map(|(last, membership)| SnapshotMeta { last, membership })
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Noop),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|x| Payload::Command(x.into())),
        any_membership().prop_map(|it| Payload::Membership(it.into())),
    ]
}

/// Entries that follow `index@term`, each term at or above the one before.
fn any_run() -> impl Strategy<Value = (LogId, Run)> {
    let entries = prop::collection::vec((0..3_u64, any_payload()), 1..20);
    (0..COUNT_MAX / 2, 0..COUNT_MAX / 2, entries).prop_map(|(index, term, entries)| {
        let mut last = LogId::new(index, term);
        let follow = |(rise, payload)| {
            last = LogId::new(last.index.0 + 1, last.term.0 + rise);
            Entry { id: last, payload }
        };
        let run = Run::new(entries.into_iter().map(follow).collect());
        (LogId::new(index, term), run.expect("at least one entry"))
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    let request = || any::<(u64, u64)>().prop_map(|(nonce, seq)| ReadRequestId { nonce, seq });
    let index = || (0..=COUNT_MAX).prop_map(Index);
    let outcome = prop_oneof![
        index().prop_map(AppendOutcome::Matched),
        (index(), any_log_id())
            .prop_map(|(refused, hint)| AppendOutcome::Conflict { refused, hint }),
    ];
    prop_oneof![
        (any_log_id(), any::<bool>(), any::<bool>()).prop_map(|(last_log, pre_vote, transfer)| {
            Message::RequestVote { last_log, pre_vote, transfer }
        }),
        any::<(bool, bool)>()
            .prop_map(|(granted, pre_vote)| { Message::RequestVoteResponse { granted, pre_vote } }),
        (any_run(), any::<bool>(), index(), any::<u64>()).prop_map(
            |((prev_log, run), empty, leader_commit, read_seq)| {
                let entries = Some(run).filter(|_| !empty);
                Message::AppendEntries(AppendEntries { prev_log, entries, leader_commit, read_seq })
            }
        ),
        (outcome, any::<u64>(), any::<u32>()).prop_map(|(outcome, read_seq, stalled_ticks)| {
            Message::AppendEntriesResponse { outcome, read_seq, stalled_ticks }
        }),
        (prop::collection::vec(any::<u64>(), 0..9), any::<Option<u64>>()).prop_map(
            |(members, seen)| Message::Hello {
                members: members.into_iter().map(NodeId).collect(),
                seen: seen.map(Incarnation),
            }
        ),
        any_meta().prop_map(|meta| Message::InstallSnapshot { meta: meta.into() }),
        Just(Message::TimeoutNow),
        any_log_id().prop_map(|entry| Message::Commit { entry }),
        request().prop_map(|request| Message::ReadIndex { request }),
        (request(), index())
            .prop_map(|(request, index)| Message::ReadIndexResponse { request, index }),
    ]
}

fn any_op() -> impl Strategy<Value = LogOp> {
    prop_oneof![
        any::<(u64, u64, u64)>().prop_map(|(cluster, node, life)| {
            let (cluster, node) = (ClusterId(cluster), NodeId(node));
            LogOp::Identity(Identity { cluster, node, incarnation: Incarnation(life) })
        }),
        (0..=COUNT_MAX, any::<Option<u64>>()).prop_map(|(term, vote)| {
            LogOp::HardState(HardState { term: Term(term), vote: vote.map(NodeId) })
        }),
        any_run().prop_map(|(_, run)| LogOp::Append(run)),
        any_meta().prop_map(LogOp::Compact),
        any_meta().prop_map(LogOp::Reset),
    ]
}

proptest! {
    #[test]
    fn messages_come_back(
        group in any::<u64>(),
        from in any::<u64>(),
        to in any::<u64>(),
        term in 0..=COUNT_MAX,
        message in any_message(),
    ) {
        let (from, to, term) = (NodeId(from), NodeId(to), Term(term));
        let envelope = Envelope { from, to, term, sender: SENDER, message };
        let mut out = BytesMut::new();
        encode_envelope(GroupId(group), &envelope, &mut out);
        prop_assert_eq!(decoded(&out.freeze()), Ok((GroupId(group), envelope)));
    }

    #[test]
    fn operations_come_back(op in any_op(), rest in prop::collection::vec(any::<u8>(), 0..9)) {
        let mut out = BytesMut::new();
        encode_op(&op, &mut out);
        out.extend_from_slice(&rest);
        let frame = out.freeze();
        let mut left = &frame[..];
        prop_assert_eq!(decode_op(&frame, &mut left), Ok(op));
        prop_assert_eq!(left, &rest[..]);
    }

    #[test]
    fn garbage_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let frame = Bytes::from(bytes);
        let _ = decoded(&frame);
        let _ = decode_op(&frame, &mut &frame[..]);
    }

    /// Nearly right is worse than garbage: it gets further.
    #[test]
    fn flipped_bytes_do_not_panic(
        message in any_message(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encoded(&envelope(message)).to_vec();
        for (position, byte) in flips {
            let position = position.index(bytes.len());
            bytes[position] = byte;
        }
        let _ = decoded(&bytes.into());
    }
}
