//! Alarms as part of the state: what is refused while they are raised, and that they survive.

use super::support::{Fed, contents, one, put, replayed, restored};
use raft_core::state_machine::StateMachine;
use raft_core::types::NodeId;
use raft_kv::api::*;
use raft_kv::codec;
use raft_kv::store::KvStore;

const FULL: MemberAlarm = MemberAlarm { kind: AlarmKind::NoSpace, member: NodeId(0) };
const ROTTEN: MemberAlarm = MemberAlarm { kind: AlarmKind::Corrupt, member: NodeId(3) };

fn change(fed: &mut Fed, change: AlarmChange) -> bool {
    match fed.run(Action::Alarm(change)) {
        Ok(ActionReply::Alarm(changed)) => changed,
        other => panic!("{other:?}"),
    }
}

fn raise(fed: &mut Fed, alarm: MemberAlarm) -> bool {
    change(fed, AlarmChange::Raise(alarm))
}

fn clear(fed: &mut Fed, alarm: MemberAlarm) -> bool {
    change(fed, AlarmChange::Clear(alarm))
}

/// What refuses `action`.
fn alarm_of(fed: &mut Fed, action: Action) -> Option<AlarmKind> {
    match fed.run(action) {
        Err(KvError::Alarmed(kind)) => Some(kind),
        Ok(_) => None,
        Err(error) => panic!("{error}"),
    }
}

fn txn(success: Vec<Op>, failure: Vec<Op>) -> Action {
    Action::Txn(Txn { success, failure, ..Txn::default() })
}

fn nested(ops: Vec<Op>) -> Op {
    Op::Txn(Box::new(Txn { success: ops, ..Txn::default() }))
}

#[test]
fn what_is_refused_follows_from_the_kinds_that_are_raised() {
    let read = || Op::Range(Range::of(one("a")));
    let delete = || Op::Delete { keys: one("a"), prev_kv: false };
    // Whether it is refused where there is no room, and where data is not to be trusted.
    let table = [
        (Action::Op(read()), false, false),
        (Action::Op(put("a", "2")), true, true),
        (Action::Op(delete()), false, true),
        (txn(vec![read()], vec![]), false, false),
        (txn(vec![delete()], vec![read()]), false, true),
        (txn(vec![read()], vec![put("a", "2")]), true, true),
        (txn(vec![nested(vec![nested(vec![put("a", "2")])])], vec![]), true, true),
        (Action::Grant { id: None, ttl_ms: 60_000 }, true, true),
        (Action::OpenSession, false, false),
        (Action::Auth(AuthChange::AddRole { role: "r".into() }), false, false),
    ];
    for (action, full, rotten) in table {
        for raised in [&[][..], &[FULL], &[ROTTEN], &[FULL, ROTTEN], &[ROTTEN, FULL]] {
            let mut fed = Fed::in_memory();
            raised.iter().for_each(|alarm| assert!(raise(&mut fed, *alarm)));
            let expected = match raised {
                _ if rotten && raised.contains(&ROTTEN) => Some(AlarmKind::Corrupt),
                _ if full && raised.contains(&FULL) => Some(AlarmKind::NoSpace),
                _ => None,
            };
            assert_eq!(alarm_of(&mut fed, action.clone()), expected, "{action:?} {raised:?}");
        }
    }
}

#[test]
fn leases_and_compactions_end_with_the_alarm_about_data() {
    let mut fed = Fed::in_memory();
    fed.put("a", "1");
    let id = LeaseId(7);
    fed.run(Action::Grant { id: Some(id), ttl_ms: 60_000 }).unwrap();
    raise(&mut fed, ROTTEN);
    for action in [Action::Compact(Revision(2)), Action::Revoke(id)] {
        assert_eq!(alarm_of(&mut fed, action.clone()), Some(AlarmKind::Corrupt), "{action:?}");
    }
    raise(&mut fed, FULL);
    clear(&mut fed, ROTTEN);
    for action in [Action::Compact(Revision(2)), Action::Revoke(id)] {
        assert_eq!(alarm_of(&mut fed, action.clone()), None, "{action:?}");
    }
}

#[test]
fn a_kind_lasts_until_the_last_alarm_of_it_is_cleared() {
    let mut fed = Fed::in_memory();
    let other = MemberAlarm { member: NodeId(u64::MAX), ..FULL };
    assert_eq!([raise(&mut fed, FULL), raise(&mut fed, FULL)], [true, false]);
    assert!(raise(&mut fed, other));
    assert!(!clear(&mut fed, MemberAlarm { member: NodeId(1), ..FULL }));
    assert_eq!([clear(&mut fed, FULL), clear(&mut fed, FULL)], [true, false]);
    assert_eq!(alarm_of(&mut fed, Action::Op(put("a", "1"))), Some(AlarmKind::NoSpace));
    assert!(clear(&mut fed, other));
    assert_eq!(alarm_of(&mut fed, Action::Op(put("a", "1"))), None);
}

#[test]
fn alarms_are_bounded() {
    let mut fed = Fed::in_memory();
    let numbered = |number: usize| MemberAlarm { member: NodeId(number as u64), ..ROTTEN };
    for number in 0..ALARMS_MAX {
        assert!(raise(&mut fed, numbered(number)));
    }
    let refused = fed.run(Action::Alarm(AlarmChange::Raise(numbered(ALARMS_MAX))));
    assert_eq!(refused, Err(KvError::TooManyAlarms { limit: ALARMS_MAX as u64 }));
    assert!(!raise(&mut fed, numbered(5)), "it is raised already");
    clear(&mut fed, numbered(5));
    assert!(raise(&mut fed, numbered(ALARMS_MAX)));
}

#[test]
fn a_request_that_was_refused_stays_refused_when_it_is_repeated() {
    let mut fed = Fed::in_memory();
    let session = fed.open_session();
    raise(&mut fed, FULL);
    let request = Some(RequestId { session, seq: 1, unanswered_from: 1 });
    let refused = Err(KvError::Alarmed(AlarmKind::NoSpace));
    assert_eq!(fed.command(request, Action::Op(put("a", "1"))), refused);
    clear(&mut fed, FULL);
    assert_eq!(fed.command(request, Action::Op(put("a", "1"))), refused);
    assert_eq!(fed.value("a"), None);
}

#[test]
fn alarms_survive_checkpoints_snapshots_and_crashes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let mut fed = Fed::at(&path);
    fed.put("a", "1");
    fed.checkpoint();
    raise(&mut fed, FULL);
    raise(&mut fed, ROTTEN);
    fed.checkpoint();
    clear(&mut fed, ROTTEN);
    // One comes from the file, what was done since from the log.
    let mut fed = fed.crash(&path);
    assert_eq!(fed.hash(), replayed(&fed.log).summary().state_hash);
    assert_eq!(alarm_of(&mut fed, Action::Op(put("a", "2"))), Some(AlarmKind::NoSpace));
    let before = roll(&fed.store);
    assert_eq!(before.entries.len(), 1);
    fed.checkpoint();
    let copy = restored(&fed.store).unwrap();
    assert_eq!(roll(&copy), before);
    assert!(contents(&copy) == contents(&replayed(&fed.log)));
    let mut copy = Fed { store: copy, log: fed.log.clone() };
    assert_eq!(alarm_of(&mut copy, Action::Op(put("a", "2"))), Some(AlarmKind::NoSpace));
    clear(&mut copy, FULL);
    assert_ne!(roll(&copy.store).entries, before.entries, "members that differ are found");
    assert_eq!(alarm_of(&mut copy, Action::Op(put("a", "2"))), None);
    let mut fed = fed.crash(&path);
    assert_eq!(alarm_of(&mut fed, Action::Op(put("a", "2"))), Some(AlarmKind::NoSpace));
}

/// What members compare of users, roles and alarms.
fn roll(store: &KvStore) -> RollDigest {
    let part = RollPart { of: Roll::Single, start: 0, end: None, since: None };
    let answer = store.query(&codec::encode(&Query::Roll(part)));
    codec::decode::<RollAnswer>(&answer).unwrap().unwrap()
}
