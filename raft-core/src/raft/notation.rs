//! One notation for scripts, traces and inspection: a line per event, `index@term` for entries.
//!
//! Formatting only; nothing here decides anything.

use super::io::{LogOp, Write};
use super::message::{AppendEntries, AppendOutcome, Envelope, LEASED, Message, ReadRequestId};
use crate::types::{Entry, HardState, Membership, Payload, SnapshotMeta};
use std::fmt;

impl fmt::Display for Envelope {
    /// `n1@1 → n2 AppendEntries prev=1@1 [2@1] commit=1`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} → {} {}", self.from, self.term, self.to, self.message)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |set: bool, name: &'static str| if set { name } else { "" };
        match self {
            Self::RequestVote { last_log, pre_vote, transfer } => {
                let (pre_vote, transfer) = (flag(*pre_vote, " pre"), flag(*transfer, " transfer"));
                write!(f, "RequestVote last={last_log}{pre_vote}{transfer}")
            }
            Self::RequestVoteResponse { granted, pre_vote } => {
                let answer = if *granted { "granted" } else { "refused" };
                write!(f, "RequestVoteResponse {answer}{}", flag(*pre_vote, " pre"))
            }
            Self::AppendEntries(append) => append.fmt(f),
            Self::AppendEntriesResponse { outcome, read_seq, stalled_ticks } => {
                write!(f, "AppendEntriesResponse {outcome}")?;
                fmt_read_seq(*read_seq, f)?;
                match stalled_ticks {
                    0 => Ok(()),
                    ticks => write!(f, " stalled={ticks}"),
                }
            }
            Self::InstallSnapshot { meta } => write!(f, "InstallSnapshot {meta}"),
            Self::TimeoutNow => f.write_str("TimeoutNow"),
            Self::Commit { entry } => write!(f, "Commit {entry}"),
            Self::ReadIndex { request } => write!(f, "ReadIndex {request}"),
            Self::ReadIndexResponse { request, index } => {
                write!(f, "ReadIndexResponse {request} index={index}")
            }
            Self::Hello { members, seen } => {
                write!(f, "Hello members={members:?}")?;
                seen.map_or(Ok(()), |seen| write!(f, " seen={:04x}", seen.0 & 0xffff))
            }
        }
    }
}

impl fmt::Display for AppendEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppendEntries prev={}", self.prev_log)?;
        if let Some(run) = &self.entries {
            write!(f, " {run}")?;
        }
        write!(f, " commit={}", self.leader_commit)?;
        fmt_read_seq(self.read_seq, f)
    }
}

/// Left out as long as there were no reads.
fn fmt_read_seq(read_seq: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match read_seq & !LEASED {
        0 => {}
        seq => write!(f, " read={seq}")?,
    }
    f.write_str(if read_seq & LEASED == 0 { "" } else { " leased" })
}

impl fmt::Display for AppendOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matched(index) => write!(f, "matched={index}"),
            Self::Conflict { refused, hint } => write!(f, "conflict={refused} hint={hint}"),
        }
    }
}

impl fmt::Display for ReadRequestId {
    /// `request=3f2a/1`: the end of the nonce, and the try.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request={:04x}/{}", self.nonce & 0xffff, self.seq)
    }
}

impl fmt::Display for Write {
    /// `#3 term=1 vote=n1 [2@1]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seq)?;
        self.ops.iter().try_for_each(|op| write!(f, " {op}"))
    }
}

impl fmt::Display for LogOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(identity) => write!(f, "identity={}", identity.incarnation),
            Self::HardState(HardState { term, vote }) => {
                write!(f, "term={term}")?;
                vote.map_or(Ok(()), |vote| write!(f, " vote={vote}"))
            }
            Self::Append(run) => run.fmt(f),
            Self::Compact(meta) => write!(f, "compact {meta}"),
            Self::Reset(meta) => write!(f, "reset {meta}"),
        }
    }
}

impl fmt::Display for SnapshotMeta {
    /// `last=5@1`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "last={}", self.last)
    }
}

impl fmt::Display for Membership {
    /// `voters=[n1, n2]`, with ` outgoing=[n1]` while joint and ` learners=[n3, n4?]` if there are
    /// any: n4 was never heard of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "voters={:?}", self.voters())?;
        if self.is_joint() {
            write!(f, " outgoing={:?}", self.outgoing())?;
        }
        let mut separator = " learners=[";
        for node in self.learners() {
            write!(f, "{separator}{node}")?;
            let bound =
                self.members().get(&node).is_some_and(|member| member.incarnation.is_some());
            f.write_str(if bound { "" } else { "?" })?;
            separator = ", ";
        }
        f.write_str(if separator == ", " { "]" } else { "" })
    }
}

impl fmt::Display for Entry {
    /// `2@1 x`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.payload)
    }
}

impl fmt::Display for Payload {
    /// `noop`, a short printable command as it is, any other by its size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 32;
        match self {
            Self::Noop => f.write_str("noop"),
            Self::Membership(membership) => membership.fmt(f),
            Self::Command(command) => match std::str::from_utf8(command) {
                Ok(text) if text.len() <= SHOWN_MAX && !text.contains(char::is_control) => {
                    f.write_str(text)
                }
                _ => write!(f, "({} bytes)", command.len()),
            },
        }
    }
}
