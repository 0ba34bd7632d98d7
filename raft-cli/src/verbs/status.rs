//! `raft status`: every member asked, and how the leader sees each.

use crate::client::{Answer, Store};
use crate::failure::{Failure, Kind};
use crate::output::Output;
use crate::output::status::{Row, RowJson, membership, rank, simple, text};
use raft_core::types::{Membership, NodeId};
use raft_kv::api::MemberStatus;
use serde_json::json;

/// Shows all members.
///
/// # Errors
/// Of kind `Unavailable` if none answers; what is known is printed first.
pub async fn run(store: &Store, output: &mut Output<'_>) -> Result<(), Failure> {
    let rows = rows(store.statuses().await);
    let members: Vec<_> = rows.iter().map(RowJson::of).collect();
    let changing = membership(&rows).map(Membership::is_joint);
    let json = json!({ "members": members, "changing": changing });
    output.show(&json, || simple(&rows), || text(&rows))?;
    if rows.iter().any(|row| row.status.is_ok()) {
        return Ok(());
    }
    Err(Failure::new(Kind::Unavailable, "no member answered")
        .advice("check that the nodes run, and --endpoints"))
}

/// One row per member or address, by id; what the leader of the highest term knows is added.
pub fn rows(answers: Vec<Answer>) -> Vec<Row> {
    let members = known_members(&answers);
    let mut rows: Vec<Row> = Vec::new();
    for Answer { address, status, health } in answers {
        let member = match &status {
            Ok(status) => members.iter().find(|member| member.id == status.id),
            Err(_) => members.iter().find(|member| member.address == address),
        };
        let id = match &status {
            Ok(status) => Some(status.id),
            Err(_) => member.map(|member| member.id),
        };
        // Two addresses may lead to one node: it is shown once.
        if id.is_some() && rows.iter().any(|row| row.id == id && row.status.is_ok()) {
            continue;
        }
        rows.retain(|row| id.is_none() || row.id != id);
        rows.push(Row { address, id, status, progress: member.cloned(), health });
    }
    for member in members {
        if !rows.iter().any(|row| row.id == Some(member.id)) {
            rows.push(Row {
                address: member.address.clone(),
                id: Some(member.id),
                status: Err("not asked: none of the endpoints is its address".into()),
                progress: Some(member),
                health: None,
            });
        }
    }
    rows.sort_by_key(|row| row.id.unwrap_or(NodeId(u64::MAX)));
    rows
}

/// The members as the leader of the highest term sees them; without a leader, as the node with the
/// highest term does, without progress.
fn known_members(answers: &[Answer]) -> Vec<MemberStatus> {
    let statuses = answers.iter().filter_map(|answer| answer.status.as_ref().ok());
    let source = statuses.max_by_key(|status| rank(status));
    source.map(|status| status.members.clone()).unwrap_or_default()
}
