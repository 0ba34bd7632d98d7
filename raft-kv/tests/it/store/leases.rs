//! Leases, fences and the end of sessions, as the log tells what time it is.

use super::support::{Fed, contents, one, put, replayed, restored};
use raft_core::state_machine::StateMachine;
use raft_core::types::{Index, Payload};
use raft_kv::api::*;
use raft_kv::codec;
use raft_kv::store::{KvStore, SESSION_IDLE_MS};

const A: LeaseId = LeaseId(0xa);
const B: LeaseId = LeaseId(0xb);
const TTL_MS: u64 = 10_000;

fn query<T: serde::de::DeserializeOwned>(store: &KvStore, query: &Query) -> T {
    codec::decode(&store.query(&codec::encode(query))).unwrap()
}

fn with(key: &str, lease: LeaseId) -> Put {
    Put::new(key.to_owned(), "ephemeral").with_lease(lease)
}

impl Fed {
    fn attach(&mut self, key: &str, lease: LeaseId) -> u64 {
        self.op(Op::Put(with(key, lease))).unwrap().0
    }

    fn keys_of(&self, lease: LeaseId) -> Vec<String> {
        let status = self.lease(lease).unwrap();
        assert_eq!(status.keys_count, status.keys.len() as u64);
        status.keys.iter().map(|key| String::from_utf8(key.to_vec()).unwrap()).collect()
    }

    fn grant(&mut self, id: LeaseId) {
        let granted = Ok(ActionReply::Granted { id, ttl_ms: TTL_MS });
        assert_eq!(self.run(Action::Grant { id: Some(id), ttl_ms: TTL_MS }), granted);
    }

    fn seen(&self) -> Index {
        self.store.applied().last.index
    }

    /// It is `time_ms` now, says a leader that has seen everything; the renewals' answers, and
    /// whether more is due.
    fn advance(&mut self, time_ms: u64, renewed: &[LeaseId]) -> (Vec<u64>, bool) {
        let (seen, since) = (self.seen(), self.store.summary().stamped);
        self.stamp(Advance { time_ms, seen, renewed: renewed.into(), since }).unwrap()
    }

    fn stamp(&mut self, advance: Advance) -> Result<(Vec<u64>, bool), KvError> {
        match self.run(Action::Advance(advance))? {
            ActionReply::Advanced { ttls_ms, more } => Ok((ttls_ms, more)),
            other => panic!("{other:?}"),
        }
    }

    fn lease(&self, id: LeaseId) -> LeaseAnswer {
        query(&self.store, &Query::Lease { id, keys: true })
    }

    fn leases(&self) -> Vec<LeaseId> {
        query(&self.store, &Query::Leases)
    }

    fn remaining(&self, id: LeaseId) -> Option<u64> {
        self.lease(id).map(|lease| lease.remaining_ms)
    }

    fn fenced(&mut self, request: Option<RequestId>, key: &str, token: u64) -> CommandReply {
        let fence = Some(Fence { key: key.to_owned().into(), token: Revision(token) });
        let action = Action::Op(put("guarded", "by the lock"));
        let bytes = codec::encode(&Command { request, fence, action });
        codec::decode(&self.entry(Payload::Command(bytes))).unwrap()
    }

    /// Everything follows from the log, whatever a store was loaded from.
    fn check(&self) {
        let fresh = replayed(&self.log);
        assert_eq!(self.store.summary(), fresh.summary());
        assert!(contents(&restored(&fresh).unwrap()) == contents(&fresh));
    }
}

fn id(session: SessionId, seq: u64) -> Option<RequestId> {
    Some(RequestId { session, seq, unanswered_from: 1 })
}

#[test]
fn a_lease_begins_to_run_when_a_leader_has_seen_it_and_ends_on_time() {
    let mut fed = Fed::in_memory();
    fed.advance(70_000, &[]);
    let before = fed.seen();
    fed.grant(A);
    let since = fed.store.summary().stamped;
    // The leader had looked at its clock before it applied the grant.
    fed.stamp(Advance { time_ms: 75_000, seen: before, renewed: vec![A], since }).unwrap();
    assert_eq!(fed.remaining(A), Some(TTL_MS));
    fed.advance(76_000, &[]);
    assert_eq!(fed.remaining(A), Some(TTL_MS));
    // Stamps are cut to milliseconds: at the deadline there may be some of it left.
    fed.advance(86_000, &[]);
    assert_eq!((fed.remaining(A), fed.leases()), (Some(0), vec![A]));
    assert_eq!(fed.advance(86_001, &[]), (vec![], false));
    assert_eq!((fed.lease(A), fed.leases()), (None, vec![]));
    fed.check();
}

#[test]
fn renewals_count_from_their_stamp() {
    let mut fed = Fed::in_memory();
    fed.grant(A);
    fed.grant(B);
    fed.advance(0, &[]);
    assert_eq!(fed.advance(9_999, &[B, LeaseId(7)]), (vec![TTL_MS, 0], false));
    assert_eq!((fed.remaining(A), fed.remaining(B)), (Some(1), Some(TTL_MS)));
    fed.advance(19_998, &[]);
    assert_eq!(fed.leases(), [B]);
    // Its time was over, but it had not ended yet: whoever asked in time keeps it.
    assert_eq!(fed.advance(30_000, &[B]).0, [TTL_MS]);
    fed.advance(39_999, &[]);
    assert_eq!(fed.remaining(B), Some(1));
    fed.check();
}

/// Two leaders in turn measure from different stamps: what the first has measured, and says too
/// late, would take time from leases that the second has granted.
#[test]
fn a_stamp_measured_from_another_than_the_last_has_no_effect() {
    let mut fed = Fed::in_memory();
    fed.advance(1_000, &[]);
    let stale = fed.store.summary().stamped;
    // It stood still meanwhile: the time alone does not tell the stamps apart.
    fed.advance(1_000, &[]);
    fed.grant(A);
    fed.advance(1_000, &[]);
    let (seen, before) = (fed.seen(), fed.store.summary());
    let late = Advance { time_ms: 60_000, seen, renewed: vec![A], since: stale };
    assert!(matches!(fed.stamp(late), Err(KvError::Malformed(_))));
    let after = fed.store.summary();
    assert_eq!((after.time_ms, after.stamped), (before.time_ms, before.stamped));
    assert_ne!(after.state_hash, before.state_hash);
    assert_eq!(fed.remaining(A), Some(TTL_MS));
}

#[test]
fn time_never_goes_back() {
    let mut fed = Fed::in_memory();
    fed.advance(50_000, &[]);
    fed.grant(A);
    fed.advance(20_000, &[]);
    assert_eq!(fed.store.summary().time_ms, 50_000);
    fed.advance(59_999, &[]);
    assert_eq!(fed.remaining(A), Some(1));
}

#[test]
fn what_a_lease_may_be() {
    let mut fed = Fed::in_memory();
    let mut grant = |id: Option<u64>, ttl_ms| {
        fed.run(Action::Grant { id: id.map(LeaseId), ttl_ms }).map(|reply| match reply {
            ActionReply::Granted { id, ttl_ms } => (id, ttl_ms),
            other => panic!("{other:?}"),
        })
    };
    for id in [0, 1 << 63, u64::MAX] {
        assert!(matches!(grant(Some(id), TTL_MS), Err(KvError::Malformed(_))));
    }
    let too_long =
        KvError::LeaseTooLong { ttl_ms: LEASE_TTL_MAX_MS + 1, limit_ms: LEASE_TTL_MAX_MS };
    assert_eq!(
        too_long.to_string(),
        "a lease of 104166d 16h 1ms, over the limit of 104166d 16h",
        "times as they are written everywhere"
    );
    assert_eq!(grant(None, LEASE_TTL_MAX_MS + 1), Err(too_long));
    let highest = LeaseId((1 << 63) - 1);
    assert_eq!(grant(Some(highest.0), LEASE_TTL_MAX_MS), Ok((highest, LEASE_TTL_MAX_MS)));
    assert_eq!(grant(Some(highest.0), TTL_MS), Err(KvError::LeaseExists(highest)));
    // Too short is raised, and told.
    let (first, ttl_ms) = grant(None, 0).unwrap();
    let (second, _) = grant(None, TTL_MS).unwrap();
    assert_eq!(ttl_ms, LEASE_TTL_MIN_MS);
    assert!(first != second && [first, second].iter().all(|id| (1..1 << 63).contains(&id.0)));
    let unknown = LeaseId(77);
    assert_eq!(fed.run(Action::Revoke(unknown)), Err(KvError::LeaseNotFound(unknown)));
    let mut expected = vec![first, second, highest];
    expected.sort_unstable();
    assert_eq!(fed.leases(), expected);
    fed.check();
}

#[test]
fn leases_are_granted_and_revoked_exactly_once_within_a_session() {
    let mut fed = Fed::in_memory();
    let session = fed.open_session();
    let grant = || Action::Grant { id: None, ttl_ms: TTL_MS };
    let granted = fed.command(id(session, 1), grant());
    assert_eq!(fed.command(id(session, 1), grant()), granted);
    let [lease] = fed.leases()[..] else { panic!("one lease") };
    let revoked = fed.command(id(session, 2), Action::Revoke(lease));
    assert!(matches!(revoked, Ok(ActionReply::Revoked { deleted: 0, .. })), "{revoked:?}");
    assert_eq!(fed.command(id(session, 2), Action::Revoke(lease)), revoked);
    let time = Action::Advance(Advance::default());
    let advanced = fed.command(id(session, 3), time);
    assert!(matches!(advanced, Err(KvError::Malformed(_))), "{advanced:?}");
    fed.check();
}

/// A thousand in one entry, in the order of their deadlines; whoever is left can still be renewed.
#[test]
fn what_ends_in_one_entry_is_bounded() {
    let mut fed = Fed::in_memory();
    for lease in (1..=2_500).rev() {
        fed.grant(LeaseId(lease));
    }
    assert!(!fed.advance(0, &[]).1);
    assert!(fed.advance(TTL_MS + 1, &[LeaseId(1_500)]).1);
    assert_eq!(fed.leases().len(), 1_500);
    assert_eq!(fed.leases()[0], LeaseId(1_001));
    let kept = LeaseId(2_400);
    assert_eq!(fed.advance(TTL_MS + 1, &[kept]), (vec![TTL_MS], true));
    assert_eq!(fed.advance(TTL_MS + 1, &[]), (vec![], false));
    assert_eq!(fed.leases(), [LeaseId(1_500), kept]);
    fed.check();
}

#[test]
fn leases_survive_checkpoints_and_snapshots_with_the_time_they_have_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let mut fed = Fed::at(&path);
    fed.advance(100_000, &[]);
    let session = fed.open_session();
    for lease in [A, B, LeaseId(0xc)] {
        fed.grant(lease);
    }
    fed.checkpoint();
    fed.advance(101_000, &[]);
    fed.grant(LeaseId(0xd));
    fed.run(Action::Revoke(B)).unwrap();
    fed.checkpoint();
    fed.advance(102_000, &[LeaseId(0xc)]);
    fed.checkpoint();
    fed.advance(103_000, &[]);
    let mut fed = fed.crash(&path);
    let left = [0xa, 0xb, 0xc, 0xd].map(|id| fed.remaining(LeaseId(id)));
    assert_eq!(left, [Some(8_000), None, Some(9_000), Some(9_000)]);
    fed.checkpoint();
    let copy = restored(&fed.store).unwrap();
    assert!(contents(&copy) == contents(&replayed(&fed.log)));
    let mut copy = Fed { store: copy, log: fed.log };
    copy.advance(111_001, &[]);
    assert_eq!(copy.leases(), [LeaseId(0xc), LeaseId(0xd)]);
    copy.advance(180_000, &[]);
    copy.advance(180_000 + SESSION_IDLE_MS, &[]);
    let reply = copy.command(id(session, 1), Action::Op(put("a", "1")));
    assert_eq!(reply, Err(KvError::SessionUnknown(session)));
    copy.check();
}

#[test]
fn keys_go_with_their_lease_at_one_revision() {
    let mut fed = Fed::in_memory();
    fed.grant(A);
    fed.grant(B);
    fed.advance(1_000, &[]);
    for key in ["c", "a", "b", "moved", "freed", "deleted"] {
        fed.attach(key, A);
    }
    fed.attach("moved", B);
    fed.put("freed", "of any lease");
    fed.delete(one("deleted"));
    // It keeps the lease of what it replaces.
    let keep = Put { lease: Attach::Keep, ..Put::new("a", "2") };
    let before = fed.op(Op::Put(keep)).unwrap().0;
    assert_eq!((fed.keys_of(A), fed.keys_of(B)), (vec_of(["a", "b", "c"]), vec_of(["moved"])));
    fed.check();
    let revoked = fed.run(Action::Revoke(A));
    let revision = Revision(before + 1);
    assert_eq!(revoked, Ok(ActionReply::Revoked { revision, deleted: 3 }));
    let left = fed.read(Range::of(Keys::all())).unwrap();
    assert_eq!(left.kvs.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), [b"freed", b"moved"]);
    assert_eq!(left.revision, revision);
    // At the revision before, all of them are there.
    let then = Range { revision: Some(Revision(before)), ..Range::of(Keys::all()) };
    assert_eq!(fed.read(then).unwrap().kvs.len(), 5);

    // The end of a lease is a revision like any other.
    fed.advance(11_001, &[]);
    assert_eq!((fed.value("moved"), fed.store.summary().revision.0), (None, before + 2));
    fed.check();
}

fn vec_of<const N: usize>(keys: [&str; N]) -> Vec<String> {
    keys.map(String::from).to_vec()
}

#[test]
fn a_lease_that_ends_between_grant_and_write_takes_the_write_with_it() {
    let mut fed = Fed::in_memory();
    fed.grant(A);
    fed.advance(0, &[]);
    fed.advance(TTL_MS + 1, &[]);
    let late = KvError::LeaseNotFound(A);
    assert_eq!(fed.op(Op::Put(with("a", A))), Err(late.clone()));
    let success = vec![put("other", "1"), Op::Put(with("a", A))];
    assert_eq!(fed.txn(Txn { success, ..Txn::default() }), Err(late));
    assert_eq!((fed.value("a"), fed.value("other")), (None, None));
    // Granted anew, it is another lease: nothing of the first hangs on it.
    fed.grant(A);
    assert_eq!(fed.keys_of(A), vec_of([]));
    fed.check();
}

/// Leases end one by one, each at a revision of its own; one with many keys is the last of its
/// entry.
#[test]
fn what_is_deleted_in_one_entry_is_bounded() {
    let mut fed = Fed::in_memory();
    for lease in [A, B] {
        fed.grant(lease);
        for group in 0..100 {
            let keys = (0..100).map(|n| Op::Put(with(&format!("{lease}/{group}/{n}"), lease)));
            fed.txn(Txn { success: keys.collect(), ..Txn::default() }).unwrap();
        }
    }
    fed.grant(LeaseId(0xc));
    fed.advance(0, &[]);
    let before = fed.store.summary();
    assert!(fed.advance(TTL_MS + 1, &[]).1);
    let first = fed.store.summary();
    assert_eq!((first.keys, first.revision.0), (10_000, before.revision.0 + 1));
    assert!(fed.advance(TTL_MS + 1, &[]).1);
    let second = fed.store.summary();
    assert_eq!((second.keys, second.revision.0), (0, before.revision.0 + 2));
    assert!(!fed.advance(TTL_MS + 1, &[]).1);
    assert_eq!(fed.leases(), []);
    fed.check();
}

/// Which keys hang on a lease is told by the keys alone.
#[test]
fn keys_hang_on_their_leases_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let mut fed = Fed::at(&path);
    fed.grant(A);
    fed.advance(0, &[]);
    for key in ["a", "b", "c"] {
        fed.attach(key, A);
    }
    fed.put("b", "freed");
    fed.checkpoint();
    fed.delete(one("c"));
    let mut fed = fed.crash(&path);
    assert_eq!(fed.keys_of(A), ["a"]);
    fed.attach("d", A);
    fed.checkpoint();
    let mut copy = Fed { store: restored(&fed.store).unwrap(), log: fed.log };
    assert_eq!(copy.keys_of(A), ["a", "d"]);
    copy.advance(TTL_MS + 1, &[]);
    assert_eq!((copy.value("a"), copy.value("d")), (None, None));
    assert_eq!(copy.value("b").as_deref(), Some("freed"));
    copy.check();
}

/// The paused holder of a lock: its lease is over, and what it writes then is refused, whether or
/// not somebody else holds the lock by now.
#[test]
fn a_holder_that_wakes_up_after_its_lease_is_refused() {
    let mut fed = Fed::in_memory();
    fed.grant(A);
    fed.advance(0, &[]);
    let token = fed.attach("lock", A);
    assert!(fed.fenced(None, "lock", token).is_ok());
    fed.advance(TTL_MS + 1, &[]);
    let late = Err(KvError::Fenced { token: Revision(token) });
    assert_eq!(fed.fenced(None, "lock", token), late);
    fed.grant(B);
    let newer = fed.attach("lock", B);
    assert_eq!(fed.fenced(None, "lock", token), late);
    assert!(newer > token && fed.fenced(None, "lock", newer).is_ok());
    fed.check();
}

#[test]
fn a_session_unused_for_an_hour_is_dropped() {
    let mut fed = Fed::in_memory();
    let minute = |minutes: u64| minutes * 60_000;
    let set = || Action::Op(put("a", "1"));
    let unused = fed.open_session();
    fed.advance(minute(1), &[]);
    let used = fed.open_session();
    assert!(fed.command(id(unused, 1), set()).is_ok());
    for minutes in 2..=60 {
        fed.advance(minute(minutes), &[]);
    }
    assert!(fed.command(id(used, 1), set()).is_ok());
    assert_eq!(fed.store.summary().sessions, 2);
    // In the first minute it was used last; it had until the next stamp to be used.
    fed.advance(minute(61), &[]);
    assert_eq!(fed.store.summary().sessions, 2);
    fed.check();
    fed.advance(minute(62), &[]);
    assert_eq!(fed.store.summary().sessions, 1);
    assert_eq!(fed.command(id(unused, 2), set()), Err(KvError::SessionUnknown(unused)));
    assert!(fed.command(id(used, 2), set()).is_ok());
    fed.check();
}

/// What was done between two stamps may have been done just before the second.
#[test]
fn a_leap_of_time_takes_nothing_from_sessions_in_use() {
    let mut fed = Fed::in_memory();
    fed.advance(1_000, &[]);
    let session = fed.open_session();
    fed.advance(1_000 + 2 * SESSION_IDLE_MS, &[]);
    assert_eq!(fed.store.summary().sessions, 1);
    fed.advance(1_000 + 3 * SESSION_IDLE_MS, &[]);
    assert_eq!(fed.store.summary().sessions, 0);
    let reply = fed.command(id(session, 1), Action::Op(put("a", "1")));
    assert_eq!(reply, Err(KvError::SessionUnknown(session)));
    fed.check();
}

#[test]
fn a_fence_holds_as_long_as_the_lock_is_held() {
    let mut fed = Fed::in_memory();
    let session = fed.open_session();
    let token = fed.put("lock", "first");
    assert!(fed.fenced(None, "lock", token).is_ok());
    // The holder may write to the key itself.
    fed.put("lock", "first, still");
    assert!(fed.fenced(id(session, 1), "lock", token).is_ok());
    fed.delete(one("lock"));
    let late = Err(KvError::Fenced { token: Revision(token) });
    let before = fed.value("guarded");
    assert_eq!(fed.fenced(id(session, 2), "lock", token), late);
    let newer = fed.put("lock", "second");
    assert_eq!(fed.fenced(None, "lock", token), late);
    assert_eq!(fed.fenced(id(session, 2), "lock", token), late, "it was answered before");
    assert!(fed.fenced(None, "lock", newer).is_ok());
    for (key, token) in [("nobody's", 0), ("nobody's", newer), ("lock", 0)] {
        let refused = Err(KvError::Fenced { token: Revision(token) });
        assert_eq!(fed.fenced(None, key, token), refused);
    }
    assert_eq!(fed.value("guarded"), before);
    fed.check();
}
