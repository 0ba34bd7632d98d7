//! `raft inspect log`: what is in a node's log, row by row, and whether a node would start on it.
//! Reads only.

use crate::args::inspect::{Inspect, InspectLog, InspectWhat};
use crate::failure::{Failure, Kind};
use crate::output::{Format, Output};
use raft_core::log_store::StorageError;
use raft_core::types::{Entry, GroupId, HardState, Identity, LogId, Payload};
use raft_storage_redb::{Change, Inspection, Record, Row};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// Runs `raft inspect`.
///
/// # Errors
/// Of kind `Local` if there is no log in the directory, a node runs on it, or it is damaged: then
/// after printing every row before the first bad one.
pub fn run(args: &Inspect, output: &mut Output<'_>) -> Result<(), Failure> {
    let InspectWhat::Log(args) = &args.what;
    let failed = |error: StorageError| Failure::new(Kind::Local, error);
    let inspection = raft_storage_redb::inspect(&args.dir).map_err(failed)?;
    let summary = print_rows(args, &inspection, output)?;
    summary.print(&inspection, output)?;
    output.finish()?;
    // A bad row says more than the check of the whole file that also found it.
    match (summary.bad_row, inspection.damage()) {
        (Some(error), _) => Err(failed(error)),
        (None, Some(damage)) => Err(Failure::new(Kind::Local, damage)),
        (None, None) => Ok(()),
    }
}

/// Prints the rows asked for and adds up all of them.
fn print_rows(
    args: &InspectLog,
    inspection: &Inspection,
    output: &mut Output<'_>,
) -> Result<Summary, Failure> {
    let mut summary = Summary::default();
    let limit = args.limit.unwrap_or(u64::MAX);
    let mut printed = 0;
    // The last rows are known to be the last only when the end is reached.
    let mut tail = VecDeque::new();
    let rows = match inspection.rows() {
        Ok(rows) => rows,
        Err(error) => return Ok(Summary { bad_row: Some(error), ..summary }),
    };
    for row in rows {
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                summary.bad_row = Some(error);
                break;
            }
        };
        summary.add(&row);
        if row.seq < args.from || printed >= limit {
            continue;
        }
        if let Some(most) = args.tail {
            tail.push_back(row);
            if tail.len() as u64 > most {
                tail.pop_front();
            }
        } else {
            printed += 1;
            print_row(&row, output)?;
        }
    }
    tail.iter().try_for_each(|row| print_row(row, output))?;
    Ok(summary)
}

fn print_row(row: &Row, output: &mut Output<'_>) -> Result<(), Failure> {
    match output.format {
        Format::Table | Format::Simple => output.raw(format!("{row}\n").as_bytes()),
        Format::Json => output.print(&row_json(row), String::new),
    }
}

fn row_json(row: &Row) -> Value {
    json!({
        "row": row.seq,
        "bytes": row.bytes,
        "checksum": format!("{:08x}", row.checksum),
        "records": row.records.iter().map(record_json).collect::<Vec<_>>(),
    })
}

fn record_json(record: &Record) -> Value {
    match record {
        Record::Purged { row, checksum } => {
            json!({ "kind": "purged", "row": row, "checksum": format!("{checksum:08x}") })
        }
        Record::Group(group, change) => {
            let mut object = change_json(change);
            object["group"] = json!(group.0);
            object
        }
        other => json!({ "kind": other.to_string() }),
    }
}

fn change_json(change: &Change) -> Value {
    match change {
        Change::Identity(identity) => identity_json("identity", identity),
        Change::HardState(HardState { term, vote }) => {
            json!({ "kind": "hard_state", "term": term.0, "vote": vote.map(|vote| vote.0) })
        }
        Change::Append(entry) => entry_json("append", entry),
        Change::Carry(entry) => entry_json("carry", entry),
        Change::Compact(meta) => boundary_json("compact", meta.last),
        Change::Reset(meta) => boundary_json("reset", meta.last),
        other => json!({ "kind": other.to_string() }),
    }
}

fn identity_json(kind: &str, identity: &Identity) -> Value {
    json!({
        "kind": kind,
        "cluster": identity.cluster.to_string(),
        "node": identity.node.0,
        "incarnation": identity.incarnation.to_string(),
    })
}

fn entry_json(kind: &str, entry: &Entry) -> Value {
    let (payload, bytes) = match &entry.payload {
        Payload::Noop => ("noop", 0),
        Payload::Command(command) => ("command", command.len()),
        Payload::Membership(membership) => ("membership", membership.size()),
    };
    let LogId { term, index } = entry.id;
    json!({
        "kind": kind,
        "index": index.0,
        "term": term.0,
        "payload": payload,
        "bytes": bytes,
    })
}

fn boundary_json(kind: &str, last: LogId) -> Value {
    json!({ "kind": kind, "index": last.index.0, "term": last.term.0 })
}

/// What all rows come to.
#[derive(Default)]
struct Summary {
    rows: u64,
    bytes: u64,
    groups: BTreeMap<GroupId, Group>,
    bad_row: Option<StorageError>,
}

/// What all records of a group come to.
#[derive(Default)]
struct Group {
    identity: Option<Identity>,
    hard_state: HardState,
    boundary: LogId,
    /// The last entry, or the boundary if there is none.
    last: LogId,
}

impl Summary {
    fn add(&mut self, row: &Row) {
        self.rows += 1;
        self.bytes += row.bytes as u64;
        for record in &row.records {
            if let Record::Group(group, change) = record {
                self.groups.entry(*group).or_default().add(change);
            }
        }
    }

    fn print(&self, inspection: &Inspection, output: &mut Output<'_>) -> Result<(), Failure> {
        let groups: Vec<Value> = self.groups.iter().map(|(id, group)| group.json(*id)).collect();
        let json = json!({ "summary": {
            "rows": self.rows,
            "bytes": self.bytes,
            "acknowledged_row": inspection.acknowledged(),
            "intact": self.bad_row.is_none() && inspection.damage().is_none(),
            "groups": groups,
        }});
        output.print(&json, || {
            let acknowledged = inspection.acknowledged();
            let acknowledged = acknowledged.map_or_else(|| "unknown".into(), |row| row.to_string());
            let mut text = format!(
                "{} rows, {} bytes; last acknowledged row: {acknowledged}\n",
                self.rows, self.bytes
            );
            for (id, group) in &self.groups {
                text.push_str(&group.text(*id));
            }
            text
        })
    }
}

impl Group {
    fn add(&mut self, change: &Change) {
        match change {
            Change::Identity(identity) => self.identity = Some(*identity),
            Change::HardState(hard_state) => self.hard_state = *hard_state,
            Change::Append(entry) => self.last = entry.id,
            // It stood before the entries that are there.
            Change::Carry(entry) if entry.id.index > self.last.index => self.last = entry.id,
            Change::Compact(meta) => {
                self.boundary = meta.last;
                if self.last.index < meta.last.index {
                    self.last = meta.last;
                }
            }
            Change::Reset(meta) => (self.boundary, self.last) = (meta.last, meta.last),
            _ => {}
        }
    }

    fn json(&self, id: GroupId) -> Value {
        json!({
            "group": id.0,
            "identity": self.identity.as_ref().map(|identity| json!({
                "cluster": identity.cluster.to_string(),
                "node": identity.node.0,
                "incarnation": identity.incarnation.to_string(),
            })),
            "term": self.hard_state.term.0,
            "vote": self.hard_state.vote.map(|vote| vote.0),
            "boundary": { "index": self.boundary.index.0, "term": self.boundary.term.0 },
            "last": { "index": self.last.index.0, "term": self.last.term.0 },
        })
    }

    fn text(&self, id: GroupId) -> String {
        let identity = self.identity.map_or_else(
            || "no identity yet".to_owned(),
            |Identity { cluster, node, incarnation }| {
                format!("{node} of cluster {cluster}, incarnation {incarnation}")
            },
        );
        let vote = self.hard_state.vote.map_or_else(|| "nobody".into(), |vote| vote.to_string());
        let entries = self.last.index.0.saturating_sub(self.boundary.index.0);
        format!(
            "{id}: {identity}\n{id}: term {}, voted for {vote}\n\
             {id}: {entries} entries after {} up to {} (index@term)\n",
            self.hard_state.term, self.boundary, self.last
        )
    }
}
