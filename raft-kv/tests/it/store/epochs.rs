//! A new history: what a cluster begins with that was made of what survived of another.

use super::support::{Fed, bytes_of, contents, one, put_bytes, replayed, restored, snapshot_of};
use bytes::Bytes;
use raft_core::state_machine::StateMachine;
use raft_core::types::{Change, Index, Member, Membership, NodeId, Payload, Version};
use raft_kv::api::*;
use raft_kv::codec;
use raft_kv::store::{BackupInfo, HISTORY_REVISIONS, KvStore};
use std::io::Cursor;

fn founded() -> Membership {
    Membership::of_voters([(NodeId(1), Member::new("a:1"))].into())
}

fn refounded() -> Membership {
    founded().recovered(NodeId(1), Member::new("b:1"))
}

fn member(fed: &mut Fed, membership: Membership) {
    fed.entry(Payload::Membership(membership.into()));
}

fn remaining(store: &KvStore, id: LeaseId) -> LeaseStatus {
    let query = codec::encode(&Query::Lease { id, keys: true });
    codec::decode::<LeaseAnswer>(&store.query(&query)).unwrap().expect("it lives")
}

/// A cluster with some history, a session and a lease that has run for a while.
fn lived(mut fed: Fed) -> (Fed, SessionId, LeaseId) {
    member(&mut fed, founded());
    fed.put("a", "1");
    fed.put("a", "2");
    fed.put("b", "1");
    fed.delete(one("b"));
    let id = LeaseId(7);
    fed.run(Action::Grant { id: Some(id), ttl_ms: 60_000 }).unwrap();
    fed.op(Op::Put(Put::new("held", "1").with_lease(id))).unwrap();
    let seen = Index(fed.log.len() as u64);
    for time_ms in [1_000, 31_000] {
        let since = Index(fed.store.summary().stamped.0);
        let advance = Advance { time_ms, seen, since, ..Advance::default() };
        fed.run(Action::Advance(advance)).unwrap();
    }
    assert_eq!(remaining(&fed.store, id).remaining_ms, 30_000);
    let session = fed.open_session();
    (fed, session, id)
}

fn begins_anew(fed: &mut Fed, session: SessionId, lease: LeaseId) {
    let old = fed.store.summary().revision;
    member(fed, refounded());
    let summary = fed.store.summary();
    assert_eq!(summary.revision.0, old.0 + HISTORY_REVISIONS);
    assert_eq!((summary.compacted, summary.sessions, summary.leases), (summary.revision, 0, 1));
    assert_eq!(fed.value("a"), Some("2".into()));
    for revision in [1, old.0, summary.revision.0 - 1] {
        let range = Range { revision: Some(Revision(revision)), ..Range::of(Keys::all()) };
        let refused = fed.read(range).unwrap_err();
        assert!(matches!(refused, KvError::Compacted { .. }), "{revision}: {refused:?}");
    }
    let now = Range { revision: Some(summary.revision), ..Range::of(Keys::all()) };
    assert_eq!(fed.read(now).unwrap().kvs.len(), 2);
    let request = RequestId { session, seq: 1, unanswered_from: 1 };
    let refused = fed.command(Some(request), Action::Op(put_bytes("c", Bytes::new())));
    assert_eq!(refused, Err(KvError::SessionUnknown(session)));
    // As if it was granted now.
    let status = remaining(&fed.store, lease);
    assert_eq!((status.remaining_ms, &status.keys[..]), (60_000, &[Bytes::from("held")][..]));
    assert_eq!(fed.put("c", "1"), summary.revision.0 + 1);
}

#[test]
fn the_revision_leaps_and_everything_before_is_compacted() {
    let (mut fed, session, lease) = lived(Fed::in_memory());
    begins_anew(&mut fed, session, lease);
    assert_eq!(replayed(&fed.log).summary(), fed.store.summary());
    // It happens once for each epoch, whatever else becomes of the members.
    let revision = fed.store.summary().revision.0;
    let readdress = Change::Readdress { node: NodeId(1), address: "c:1".into() };
    member(&mut fed, refounded().changed(&[readdress]).unwrap());
    assert_eq!(fed.store.summary().revision.0, revision);
    member(&mut fed, refounded().recovered(NodeId(1), Member::new("d:1")));
    assert_eq!(fed.store.summary().revision.0, revision + HISTORY_REVISIONS);
}

#[test]
fn it_is_the_same_after_a_checkpoint_a_crash_or_a_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let (mut fed, session, lease) = lived(Fed::at(&path));
    fed.checkpoint();
    begins_anew(&mut fed, session, lease);
    let mut fed = fed.crash(&path);
    assert_eq!(fed.store.summary(), replayed(&fed.log).summary());
    fed.checkpoint();
    let fed = fed.crash(&path);
    assert_eq!(fed.store.summary(), replayed(&fed.log).summary());
    let (meta, bytes) = bytes_of(fed.store.snapshot().unwrap());
    let mut other = KvStore::in_memory();
    other.restore(snapshot_of(&meta, &bytes)).unwrap();
    assert_eq!(other.summary(), fed.store.summary());
}

/// Logs of before it are read as they were.
#[test]
fn none_began_before_version_3() {
    let mut fed = Fed::in_memory();
    let older = |membership: Membership| membership.upgraded(Version(2));
    member(&mut fed, older(founded()));
    fed.put("a", "1");
    let revision = fed.store.summary().revision;
    member(&mut fed, older(refounded()));
    assert_eq!(fed.store.summary().revision, revision);
    // Nor does it when the program is replaced.
    member(&mut fed, refounded());
    assert_eq!((fed.store.summary().revision, fed.value("a")), (revision, Some("1".into())));
}

/// Somebody who still has a session of the other cluster is refused, whatever is opened here: the
/// answers of another's requests are not for him.
#[test]
fn no_session_has_an_id_that_the_other_history_may_give_out() {
    let (mut old, ..) = lived(Fed::in_memory());
    let mut new = Fed { store: replayed(&old.log), log: old.log.clone() };
    old.entry(Payload::Noop);
    member(&mut new, refounded());
    let (theirs, ours) = (old.open_session(), new.open_session());
    let index = new.log.len() as u64;
    assert_eq!(theirs.0, index);
    assert_ne!(ours, theirs);
    let request = |session| Some(RequestId { session, seq: 1, unanswered_from: 1 });
    let put = || Action::Op(put_bytes("c", Bytes::new()));
    assert_eq!(new.command(request(theirs), put()), Err(KvError::SessionUnknown(theirs)));
    new.command(request(ours), put()).unwrap();
    // It is a session like any other.
    let other = new.open_session();
    let copy = restored(&new.store).unwrap();
    let mut copy = Fed { store: copy, log: new.log.clone() };
    assert_eq!(copy.command(request(ours), put()), new.command(request(ours), put()));
    copy.command(request(other), put()).unwrap();
    assert_eq!(contents(&replayed(&copy.log)), contents(&copy.store));
    // Epochs of before have changed nothing.
    let mut fed = Fed::in_memory();
    member(&mut fed, founded().upgraded(Version(2)));
    member(&mut fed, refounded().upgraded(Version(2)));
    assert_eq!(fed.open_session(), SessionId(3));
}

/// Two clusters are made of one backup, and the first thing that happens in both is alike: who
/// holds a lock or a lease in one holds nothing in the other.
#[test]
fn two_histories_of_one_backup_give_out_other_ids() {
    /// Milliseconds since 1970, as restores have it.
    const EPOCH: u64 = 1_790_000_000_000;
    let (backup, ..) = lived(Fed::in_memory());
    let members = || [(NodeId(1), Member::new("b:1"))].into();
    // Also of epochs that are alike in what may be taken of them alone.
    for other in [EPOCH + 1, EPOCH + (1 << 16), EPOCH + (1 << 32), EPOCH << 8] {
        let [mut one, mut two] = [EPOCH, other].map(|epoch| {
            let log = backup.log.clone();
            let mut fed = Fed { store: replayed(&log), log };
            member(&mut fed, founded().refounded(members(), epoch));
            fed
        });
        assert_eq!(one.store.summary().revision, two.store.summary().revision);
        for _ in 0..100 {
            let index_bits = |id: SessionId, other: SessionId| (id.0 ^ other.0) >> 40 == 0;
            let sessions = (one.open_session(), two.open_session());
            assert!(!index_bits(sessions.0, sessions.1), "{sessions:?}");
        }
        let [held, wanted] = [&mut one, &mut two].map(|fed| {
            let granted = fed.run(Action::Grant { id: None, ttl_ms: 60_000 }).unwrap();
            let ActionReply::Granted { id, .. } = granted else { panic!("{granted:?}") };
            let key = Bytes::from(format!("locks/a/{id}"));
            let put = Put::new(key.clone(), "").with_lease(id);
            fed.op(Op::Put(put)).unwrap();
            (id, Fence { key, token: fed.store.summary().revision })
        });
        assert_ne!(held.0, wanted.0);
        assert_eq!(held.1.token, wanted.1.token, "the tokens tell nothing");
        let fenced = |fence: Fence| {
            let action = Action::Op(put_bytes("c", Bytes::new()));
            codec::encode(&Command { request: None, fence: Some(fence), action })
        };
        let (there, here) = (fenced(held.1), fenced(wanted.1.clone()));
        let mut write =
            |command| codec::decode::<CommandReply>(&two.entry(Payload::Command(command))).unwrap();
        let refused = KvError::Fenced { token: wanted.1.token };
        assert_eq!(write(there), Err(refused));
        write(here).unwrap();
        let missing = Action::Revoke(held.0);
        assert_eq!(two.run(missing), Err(KvError::LeaseNotFound(held.0)));
    }
}

/// The hash begins anew where versions do, so that no difference between them is taken for one
/// between members.
#[test]
fn the_hash_begins_anew_with_a_version() {
    let hash = |values: &[&str]| {
        let mut fed = Fed::in_memory();
        member(&mut fed, founded().upgraded(Version(2)));
        for value in values {
            fed.put("a", value);
        }
        let before = fed.hash();
        member(&mut fed, founded());
        (before, fed.hash())
    };
    let (one, other) = (hash(&["1"]), hash(&["2"]));
    assert_ne!(one.0, other.0);
    assert_eq!(one.1, other.1);
}

#[test]
fn a_backup_says_what_is_in_it_and_whether_it_is_whole() {
    let (fed, ..) = lived(Fed::in_memory());
    let (meta, bytes) = bytes_of(fed.store.snapshot().unwrap());
    let read = |bytes: Vec<u8>| BackupInfo::read(Cursor::new(bytes));
    let (info, summary) = (read(bytes.clone()).unwrap(), fed.store.summary());
    assert_eq!(info.meta, meta);
    assert_eq!((info.revision, info.keys, info.leases), (summary.revision, summary.keys, 1));
    assert_eq!((info.state_hash, info.version), (summary.state_hash, Version::CURRENT));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(read(damaged).is_err(), "a flipped bit in byte {at} of {}", bytes.len());
        assert!(read(bytes[..at].to_vec()).is_err(), "cut at {at}");
    }
    assert!(read([&bytes[..], b"more"].concat()).is_err());
}
