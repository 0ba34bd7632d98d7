//! As many leases as there may be, and what a stamp costs then.

use super::*;
use crate::api::{REPLY_BYTES_MAX, ReplyBody};
use crate::codec;

const SECOND: u64 = 1_000;

/// So many leases, an equal number of which ends in each second from the second on.
fn many(count: u64) -> Leases {
    let mut leases = Leases::new(true);
    for index in 1..=count {
        let ttl_ms = LEASE_TTL_MIN_MS + index % 64 * SECOND;
        leases.grant(None, ttl_ms, index, 1).expect("there is room");
    }
    leases
}

fn slow() -> bool {
    std::env::var_os("RUN_SLOW_TESTS").is_some_and(|run| run == "1")
}

#[test]
fn their_number_is_bounded() {
    let mut leases = many(LEASES_MAX as u64 - 1);
    let last = leases.grant(None, SECOND, 1, 2).expect("there is room for one").0;
    let refused = Err(KvError::TooManyLeases { limit: LEASES_MAX as u64 });
    assert_eq!(leases.grant(None, SECOND, 1, 3), refused);
    assert_eq!(leases.len(), LEASES_MAX);
    // One that goes makes room for another.
    assert!(leases.take(last).is_some());
    assert!(leases.grant(None, SECOND, 1, 3).is_ok());
}

#[test]
fn a_list_of_all_leases_fits_into_a_reply() {
    let ids = vec![LeaseId(i64::MAX as u64); LEASES_MAX];
    assert!(codec::encode(&Ok::<_, KvError>(ReplyBody::Leases(ids))).len() < REPLY_BYTES_MAX);
}

/// Touched is what ends, or is renewed, and nothing else.
#[test]
fn a_stamp_costs_what_it_changes_however_many_leases_there_are() {
    let count = if slow() { LEASES_MAX } else { 16 * 1024 };
    let mut leases = many(count as u64);
    while leases.start(u64::MAX, 0, 4096) > 0 {}
    assert_eq!(leases.take_changes().len(), count);
    assert_eq!(leases.first_over(LEASE_TTL_MIN_MS), None);
    for second in 0..10 {
        let now_ms = LEASE_TTL_MIN_MS + second * SECOND + 1;
        let due = leases.deadlines.range(..(now_ms, LeaseId(0))).count();
        assert!(due.abs_diff(count / 64) < 10);
        let (_, kept) = *leases.deadlines.iter().nth(100).expect("so many are left");
        leases.renew(kept, now_ms);
        let mut ended = 0;
        while let Some(id) = leases.first_over(now_ms) {
            assert!(leases.take(id).is_some() && id != kept);
            ended += 1;
        }
        assert_eq!((ended, leases.take_changes().len()), (due - 1, due));
    }
}

/// The order in which leases end follows from what is stored of them.
#[test]
fn what_was_loaded_ends_in_the_same_order() {
    let mut leases = Leases::new(false);
    for id in [7, 3, 9, 1] {
        leases.grant(Some(LeaseId(id)), 5 * SECOND, id, 1).expect("there is room");
    }
    leases.start(7, 0, usize::MAX);
    leases.renew(LeaseId(3), SECOND);
    leases.renew(LeaseId(9), SECOND);
    let mut loaded = Leases::new(false);
    for (id, term) in leases.all() {
        loaded.load(id, term.expect("it lives"));
    }
    for leases in [&mut leases, &mut loaded] {
        assert!(leases.any_to_start(9) && !leases.any_to_start(8));
        leases.start(9, SECOND, usize::MAX);
        let ended = std::iter::from_fn(|| {
            let id = leases.first_over(100 * SECOND)?;
            leases.take(id).map(|_| id.0)
        });
        assert_eq!(ended.collect::<Vec<_>>(), [1, 7, 3, 9]);
    }
}
