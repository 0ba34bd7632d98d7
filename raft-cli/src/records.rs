//! The two forms in which keys and values travel in files, one record a line: JSON lines and TSV.
//! Parsing and writing only; what is written is read back to the same bytes.

use crate::output::{KeyAndValue, printable};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::ValueEnum;
use raft_kv::api::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use serde::Deserialize;
use std::path::Path;

/// How a file of keys and values is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// One object a line: `{"key":"k","value":"v"}`, with `key_b64`, `value_b64` for any bytes.
    Jsonl,
    /// A key, a tab, a value; tabs, line breaks and backslashes escaped.
    Tsv,
}

/// A key and its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// 1 to [`KEY_BYTES_MAX`] bytes.
    pub key: Bytes,
    /// Up to [`VALUE_BYTES_MAX`] bytes.
    pub value: Bytes,
}

impl Format {
    /// The format that a file's name tells, if it does.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            "tsv" | "tab" => Some(Self::Tsv),
            _ => None,
        }
    }

    /// Reads one line, without its line break; `None` if it is blank.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(self, line: &[u8]) -> Result<Option<Record>, String> {
        // Files from elsewhere may end lines with CR LF; a CR that is data is escaped.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || (self == Self::Jsonl && line.trim_ascii().is_empty()) {
            return Ok(None);
        }
        let record = match self {
            Self::Jsonl => parse_json(line)?,
            Self::Tsv => parse_tsv(line)?,
        };
        if record.key.is_empty() {
            return Err("the key is empty".into());
        }
        within("key", record.key.len(), KEY_BYTES_MAX)?;
        within("value", record.value.len(), VALUE_BYTES_MAX)?;
        Ok(Some(record))
    }

    /// Appends one line with its line break.
    pub fn write(self, key: &[u8], value: &[u8], line: &mut Vec<u8>) {
        match self {
            Self::Jsonl => serde_json::to_writer(&mut *line, &KeyAndValue(key, value))
                .expect("writing to a Vec does not fail"),
            Self::Tsv => {
                line.extend_from_slice(printable(key).as_bytes());
                line.push(b'\t');
                line.extend_from_slice(printable(value).as_bytes());
            }
        }
        line.push(b'\n');
    }
}

fn within(what: &str, size: usize, limit: usize) -> Result<(), String> {
    if size > limit {
        return Err(format!("the {what} is {size} bytes, over the limit of {limit}"));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRecord {
    key: Option<String>,
    key_b64: Option<String>,
    value: Option<String>,
    value_b64: Option<String>,
}

fn parse_json(line: &[u8]) -> Result<Record, String> {
    let record: JsonRecord = serde_json::from_slice(line)
        .map_err(|error| error.to_string().replace(" at line 1 column ", " at column "))?;
    Ok(Record {
        key: text_or_base64("key", record.key, record.key_b64)?,
        value: text_or_base64("value", record.value, record.value_b64)?,
    })
}

/// The bytes of a pair of JSON fields of which exactly one must be given.
pub(crate) fn text_or_base64(
    name: &str,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Bytes, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into()),
        (None, Some(encoded)) => STANDARD
            .decode(encoded)
            .map(Bytes::from)
            .map_err(|error| format!("{name}_b64 is not base64: {error}")),
        (None, None) => Err(format!("neither \"{name}\" nor \"{name}_b64\" is given")),
        (Some(_), Some(_)) => Err(format!("both \"{name}\" and \"{name}_b64\" are given")),
    }
}

fn parse_tsv(line: &[u8]) -> Result<Record, String> {
    let mut fields = line.split(|&byte| byte == b'\t');
    let key = fields.next().expect("split gives at least one field");
    let Some(value) = fields.next() else {
        return Err("no tab between key and value".into());
    };
    if fields.next().is_some() {
        return Err("more than one tab; write a tab in a key or value as \\t".into());
    }
    Ok(Record { key: unescape(key)?.into(), value: unescape(value)?.into() })
}

/// Undoes `\\`, `\t`, `\n`, `\r` and `\xNN`; other bytes stay as they are.
///
/// # Errors
/// What is wrong with an escape, for people.
pub fn unescape(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        bytes.extend_from_slice(&rest[..at]);
        let (byte, length) = escaped_byte(&rest[at..])?;
        bytes.push(byte);
        rest = &rest[at + length..];
    }
    bytes.extend_from_slice(rest);
    Ok(bytes)
}

/// The byte that an escape at the start of `text` stands for, and the escape's length.
fn escaped_byte(text: &[u8]) -> Result<(u8, usize), String> {
    let wrong =
        || "a backslash begins \\t, \\n, \\r, \\xNN or \\\\, but here none of them".to_owned();
    let byte = match text.get(1) {
        Some(b'\\') => b'\\',
        Some(b't') => b'\t',
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b'x') => {
            let digit = |at: usize| text.get(at).and_then(|&byte| char::from(byte).to_digit(16));
            let (Some(high), Some(low)) = (digit(2), digit(3)) else { return Err(wrong()) };
            let value = u8::try_from(high * 16 + low).expect("two hexadecimal digits fit a byte");
            return Ok((value, 4));
        }
        _ => return Err(wrong()),
    };
    Ok((byte, 2))
}
