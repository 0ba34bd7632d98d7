//! What has come of a look at all data, printed.

use super::Table;
use raft_core::types::NodeId;
use serde::Serialize;

/// One member and its look at all data.
#[derive(Clone, Debug)]
pub struct ScrubRow {
    /// Where it was asked.
    pub address: String,
    /// Its id, if it has answered.
    pub id: Option<NodeId>,
    /// Keys in its store, as far as known.
    pub keys: Option<u64>,
    /// How far it is.
    pub outcome: ScrubOutcome,
}

/// How far a look at all data is, and what was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ScrubOutcome {
    /// It was not begun; the text says why.
    NotBegun(String),
    /// It is under way.
    UnderWay,
    /// All was compared by a quorum, and is equal.
    Equal,
    /// Some parts were not compared: fewer than a quorum answered for them.
    Incomplete,
    /// Something differs, or is damaged; the text says what and where.
    Alarm(String),
    /// What came of it is not known; the text says why.
    Unknown(String),
}

impl ScrubOutcome {
    const fn name(&self) -> &'static str {
        match self {
            Self::NotBegun(_) => "not_begun",
            Self::UnderWay => "under_way",
            Self::Equal => "equal",
            Self::Incomplete => "incomplete",
            Self::Alarm(_) => "alarm",
            Self::Unknown(_) => "unknown",
        }
    }

    const fn reason(&self) -> Option<&String> {
        match self {
            Self::NotBegun(why) | Self::Alarm(why) | Self::Unknown(why) => Some(why),
            Self::UnderWay | Self::Equal | Self::Incomplete => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::NotBegun(why) => format!("not begun: {why}"),
            Self::UnderWay => "begun".into(),
            Self::Equal => "all compared, and equal".into(),
            Self::Incomplete => "not all compared: fewer than a quorum answered for some".into(),
            Self::Alarm(what) => what.clone(),
            Self::Unknown(why) => format!("unknown: {why}"),
        }
    }
}

/// A member as JSON.
#[derive(Serialize)]
pub struct ScrubRowJson<'a> {
    address: &'a str,
    id: Option<u64>,
    keys: Option<u64>,
    outcome: &'static str,
    reason: Option<&'a String>,
}

impl<'a> ScrubRowJson<'a> {
    /// The JSON form of a member.
    pub fn of(row: &'a ScrubRow) -> Self {
        let ScrubRow { address, id, keys, outcome } = row;
        let (id, reason) = (id.map(|id| id.0), outcome.reason());
        Self { address, id, keys: *keys, outcome: outcome.name(), reason }
    }
}

/// The members as a table.
pub fn text(rows: &[ScrubRow]) -> String {
    let mut table = Table::new(&["NODE", "ADDRESS", ">KEYS", "OUTCOME"]);
    for row in rows {
        let (id, keys) = (row.id.map(|id| id.to_string()), row.keys.map(|keys| keys.to_string()));
        let (id, keys) = (id.unwrap_or_else(|| "?".into()), keys.unwrap_or_else(|| "-".into()));
        table.row(vec![id, row.address.clone(), keys, row.outcome.text()]);
    }
    table.render()
}

/// One line a member: address, and what has come of it.
pub fn simple(rows: &[ScrubRow]) -> Vec<u8> {
    let line = |row: &ScrubRow| format!("{}: {}\n", row.address, row.outcome.text());
    rows.iter().map(line).collect::<String>().into_bytes()
}
