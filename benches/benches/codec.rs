//! The codec alone: append messages of 1, 64 and 512 entries of 256 bytes.

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raft_core::codec::{decode_envelope, encode_envelope};
use raft_core::raft::{AppendEntries, Envelope, Message};
use raft_core::types::{Entry, GroupId, Index, LogId, NodeId, Payload, Run, Sender, Term};

fn append(entries: u64) -> Envelope {
    let entry = |index| Entry {
        id: LogId::new(index, 7),
        payload: Payload::Command(Bytes::from(vec![7; 256])),
    };
    let append = AppendEntries {
        prev_log: LogId::new(1000, 7),
        entries: Run::new((1001..=1000 + entries).map(entry).collect()),
        leader_commit: Index(1000),
        read_seq: 0,
    };
    let message = Message::AppendEntries(append);
    let (from, to, sender) = (NodeId(1), NodeId(2), Sender::default());
    Envelope { from, to, sender, term: Term(7), message }
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    for entries in [1, 64, 512] {
        let envelope = append(entries);
        group.throughput(Throughput::Elements(entries));
        let mut buffer = BytesMut::new();
        group.bench_function(format!("encode_{entries}"), |bencher| {
            bencher.iter(|| {
                buffer.clear();
                encode_envelope(GroupId(0), &envelope, &mut buffer);
                buffer.len()
            });
        });
        let mut frame = BytesMut::new();
        encode_envelope(GroupId(0), &envelope, &mut frame);
        let frame = frame.freeze();
        group.bench_function(format!("decode_{entries}"), |bencher| {
            bencher.iter(|| decode_envelope(&frame, Sender::default()));
        });
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
