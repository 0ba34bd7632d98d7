//! The core alone: three nodes on one thread, no disk, no network, 256-byte commands.

use benches::Cores;
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

fn core_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core_step");
    for in_flight in [1, 64, 1024] {
        group.throughput(Throughput::Elements(in_flight));
        group.bench_function(format!("{in_flight}_in_flight"), |bencher| {
            let mut cores = Cores::new(3);
            let commands = || (0..in_flight).map(|_| Bytes::from(vec![7; 256])).collect::<Vec<_>>();
            let mut rounds = 0;
            bencher.iter_batched(
                commands,
                |commands| {
                    cores.commit(commands);
                    rounds += 1;
                    if rounds % (64 * 1024 / in_flight) == 0 {
                        cores.compact();
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, core_step);
criterion_main!(benches);
