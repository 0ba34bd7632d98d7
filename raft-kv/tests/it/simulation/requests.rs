//! Requests of whatever comes to mind.

use bytes::Bytes;
use raft_core::testing::Random;
use raft_kv::api::*;

/// Keys that anything may happen to.
const KEYS: u64 = 8;
/// Leases with ids that were chosen.
const LEASES: u64 = 4;

fn key(random: &mut Random) -> Bytes {
    Bytes::from(format!("k{}", random.below(KEYS)))
}

pub(super) fn keys(random: &mut Random) -> Keys {
    match random.below(6) {
        0..3 => Keys::One(key(random)),
        3 => Keys::prefix("k"),
        _ => {
            let (a, b) = (key(random), key(random));
            Keys::Range { start: a, end: (random.below(3) > 0).then_some(b) }
        }
    }
}

pub(super) fn lease(random: &mut Random) -> LeaseId {
    LeaseId(1 + random.below(LEASES))
}

/// Often the present one, sometimes one to come.
fn revision(random: &mut Random, now: u64) -> Revision {
    Revision((now + 2).saturating_sub(random.below(30)))
}

fn maybe_revision(random: &mut Random, now: u64) -> Option<Revision> {
    random.once_in(3).then(|| revision(random, now))
}

pub(super) fn range(random: &mut Random, now: u64) -> Range {
    let by = *random.choose(&[
        OrderBy::Key,
        OrderBy::Version,
        OrderBy::CreateRevision,
        OrderBy::ModRevision,
        OrderBy::Value,
    ]);
    let descending = random.once_in(2);
    let filter = match random.below(4) {
        0 => Filter {
            min_mod_revision: maybe_revision(random, now),
            max_mod_revision: maybe_revision(random, now),
            min_create_revision: maybe_revision(random, now),
            max_create_revision: maybe_revision(random, now),
        },
        _ => Filter::NONE,
    };
    Range {
        keys: keys(random),
        limit: random.below(4),
        revision: maybe_revision(random, now),
        keys_only: random.once_in(4),
        count_only: random.once_in(6),
        count_all: random.once_in(4),
        order: random.once_in(2).then_some(Order { by, descending }),
        filter,
    }
}

fn put(random: &mut Random) -> Put {
    let value = Bytes::from(format!("v{}", random.below(20)).repeat(1 + random.below(8) as usize));
    let lease = match random.below(6) {
        0 | 1 => Attach::To(lease(random)),
        2 => Attach::Keep,
        _ => Attach::None,
    };
    let value = (!random.once_in(8)).then_some(value);
    Put { value, lease, prev_kv: random.once_in(3), ..Put::new(key(random), "") }
}

fn op(random: &mut Random, now: u64) -> Op {
    match random.below(6) {
        0..4 => Op::Put(put(random)),
        4 => Op::Delete { keys: keys(random), prev_kv: random.once_in(2) },
        _ => Op::Range(range(random, now)),
    }
}

fn compare(random: &mut Random, now: u64) -> Compare {
    let operator =
        *random.choose(&[Operator::Equal, Operator::NotEqual, Operator::Greater, Operator::Less]);
    let target = match random.below(5) {
        0 => Target::Version(random.below(4)),
        1 => Target::CreateRevision(revision(random, now)),
        2 => Target::ModRevision(revision(random, now)),
        3 => Target::Value(Bytes::from(format!("v{}", random.below(20)))),
        _ => Target::Lease(random.once_in(2).then(|| lease(random))),
    };
    Compare { keys: keys(random), operator, target }
}

fn txn(random: &mut Random, now: u64, depth: u64) -> Txn {
    let ops = |random: &mut Random| -> Vec<Op> {
        let one = |random: &mut Random| match random.below(8) {
            0 if depth < 3 => Op::Txn(txn(random, now, depth + 1).into()),
            _ => op(random, now),
        };
        (0..random.below(4)).map(|_| one(random)).collect()
    };
    let compares = (0..random.below(3)).map(|_| compare(random, now)).collect();
    Txn { compares, success: ops(random), failure: ops(random) }
}

/// Anything that a client may ask a store at revision `now`.
pub(super) fn action(random: &mut Random, now: u64) -> Action {
    match random.below(40) {
        0..14 => Action::Op(op(random, now)),
        14..26 => Action::Txn(txn(random, now, 1)),
        26 | 27 => Action::Op(Op::Put(Put { sequential: true, ..put(random) })),
        28 => Action::Compact(Revision(now.saturating_sub(random.below(60)))),
        29 => Action::Grant { id: None, ttl_ms: random.below(5_000) },
        30..33 => Action::Grant { id: Some(lease(random)), ttl_ms: random.below(20_000) },
        33 => Action::Revoke(lease(random)),
        _ => Action::Op(Op::Put(Put { lease: Attach::To(lease(random)), ..put(random) })),
    }
}
