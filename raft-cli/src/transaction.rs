//! The JSON form of a transaction that `raft txn` reads. Parsing only; nothing in it is ignored: an
//! unknown field is an error.

use crate::records::text_or_base64;
use bytes::Bytes;
use raft_kv::api::{Compare, Keys, Op, Operator, Put, Range, Revision, Target, Txn};
use serde::Deserialize;

/// Reads a transaction.
///
/// # Errors
/// What is wrong with it and where, for people.
pub fn parse(json: &[u8]) -> Result<Txn, String> {
    let text: TxnText = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let compares = text.conditions.into_iter().map(CompareText::compare);
    Ok(Txn {
        compares: named("if", compares)?,
        success: named("then", text.success.into_iter().map(OpText::op))?,
        failure: named("else", text.failure.into_iter().map(OpText::op))?,
    })
}

/// Collects, and says in an error which item of which list it was.
fn named<T>(list: &str, items: impl Iterator<Item = Result<T, String>>) -> Result<Vec<T>, String> {
    let place = |(at, item): (usize, Result<T, String>)| {
        item.map_err(|error| format!("\"{list}\", item {}: {error}", at + 1))
    };
    items.enumerate().map(place).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TxnText {
    #[serde(rename = "if", default)]
    conditions: Vec<CompareText>,
    #[serde(rename = "then", default)]
    success: Vec<OpText>,
    #[serde(rename = "else", default)]
    failure: Vec<OpText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompareText {
    key: Option<String>,
    key_b64: Option<String>,
    value: Option<String>,
    value_b64: Option<String>,
    version: Option<u64>,
    create_revision: Option<u64>,
    mod_revision: Option<u64>,
    #[serde(default)]
    is: OperatorText,
}

#[derive(Deserialize, Default)]
enum OperatorText {
    #[default]
    #[serde(rename = "=")]
    Equal,
    #[serde(rename = "!=")]
    NotEqual,
    #[serde(rename = ">")]
    Greater,
    #[serde(rename = "<")]
    Less,
}

impl CompareText {
    fn compare(self) -> Result<Compare, String> {
        let key = text_or_base64("key", self.key, self.key_b64)?;
        let value = match (self.value, self.value_b64) {
            (None, None) => None,
            (text, base64) => Some(Target::Value(text_or_base64("value", text, base64)?)),
        };
        let targets = [
            value,
            self.version.map(Target::Version),
            self.create_revision.map(|revision| Target::CreateRevision(Revision(revision))),
            self.mod_revision.map(|revision| Target::ModRevision(Revision(revision))),
        ];
        let mut targets = targets.into_iter().flatten();
        let (Some(target), None) = (targets.next(), targets.next()) else {
            return Err("give one of value, version, create_revision, mod_revision".into());
        };
        let operator = match self.is {
            OperatorText::Equal => Operator::Equal,
            OperatorText::NotEqual => Operator::NotEqual,
            OperatorText::Greater => Operator::Greater,
            OperatorText::Less => Operator::Less,
        };
        Ok(Compare { keys: Keys::One(key), operator, target })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum OpText {
    Put(PutText),
    Delete(DeleteText),
    Get(GetText),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutText {
    key: Option<String>,
    key_b64: Option<String>,
    value: Option<String>,
    value_b64: Option<String>,
    #[serde(default)]
    prev_kv: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteText {
    key: Option<String>,
    key_b64: Option<String>,
    #[serde(default)]
    prefix: bool,
    #[serde(default)]
    prev_kv: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetText {
    key: Option<String>,
    key_b64: Option<String>,
    #[serde(default)]
    prefix: bool,
    #[serde(default)]
    limit: u64,
    #[serde(default)]
    keys_only: bool,
    #[serde(default)]
    count_only: bool,
    #[serde(default)]
    count_all: bool,
}

impl OpText {
    fn op(self) -> Result<Op, String> {
        match self {
            Self::Put(put) => {
                let key = text_or_base64("key", put.key, put.key_b64)?;
                let value = text_or_base64("value", put.value, put.value_b64)?;
                Ok(Op::Put(Put { prev_kv: put.prev_kv, ..Put::new(key, value) }))
            }
            Self::Delete(delete) => {
                let key = text_or_base64("key", delete.key, delete.key_b64)?;
                Ok(Op::Delete { keys: keys(key, delete.prefix), prev_kv: delete.prev_kv })
            }
            Self::Get(get) => {
                let key = text_or_base64("key", get.key, get.key_b64)?;
                Ok(Op::Range(Range {
                    limit: get.limit,
                    keys_only: get.keys_only,
                    count_only: get.count_only,
                    count_all: get.count_all,
                    ..Range::of(keys(key, get.prefix))
                }))
            }
        }
    }
}

/// One key, or all that begin with it.
pub(crate) fn keys(key: Bytes, prefix: bool) -> Keys {
    if prefix { Keys::prefix(key) } else { Keys::One(key) }
}
