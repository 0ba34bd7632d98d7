//! What is written down of a cluster: what happened, and what was done to it, as a script.

use super::Cluster;
use crate::raft::{Config, Moment, Raft};
use crate::testing::machine::Machine;
use crate::types::{Change, WriteSeq};
use bytes::Bytes;
use std::fmt::{Display, Write as _};

/// A trace and a script.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    trace: String,
    script: Vec<String>,
}

impl Notes {
    pub(super) fn new(nodes: u64, config: &Config, seed: u64) -> Self {
        Self { trace: String::new(), script: vec![first_command(nodes, config, seed)] }
    }

    pub(super) fn take_trace(&mut self) -> String {
        std::mem::take(&mut self.trace)
    }

    pub(super) fn script(&self) -> &[String] {
        &self.script
    }
}

impl<M: Machine> Cluster<M> {
    /// Something happens.
    pub(super) fn note(&mut self, line: impl Display) {
        if let Some(notes) = &mut self.notes {
            writeln!(notes.trace, "{line}").expect("a string takes everything");
        }
    }

    /// Something is done to the cluster.
    pub(super) fn command(&mut self, line: impl Display) {
        if let Some(notes) = &mut self.notes {
            notes.script.push(line.to_string());
        }
    }

    pub(super) fn note_role(&mut self, before: &Moment, after: &Raft) {
        if self.notes.is_none() {
            return;
        }
        let (id, role, term, leader) = (after.id(), after.role(), after.term(), after.leader());
        if (before.role, before.term, before.leader) == (role, term, leader) {
            return;
        }
        let leader = leader.filter(|leader| *leader != id);
        let leader = leader.map(|leader| format!(" of {leader}")).unwrap_or_default();
        self.note(format_args!("{id}@{term} {role}{leader}"));
    }
}

/// The command that makes such a cluster; of `config`, what scripts can say.
fn first_command(nodes: u64, config: &Config, seed: u64) -> String {
    let usual = Config::default();
    let mut line = format!("cluster nodes={nodes} seed={seed}");
    let mut say = |key: &str, value: u64, usual: u64| {
        if value != usual {
            write!(line, " {key}={value}").expect("a string takes everything");
        }
    };
    let sizes = [
        ("in-flight", config.in_flight_max, usual.in_flight_max),
        ("message-bytes", config.message_bytes_max, usual.message_bytes_max),
        ("command-bytes", config.command_bytes_max, usual.command_bytes_max),
        ("trailing-bytes", config.log_trailing_bytes, usual.log_trailing_bytes),
        ("log-bytes", config.log_bytes_max, usual.log_bytes_max),
        ("uncommitted-bytes", config.uncommitted_bytes_max, usual.uncommitted_bytes_max),
        ("in-flight-bytes", config.in_flight_bytes_max, usual.in_flight_bytes_max),
        ("trailing-entries", config.log_trailing_entries, usual.log_trailing_entries),
    ];
    for (key, value, usual) in sizes {
        say(key, value as u64, usual as u64);
    }
    say("stall-ticks", config.disk_stall_ticks.into(), usual.disk_stall_ticks.into());
    say("version", config.version.0.into(), usual.version.0.into());
    let flags = [
        ("leases", config.lease_reads),
        ("strangers", !config.readmit),
        ("blank", !config.initial.is_empty()),
    ];
    for (key, _) in flags.into_iter().filter(|(_, set)| *set) {
        write!(line, " {key}=yes").expect("a string takes everything");
    }
    line
}

/// Membership changes as a script says them.
pub(super) fn arguments(changes: &[Change]) -> String {
    let argument = |change: &Change| {
        let key = match change {
            Change::Add { promote: true, .. } => "add",
            Change::Add { .. } => "observe",
            Change::Promote { .. } => "promote",
            Change::Demote { .. } => "demote",
            Change::Prioritize { node, priority } => {
                return format!(" priority={}:{priority}", node.0);
            }
            _ => "remove",
        };
        format!(" {key}={}", change.node().0)
    };
    changes.iter().map(argument).collect()
}

/// ` key=number`, or nothing.
pub(super) fn numbered(key: &str, seq: Option<WriteSeq>) -> String {
    seq.map(|seq| format!(" {key}={}", seq.0)).unwrap_or_default()
}

/// Commands as words: as they are where that can be read back, else in hexadecimal, in which case
/// a script proposes others of another size.
pub(super) fn words(commands: &[Bytes]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'.' | b'-');
    let word = |command: &Bytes| match command.iter().all(plain) && !command.is_empty() {
        true => format!(" {}", String::from_utf8_lossy(command)),
        false => format!(" {command:x}"),
    };
    commands.iter().map(word).collect()
}
