//! The members of a cluster, printed.

use super::Table;
use raft_core::types::NodeId;
use raft_kv::api::{MemberStatus, NodeStatus};
use serde::Serialize;

/// One member: what it says of itself, or why it could not be asked.
#[derive(Clone, Debug)]
pub struct Row {
    /// Where it was asked.
    pub address: String,
    /// Its id, as far as known.
    pub id: Option<NodeId>,
    /// Its answer, or why there is none.
    pub status: Result<NodeStatus, String>,
    /// How the leader sees it.
    pub progress: Option<MemberStatus>,
}

/// A member as JSON; what is not known is left out.
#[derive(Serialize, Default)]
pub struct RowJson {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    reachable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    node: Option<NodeJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressJson>,
}

#[derive(Serialize)]
struct NodeJson {
    cluster: String,
    incarnation: String,
    program: String,
    role: String,
    term: u64,
    leader: Option<u64>,
    commit_index: u64,
    last_applied: u64,
    last_log: String,
    log_bytes: u64,
    revision: u64,
    keys: u64,
    state_hash: String,
}

#[derive(Serialize)]
struct ProgressJson {
    voter: bool,
    match_index: Option<u64>,
    flow: Option<String>,
    heard_ms: Option<u64>,
}

impl RowJson {
    /// The JSON form of a member.
    pub fn of(row: &Row) -> Self {
        let (node, error) = match &row.status {
            Ok(status) => (Some(NodeJson::of(status)), None),
            Err(error) => (None, Some(error.clone())),
        };
        let progress = row.progress.as_ref().map(|member| ProgressJson {
            voter: member.voter,
            match_index: member.match_index.map(|index| index.0),
            flow: member.flow.clone(),
            heard_ms: member.heard_ms,
        });
        let id = row.id.map(|id| id.0);
        let reachable = row.status.is_ok();
        Self { address: row.address.clone(), id, reachable, error, node, progress }
    }
}

impl NodeJson {
    fn of(status: &NodeStatus) -> Self {
        Self {
            cluster: status.cluster.to_string(),
            incarnation: status.incarnation.to_string(),
            program: status.version.clone(),
            role: status.role.clone(),
            term: status.term.0,
            leader: status.leader.map(|id| id.0),
            commit_index: status.commit_index.0,
            last_applied: status.last_applied.0,
            last_log: status.last_log.to_string(),
            log_bytes: status.log_bytes,
            revision: status.revision.0,
            keys: status.keys,
            state_hash: format!("{:016x}", status.state_hash),
        }
    }
}

const HEADERS: [&str; 13] = [
    "NODE",
    "ADDRESS",
    "ROLE",
    ">TERM",
    "LEADER",
    ">COMMIT",
    ">APPLIED",
    ">REVISION",
    ">KEYS",
    "STATE HASH",
    ">MATCH",
    "FLOW",
    ">HEARD",
];

/// Members as a table, then one line for each that could not be asked, with the reason.
pub fn text(rows: &[Row]) -> String {
    let mut table = Table::new(&HEADERS);
    let mut unreachable = String::new();
    for row in rows {
        let name = row.id.map_or_else(|| "?".to_owned(), |id| id.to_string());
        if let Err(error) = &row.status {
            unreachable.push_str(&format!("{name} at {}: {error}\n", row.address));
        }
        let mut cells = vec![name, row.address.clone()];
        cells.extend(node_cells(row));
        cells.extend(progress_cells(row));
        table.row(cells);
    }
    format!("{}{unreachable}", table.render())
}

fn node_cells(row: &Row) -> Vec<String> {
    let Ok(status) = &row.status else {
        let mut cells = vec!["unreachable".to_owned()];
        cells.resize(8, "-".to_owned());
        return cells;
    };
    let voter = row.progress.as_ref().is_none_or(|member| member.voter);
    let learner = if voter { "" } else { " (learner)" };
    vec![
        format!("{}{learner}", status.role),
        status.term.to_string(),
        status.leader.map_or_else(|| "-".to_owned(), |id| id.to_string()),
        status.commit_index.to_string(),
        status.last_applied.to_string(),
        status.revision.to_string(),
        status.keys.to_string(),
        format!("{:016x}", status.state_hash),
    ]
}

fn progress_cells(row: &Row) -> [String; 3] {
    let dash = || "-".to_owned();
    let Some(member) = &row.progress else { return [dash(), dash(), dash()] };
    [
        member.match_index.map_or_else(dash, |index| index.to_string()),
        member.flow.clone().unwrap_or_else(dash),
        member.heard_ms.map_or_else(dash, ago),
    ]
}

/// Milliseconds as people say them: `12 ms`, `4.1 s`, `3 min`.
fn ago(milliseconds: u64) -> String {
    match milliseconds {
        0..=999 => format!("{milliseconds} ms"),
        1_000..=99_999 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => format!("{} min", milliseconds / 60_000),
    }
}
