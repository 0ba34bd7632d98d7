//! The durable log alone: one commit of 1, 64 and 512 entries of 256 bytes, compacted as it grows.
//! Beside it the least that a disk asks for: as many bytes into a file that has its full length,
//! and a flush.

use benches::{payload, run_of};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use raft_core::log_store::LogStore;
use raft_core::raft::{GroupOp, LogOp};
use raft_core::types::{GroupId, Membership, SnapshotMeta};
use raft_storage_redb::RedbLog;
use std::io::{Seek, SeekFrom, Write};

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

/// Bytes of the file, which is written round and round.
const FILE_BYTES: u64 = 64 << 20;
/// Bytes of an entry in the log: its command and what is written about it.
const ENTRY_BYTES: u64 = 272;

fn raw_file(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("raw_file");
    for batch in [1, 64, 512] {
        group.throughput(Throughput::Elements(batch));
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(&vec![0; FILE_BYTES as usize]).expect("room on disk");
        file.sync_all().expect("a writable disk");
        let bytes = vec![7; (batch * ENTRY_BYTES) as usize];
        let mut at = 0;
        group.bench_function(format!("append_{batch}"), |bencher| {
            bencher.iter(|| {
                if at + bytes.len() as u64 > FILE_BYTES {
                    at = 0;
                }
                file.seek(SeekFrom::Start(at)).expect("a file");
                file.write_all(&bytes).expect("room on disk");
                file.sync_data().expect("a writable disk");
                at += bytes.len() as u64;
            });
        });
    }
    group.finish();
}

criterion_group!(benches, log_store, raw_file);
criterion_main!(benches);
