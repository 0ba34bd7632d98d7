//! How well a cluster is, printed.

use super::Table;
use super::status::{Row, name};
use serde::Serialize;
use std::time::Duration;

/// How well a cluster is.
#[derive(Serialize)]
pub struct HealthReport {
    /// Whether every member is, and a read goes through.
    pub healthy: bool,
    read: Read,
    members: Vec<Member>,
}

/// A linearizable read: it takes a leader and a quorum.
#[derive(Serialize)]
struct Read {
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Member {
    node: String,
    address: String,
    healthy: bool,
    remarks: Vec<String>,
}

impl HealthReport {
    /// From what the members say, and how long a linearizable read took or why there was none.
    pub fn of(rows: &[Row], read: Result<Duration, String>) -> Self {
        let members: Vec<_> = rows.iter().map(Member::of).collect();
        let read = match read {
            Ok(took) => {
                let took_ms = (took.as_secs_f64() * 10_000.0).round() / 10.0;
                Read { done: true, took_ms: Some(took_ms), error: None }
            }
            Err(error) => Read { done: false, took_ms: None, error: Some(error) },
        };
        let healthy = read.done && members.iter().all(|member| member.healthy);
        Self { healthy, read, members }
    }

    /// As a table, then a line about the read.
    pub fn text(&self) -> String {
        let mut table = Table::new(&["NODE", "ADDRESS", "HEALTHY", "REMARKS"]);
        for member in &self.members {
            let healthy = if member.healthy { "yes" } else { "no" };
            let remarks = match &member.remarks[..] {
                [] => "-".to_owned(),
                remarks => remarks.join("; "),
            };
            table.row(vec![member.node.clone(), member.address.clone(), healthy.into(), remarks]);
        }
        format!("{}{}\n", table.render(), self.read.text())
    }

    /// A line for each member as `etcdctl endpoint health` prints it.
    pub fn simple(&self) -> Vec<u8> {
        let line = |member: &Member| {
            let Member { address, healthy, remarks, .. } = member;
            let what = if *healthy { "healthy" } else { "unhealthy" };
            let colon = if remarks.is_empty() { "" } else { ": " };
            format!("{address} is {what}{colon}{}\n", remarks.join("; "))
        };
        self.members.iter().map(line).collect::<String>().into_bytes()
    }
}

impl Read {
    fn text(&self) -> String {
        match (self.took_ms, &self.error) {
            (Some(took_ms), _) => format!("a linearizable read took {took_ms} ms"),
            (None, Some(error)) => format!("no linearizable read: {error}"),
            (None, None) => "no linearizable read".into(),
        }
    }
}

impl Member {
    fn of(row: &Row) -> Self {
        let (node, address) = (name(row), row.address.clone());
        let status = match &row.status {
            Ok(status) => status,
            Err(why) => return Self { node, address, healthy: false, remarks: vec![why.clone()] },
        };
        let remarks = row.remarks();
        let serious = remarks.iter().any(|remark| remark.serious);
        let mut remarks: Vec<_> = remarks.into_iter().map(|remark| remark.text).collect();
        if status.leader.is_none() && !serious {
            remarks.push("knows no leader".into());
        }
        Self { node, address, healthy: !serious && status.leader.is_some(), remarks }
    }
}
