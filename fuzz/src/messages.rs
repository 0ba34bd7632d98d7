//! The codec of the core, and its scripts.

use super::target::Target;
use bytes::{Bytes, BytesMut};
use raft_core::codec::{
    decode_entry, decode_envelope, decode_op, encode_entry, encode_envelope, encode_op, put, take,
};
use raft_core::testing::{Argument, Script};
use raft_core::types::{Incarnation, Sender, SnapshotMeta, Version};

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "core_envelope", run: envelope, mutants: 2000 },
    Target { name: "core_entries", run: entries, mutants: 2000 },
    Target { name: "core_log", run: log, mutants: 2000 },
    Target { name: "core_membership", run: membership, mutants: 2000 },
    Target { name: "core_script", run: script, mutants: 20 },
];

/// One message, which comes back as it was.
fn envelope(bytes: &[u8]) -> bool {
    let sender = Sender { incarnation: Incarnation(1), version: Version::CURRENT };
    let decoded = |frame: &Bytes| decode_envelope(frame, sender);
    let Ok(first) = decoded(&Bytes::copy_from_slice(bytes)) else { return false };
    let encoded = |(group, envelope): &_| {
        let mut out = BytesMut::new();
        encode_envelope(*group, envelope, &mut out);
        out.freeze()
    };
    let again = encoded(&first);
    assert!(again.len() <= bytes.len(), "it has grown to {again:?}");
    let second = decoded(&again).expect("what was encoded decodes");
    assert_eq!((&second, encoded(&second)), (&first, again));
    true
}

/// Entries one after the other, as disks have them.
fn entries(bytes: &[u8]) -> bool {
    stable(bytes, decode_entry, encode_entry)
}

/// Operations on a log, one after the other.
fn log(bytes: &[u8]) -> bool {
    stable(bytes, decode_op, encode_op)
}

/// Decodes values until the end of `bytes`; what is encoded again decodes to the same.
fn stable<T: PartialEq + std::fmt::Debug, E>(
    bytes: &[u8],
    decode: impl Fn(&Bytes, &mut &[u8]) -> Result<T, E>,
    encode: impl Fn(&T, &mut BytesMut),
) -> bool {
    let all = |frame: &Bytes| {
        let mut rest: &[u8] = frame;
        let mut values = Vec::new();
        while !rest.is_empty() {
            let before = rest.len();
            values.push(decode(frame, &mut rest)?);
            assert!(rest.len() < before, "nothing was read");
        }
        Ok::<_, E>(values)
    };
    let Ok(first) = all(&Bytes::copy_from_slice(bytes)) else { return false };
    let encoded = |values: &[T]| {
        let mut out = BytesMut::new();
        values.iter().for_each(|value| encode(value, &mut out));
        out.freeze()
    };
    let again = encoded(&first);
    assert!(again.len() <= bytes.len(), "it has grown to {again:?}");
    let second = all(&again).ok().expect("what was encoded decodes");
    assert_eq!((&second, encoded(&second)), (&first, again));
    true
}

/// The boundary of a log with a membership of any version, and that written as the other versions.
fn membership(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let Ok(meta) = take::<SnapshotMeta>(&mut rest) else { return false };
    let encoded = |meta: &SnapshotMeta| {
        let mut out = BytesMut::new();
        put(meta, &mut out);
        out
    };
    assert_eq!(take(&mut &encoded(&meta)[..]), Ok(meta.clone()));
    let membership = &meta.membership;
    assert!(membership.voters().iter().all(|voter| membership.contains(*voter)));
    for version in (Version::OLDEST.0..=Version::CURRENT.0).map(Version) {
        let meta = SnapshotMeta { membership: membership.upgraded(version), ..meta.clone() };
        assert_eq!(take(&mut &encoded(&meta)[..]), Ok(meta));
    }
    rest.is_empty()
}

/// Most commands of a script, and most messages under way in it.
const COMMANDS_MAX: usize = 60;
const MESSAGES_MAX: usize = 200;

/// A script on three nodes, which stay true to the invariants whatever it says. It may not begin
/// with a state that no cluster gets into, nor have nodes forget what they have promised.
fn script(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut script = Script::new();
    let first = [("nodes", "3"), ("leader", "1"), ("trailing-bytes", "0")];
    let first = first.map(|(key, value)| Argument::Keyed(key.into(), value.into()));
    script.run("cluster", &first).expect("a cluster of three");
    for line in text.lines().take(COMMANDS_MAX) {
        let mut words = line.split_whitespace();
        let Some(verb) = words.next() else { continue };
        // Times and numbers of messages multiply.
        let large = line.split(|c: char| !c.is_ascii_digit()).any(|number| number.len() > 2);
        if large || ["cluster", "disk", "wipe"].contains(&verb) {
            return false;
        }
        let argument = |word: &str| match word.split_once('=') {
            Some((key, value)) => Argument::Keyed(key.into(), value.into()),
            None => Argument::Positional(word.into()),
        };
        let arguments: Vec<Argument> = words.map(argument).collect();
        if script.run(verb, &arguments).is_err() {
            return false;
        }
        let cluster = script.cluster().expect("it was made above");
        if cluster.pool().len() > MESSAGES_MAX {
            return false;
        }
    }
    true
}
