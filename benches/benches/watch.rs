//! Fan-out of watches alone: a run of 64 puts of 256 bytes is looked at, and all there is to say
//! of it is said, to 1, 100 and 10,000 streams that watch all keys, and to 10,000 of which each
//! watches one key.

use benches::{payload, run_of, spread_key};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use raft_core::state_machine::StateMachine;
use raft_kv::api::{Action, Command, Keys, Op, Put, Watch, WatchId, WatchRequest};
use raft_kv::codec::encode;
use raft_kv::service::{LocalStream, LocalWatches, WatchOptions};
use raft_kv::store::KvStore;
use std::hint::black_box;

const KEYS: u64 = 10_000;
const RUN: u64 = 64;

fn key(number: u64) -> Bytes {
    spread_key(number, KEYS)
}

fn put(number: u64) -> Bytes {
    let action = Action::Op(Op::Put(Put::new(key(number), payload())));
    encode(&Command { request: None, fence: None, action })
}

/// A stream with one watch, which has begun.
fn watching(watches: &LocalWatches, keys: Keys) -> LocalStream {
    let mut stream = watches.open();
    let create = WatchRequest::Create(WatchId(1), Watch::of(keys));
    stream.ask(&create).expect("a healthy store");
    say_all(std::slice::from_mut(&mut stream));
    stream
}

/// Says all there is to say, and counts the bytes.
fn say_all(streams: &mut [LocalStream]) -> usize {
    let mut bytes = 0;
    for stream in streams {
        while let Some(frame) = stream.say() {
            bytes += frame.len();
        }
    }
    bytes
}

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("watch");
    let (all, one) = (|_| Keys::prefix("key/"), |number| Keys::One(key(number)));
    for (name, streams, keys) in [
        ("64_puts_to_1_of_all", 1, all as fn(u64) -> Keys),
        ("64_puts_to_100_of_all", 100, all),
        ("64_puts_to_10000_of_all", 10_000, all),
        ("64_puts_to_10000_of_one_each", 10_000, one),
    ] {
        let mut store = KvStore::in_memory();
        let watches = LocalWatches::new(&store.handle(), WatchOptions::default());
        let mut streams: Vec<_> =
            (0..streams).map(|number| watching(&watches, keys(number))).collect();
        let events = match keys(0) {
            Keys::One(_) => RUN,
            _ => RUN * streams.len() as u64,
        };
        group.throughput(Throughput::Elements(events));
        let mut next = 1;
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    store.apply(&run_of(next, RUN, put));
                    next += RUN;
                },
                |()| {
                    while watches.look() {}
                    black_box(say_all(&mut streams))
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
