//! Changes of keys, printed: a line each, as they come.

use super::pairs::{self, PairJson};
use super::{BytesField, printable};
use raft_kv::api::{Event, EventKind, KeyValue};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// A change as JSON: `{"type":"put","kv":{...}}` or `{"type":"delete","key":"a","mod_revision":9}`,
/// and `"prev_kv":{...}` if that was asked for and is known.
pub struct EventJson<'a>(pub &'a Event);

impl Serialize for EventJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.0.kind {
            EventKind::Put(pair) => {
                map.serialize_entry("type", "put")?;
                map.serialize_entry("kv", &PairJson(pair, false))?;
            }
            EventKind::Delete { key, mod_revision } => {
                map.serialize_entry("type", "delete")?;
                BytesField::KEY.write(&mut map, key)?;
                map.serialize_entry("mod_revision", mod_revision)?;
            }
        }
        if let Some(before) = &self.0.prev_kv {
            map.serialize_entry("prev_kv", &PairJson(before, false))?;
        }
        map.end()
    }
}

/// A change in one line: revision, what happened, key, value, and what was there before.
pub fn text(event: &Event) -> String {
    let revision = event.revision();
    let key = printable(event.key());
    let mut line = match &event.kind {
        EventKind::Put(pair) => format!("{revision}  put  {key}  {}", printable(&pair.value)),
        EventKind::Delete { .. } => format!("{revision}  del  {key}"),
    };
    if let Some(before) = &event.prev_kv {
        let (value, at) = (printable(&before.value), before.mod_revision);
        line.push_str(&format!("  (was {value} since {at})"));
    }
    line
}

/// A change as `etcdctl` prints it: PUT or DELETE, then what was there before, if asked for, and
/// the key and its value, a line each.
pub fn simple(event: &Event) -> Vec<u8> {
    let (kind, pair) = match &event.kind {
        EventKind::Put(pair) => (&b"PUT\n"[..], pair.clone()),
        EventKind::Delete { key, .. } => {
            (&b"DELETE\n"[..], KeyValue { key: key.clone(), ..KeyValue::default() })
        }
    };
    let mut lines = kind.to_vec();
    lines.extend(pairs::simple(event.prev_kv.as_slice(), false));
    lines.extend(pairs::simple(&[pair], false));
    lines
}
