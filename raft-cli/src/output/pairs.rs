//! Reads, printed.

use super::{BytesField, Table, printable};
use raft_kv::api::{KeyValue, RangeReply};
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

/// A read's answer as JSON: `{"revision":7,"count":1,"more":false,"kvs":[...]}`.
pub struct RangeJson<'a> {
    /// The answer.
    pub reply: &'a RangeReply,
    /// Leave the values out, as the read did.
    pub keys_only: bool,
}

impl Serialize for RangeJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kvs: Vec<_> =
            self.reply.kvs.iter().map(|pair| PairJson(pair, self.keys_only)).collect();
        let mut object = serializer.serialize_struct("Range", 4)?;
        object.serialize_field("revision", &self.reply.revision)?;
        object.serialize_field("count", &self.reply.count)?;
        object.serialize_field("more", &self.reply.more)?;
        object.serialize_field("kvs", &kvs)?;
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
        map.end()
    }
}

/// Pairs as a table.
pub fn table(pairs: &[KeyValue], keys_only: bool) -> String {
    let mut headers = vec!["KEY", "VALUE", ">REVISION", ">CREATED", ">VERSION"];
    if keys_only {
        headers.remove(1);
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
        table.row(cells);
    }
    table.render()
}
