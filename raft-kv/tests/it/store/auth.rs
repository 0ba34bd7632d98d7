//! Users and roles as part of the state: what they permit where a command takes effect, and that
//! they survive.

use super::support::{Fed, between, bytes_of, contents, one, put, replayed, restored};
use raft_core::state_machine::StateMachine;
use raft_kv::api::*;
use raft_kv::store::{BackupInfo, KvStore};
use std::io::Cursor;

const ALICE: &str = "alice";

fn hashed() -> Password {
    Password::Hashed("hash".into())
}

fn change(fed: &mut Fed, change: AuthChange) -> Result<u64, AuthError> {
    let authority = Authority::Cluster;
    match fed.run(Action::As(authority, Box::new(Action::Auth(change)))) {
        Ok(ActionReply::Auth(revision)) => Ok(revision),
        Err(KvError::Auth(error)) => Err(error),
        other => panic!("{other:?}"),
    }
}

fn permit(fed: &mut Fed, role: &str, access: Access, keys: Keys) -> Result<u64, AuthError> {
    let permission = Permission { access, keys };
    change(fed, AuthChange::GrantPermission { role: role.into(), permission })
}

/// Alice may read `a..c`, write `b..d`, and both with `x`; bob may do nothing.
fn fill(fed: &mut Fed) -> u64 {
    for user in [ROOT, ALICE, "bob"] {
        change(fed, AuthChange::AddUser { user: user.into(), password: hashed() }).unwrap();
    }
    for role in ["readers", "writers"] {
        change(fed, AuthChange::AddRole { role: role.into() }).unwrap();
        let (user, role) = (ALICE.into(), role.into());
        change(fed, AuthChange::GrantRole { user, role }).unwrap();
    }
    let (user, role) = (ROOT.into(), ROOT.into());
    change(fed, AuthChange::GrantRole { user, role }).unwrap();
    permit(fed, "readers", Access::Read, between("a", "b")).unwrap();
    permit(fed, "writers", Access::Read, between("b", "c")).unwrap();
    permit(fed, "writers", Access::Write, between("b", "d")).unwrap();
    permit(fed, "readers", Access::ReadWrite, one("x")).unwrap();
    change(fed, AuthChange::Enable { secret: Secret([7; 32]) }).unwrap()
}

fn as_user(name: &str, revision: u64, action: Action) -> Action {
    let authority = Authority::User { name: name.into(), revision, shared_session: false };
    Action::As(authority, Box::new(action))
}

fn allowed(fed: &mut Fed, name: &str, action: Action) -> bool {
    let revision = fed.store.summary().auth_revision;
    match fed.run(as_user(name, revision, action)) {
        Err(KvError::Auth(AuthError::Denied)) => false,
        Err(KvError::Auth(error)) => panic!("{error}"),
        _ => true,
    }
}

#[test]
fn a_user_may_do_what_its_roles_permit_together_and_nothing_else() {
    let mut fed = Fed::in_memory();
    fill(&mut fed);
    let read = |keys: Keys| Action::Op(Op::Range(Range::of(keys)));
    let delete = |keys: Keys, prev_kv| Action::Op(Op::Delete { keys, prev_kv });
    let sequential =
        |key: &'static str| Action::Op(Op::Put(Put { sequential: true, ..Put::new(key, "1") }));
    let seen = |key: &'static str| Action::Op(Op::Put(Put { prev_kv: true, ..Put::new(key, "1") }));
    let compare = Compare { keys: one("b"), operator: Operator::Equal, target: Target::Version(0) };
    let txn = |compares: Vec<Compare>, success: Vec<Op>, failure: Vec<Op>| {
        Action::Txn(Txn { compares, success, failure })
    };
    let compared = |keys| vec![Compare { keys, ..compare.clone() }];
    let nested = |op| Op::Txn(Box::new(Txn { success: vec![op], ..Txn::default() }));
    let table = [
        (read(one("a")), true),
        (read(between("a", "c")), true),
        (read(between("a", "c\0")), false),
        (read(Keys::all()), false),
        (read(one("c")), false),
        (read(one("x")), true),
        (read(one("x\0")), false),
        (Action::Op(put("a", "1")), false),
        (Action::Op(put("b", "1")), true),
        (Action::Op(put("x", "1")), true),
        (seen("b"), true),
        (seen("c"), false),
        (sequential("c/"), true),
        (sequential("d"), false),
        (delete(between("b", "d"), false), true),
        (delete(between("b", "d"), true), false),
        (delete(between("b", "c"), true), true),
        (delete(Keys::Range { start: "b".into(), end: None }, false), false),
        (txn(compared(one("a")), vec![put("b", "1")], vec![]), true),
        (txn(compared(one("d")), vec![put("b", "1")], vec![]), false),
        (txn(vec![], vec![put("b", "1")], vec![put("d", "1")]), false),
        (txn(vec![], vec![nested(put("b", "1"))], vec![]), true),
        (txn(vec![], vec![nested(put("a", "1"))], vec![]), false),
        (Action::Compact(Revision(2)), false),
        (Action::Grant { id: Some(LeaseId(7)), ttl_ms: 5000 }, true),
        (Action::Auth(AuthChange::Disable), false),
        (Action::OpenSession, true),
    ];
    for (action, expected) in table {
        assert_eq!(allowed(&mut fed, ALICE, action.clone()), expected, "{action:?}");
        let nothing_needed = matches!(action, Action::Grant { .. } | Action::OpenSession);
        assert_eq!(allowed(&mut fed, "bob", action.clone()), nothing_needed, "{action:?}");
        assert!(!allowed(&mut fed, "nobody", action.clone()), "{action:?}");
        let authority = action != Action::Auth(AuthChange::Disable);
        assert!(!authority || allowed(&mut fed, ROOT, action));
    }
}

#[test]
fn nobody_ends_a_lease_whose_keys_it_could_not_delete() {
    let mut fed = Fed::in_memory();
    fill(&mut fed);
    for id in [1, 2] {
        assert!(allowed(&mut fed, ALICE, Action::Grant { id: Some(LeaseId(id)), ttl_ms: 5000 }));
    }
    let leased =
        |key: &'static str, id| Action::Op(Op::Put(Put::new(key, "1").with_lease(LeaseId(id))));
    assert!(allowed(&mut fed, ALICE, leased("b", 1)) && allowed(&mut fed, ALICE, leased("c", 1)));
    assert!(allowed(&mut fed, ALICE, leased("x", 1)));
    assert!(allowed(&mut fed, ROOT, leased("b1", 2)) && allowed(&mut fed, ROOT, leased("e", 2)));
    // Somebody else's key hangs on it.
    assert!(!allowed(&mut fed, ALICE, leased("b", 2)));
    assert!(!allowed(&mut fed, ALICE, Action::Revoke(LeaseId(2))));
    assert!(allowed(&mut fed, ALICE, Action::Revoke(LeaseId(1))));
    assert_eq!((fed.value("b"), fed.value("e")), (None, Some("1".into())));
}

#[test]
fn a_command_does_not_run_once_users_and_roles_have_changed() {
    let mut fed = Fed::in_memory();
    let revision = fill(&mut fed);
    assert_eq!(fed.run(Action::Op(put("b", "1"))), Err(AuthError::UserEmpty.into()));
    let write = |revision| as_user(ALICE, revision, Action::Op(put("b", "1")));
    fed.run(write(revision)).unwrap();
    // Let in before, in the log after it.
    let keys = between("b", "d");
    let next = change(&mut fed, AuthChange::RevokePermission { role: "writers".into(), keys });
    let next = next.unwrap();
    assert_eq!(next, revision + 1);
    assert_eq!(fed.run(write(revision)), Err(AuthError::OldRevision.into()));
    assert_eq!(fed.run(write(next + 1)), Err(AuthError::OldRevision.into()));
    assert_eq!(fed.run(write(next)), Err(AuthError::Denied.into()));
    // Time goes on whoever may do what.
    fed.run(Action::Advance(Advance::default())).unwrap();
    let twice = Action::As(Authority::Cluster, Box::new(write(next)));
    assert!(matches!(fed.run(twice), Err(KvError::Malformed(_))));
    change(&mut fed, AuthChange::Disable).unwrap();
    fed.run(Action::Op(put("b", "2"))).unwrap();
}

/// What a session keeps may hold what others may not read.
#[test]
fn a_session_is_its_users() {
    let mut fed = Fed::in_memory();
    let before = fed.open_session();
    let revision = fill(&mut fed);
    let open = |fed: &mut Fed, name| match fed.run(as_user(name, revision, Action::OpenSession)) {
        Ok(ActionReply::Session(session)) => session,
        other => panic!("{other:?}"),
    };
    let of_root = open(&mut fed, ROOT);
    let request = |session| Some(RequestId { session, seq: 1, unanswered_from: 1 });
    let take = Action::Op(Op::Delete { keys: one("x"), prev_kv: true });
    fed.run(as_user(ROOT, revision, Action::Op(put("x", "secret")))).unwrap();
    let taken = fed.command(request(of_root), as_user(ROOT, revision, take.clone()));
    assert_eq!(fed.command(request(of_root), as_user(ROOT, revision, take.clone())), taken);
    for session in [of_root, before] {
        let stolen = fed.command(request(session), as_user(ALICE, revision, take.clone()));
        assert_eq!(stolen, Err(KvError::SessionUnknown(session)));
    }
    // A door has one session for all.
    let authority = Authority::User { name: ALICE.into(), revision, shared_session: true };
    let shared = Action::As(authority, Box::new(take.clone()));
    assert!(fed.command(request(before), shared).is_ok());
    // It stays so in a snapshot.
    let mut copy = Fed { store: restored(&fed.store).unwrap(), log: fed.log };
    assert_eq!(copy.command(request(of_root), as_user(ROOT, revision, take.clone())), taken);
    let stolen = copy.command(request(of_root), as_user(ALICE, revision, take));
    assert_eq!(stolen, Err(KvError::SessionUnknown(of_root)));
}

#[test]
fn what_nobody_could_undo_is_refused() {
    let mut fed = Fed::in_memory();
    let enable = || AuthChange::Enable { secret: Secret::default() };
    let user = |user: &str| AuthChange::AddUser { user: user.into(), password: hashed() };
    let grant =
        |user: &str, role: &str| AuthChange::GrantRole { user: user.into(), role: role.into() };
    let mut run = |what: AuthChange| change(&mut fed, what);
    assert_eq!(run(enable()), Err(AuthError::RootUserMissing));
    assert_eq!(run(user("")), Err(AuthError::UserEmpty));
    assert_eq!(run(user(&"u".repeat(257))), Err(AuthError::TooLarge));
    assert_eq!(run(user(ROOT)), Ok(2));
    assert_eq!(run(user(ROOT)), Err(AuthError::UserExists));
    assert_eq!(run(enable()), Err(AuthError::RootRoleMissing));
    assert_eq!(run(grant(ROOT, "none")), Err(AuthError::RoleNotFound));
    assert_eq!(run(grant("none", ROOT)), Err(AuthError::UserNotFound));
    assert_eq!(run(grant(ROOT, ROOT)), Ok(3));
    assert_eq!(run(grant(ROOT, ROOT)), Ok(3), "nothing is new");
    assert_eq!(run(AuthChange::AddRole { role: ROOT.into() }), Ok(4));
    assert_eq!(run(enable()), Ok(4));
    assert_eq!(run(enable()), Ok(4));
    for last in [
        AuthChange::DeleteUser { user: ROOT.into() },
        AuthChange::DeleteRole { role: ROOT.into() },
        AuthChange::RevokeRole { user: ROOT.into(), role: ROOT.into() },
    ] {
        assert_eq!(run(last), Err(AuthError::InvalidManagement));
    }
    let role = || "r".to_owned();
    assert_eq!(run(AuthChange::AddRole { role: "".into() }), Err(AuthError::RoleEmpty));
    assert_eq!(run(AuthChange::AddRole { role: role() }), Ok(5));
    assert_eq!(run(AuthChange::AddRole { role: role() }), Err(AuthError::RoleExists));
    let user = || ROOT.to_owned();
    let revoke = AuthChange::RevokeRole { user: user(), role: role() };
    assert_eq!(run(revoke), Err(AuthError::RoleNotGranted));
    let take = AuthChange::RevokePermission { role: role(), keys: one("a") };
    assert_eq!(run(take), Err(AuthError::PermissionNotGranted));
    let password = Password::Plain("never in the log".into());
    let plain = AuthChange::ChangePassword { user: user(), password };
    assert_eq!(run(plain), Err(AuthError::InvalidManagement));
    for keys in [between("b", "a"), one("")] {
        let found = permit(&mut fed, "r", Access::Read, keys);
        assert_eq!(found, Err(AuthError::InvalidManagement));
    }
}

#[test]
fn all_of_it_together_is_bounded() {
    let mut fed = Fed::in_memory();
    change(&mut fed, AuthChange::AddRole { role: "r".into() }).unwrap();
    let keys = |number: u32| one(&format!("{number:0>30000}"));
    let grant = |fed: &mut Fed, number| permit(fed, "r", Access::Read, keys(number));
    let refused = (0..100).find_map(|number| grant(&mut fed, number).err());
    assert_eq!(refused, Some(AuthError::TooLarge));
    let role = "r".into();
    change(&mut fed, AuthChange::RevokePermission { role, keys: keys(0) }).unwrap();
    grant(&mut fed, 101).unwrap();
    assert!(contents(&fed.store).len() < 2 * AUTH_BYTES_MAX);
}

#[test]
fn users_and_roles_survive_restart_and_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let mut fed = Fed::at(&path);
    fed.put("b", "0");
    fed.checkpoint();
    fill(&mut fed);
    fed.checkpoint();
    let keys = between("b", "d");
    change(&mut fed, AuthChange::RevokePermission { role: "writers".into(), keys }).unwrap();
    fed.checkpoint();
    // What the log brings after it.
    permit(&mut fed, "writers", Access::Write, one("b")).unwrap();
    let mut fed = fed.crash(&path);
    let expected = replayed(&fed.log);
    assert_eq!(fed.store.summary(), expected.summary());
    assert!(fed.store.summary().auth_enabled);
    assert!(allowed(&mut fed, ALICE, Action::Op(put("b", "1"))));
    assert!(!allowed(&mut fed, ALICE, Action::Op(put("b1", "1"))));
    fed.checkpoint();
    let mut fed = fed.crash(&path);
    assert!(contents(&restored(&fed.store).unwrap()) == contents(&replayed(&fed.log)));
    assert!(allowed(&mut fed, ALICE, Action::Op(put("b", "2"))));
    // Into a file, and from there.
    let other = directory.path().join("other");
    fed.checkpoint();
    let snapshot = bytes_of(fed.store.snapshot().unwrap()).1;
    let info = BackupInfo::read(Cursor::new(snapshot)).unwrap();
    assert_eq!(info.version.0, 4);
    let mut store = KvStore::open(&other).unwrap();
    store.restore(fed.store.snapshot().unwrap()).unwrap();
    drop(store);
    let mut copy = Fed { store: KvStore::open(&other).unwrap(), log: fed.log };
    assert!(allowed(&mut copy, ALICE, Action::Op(put("b", "3"))));
    assert!(!allowed(&mut copy, ALICE, Action::Op(put("c", "3"))));
}

#[test]
fn a_snapshot_with_other_users_is_damaged() {
    let mut fed = Fed::in_memory();
    fill(&mut fed);
    let snapshot = bytes_of(fed.store.snapshot().unwrap()).1;
    let at = snapshot.windows(5).rposition(|bytes| bytes == ALICE.as_bytes()).unwrap();
    let mut other = snapshot.clone();
    other[at] = b'A';
    for bytes in [other, snapshot[..at].to_vec()] {
        BackupInfo::read(Cursor::new(bytes)).unwrap_err();
    }
}

/// Nothing of it is in files, snapshots or hashes of a store that never had users.
#[test]
fn without_users_nothing_is_different() {
    let mut fed = Fed::in_memory();
    fed.put("a", "1");
    let (hash, bytes) = (fed.hash(), contents(&fed.store));
    assert!(bytes[8] < 4, "the version of before");
    let refused = fed.run(Action::Auth(AuthChange::DeleteUser { user: "none".into() }));
    assert_eq!(refused, Err(AuthError::UserNotFound.into()));
    assert_ne!(fed.hash(), hash, "the entry itself counts");
    assert!(contents(&fed.store)[8] < 4);
}

/// A member with other users is found.
#[test]
fn users_are_in_the_hash_and_in_the_roll() {
    let roll = |fed: &Fed| {
        let part = RollPart { of: Roll::Single, start: 0, end: None, since: None };
        let query = raft_kv::codec::encode(&Query::Roll(part));
        let reply = fed.store.query(&query);
        raft_kv::codec::decode::<RollAnswer>(&reply).unwrap().unwrap()
    };
    let of = |user: &str| {
        let mut fed = Fed::in_memory();
        change(&mut fed, AuthChange::AddUser { user: user.into(), password: hashed() }).unwrap();
        fed
    };
    assert!(roll(&Fed::in_memory()).entries.is_empty());
    let [one, same, other] = ["a", "a", "b"].map(of);
    assert_eq!((one.hash(), roll(&one)), (same.hash(), roll(&same)));
    assert_ne!(one.hash(), other.hash());
    assert_ne!(roll(&one).entries, roll(&other).entries);
}
