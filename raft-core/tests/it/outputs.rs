//! Outputs and writes that are put in the place of earlier ones.

use bytes::Bytes;
use raft_core::raft::{Apply, Config, Input, Loaded, LogOp, Output, Raft, Write};
use raft_core::types::{LogId, Member, Membership, NodeId, SnapshotMeta};

/// A node of a cluster of `voters`.
fn node(voters: u64) -> Raft {
    let member = |id| (NodeId(id), Member::default());
    let membership = Membership::of_voters((1..=voters).map(member).collect());
    let snapshot = SnapshotMeta { last: LogId::ZERO, membership };
    let loaded = Loaded { snapshot, ..Loaded::default() };
    let config = Config { id: NodeId(1), ..Config::default() };
    Raft::new(config, loaded, SnapshotMeta::default(), 1).unwrap()
}

/// Reports every write at once; how many there were.
fn write_all(raft: &mut Raft, write: &mut Write) -> usize {
    let mut count = 0;
    while raft.take_write_into(write) {
        assert!(!write.ops.is_empty(), "a write of nothing");
        raft.step(Input::Persisted(write.seq));
        count += 1;
    }
    count
}

fn applied(output: &Output) -> Vec<LogId> {
    let of = |apply: &Apply| match apply {
        Apply::Entries(run) => run.entries().iter().map(|entry| entry.id).collect(),
        Apply::Restore(_) => Vec::new(),
    };
    output.apply.iter().flat_map(of).collect()
}

#[test]
fn what_waits_for_a_write_that_is_reported_at_once_is_in_the_next_output() {
    let (mut raft, mut write, mut output) = (node(1), Write::default(), Output::default());
    raft.campaign();
    // Term and vote, and the entries of the leader that it is once they are durable.
    assert!(write_all(&mut raft, &mut write) >= 2);
    raft.take_output_into(&mut output);
    assert_eq!((applied(&output).last(), output.write.is_none()), (Some(&raft.last_log()), true));
    for _ in 0..3 {
        let id = raft.propose(Bytes::from_static(b"command")).unwrap();
        assert!(raft.take_write_into(&mut write));
        assert!(matches!(&write.ops[..], [LogOp::Append(run)] if run.last() == id));
        raft.step(Input::Persisted(write.seq));
        raft.take_output_into(&mut output);
        assert_eq!((applied(&output), output.write.is_none()), (vec![id], true));
    }
}

#[test]
fn nothing_of_an_earlier_output_is_in_the_next_one() {
    for (voters, leads) in [(3, false), (1, true)] {
        let (mut plain, mut kept) = (node(voters), Output::default());
        plain.campaign();
        let mut reused = plain.clone();
        let (mut entries, mut reads) = (0, 0);
        for ticks in 0..500 {
            // What is left of an output has to go, whether or not something takes its place.
            reused.take_output_into(&mut kept);
            let output = plain.take_output();
            assert_eq!(kept, output, "after {ticks} ticks");
            entries += applied(&output).len();
            reads += output.reads.len();
            for raft in [&mut plain, &mut reused] {
                output.write.iter().for_each(|write| raft.step(Input::Persisted(write.seq)));
                raft.step(Input::Tick);
                if ticks % 3 == 0 {
                    raft.read();
                    // Only a leader takes it.
                    let _ = raft.propose(Bytes::from_static(b"command"));
                }
            }
        }
        assert_eq!(plain, reused);
        assert_eq!((entries > 100, reads > 100), (leads, leads), "{entries}, {reads}");
    }
}

#[test]
fn a_write_that_was_taken_is_gone_once_there_is_none() {
    let (mut raft, mut write) = (node(1), Write::default());
    raft.campaign();
    assert!(write_all(&mut raft, &mut write) > 0);
    assert!(write.ops.is_empty(), "{write:?}");
}
