//! The fuzz targets of this crate in a short run that is the same every time; see `fuzz/README.md`.

#[path = "../../../fuzz/src/messages.rs"]
mod messages;
#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/target.rs"]
mod target;

use super::{codec, scripts};
use bytes::BytesMut;
use messages::TARGETS;
use raft_core::codec::{encode_entry, put};
use raft_core::raft::LogOp;
use raft_core::types::{LogId, SnapshotMeta, Version};
use replay::{plant, replay};

#[test]
fn changed_bytes_harm_nothing() {
    replay(TARGETS, |target, bytes| (target.run)(bytes));
}

#[test]
fn the_corpora_are_of_real_values() {
    let [envelope, entries, log, membership, script] = TARGETS else { panic!("other targets") };
    let messages = codec::all_messages().map(codec::envelope);
    plant(envelope, messages.map(|envelope| codec::encoded(&envelope).into()));

    let runs = [codec::run(), codec::run_with(codec::membership_2())];
    let encoded = runs.map(|run| {
        let mut out = BytesMut::new();
        run.entries().iter().for_each(|entry| encode_entry(entry, &mut out));
        out.into()
    });
    plant(entries, encoded);

    let ops = codec::ops().into_iter().map(|(op, _)| op);
    let ops: Vec<LogOp> = ops.chain(codec::ops_2().into_iter().map(|(op, _)| op)).collect();
    let together = ops.iter().flat_map(codec::encoded_op).collect();
    plant(log, ops.iter().map(|op| codec::encoded_op(op).into()).chain([together]));

    let newest = codec::membership_2().upgraded(Version::CURRENT);
    let memberships = [codec::membership(), codec::membership_2(), newest];
    let encoded = memberships.map(|membership| {
        let mut out = BytesMut::new();
        put(&SnapshotMeta { last: LogId::new(5, 2), membership }, &mut out);
        out.into()
    });
    plant(membership, encoded);

    let told = scripts::NAMES.iter().map(|name| commands(&scripts::text(name)).into_bytes());
    plant(script, told.filter(|told| (script.run)(told)));
}

/// The commands of a script on three nodes, but for the one that makes these.
fn commands(script: &str) -> String {
    let sections = script.split("\n\n").filter_map(|section| section.split("\n---").next());
    let lines = sections.flat_map(str::lines).filter(|line| !line.starts_with('#'));
    let commands = lines.map(|line| line.trim_matches(['(', ')']));
    commands
        .skip_while(|line| line.starts_with("cluster nodes=3 leader=1"))
        .fold(String::new(), |text, line| text + line + "\n")
}
