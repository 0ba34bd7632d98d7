//! The fuzz targets of this crate in a short run that is the same every time; see `fuzz/README.md`.

#[path = "../../../fuzz/src/frames.rs"]
mod frames;
#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/target.rs"]
mod target;

use bytes::BytesMut;
use frames::TARGETS;
use raft_core::codec::put;
use raft_core::types::{LogId, Member, Membership, NodeId, SnapshotMeta, Version};
use raft_net_quic::fuzzing::framed;
use replay::{plant, replay};

/// Kinds of frames.
const HELLO: u8 = 1;
const REPLY: u8 = 5;
const FAILURE: u8 = 6;
const SNAPSHOT: u8 = 7;
const OFFER: u8 = 11;

#[test]
fn changed_bytes_harm_nothing() {
    replay(TARGETS, |target, bytes| (target.run)(bytes));
}

#[test]
fn the_corpora_are_of_real_values() {
    let [frames, heads] = TARGETS else { panic!("other targets") };
    let bodies = bodies();
    let each = bodies.iter().map(|(kind, body)| framed(*kind, body).to_vec());
    let together = each.clone().flatten().collect();
    plant(frames, each.chain([together]));
    plant(heads, bodies.iter().map(|(kind, body)| [&[*kind], &body[..]].concat()));
}

/// The first frame of everything that begins, and replies.
fn bodies() -> Vec<(u8, Vec<u8>)> {
    // Versions, purpose, cluster, node, to whom, incarnation.
    let hello = |first: u16, second: u16, purpose| {
        let ids = [7_u64, 1, 2, 300].map(u64::to_le_bytes).concat();
        [&first.to_le_bytes()[..], &second.to_le_bytes(), &[purpose], &ids].concat()
    };
    let meta = |version| {
        let member = |id: u64| (NodeId(id), Member::new(format!("n{id}:1")));
        let membership = Membership::of_voters((1..=3).map(member).collect()).upgraded(version);
        let mut out = BytesMut::new();
        put(&SnapshotMeta { last: LogId::new(5, 2), membership }, &mut out);
        out.to_vec()
    };
    let numbers = |numbers: &[u64]| -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    };
    vec![
        (HELLO, hello(1, 1, 2)),
        (HELLO, hello(3, 1, 0)),
        (HELLO, [hello(9, 2, 1), b"more".to_vec()].concat()),
        (SNAPSHOT, [numbers(&[0, 2]), meta(Version(1))].concat()),
        (OFFER, [numbers(&[99, 0, 2]), meta(Version::CURRENT)].concat()),
        (REPLY, [numbers(&[3]), b"reply".to_vec()].concat()),
        (FAILURE, [numbers(&[3]), b"\x01lost".to_vec()].concat()),
    ]
}
