//! `raft recover plan`: the survivors side by side, the best of them, and what may be lost.

use super::survivor::Survivor;
use crate::args::recover::RecoverPlan;
use crate::failure::{Failure, Kind};
use crate::output::{Output, Table};
use raft_core::types::{LogId, Membership, NodeId};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Runs `raft recover plan`. A directory that is damaged is listed with the reason, and left out.
pub(super) fn run(args: &RecoverPlan, output: &mut Output<'_>) -> Result<(), Failure> {
    let mut survivors: Vec<Survivor> = Vec::new();
    let mut unusable = Vec::new();
    for dir in &args.dirs {
        match Survivor::read(dir) {
            Ok(survivor) => survivors.push(survivor),
            // Nothing is to be said of a directory that changes.
            Err(failure) if failure.message.contains("in use by another process") => {
                return Err(failure.advice("stop the node first"));
            }
            Err(failure) => unusable.push((dir.clone(), with_checkpoint(dir, failure))),
        }
    }
    check_relation(&survivors)?;
    let verdict = Verdict::of(&survivors);
    let json = json(&survivors, &unusable, verdict.as_ref());
    output.print(&json, || text(&survivors, &unusable, verdict.as_ref()))?;
    match (verdict, unusable.into_iter().next()) {
        (Some(_), _) => Ok(()),
        (None, Some((_, failure))) => Err(failure),
        (None, None) => Err(Failure::new(Kind::Refused, "none of these nodes was in a cluster")),
    }
}

/// The same, with what can be made of the checkpoint although the log cannot be used.
fn with_checkpoint(dir: &Path, failure: Failure) -> Failure {
    match Survivor::read_checkpoint(dir) {
        Ok(survivor) if !survivor.membership().is_empty() => failure.advice(format!(
            "its checkpoint is whole, up to entry {}: `raft recover apply --checkpoint-only` \
             can use it",
            survivor.last()
        )),
        _ => failure,
    }
}

/// Refuses to compare what was never one history.
fn check_relation(survivors: &[Survivor]) -> Result<(), Failure> {
    let pairs = survivors.iter().enumerate();
    for (first, other) in
        pairs.flat_map(|(at, one)| survivors[..at].iter().map(move |two| (two, one)))
    {
        let (one, two) = (first.dir.display(), other.dir.display());
        let (here, there) = (first.identity.cluster, other.identity.cluster);
        if here != there {
            let text = format!("{one} is of cluster {here}, {two} of cluster {there}");
            return Err(Failure::usage(text).advice("compare directories of one cluster"));
        }
        let (here, there) = (first.membership().epoch(), other.membership().epoch());
        // A node that lags behind may not know yet that a new history has begun.
        let goes_on = first.has(other.last()) || other.has(first.last());
        if here != there && !goes_on {
            let text = format!("{one} is of history epoch {here}, {two} of {there}");
            return Err(Failure::usage(text).advice("compare directories of one history"));
        }
        if !first.agrees_with(other) {
            let text = format!("{one} and {two} have different entries in the same place and term");
            return Err(Failure::usage(text).advice("they are of different histories"));
        }
    }
    Ok(())
}

/// What is to be said of all survivors.
struct Verdict<'a> {
    best: &'a Survivor,
    membership: &'a Membership,
    /// Voters and learners none of whose data is here.
    missing: Vec<NodeId>,
    /// Whether a quorum of the voters is here: then nothing is lost.
    quorum: bool,
    /// Everything up to here is known to be committed.
    committed: LogId,
}

impl<'a> Verdict<'a> {
    /// `None` if no survivor was ever in a cluster.
    fn of(survivors: &'a [Survivor]) -> Option<Self> {
        // What decides an election decides here (§5.4.1): of all survivors, the one with the later
        // and then longer log has every committed entry that any of them has.
        let in_cluster = survivors.iter().filter(|survivor| !survivor.membership().is_empty());
        let best = in_cluster.max_by_key(|one| (one.last(), one.checkpoint.last))?;
        let membership = best.membership();
        let here = |node: &NodeId| {
            let speaks = |one: &Survivor| {
                let identity = one.identity;
                identity.node == *node && membership.admits(*node, identity.incarnation)
            };
            survivors.iter().any(speaks)
        };
        Some(Self {
            best,
            membership,
            missing: membership.members().keys().copied().filter(|node| !here(node)).collect(),
            quorum: membership.is_quorum(|node| here(&node)),
            committed: survivors.iter().map(|one| one.checkpoint.last).max()?,
        })
    }

    fn next(&self) -> String {
        let from = self.best.dir.display();
        format!("raft recover apply --from {from} --to NEWDIR --advertise HOST:PORT --yes")
    }

    fn text(&self) -> String {
        let (best, last) = (self.best, self.best.last());
        let (node, dir) = (best.identity.node, best.dir.display());
        let mut text = format!("\nBest: {node} in {dir}, which reaches up to entry {last}.\n");
        if self.quorum {
            text.push_str(&format!(
                "These are a quorum of the voters {}: nothing need be lost. Start them instead of \
                 recovering.\n",
                list(self.membership.voters())
            ));
            return text;
        }
        let missing = list(&self.missing);
        text.push_str(&format!(
            "Missing: {missing}; without them there is no quorum of the voters {}.\n\
             Kept: entries up to {last}; {}.\n\
             May be lost: writes acknowledged after entry {last} that only {missing} had.\n\
             Next: {}\n",
            list(self.membership.voters()),
            known(self.committed, last),
            self.next(),
        ));
        text
    }

    fn json(&self) -> Value {
        json!({
            "dir": self.best.dir,
            "node": self.best.identity.node.0,
            "last": log_id(self.best.last()),
        })
    }
}

/// Which of the entries up to `last` are known to be committed.
pub(super) fn known(committed: LogId, last: LogId) -> String {
    match committed {
        LogId::ZERO => "of none of them it is known whether it was committed".to_owned(),
        committed if committed == last => "all of them are known to be committed".to_owned(),
        committed => format!(
            "those up to {committed} are known to be committed, of those after it that is not known"
        ),
    }
}

const HEADERS: [&str; 9] = [
    "NODE",
    "CLUSTER",
    "INCARNATION",
    ">TERM",
    "LAST ENTRY",
    "CHECKPOINT",
    "VOTERS",
    "LEARNERS",
    "DIRECTORY",
];

fn text(
    survivors: &[Survivor],
    unusable: &[(PathBuf, Failure)],
    verdict: Option<&Verdict<'_>>,
) -> String {
    let mut table = Table::new(&HEADERS);
    for survivor in survivors {
        let (identity, membership) = (survivor.identity, survivor.membership());
        let learners: Vec<NodeId> = membership.learners().collect();
        table.row(vec![
            identity.node.to_string(),
            identity.cluster.to_string(),
            identity.incarnation.to_string(),
            survivor.term().to_string(),
            survivor.last().to_string(),
            survivor.checkpoint.last.to_string(),
            list(membership.voters()),
            list(&learners),
            survivor.dir.display().to_string(),
        ]);
    }
    let mut text = if survivors.is_empty() { String::new() } else { table.render() };
    for (dir, failure) in unusable {
        text.push_str(&named(dir, failure));
    }
    text + &verdict.map(Verdict::text).unwrap_or_default()
}

/// A directory that cannot be used, and why.
fn named(dir: &Path, failure: &Failure) -> String {
    let dir = dir.display().to_string();
    let name = if failure.message.contains(&dir) { String::new() } else { format!("{dir}: ") };
    format!("{name}{failure}\n")
}

fn json(
    survivors: &[Survivor],
    unusable: &[(PathBuf, Failure)],
    verdict: Option<&Verdict<'_>>,
) -> Value {
    let directories: Vec<Value> = survivors.iter().map(survivor_json).collect();
    let unusable: Vec<Value> = unusable
        .iter()
        .map(|(dir, why)| json!({ "dir": dir, "error": why.message, "advice": why.advice }))
        .collect();
    let ids = |nodes: &[NodeId]| -> Vec<u64> { nodes.iter().map(|node| node.0).collect() };
    json!({
        "directories": directories,
        "unusable": unusable,
        "best": verdict.map(Verdict::json),
        "quorum": verdict.map(|verdict| verdict.quorum),
        "missing": verdict.map(|verdict| ids(&verdict.missing)),
        "committed": verdict.map(|verdict| log_id(verdict.committed)),
        "lost_after": verdict.filter(|verdict| !verdict.quorum)
            .map(|verdict| log_id(verdict.best.last())),
    })
}

fn survivor_json(survivor: &Survivor) -> Value {
    let (identity, membership) = (survivor.identity, survivor.membership());
    let learners: Vec<u64> = membership.learners().map(|node| node.0).collect();
    let voters: Vec<u64> = membership.voters().iter().map(|node| node.0).collect();
    json!({
        "dir": survivor.dir,
        "node": identity.node.0,
        "cluster": identity.cluster.to_string(),
        "incarnation": identity.incarnation.to_string(),
        "epoch": membership.epoch(),
        "term": survivor.term().0,
        "last": log_id(survivor.last()),
        "checkpoint": log_id(survivor.checkpoint.last),
        "keys_in_checkpoint": survivor.keys,
        "voters": voters,
        "learners": learners,
    })
}

fn log_id(id: LogId) -> Value {
    json!({ "index": id.index.0, "term": id.term.0 })
}

fn list(nodes: &[NodeId]) -> String {
    if nodes.is_empty() {
        return "-".into();
    }
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
