//! The state machine alone: runs of 64 puts of 256 bytes over 100,000 keys, the same while old
//! revisions are compacted and purged, and single reads.

use benches::{payload, run_of, spread_key};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use raft_core::state_machine::StateMachine;
use raft_kv::api::{Action, Command, Keys, Op, Put, Query, Range, Revision};
use raft_kv::codec::encode;
use raft_kv::store::KvStore;

const KEYS: u64 = 100_000;
const RUN: u64 = 64;
/// Revisions that are kept where old ones are compacted.
const KEPT: u64 = 10_000;

fn key(number: u64) -> Bytes {
    spread_key(number, KEYS)
}

fn command(action: Action) -> Bytes {
    encode(&Command { request: None, fence: None, action })
}

fn put(number: u64) -> Bytes {
    command(Action::Op(Op::Put(Put::new(key(number), payload()))))
}

/// A put, or, once in a run, a compaction.
fn put_or_compact(number: u64) -> Bytes {
    if !number.is_multiple_of(RUN) {
        return put(number);
    }
    let revision = number - number / RUN;
    command(Action::Compact(Revision(revision.saturating_sub(KEPT))))
}

fn kv(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kv");
    let mut store = KvStore::in_memory();
    let mut compacting = KvStore::in_memory();
    group.throughput(Throughput::Elements(RUN));
    for (name, store, command) in [
        ("apply_64_puts", &mut store, put as fn(u64) -> Bytes),
        ("apply_64_puts_compacting", &mut compacting, put_or_compact),
    ] {
        let mut next = 1;
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    let run = run_of(next, RUN, command);
                    next += RUN;
                    run
                },
                |run| store.apply(&run),
                BatchSize::PerIteration,
            );
        });
    }
    group.throughput(Throughput::Elements(1));
    let mut number = 0;
    group.bench_function("query_one", |bencher| {
        bencher.iter(|| {
            number += 1;
            store.query(&encode(&Query::Range(Range::of(Keys::One(key(number))))))
        });
    });
    group.finish();
}

criterion_group!(benches, kv);
criterion_main!(benches);
