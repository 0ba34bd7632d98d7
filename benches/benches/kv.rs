//! The state machine alone: runs of 64 puts of 256 bytes over 100,000 keys, and single reads.

use benches::{PAYLOAD_BYTES, run_of};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use raft_core::state_machine::StateMachine;
use raft_kv::api::{Action, Command, Keys, Op, Put, Query, Range};
use raft_kv::codec::encode;
use raft_kv::store::KvStore;

const KEYS: u64 = 100_000;
const RUN: u64 = 64;

fn key(number: u64) -> Bytes {
    // Spread over the key space, without randomness.
    format!("key/{:010}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS).into()
}

fn put(number: u64) -> Bytes {
    let value = Bytes::from(vec![7; PAYLOAD_BYTES]);
    let op = Op::Put(Put::new(key(number), value));
    encode(&Command { request: None, fence: None, action: Action::Op(op) })
}

fn kv(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kv");
    let mut store = KvStore::in_memory();
    let mut next = 1;
    group.throughput(Throughput::Elements(RUN));
    group.bench_function("apply_64_puts", |bencher| {
        bencher.iter_batched(
            || {
                let run = run_of(next, RUN, put);
                next += RUN;
                run
            },
            |run| store.apply(&run),
            BatchSize::PerIteration,
        );
    });
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
