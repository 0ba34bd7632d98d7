//! Leases, printed.

use super::{BytesField, printable, time};
use raft_kv::api::{LeaseId, LeaseStatus};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::time::Duration;

/// A lease as JSON: `{"id":"...","granted_ms":10000,"remaining_ms":8700,"keys_count":1}`, and with
/// its keys, `"keys":[{"key":"a"}]`.
pub struct StatusJson<'a> {
    /// The lease.
    pub status: &'a LeaseStatus,
    /// Whether its keys were asked for.
    pub keys: bool,
}

impl Serialize for StatusJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { status, keys } = *self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &status.id.to_string())?;
        map.serialize_entry("granted_ms", &status.granted_ms)?;
        map.serialize_entry("remaining_ms", &status.remaining_ms)?;
        map.serialize_entry("keys_count", &status.keys_count)?;
        if keys {
            let keys: Vec<KeyJson> = status.keys.iter().map(|key| KeyJson(key)).collect();
            map.serialize_entry("keys", &keys)?;
        }
        map.end()
    }
}

struct KeyJson<'a>(&'a [u8]);

impl Serialize for KeyJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        BytesField::KEY.write(&mut map, self.0)?;
        map.end()
    }
}

/// A lease in one line, and its keys, a line each.
pub fn status(status: &LeaseStatus, keys: bool) -> String {
    let life = |milliseconds| time::text(Duration::from_millis(milliseconds));
    let count = match status.keys_count {
        1 => "1 key".to_owned(),
        count => format!("{count} keys"),
    };
    let mut text = format!(
        "lease {} granted for {}, lives for {} at least, with {count}\n",
        status.id,
        life(status.granted_ms),
        life(status.remaining_ms),
    );
    for key in status.keys.iter().filter(|_| keys) {
        text.push_str(&printable(key));
        text.push('\n');
    }
    text
}

/// The ids of leases as JSON, `{"leases":["..."]}`, and as lines.
pub fn ids(leases: &[LeaseId]) -> (Value, String) {
    let ids: Vec<String> = leases.iter().map(ToString::to_string).collect();
    let lines = match ids.is_empty() {
        true => "no leases".to_owned(),
        false => ids.join("\n"),
    };
    (json!({ "leases": ids }), lines)
}
