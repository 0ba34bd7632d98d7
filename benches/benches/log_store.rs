//! The durable log alone: one commit of 1, 64 and 512 entries of 256 bytes, compacted as it grows.

use benches::{payload, run_of};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use raft_core::log_store::LogStore;
use raft_core::raft::{GroupOp, LogOp};
use raft_core::types::{GroupId, Membership, SnapshotMeta};
use raft_storage_redb::RedbLog;

/// Entries between compactions.
const KEPT: u64 = 64 * 1024;

fn log_store(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log_store");
    let command = payload();
    for batch in [1, 64, 512] {
        group.throughput(Throughput::Elements(batch));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut log = RedbLog::open(dir.path()).expect("an empty directory");
        log.load(GroupId(0)).expect("an empty log");
        let mut next = 1;
        let mut compacted = 0;
        group.bench_function(format!("append_{batch}"), |bencher| {
            bencher.iter_batched(
                || {
                    let run = run_of(next, batch, |_| command.clone());
                    next += batch;
                    let last = run.last();
                    let mut ops = vec![LogOp::Append(run)];
                    if last.index.0 - compacted > 2 * KEPT {
                        compacted = last.index.0 - KEPT;
                        let boundary = raft_core::types::LogId::new(compacted, 1);
                        let membership = Membership::default();
                        ops.push(LogOp::Compact(SnapshotMeta { last: boundary, membership }));
                    }
                    ops.into_iter().map(|op| GroupOp { group: GroupId(0), op }).collect::<Vec<_>>()
                },
                |ops| log.write(&ops).expect("a writable disk"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, log_store);
criterion_main!(benches);
