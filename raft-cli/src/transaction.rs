//! The JSON form of a transaction that `raft txn` reads. Parsing only; nothing in it is ignored: an
//! unknown field is an error.

use crate::args::text;
use crate::records::text_or_base64;
use bytes::Bytes;
use raft_kv::api::{
    Attach, Compare, Filter, Keys, LeaseId, Op, Operator, Order, OrderBy, Put, Range, Revision,
    TXN_DEPTH_MAX, Target, Txn,
};
use serde::Deserialize;

/// Reads a transaction.
///
/// # Errors
/// What is wrong with it and where, for people.
pub fn parse(json: &[u8]) -> Result<Txn, String> {
    let text: TxnText = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    text.txn(1)
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

impl TxnText {
    fn txn(self, depth: usize) -> Result<Txn, String> {
        if depth > TXN_DEPTH_MAX {
            return Err(format!("more than {TXN_DEPTH_MAX} transactions within each other"));
        }
        let op = |op: OpText| op.op(depth);
        Ok(Txn {
            compares: named("if", self.conditions.into_iter().map(CompareText::compare))?,
            success: named("then", self.success.into_iter().map(op))?,
            failure: named("else", self.failure.into_iter().map(op))?,
        })
    }
}

/// Which keys: the fields that say so in conditions, deletes and reads.
macro_rules! keys {
    ($text:expr) => {
        keys_of(
            text_or_base64("key", $text.key, $text.key_b64)?,
            $text.prefix,
            match (&$text.range_end, &$text.range_end_b64) {
                (None, None) => None,
                _ => Some(text_or_base64("range_end", $text.range_end, $text.range_end_b64)?),
            },
        )?
    };
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompareText {
    key: Option<String>,
    key_b64: Option<String>,
    #[serde(default)]
    prefix: bool,
    range_end: Option<String>,
    range_end_b64: Option<String>,
    value: Option<String>,
    value_b64: Option<String>,
    version: Option<u64>,
    create_revision: Option<u64>,
    mod_revision: Option<u64>,
    lease: Option<LeaseText>,
    #[serde(default)]
    is: OperatorText,
}

/// A lease as hexadecimal text, or the number 0 for none.
#[derive(Deserialize)]
#[serde(untagged)]
enum LeaseText {
    Number(u64),
    Text(String),
}

impl LeaseText {
    fn lease(&self) -> Result<Option<LeaseId>, String> {
        match self {
            Self::Number(0) => Ok(None),
            Self::Number(_) => Err("write a lease as text, in hexadecimal".into()),
            Self::Text(digits) => match digits.trim_start_matches('0') {
                "" if !digits.is_empty() => Ok(None),
                _ => text::lease(digits).map(Some),
            },
        }
    }
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
        let value = match (self.value, self.value_b64) {
            (None, None) => None,
            (text, base64) => Some(Target::Value(text_or_base64("value", text, base64)?)),
        };
        let lease = self.lease.map(|lease| lease.lease()).transpose()?;
        let targets = [
            value,
            self.version.map(Target::Version),
            self.create_revision.map(|revision| Target::CreateRevision(Revision(revision))),
            self.mod_revision.map(|revision| Target::ModRevision(Revision(revision))),
            lease.map(Target::Lease),
        ];
        let mut targets = targets.into_iter().flatten();
        let (Some(target), None) = (targets.next(), targets.next()) else {
            return Err("give one of value, version, create_revision, mod_revision, lease".into());
        };
        let operator = match self.is {
            OperatorText::Equal => Operator::Equal,
            OperatorText::NotEqual => Operator::NotEqual,
            OperatorText::Greater => Operator::Greater,
            OperatorText::Less => Operator::Less,
        };
        let keys = keys!(self);
        Ok(Compare { keys, operator, target })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum OpText {
    Put(PutText),
    Delete(DeleteText),
    Get(Box<GetText>),
    Txn(TxnText),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutText {
    key: Option<String>,
    key_b64: Option<String>,
    value: Option<String>,
    value_b64: Option<String>,
    lease: Option<LeaseText>,
    #[serde(default)]
    ignore_value: bool,
    #[serde(default)]
    ignore_lease: bool,
    #[serde(default)]
    prev_kv: bool,
    #[serde(default)]
    sequential: bool,
}

impl PutText {
    fn put(self) -> Result<Put, String> {
        let key = text_or_base64("key", self.key, self.key_b64)?;
        let value = match (self.ignore_value, self.value, self.value_b64) {
            (true, None, None) => None,
            (true, _, _) => return Err("give a value or ignore_value, not both".into()),
            (false, text, base64) => Some(text_or_base64("value", text, base64)?),
        };
        let lease = match (self.ignore_lease, self.lease) {
            (true, None) => Attach::Keep,
            (true, Some(_)) => return Err("give a lease or ignore_lease, not both".into()),
            (false, lease) => match lease.map(|lease| lease.lease()).transpose()?.flatten() {
                Some(lease) => Attach::To(lease),
                None => Attach::None,
            },
        };
        Ok(Put { key, value, lease, prev_kv: self.prev_kv, sequential: self.sequential })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteText {
    key: Option<String>,
    key_b64: Option<String>,
    #[serde(default)]
    prefix: bool,
    range_end: Option<String>,
    range_end_b64: Option<String>,
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
    range_end: Option<String>,
    range_end_b64: Option<String>,
    #[serde(default)]
    limit: u64,
    rev: Option<u64>,
    #[serde(default)]
    keys_only: bool,
    #[serde(default)]
    count_only: bool,
    #[serde(default)]
    count_all: bool,
    #[serde(default)]
    sort_by: SortText,
    #[serde(default)]
    order: OrderText,
    min_mod_rev: Option<u64>,
    max_mod_rev: Option<u64>,
    min_create_rev: Option<u64>,
    max_create_rev: Option<u64>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum SortText {
    #[default]
    Key,
    Version,
    Create,
    Mod,
    Value,
}

#[derive(Deserialize, Default, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum OrderText {
    #[default]
    Asc,
    Desc,
}

impl GetText {
    fn range(self) -> Result<Range, String> {
        let order = match (self.sort_by, self.order) {
            (SortText::Key, OrderText::Asc) => None,
            (by, order) => {
                let by = match by {
                    SortText::Key => OrderBy::Key,
                    SortText::Version => OrderBy::Version,
                    SortText::Create => OrderBy::CreateRevision,
                    SortText::Mod => OrderBy::ModRevision,
                    SortText::Value => OrderBy::Value,
                };
                Some(Order { by, descending: order == OrderText::Desc })
            }
        };
        Ok(Range {
            limit: self.limit,
            revision: self.rev.map(Revision),
            keys_only: self.keys_only,
            count_only: self.count_only,
            count_all: self.count_all,
            order,
            filter: Filter {
                min_mod_revision: self.min_mod_rev.map(Revision),
                max_mod_revision: self.max_mod_rev.map(Revision),
                min_create_revision: self.min_create_rev.map(Revision),
                max_create_revision: self.max_create_rev.map(Revision),
            },
            ..Range::of(keys!(self))
        })
    }
}

impl OpText {
    fn op(self, depth: usize) -> Result<Op, String> {
        match self {
            Self::Put(put) => put.put().map(Op::Put),
            Self::Delete(delete) => Ok(Op::Delete { keys: keys!(delete), prev_kv: delete.prev_kv }),
            Self::Get(get) => get.range().map(Op::Range),
            Self::Txn(txn) => Ok(Op::Txn(Box::new(txn.txn(depth + 1)?))),
        }
    }
}

fn keys_of(key: Bytes, prefix: bool, end: Option<Bytes>) -> Result<Keys, String> {
    match (prefix, &end) {
        (true, Some(_)) => Err("give prefix or range_end, not both".into()),
        _ => Ok(keys(key, prefix, end)),
    }
}

/// One key, all that begin with it, or all from it up to `end`, which may be empty for no end.
pub(crate) fn keys(key: Bytes, prefix: bool, end: Option<Bytes>) -> Keys {
    match end {
        Some(end) => Keys::Range { start: key, end: Some(end).filter(|end| !end.is_empty()) },
        None if prefix => Keys::prefix(key),
        None => Keys::One(key),
    }
}
