//! Reads, printed.

use super::status::ago;
use super::{BytesField, Table, printable};
use raft_kv::api::{KeyValue, Position, RangeReply};
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};
use std::time::Duration;

/// A read's answer as JSON: `{"revision":7,"count":1,"more":false,"kvs":[...]}`.
pub struct RangeJson<'a> {
    /// The answer.
    pub reply: &'a RangeReply,
    /// Leave the values out, as the read did.
    pub keys_only: bool,
    /// How fresh it is, if that is to be told: `"token":"0:7","staleness_ms":12`.
    pub dated: Option<Dated>,
}

/// How fresh an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dated {
    /// What it has seen.
    pub position: Position,
    /// How old it may be; `None` if the node never heard of a leader.
    pub staleness: Option<Duration>,
}

impl Dated {
    /// The token that [`position`](crate::args::text::position) reads.
    pub fn token(&self) -> String {
        format!("{}:{}", self.position.epoch, self.position.revision)
    }

    /// How old it may be, in milliseconds, rounded up.
    pub fn staleness_ms(&self) -> Option<u64> {
        let staleness = self.staleness?.as_nanos().div_ceil(1_000_000);
        Some(u64::try_from(staleness).unwrap_or(u64::MAX))
    }

    /// In one line: `as of revision 7, at most 12 ms old`.
    pub fn text(&self) -> String {
        let revision = self.position.revision;
        match self.staleness_ms() {
            Some(0) => format!("as of revision {revision}"),
            Some(time) => format!("as of revision {revision}, at most {} old", ago(time)),
            None => format!("as of revision {revision}; the node has heard of no leader yet"),
        }
    }
}

impl Serialize for RangeJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kvs: Vec<_> =
            self.reply.kvs.iter().map(|pair| PairJson(pair, self.keys_only)).collect();
        let mut object = serializer.serialize_struct("Range", 6)?;
        object.serialize_field("revision", &self.reply.revision)?;
        object.serialize_field("count", &self.reply.count)?;
        object.serialize_field("more", &self.reply.more)?;
        object.serialize_field("kvs", &kvs)?;
        if let Some(dated) = &self.dated {
            object.serialize_field("token", &dated.token())?;
            object.serialize_field("staleness_ms", &dated.staleness_ms())?;
        }
        object.end()
    }
}

/// A pair as JSON; the second field leaves the value out.
pub struct PairJson<'a>(pub &'a KeyValue, pub bool);

impl Serialize for PairJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(pair, keys_only) = *self;
        let mut map = serializer.serialize_map(None)?;
        BytesField::KEY.write(&mut map, &pair.key)?;
        if !keys_only {
            BytesField::VALUE.write(&mut map, &pair.value)?;
        }
        map.serialize_entry("create_revision", &pair.create_revision)?;
        map.serialize_entry("mod_revision", &pair.mod_revision)?;
        map.serialize_entry("version", &pair.version)?;
        if let Some(lease) = pair.lease {
            map.serialize_entry("lease", &lease.to_string())?;
        }
        map.end()
    }
}

/// Pairs as a table; with the leases if any has one.
pub fn table(pairs: &[KeyValue], keys_only: bool) -> String {
    let mut headers = vec!["KEY", "VALUE", ">REVISION", ">CREATED", ">VERSION"];
    if keys_only {
        headers.remove(1);
    }
    let leases = pairs.iter().any(|pair| pair.lease.is_some());
    if leases {
        headers.push("LEASE");
    }
    let mut table = Table::new(&headers);
    for pair in pairs {
        let mut cells = vec![printable(&pair.key)];
        if !keys_only {
            cells.push(printable(&pair.value));
        }
        cells.push(pair.mod_revision.to_string());
        cells.push(pair.create_revision.to_string());
        cells.push(pair.version.to_string());
        if leases {
            cells.push(pair.lease.map_or_else(|| "-".to_owned(), |lease| lease.to_string()));
        }
        table.row(cells);
    }
    table.render()
}

/// Pairs as plain lines: the key, and on the next line the value; both as they are.
pub fn simple(pairs: &[KeyValue], keys_only: bool) -> Vec<u8> {
    let mut lines = Vec::new();
    for pair in pairs {
        lines.extend_from_slice(&pair.key);
        lines.push(b'\n');
        if !keys_only {
            lines.extend_from_slice(&pair.value);
            lines.push(b'\n');
        }
    }
    lines
}
