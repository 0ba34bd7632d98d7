//! Keys and values are bytes: how they are shown where only text can stand.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serializer;
use serde::ser::SerializeMap;
use serde_json::Value;
use std::fmt::Write;

/// Text stays as it is; a backslash, control characters and bytes that are not UTF-8 are escaped
/// as `\\`, `\n`, `\t`, `\r` and `\xNN`. Reversible: `--escaped` reads it back.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                other if other.is_control() => {
                    let mut buffer = [0; 4];
                    escape(other.encode_utf8(&mut buffer).as_bytes(), &mut text);
                }
                other => text.push(other),
            }
        }
        escape(chunk.invalid(), &mut text);
    }
    text
}

fn escape(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        write!(text, "\\x{byte:02x}").expect("writing to a String does not fail");
    }
}

/// Names of a JSON field that holds bytes: the first if they are text, else the second, in base64.
#[derive(Clone, Copy)]
pub struct BytesField(pub &'static str, pub &'static str);

impl BytesField {
    /// The field `key` or `key_b64`.
    pub const KEY: Self = Self("key", "key_b64");
    /// The field `value` or `value_b64`.
    pub const VALUE: Self = Self("value", "value_b64");

    /// Adds the field to an object.
    pub fn insert(self, object: &mut Value, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => object[self.0] = text.into(),
            Err(_) => object[self.1] = STANDARD.encode(bytes).into(),
        }
    }

    /// Writes the field into an object.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn write<S: SerializeMap>(self, map: &mut S, bytes: &[u8]) -> Result<(), S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => map.serialize_entry(self.0, text),
            Err(_) => map.serialize_entry(self.1, &STANDARD.encode(bytes)),
        }
    }
}

/// A key and a value as one JSON object, the form that `import` reads.
pub struct KeyAndValue<'a>(pub &'a [u8], pub &'a [u8]);

impl serde::Serialize for KeyAndValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        BytesField::KEY.write(&mut map, self.0)?;
        BytesField::VALUE.write(&mut map, self.1)?;
        map.end()
    }
}
