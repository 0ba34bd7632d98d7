//! The members of a cluster, printed.

use super::Table;
use super::members::names;
use raft_core::types::{Membership, NodeId, Term};
use raft_kv::api::{
    Health, Integrity, MemberAlarm, MemberRole, MemberStatus, NoQuorum, NodeStatus, Space,
};
use serde::Serialize;
use std::fmt;

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
    /// What it says may be wrong.
    pub health: Option<Health>,
}

/// What people should know about a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remark {
    /// In one line, without its name.
    pub text: String,
    /// Whether it does not do its part: what else is said is only a warning.
    pub serious: bool,
}

impl Remark {
    fn serious(text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), serious: true }
    }

    fn warning(text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), serious: false }
    }
}

impl Row {
    /// What people should know about it; nothing of one that could not be asked.
    pub fn remarks(&self) -> Vec<Remark> {
        let Some(health) = &self.health else { return Vec::new() };
        let mut remarks = Vec::new();
        let membership = &health.members.membership;
        let member = self.id.is_some_and(|id| membership.contains(id));
        if !membership.is_empty() && !member {
            remarks.push(Remark::serious("removed from the cluster"));
        } else if !membership.is_empty() && !health.bound {
            let text = "came back without what it had stored, and waits to be taken back";
            remarks.push(Remark::serious(text));
        }
        if health.waiting_ms >= WAITING_SAID_MS {
            let waited = ago(health.waiting_ms);
            remarks.push(Remark::serious(format!("the disk has completed nothing for {waited}")));
        }
        if let Some(to) = health.transfer {
            remarks.push(Remark::warning(format!("is handing leadership over to {to}")));
        }
        let space = health.space;
        if space.quota > 0
            && let Some(text) = space.warning()
        {
            remarks.push(Remark { text, serious: space.bytes >= space.quota });
        }
        remarks.extend(health.timing.iter().map(Remark::warning));
        remarks.extend(raised(&health.alarms).map(Remark::serious));
        remarks.extend(health.integrity.alarm.iter().map(Remark::serious));
        remarks.extend(incomplete(&health.integrity).map(Remark::warning));
        remarks.extend(health.no_quorum.iter().map(Remark::serious));
        remarks
    }

    /// The same with its name, and why it could not be asked.
    fn lines(&self) -> Vec<String> {
        let name = name(self);
        if let Err(why) = &self.status {
            return vec![format!("{name} at {}: {why}", self.address)];
        }
        self.remarks().iter().map(|remark| format!("{name}: {}", remark.text)).collect()
    }
}

/// The alarms that somebody has raised, in one line.
fn raised(alarms: &[MemberAlarm]) -> Option<String> {
    /// There may be many of them.
    const SHOWN: usize = 8;
    let (first, rest) = alarms.split_at(alarms.len().min(SHOWN));
    let mut shown: Vec<String> = first.iter().map(ToString::to_string).collect();
    if !rest.is_empty() {
        shown.push(format!("{} more", rest.len()));
    }
    let (alarm, them) = if alarms.len() == 1 { ("alarm", "it") } else { ("alarms", "them") };
    let shown = shown.join(", ");
    (!alarms.is_empty())
        .then(|| format!("{alarm} raised: {shown}; `etcdctl alarm disarm` clears {them}"))
}

/// That not all data was compared when it was looked at last.
fn incomplete(integrity: &Integrity) -> Option<String> {
    let times = match integrity.scrubs_incomplete {
        0 => return None,
        1 => "the last look at all data".to_owned(),
        times => format!("each of the last {times} looks at all data"),
    };
    Some(format!("{times} left out what fewer than a quorum answered for: see `raft scrub`"))
}

/// A disk that owes something for less than this is one that works.
const WAITING_SAID_MS: u64 = 500;

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
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthJson>,
    /// What people should know about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remarks: Option<Vec<RemarkJson>>,
}

#[derive(Serialize)]
struct RemarkJson {
    text: String,
    serious: bool,
}

#[derive(Serialize)]
struct HealthJson {
    member: bool,
    bound: bool,
    disk_waiting_ms: u64,
    transfer: Option<u64>,
    timing: Option<String>,
    no_quorum: Option<NoQuorum>,
    integrity: IntegrityJson,
    /// Those that somebody has raised.
    alarms: Vec<AlarmJson>,
}

#[derive(Serialize)]
struct AlarmJson {
    kind: String,
    /// 0 if it names none.
    member: u64,
}

#[derive(Serialize)]
struct IntegrityJson {
    alarm: Option<String>,
    compared_index: u64,
    divergent: Vec<u64>,
    scrubs: u64,
    scrubs_incomplete: u64,
    scrubbing_keys: Option<u64>,
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
    compacted: u64,
    bytes: u64,
    quota: u64,
    leases: u64,
    sessions: u64,
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
        let health = row.health.as_ref().map(|health| HealthJson {
            member: row.id.is_some_and(|id| health.members.membership.contains(id)),
            bound: health.bound,
            disk_waiting_ms: health.waiting_ms,
            transfer: health.transfer.map(|id| id.0),
            timing: health.timing.clone(),
            no_quorum: health.no_quorum.clone(),
            integrity: IntegrityJson::of(&health.integrity),
            alarms: health.alarms.iter().map(AlarmJson::of).collect(),
        });
        let id = row.id.map(|id| id.0);
        let reachable = row.status.is_ok();
        let remark = |Remark { text, serious }| RemarkJson { text, serious };
        let remarks = reachable.then(|| row.remarks().into_iter().map(remark).collect());
        let address = row.address.clone();
        Self { address, id, reachable, error, node, progress, health, remarks }
    }
}

impl AlarmJson {
    fn of(alarm: &MemberAlarm) -> Self {
        Self { kind: alarm.kind.to_string(), member: alarm.member.0 }
    }
}

impl IntegrityJson {
    fn of(integrity: &Integrity) -> Self {
        Self {
            alarm: integrity.alarm.as_ref().map(ToString::to_string),
            compared_index: integrity.compared.0,
            divergent: integrity.divergent.iter().map(|id| id.0).collect(),
            scrubs: integrity.scrubs,
            scrubs_incomplete: integrity.scrubs_incomplete,
            scrubbing_keys: integrity.scrubbing,
        }
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
            compacted: status.compacted.0,
            bytes: status.space.bytes,
            quota: status.space.quota,
            leases: status.leases,
            sessions: status.sessions,
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

/// Members as a table, then a line for whatever is wrong, as that a member could not be asked.
pub fn text(rows: &[Row]) -> String {
    let membership = membership(rows);
    let mut table = Table::new(&HEADERS);
    let mut remarks: Vec<String> = rows.iter().flat_map(Row::lines).collect();
    if let Some(joint) = membership.filter(|membership| membership.is_joint()) {
        let (from, to) = (joint.outgoing(), joint.voters());
        remarks.push(format!("the voters are being changed: {} to {}", names(from), names(to)));
    }
    for row in rows {
        let mut cells = vec![name(row), row.address.clone()];
        cells.extend(node_cells(row, membership));
        cells.extend(progress_cells(row));
        table.row(cells);
    }
    let mut text = table.render();
    text.extend(store(rows));
    remarks.iter().fold(text, |text, remark| text + remark + "\n")
}

/// What the store holds, in one line, as the node knows it that has come furthest.
fn store(rows: &[Row]) -> Option<String> {
    let statuses = rows.iter().filter_map(|row| row.status.as_ref().ok());
    let status = statuses.max_by_key(|status| status.last_applied)?;
    let Space { bytes, quota } = status.space;
    let compacted = match status.compacted.0 {
        0 => "nothing compacted".to_owned(),
        revision => format!("compacted up to {revision}"),
    };
    let quota = if quota == 0 { String::new() } else { format!(" of {}", size(quota)) };
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    let (keys, leases) = (status.keys, status.leases);
    Some(format!(
        "store: {}{quota}, {keys} key{} at revision {}, {compacted}, {leases} lease{}\n",
        size(bytes),
        plural(keys),
        status.revision,
        plural(leases),
    ))
}

/// One line a member as `etcdctl endpoint status` prints it: address, node, program, bytes, leader,
/// learner, term, last entry, last applied, errors.
pub fn simple(rows: &[Row]) -> Vec<u8> {
    let membership = membership(rows);
    let line = |row: &Row| {
        let (address, name) = (&row.address, name(row));
        match &row.status {
            Ok(status) => format!(
                "{address}, {name}, {}, {}, {}, {}, {}, {}, {}, {}\n",
                status.version,
                size(status.space.bytes),
                status.leader == Some(status.id),
                unusual_role(row, membership).is_some(),
                status.term,
                status.last_log.index,
                status.last_applied,
                row.lines().join("; "),
            ),
            Err(error) => format!("{address}, {name}, , , , , , , , {error}\n"),
        }
    };
    rows.iter().map(line).collect::<String>().into_bytes()
}

/// Bytes as people say them: `4.2 MiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64 / 1024.0;
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    for unit in &UNITS[..3] {
        if value < 1023.95 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} {}", UNITS[3])
}

/// How much a node knows of its cluster: the leader of the highest term most.
pub fn rank(status: &NodeStatus) -> (bool, Term) {
    (status.leader == Some(status.id), status.term)
}

/// The members as the node knows them that knows most; nothing if none says.
pub fn membership(rows: &[Row]) -> Option<&Membership> {
    let known = rows.iter().filter_map(|row| {
        let membership = &row.health.as_ref()?.members.membership;
        Some((rank(row.status.as_ref().ok()?), membership))
    });
    let known = known.filter(|(_, membership)| !membership.is_empty());
    known.max_by_key(|(rank, _)| *rank).map(|(_, membership)| membership)
}

pub(super) fn name(row: &Row) -> String {
    row.id.map_or_else(|| "?".to_owned(), |id| id.to_string())
}

/// What it is to the configuration, if that is not the usual.
fn unusual_role(row: &Row, membership: Option<&Membership>) -> Option<String> {
    let (Some(membership), Some(id)) = (membership, row.id) else {
        let voter = row.progress.as_ref().is_none_or(|member| member.voter);
        return (!voter).then(|| "learner".into());
    };
    if !membership.contains(id) {
        return Some("no member".into());
    }
    let role = MemberRole::of(membership, id);
    (role != MemberRole::Voter).then(|| role.to_string())
}

fn node_cells(row: &Row, membership: Option<&Membership>) -> Vec<String> {
    let Ok(status) = &row.status else {
        let mut cells = vec!["unreachable".to_owned()];
        cells.resize(8, "-".to_owned());
        return cells;
    };
    let unusual = unusual_role(row, membership);
    let unusual = unusual.map_or_else(String::new, |role| format!(" ({role})"));
    vec![
        format!("{}{unusual}", status.role),
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
pub(super) fn ago(milliseconds: u64) -> String {
    match milliseconds {
        0..=999 => format!("{milliseconds} ms"),
        1_000..=99_999 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => format!("{} min", milliseconds / 60_000),
    }
}
