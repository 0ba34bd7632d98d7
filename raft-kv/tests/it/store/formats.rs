//! Checkpoints and snapshots as every released version has written them, and which version those of
//! this one have.
//!
//! `MAKE_FIXTURES=dir cargo test -p raft-kv --test it fixtures_are_made` writes the fixtures of the
//! present version into `dir`.

use super::legacy;
use super::packed::{pack, unpack};
use super::support::{
    Fed, between, bytes_of, contents, membership, one, put, put_bytes, read, replayed, restored,
    snapshot_of,
};
use raft_core::log_store::StorageError;
use raft_core::state_machine::StateMachine;
use raft_core::types::{Change, Incarnation, Membership, NodeId, Payload, Version};
use raft_kv::api::*;
use raft_kv::codec;
use raft_kv::store::KvStore;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::{Path, PathBuf};
use std::{env, fs};
use xxhash_rust::xxh3::xxh3_64;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Name of the packed checkpoint file.
const CHECKPOINT: &str = "kv.redb.packed";
const SNAPSHOT: &str = "snapshot.bin";

/// The last version that has brought something to memberships.
const MEMBERSHIPS: Version = Version(3);
/// The version that has brought users and roles.
const USERS: Version = Version(4);
/// The version that has brought alarms.
const ALARMS: Version = Version(5);
/// The newest version of files and streams.
const NEWEST: Version = ALARMS;
/// An alarm that is raised in the snapshots, and one in the checkpoints.
const FULL: MemberAlarm = MemberAlarm { kind: AlarmKind::NoSpace, member: NodeId(9) };
const ROTTEN: MemberAlarm = MemberAlarm { kind: AlarmKind::Corrupt, member: NodeId(0) };

/// The membership of a version: with all that the version has.
fn membership_of(version: Version) -> Membership {
    let version = version.min(MEMBERSHIPS);
    let first = membership("a:1").upgraded(Version(1));
    if version == Version(1) {
        return first;
    }
    let survivor = first.recovered(NodeId(1), first.members()[&NodeId(1)].clone());
    let node = NodeId(2);
    let added = survivor.changed(&[Change::Add { node, address: "b:1".into(), promote: true }]);
    let bound = added.unwrap().bound(NodeId(1), Incarnation(7)).bound(node, Incarnation(300));
    let changes = [
        Change::Promote { node },
        Change::Prioritize { node, priority: 9 },
        Change::Remove { node: NodeId(1) },
    ];
    bound.changed(&changes).unwrap().upgraded(version)
}

/// The session that the second entry opens: since version 3 its id is salted with the history
/// epoch, 1.
fn session_of(version: Version) -> SessionId {
    let salt = if version.0 < 3 { 0 } else { xxh3_64(&1_u64.to_le_bytes()) };
    SessionId(salt ^ 2)
}

/// A log as a cluster of some version has it.
struct Filling<'a> {
    fed: &'a mut Fed,
    version: Version,
}

impl Filling<'_> {
    fn run(&mut self, request: Option<RequestId>, action: Action) {
        let command = if self.version < Version(3) {
            legacy::encode(request, action)
        } else {
            codec::encode(&Command { request, fence: None, action })
        };
        self.fed.entry(Payload::Command(command));
    }

    fn op(&mut self, op: Op) {
        self.run(None, Action::Op(op));
    }

    /// Users and roles, and what somebody does where they count.
    fn users(&mut self) {
        let name = |name: &str| name.to_owned();
        let (user, role) = (|| name("alice"), || name("readers"));
        let hash = "$2b$04$......................aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        let keys = || Keys::prefix("k");
        for change in [
            AuthChange::AddUser { user: name(ROOT), password: Password::Hashed(hash.into()) },
            AuthChange::GrantRole { user: name(ROOT), role: name(ROOT) },
            AuthChange::AddUser { user: user(), password: Password::None },
            AuthChange::AddRole { role: role() },
            AuthChange::GrantPermission {
                role: role(),
                permission: Permission { access: Access::ReadWrite, keys: keys() },
            },
            AuthChange::GrantRole { user: user(), role: role() },
            AuthChange::Enable { secret: Secret([7; 32]) },
        ] {
            self.run(None, Action::Auth(change));
        }
        let revision = self.fed.store.summary().auth_revision;
        let authority = Authority::User { name: user(), revision, shared_session: false };
        let by_alice = |action| Action::As(authority.clone(), Box::new(action));
        self.run(None, by_alice(Action::OpenSession));
        self.run(None, by_alice(Action::Op(put("k9", "hers"))));
    }

    /// The same where users count, of whom nobody is asked.
    fn run_anyway(&mut self, action: Action) {
        let counts = self.version >= USERS;
        let of_cluster = |action| Action::As(Authority::Cluster, Box::new(action));
        self.run(None, if counts { of_cluster(action) } else { action });
    }
}

/// What is in the snapshots.
fn fill(fed: &mut Fed, version: Version) {
    fed.entry(Payload::Membership(membership_of(version).into()));
    let mut filling = Filling { fed, version };
    filling.run(None, Action::OpenSession);
    for seq in 1..=5 {
        let session = session_of(version);
        let request = Some(RequestId { session, seq, unanswered_from: 2 });
        filling.run(request, Action::Op(put_bytes(&format!("k{seq}"), "value".into())));
    }
    filling.op(Op::Delete { keys: one("k2"), prev_kv: false });
    filling.op(put("k3", "again"));
    if version >= Version(3) {
        filling.run(None, Action::Grant { id: Some(LeaseId(7)), ttl_ms: 60_000 });
        filling.op(Op::Put(Put::new("leased", "1").with_lease(LeaseId(7))));
        filling.op(Op::Put(Put { sequential: true, ..Put::new("in turn/", "1") }));
        filling.run(None, Action::Compact(Revision(7)));
        let seen = filling.fed.store.applied().last.index;
        let advance = Advance { time_ms: 70_000, seen, ..Advance::default() };
        filling.run(None, Action::Advance(advance));
        // Its time has not begun to run.
        filling.run(None, Action::Grant { id: Some(LeaseId(8)), ttl_ms: 60_000 });
    }
    if version >= USERS {
        filling.users();
    }
    if version >= ALARMS {
        filling.run_anyway(Action::Alarm(AlarmChange::Raise(ROTTEN)));
        filling.run_anyway(Action::Alarm(AlarmChange::Clear(ROTTEN)));
        filling.run_anyway(Action::Alarm(AlarmChange::Raise(FULL)));
    }
}

/// What the second checkpoint adds.
fn fill_more(fed: &mut Fed, version: Version) {
    let mut filling = Filling { fed, version };
    if version >= ALARMS {
        filling.run_anyway(Action::Op(put("k5", "refused")));
        filling.run_anyway(Action::Alarm(AlarmChange::Clear(FULL)));
    }
    filling.run_anyway(Action::Op(put_bytes("large", vec![7; 100_000].into())));
    filling.run_anyway(Action::Op(Op::Delete { keys: one("k4"), prev_kv: false }));
    filling.run_anyway(Action::OpenSession);
    if version >= Version(3) {
        filling.run_anyway(Action::Revoke(LeaseId(8)));
    }
    if version >= ALARMS {
        filling.run_anyway(Action::Alarm(AlarmChange::Raise(ROTTEN)));
    }
}

fn folder(version: Version) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version.to_string())
}

/// The version in the header of a checkpoint file, behind its checksum.
fn version_of_file(path: &Path) -> u16 {
    let database = Database::open(path).unwrap();
    let meta = database.begin_read().unwrap().open_table(META).unwrap();
    let row = meta.get("checkpoint").unwrap().unwrap();
    u16::from_le_bytes(row.value()[8..10].try_into().unwrap())
}

/// The version of a snapshot, behind its magic.
fn version_of_stream(bytes: &[u8]) -> u16 {
    u16::from_le_bytes(bytes[8..10].try_into().unwrap())
}

/// Opens the checkpoint of `version`, which must hold what was written and nothing else, and goes
/// on in it.
fn a_checkpoint_is_read_and_written_on(version: Version) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    fs::write(&path, unpack(&fs::read(folder(version).join(CHECKPOINT)).unwrap())).unwrap();
    assert_eq!(version_of_file(&path), version.0);
    let mut expected = Fed::in_memory();
    fill(&mut expected, version);
    fill_more(&mut expected, version);

    let store = KvStore::open(&path).unwrap();
    assert_eq!(store.applied(), expected.store.applied());
    assert_eq!(store.summary(), expected.store.summary());
    assert!(contents(&restored(&store).unwrap()) == contents(&expected.store));
    let mut fed = Fed { store, log: expected.log };
    assert_eq!((fed.value("k5"), fed.value("k4")), (Some("value".into()), None));
    if version >= USERS {
        let refused = fed.run(Action::Op(put("k3", "by nobody")));
        assert_eq!(refused, Err(AuthError::UserEmpty.into()));
        Filling { fed: &mut fed, version }.run_anyway(Action::Auth(AuthChange::Disable));
    }
    if version >= ALARMS {
        let refused = fed.run(Action::Op(Op::Delete { keys: one("k3"), prev_kv: false }));
        assert_eq!(refused, Err(KvError::Alarmed(AlarmKind::Corrupt)));
        let cleared = fed.run(Action::Alarm(AlarmChange::Clear(ROTTEN)));
        assert_eq!(cleared, Ok(ActionReply::Alarm(true)));
    }

    let session = RequestId { session: session_of(version), seq: 3, unanswered_from: 2 };
    let again = fed.command(Some(session), Action::Op(put_bytes("k3", "run twice".into())));
    assert!(again.is_ok(), "the session remembers: {again:?}");
    assert_eq!(fed.value("k3"), Some("again".into()));
    fed.put("later", "1");
    fed.entry(Payload::Membership(membership_of(MEMBERSHIPS).into()));
    fed.checkpoint();
    fed.put("later", "2");
    let fed = fed.crash(&path);
    assert_eq!(fed.store.summary(), replayed(&fed.log).summary());
    let checkpointed = replayed(&fed.log[..fed.log.len() - 1]);
    assert!(contents(&restored(&fed.store).unwrap()) == contents(&checkpointed));
    drop(fed);
    assert_eq!(version_of_file(&path), version.max(MEMBERSHIPS).0);
}

/// What every later version must read, and what this one must still write. It pins the records, the
/// session rows, the header, the frames and, in the header, the state hash.
fn a_snapshot_is_read_and_written(version: Version) {
    let fixture = fs::read(folder(version).join(SNAPSHOT)).unwrap();
    assert_eq!(version_of_stream(&fixture), version.0);
    let mut fed = Fed::in_memory();
    fill(&mut fed, version);
    assert!(contents(&fed.store) == fixture, "the bytes of a snapshot have changed");
    let mut store = KvStore::in_memory();
    store.restore(snapshot_of(&fed.store.applied(), &fixture)).unwrap();
    assert_eq!(store.applied().membership, membership_of(version));
    assert_eq!(store.summary(), fed.store.summary());
    let range = Range { keys_only: true, ..Range::of(between("k", "l")) };
    assert_eq!(read(&store, range).unwrap().kvs.len(), if version < USERS { 3 } else { 4 });
}

#[test]
fn version_1_is_read_and_written() {
    a_checkpoint_is_read_and_written_on(Version(1));
    a_snapshot_is_read_and_written(Version(1));
}

#[test]
fn version_2_is_read_and_written() {
    a_checkpoint_is_read_and_written_on(Version(2));
    a_snapshot_is_read_and_written(Version(2));
}

#[test]
fn version_3_is_read_and_written() {
    a_checkpoint_is_read_and_written_on(Version(3));
    a_snapshot_is_read_and_written(Version(3));
}

#[test]
fn version_4_is_read_and_written() {
    a_checkpoint_is_read_and_written_on(Version(4));
    a_snapshot_is_read_and_written(Version(4));
}

#[test]
fn version_5_is_read_and_written() {
    a_checkpoint_is_read_and_written_on(Version(5));
    a_snapshot_is_read_and_written(Version(5));
}

#[test]
fn fixtures_are_made_on_request() {
    let Some(folder) = env::var_os("MAKE_FIXTURES") else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let mut fed = Fed::at(&path);
    fill(&mut fed, NEWEST);
    fed.checkpoint();
    let snapshot = bytes_of(fed.store.snapshot().unwrap()).1;
    fill_more(&mut fed, NEWEST);
    fed.checkpoint();
    drop(fed);
    let folder = Path::new(&folder);
    fs::write(folder.join(SNAPSHOT), snapshot).unwrap();
    fs::write(folder.join(CHECKPOINT), pack(&fs::read(&path).unwrap())).unwrap();
}

#[test]
fn a_membership_is_kept_whole() {
    let directory = tempfile::tempdir().unwrap();
    let [path, other_path] = ["a", "b"].map(|name| directory.path().join(name));
    let joint = membership_of(Version(2));
    assert!(joint.is_joint() && joint.epoch() == 1 && joint.priority(NodeId(2)) == 9);
    assert_ne!(joint.left().members().len(), joint.members().len(), "a member leaves");
    let mut fed = Fed::at(&path);
    fed.put("a", "1");
    fed.entry(Payload::Membership(joint.clone().into()));
    assert_eq!(fed.store.applied().membership, joint);
    assert_eq!(fed.checkpoint().membership, joint);
    fed.entry(Payload::Noop);
    let fed = fed.crash(&path);
    assert_eq!(fed.store.applied().membership, joint);
    let snapshot = fed.store.snapshot().unwrap();
    assert_eq!(snapshot.meta.membership, joint);
    let mut other = KvStore::open(&other_path).unwrap();
    other.restore(snapshot).unwrap();
    assert_eq!(other.applied().membership, joint);
    drop(other);
    let mut other = Fed { store: KvStore::open(&other_path).unwrap(), log: fed.log[..2].to_vec() };
    assert_eq!(other.store.applied().membership, joint);
    assert_eq!(restored(&other.store).unwrap().applied().membership, joint);
    // The state hash covers it, and it goes on from there.
    other.entry(Payload::Noop);
    assert_eq!(other.hash(), fed.hash());
    other.entry(Payload::Membership(joint.left().into()));
    assert_eq!(other.checkpoint().membership, joint.left());
}

#[test]
fn the_version_is_that_of_the_membership() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let mut fed = Fed::at(&path);
    fed.put("a", "1");
    for (version, membership) in [
        (1, Membership::default()),
        (1, membership_of(Version(1))),
        (2, membership_of(Version(2))),
        (2, membership_of(Version(2)).left()),
        (3, membership_of(Version(3))),
    ] {
        fed.entry(Payload::Membership(membership.into()));
        fed.checkpoint();
        let stream = bytes_of(fed.store.snapshot().unwrap()).1;
        assert_eq!(version_of_stream(&stream), version);
        assert_eq!(version_of_stream(&contents(&replayed(&fed.log))), version);
        let other = directory.path().join(format!("restored-{}", fed.log.len()));
        KvStore::open(&other).unwrap().restore(fed.store.snapshot().unwrap()).unwrap();
        assert_eq!(version_of_file(&other), version);
        let Fed { store, log } = fed;
        drop(store);
        assert_eq!(version_of_file(&path), version);
        fed = Fed { store: KvStore::open(&path).unwrap(), log };
    }
}

#[test]
fn a_checkpoint_of_a_newer_version_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let mut fed = Fed::at(&path);
    fill(&mut fed, Version::CURRENT);
    fed.checkpoint();
    drop(fed);
    // Users and roles, and alarms, have versions that no membership has.
    let newer = Version::CURRENT.0 + 3;
    // What follows its version only that version knows.
    let body = [&newer.to_le_bytes()[..], &[0xff; 40]].concat();
    let row = [&xxh3_64(&body).to_le_bytes()[..], &body].concat();
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("checkpoint", &row[..]).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let Err(error) = KvStore::open(&path) else { panic!("it was opened") };
    assert!(matches!(error, StorageError::Format(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("kv.redb: written by a newer version"), "{text}");
    assert!(text.contains(&format!("version {newer}, this one reads up to 5")), "{text}");
    let database = Database::open(&path).unwrap();
    let meta = database.begin_read().unwrap().open_table(META).unwrap();
    assert!(meta.get("checkpoint").unwrap().unwrap().value() == row);
    assert_eq!(meta.iter().unwrap().count(), 1);
}
