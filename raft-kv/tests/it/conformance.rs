//! The conformance kit of state machines.

use bytes::Bytes;
use raft_core::testing::state_machine::Check;
use raft_core::types::Index;
use raft_kv::api::*;
use raft_kv::codec;
use raft_kv::store::KvStore;

fn key(number: u64) -> Bytes {
    format!("key{}", number * number % 7).into()
}

/// The index in the log of the command with this number: two entries come before the first, and one
/// after every fifth.
const fn index(number: u64) -> u64 {
    3 + number + number / 5
}

fn put(key: Bytes, number: u64) -> Op {
    let put = Put { prev_kv: true, ..Put::new(key, format!("value{number}")) };
    Op::Put(if number.is_multiple_of(3) { put.with_lease(LEASE) } else { put })
}

const LEASE: LeaseId = LeaseId(5);

/// Something of everything: puts, deletions, transactions, leases that end, the clock, requests of
/// a session that come twice, and compaction.
fn commands() -> Vec<Bytes> {
    let advance = |number: u64, since: u64| {
        let (time_ms, seen) = (number * 1000, Index(index(number) - 1));
        Action::Advance(Advance { time_ms, seen, renewed: vec![LEASE], since: Index(since) })
    };
    let command = |number: u64| {
        let key = key(number);
        let action = match number % 12 {
            0 => Action::OpenSession,
            1 => Action::Grant { id: Some(LEASE), ttl_ms: 5000 },
            2 => Action::Op(Op::Delete { keys: Keys::One(key), prev_kv: true }),
            3 => Action::Compact(Revision(number / 2)),
            4 => advance(number, number.checked_sub(12).map_or(0, index)),
            5 => Action::Txn(Txn {
                compares: Vec::new(),
                success: vec![put(key, number), Op::Range(Range::of(Keys::all()))],
                failure: Vec::new(),
            }),
            11 if number > 30 => Action::Revoke(LEASE),
            _ => Action::Op(put(key, number)),
        };
        // Every request is sent twice, in the session that was opened last.
        let session = SessionId(index(number / 12 * 12));
        let seq = (number % 12).saturating_sub(5) / 2;
        let request = (number % 12 > 6 && number % 12 < 11).then_some(RequestId {
            session,
            seq,
            unanswered_from: seq,
        });
        codec::encode(&Command { request, fence: None, action })
    };
    (0..48).map(command).collect()
}

fn queries() -> Vec<Bytes> {
    let all = Query::Range(Range::of(Keys::all()));
    [all, Query::Leases, Query::Summary].iter().map(codec::encode).collect()
}

#[test]
fn the_store_in_memory_conforms() {
    let check = Check::in_memory(KvStore::in_memory, &commands()).queries(queries());
    let report = check.digest(|store| store.summary().state_hash).run().unwrap();
    println!("{report}");
}

#[test]
fn the_store_in_a_file_conforms() {
    let open = |dir: &std::path::Path| KvStore::open(&dir.join("kv.redb")).unwrap();
    let check = Check::durable(open, &commands()).queries(queries());
    let report = check.digest(|store| store.summary().state_hash).run().unwrap();
    println!("{report}");
    assert!(report.restarts > 40 && report.freezes > 10, "{report}");
}
