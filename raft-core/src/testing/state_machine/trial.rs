//! The log of a check, what the first machine made of it, and machines that must do alike.

use super::{Check, Report};
use crate::state_machine::{Snapshot, StateMachine};
use crate::testing::breach::{Breach, contain};
use crate::testing::log_store::Scratch;
use crate::types::{Entry, Index, LogId, Member, Membership, NodeId, Payload, Run, SnapshotMeta};
use bytes::Bytes;
use std::cell::Cell;

/// Between so many commands there is an entry without one.
const COMMANDS_BETWEEN: usize = 5;

/// What can be seen of a machine once an entry is applied.
#[derive(Clone, PartialEq, Eq, Default)]
struct Seen {
    answers: Vec<Bytes>,
    digest: Option<u64>,
}

/// One check under way.
pub(super) struct Trial<'a, M> {
    check: &'a Check<'a, M>,
    pub(super) entries: Vec<Entry>,
    /// What is to be seen after so many entries.
    seen: Vec<Seen>,
    replies: Vec<Bytes>,
    machines: Cell<usize>,
    pub(super) report: Report,
}

/// A machine and the directory it has for itself.
pub(super) struct Subject<M> {
    // Declared before the directory, so dropped before it.
    pub(super) machine: M,
    pub(super) directory: Scratch,
    /// How many entries it has applied.
    pub(super) applied: usize,
}

impl<'a, M: StateMachine> Trial<'a, M> {
    /// Feeds the first machine, entry by entry.
    pub(super) fn new(check: &'a Check<'a, M>) -> Result<Self, Breach> {
        let entries = entries(&check.commands);
        let report = Report { entries: entries.len(), ..Report::default() };
        let (seen, replies) = (Vec::new(), Vec::new());
        let mut trial = Self { check, entries, seen, replies, machines: Cell::new(0), report };
        let mut first = trial.blank()?;
        trial.seen.push(trial.look(&first.machine));
        for number in 0..trial.entries.len() {
            let reply = trial.apply(&mut first, 1, "the first machine")?.remove(0);
            let entry = &trial.entries[number];
            if !matches!(entry.payload, Payload::Command(_)) && !reply.is_empty() {
                let step = format!("entry {} without a command is applied", entry.id);
                return Err(Breach::new("replies", step, "an empty reply", show(&reply)));
            }
            trial.replies.push(reply);
            trial.seen.push(trial.look(&first.machine));
        }
        Ok(trial)
    }

    pub(super) const fn durable(&self) -> bool {
        self.check.durable
    }

    /// A machine that holds nothing.
    pub(super) fn blank(&self) -> Result<Subject<M>, Breach> {
        self.open(Scratch::new().map_err(no_directory)?)
    }

    /// The machine that `directory` holds.
    pub(super) fn open(&self, directory: Scratch) -> Result<Subject<M>, Breach> {
        let machine = contain("the machine is opened", || (self.check.open)(directory.path()))?;
        self.machines.set(self.machines.get() + 1);
        Ok(Subject { machine, directory, applied: 0 })
    }

    /// The machine after a restart. The first half of the time its process ended as it was.
    pub(super) fn reopened(&self, subject: Subject<M>) -> Result<Subject<M>, Breach> {
        if subject.applied.is_multiple_of(2) {
            let copy = subject.directory.copied().map_err(no_directory)?;
            return self.open(copy);
        }
        let Subject { machine, directory, .. } = subject;
        drop(machine);
        self.open(directory)
    }

    /// What it covers, if it has applied so many entries.
    pub(super) fn meta(&self, applied: usize) -> SnapshotMeta {
        let last = applied.checked_sub(1).map_or(LogId::ZERO, |last| self.entries[last].id);
        let membership =
            self.entries[..applied].iter().rev().find_map(|entry| match &entry.payload {
                Payload::Membership(membership) => Some((**membership).clone()),
                _ => None,
            });
        SnapshotMeta { last, membership: membership.unwrap_or_default() }
    }

    /// How many entries `meta` says are applied; a breach of `rule` if that cannot be.
    pub(super) fn covered(
        &self,
        meta: &SnapshotMeta,
        allowed: std::ops::RangeInclusive<usize>,
        rule: &'static str,
        step: &str,
    ) -> Result<usize, Breach> {
        let covered = meta.last.index.0 as usize;
        let text = |meta: &SnapshotMeta| {
            format!("{} with members {:?}", meta.last, meta.membership.members().keys())
        };
        if !allowed.contains(&covered) {
            let expected = match (self.meta(*allowed.start()), self.meta(*allowed.end())) {
                (first, last) if first == last => text(&first),
                (first, last) => format!("{} to {}", first.last, last.last),
            };
            return Err(Breach::new(rule, step, expected, text(meta)));
        }
        let expected = self.meta(covered);
        if *meta != expected {
            return Err(Breach::new(rule, step, text(&expected), text(meta)));
        }
        Ok(covered)
    }

    /// Applies the next `count` entries as one run.
    pub(super) fn apply(
        &self,
        subject: &mut Subject<M>,
        count: usize,
        step: &str,
    ) -> Result<Vec<Bytes>, Breach> {
        let entries = self.entries[subject.applied..subject.applied + count].to_vec();
        let Some(run) = Run::new(entries) else { return Ok(Vec::new()) };
        let replies = contain(step, || subject.machine.apply(&run))?;
        subject.applied += count;
        if replies.len() != count {
            let (expected, found) = (format!("{count} replies"), format!("{}", replies.len()));
            return Err(Breach::new(
                "replies",
                format!("{step}: {run} is applied"),
                expected,
                found,
            ));
        }
        Ok(replies)
    }

    /// Applies up to `end` entries in runs of `length` and compares all that can be seen.
    pub(super) fn follow(
        &self,
        subject: &mut Subject<M>,
        end: usize,
        length: usize,
        rule: &'static str,
        step: &str,
    ) -> Result<(), Breach> {
        self.compare(subject, rule, step)?;
        while subject.applied < end {
            let from = subject.applied;
            let replies = self.apply(subject, length.min(end - from), step)?;
            for (reply, number) in replies.iter().zip(from..) {
                let expected = &self.replies[number];
                if reply != expected {
                    let step = format!("{step}: the reply to entry {}", self.entries[number].id);
                    return Err(Breach::new(rule, step, show(expected), show(reply)));
                }
            }
            self.compare(subject, rule, step)?;
        }
        Ok(())
    }

    /// Compares answers and digest.
    pub(super) fn compare(
        &self,
        subject: &Subject<M>,
        rule: &'static str,
        step: &str,
    ) -> Result<(), Breach> {
        let (expected, found) = (&self.seen[subject.applied], self.look(&subject.machine));
        let after = self.meta(subject.applied).last;
        let answers = expected.answers.iter().zip(&found.answers);
        for ((expected, found), query) in answers.zip(&self.check.queries) {
            if expected != found {
                let step = format!("{step}: after {after}, query {}", show(query));
                return Err(Breach::new(rule, step, show(expected), show(found)));
            }
            if let Some(quick) = subject.machine.quick_query(query)
                && quick != expected
            {
                let step = format!("{step}: after {after}, quick query {}", show(query));
                return Err(Breach::new("quick", step, show(expected), show(&quick)));
            }
        }
        if expected.digest != found.digest {
            let step = format!("{step}: after {after}, the digest");
            let text = |digest: Option<u64>| format!("{digest:x?}");
            return Err(Breach::new(rule, step, text(expected.digest), text(found.digest)));
        }
        Ok(())
    }

    fn look(&self, machine: &M) -> Seen {
        let answers = self.check.queries.iter().map(|query| machine.query(query)).collect();
        Seen { answers, digest: self.check.digest.as_ref().map(|digest| digest(machine)) }
    }

    /// Makes a checkpoint, if the machine makes any, and a snapshot: what it covers is checked.
    /// None if it has nothing to tell yet.
    pub(super) fn snapshot(&self, subject: &mut Subject<M>) -> Result<Option<Snapshot>, Breach> {
        let applied = subject.applied;
        let step = format!("a snapshot after {applied} entries");
        let least = self.checkpoint(subject)?;
        match contain(&step, || subject.machine.snapshot())? {
            Ok(snapshot) => {
                self.covered(&snapshot.meta, least..=applied, "snapshot", &step)?;
                Ok(Some(snapshot))
            }
            Err(_) if applied == 0 => Ok(None),
            Err(error) => Err(Breach::new("snapshot", step, "a snapshot", error.to_string())),
        }
    }

    /// Makes a checkpoint and waits for it; how many entries it covers at least.
    pub(super) fn checkpoint(&self, subject: &mut Subject<M>) -> Result<usize, Breach> {
        let step = format!("a checkpoint after {} entries", subject.applied);
        let Some(job) = contain(&step, || subject.machine.checkpoint())? else { return Ok(0) };
        let meta = contain(&step, job)?.map_err(|error| {
            Breach::new("freeze", &step, "the checkpoint is written", error.to_string())
        })?;
        self.covered(&meta, subject.applied..=subject.applied, "freeze", &step)
    }

    pub(super) fn finish(mut self) -> Report {
        self.report.machines = self.machines.get();
        self.report
    }
}

fn no_directory(error: std::io::Error) -> Breach {
    Breach::new("restart", "making or copying a directory", "one", error.to_string())
}

/// Bytes as text, if they are, and not too many.
pub(super) fn show(bytes: &[u8]) -> String {
    let text: String = bytes.escape_ascii().take(120).map(char::from).collect();
    format!("{} bytes \"{text}\"", bytes.len())
}

/// The log: the commands, and between them entries of every other kind.
fn entries(commands: &[Bytes]) -> Vec<Entry> {
    let mut payloads = vec![Payload::Membership(members(3).into()), Payload::Noop];
    for (number, command) in commands.iter().enumerate() {
        payloads.push(Payload::Command(command.clone()));
        if number % COMMANDS_BETWEEN == COMMANDS_BETWEEN - 1 {
            let other = (number / COMMANDS_BETWEEN) as u64;
            payloads.push(match other % 2 {
                0 => Payload::Noop,
                _ => Payload::Membership(members(3 + other % 3).into()),
            });
        }
    }
    let entry =
        |(payload, index): (_, u64)| Entry { id: LogId::new(index, 1 + index / 9), payload };
    payloads.into_iter().zip(Index(1).0..).map(entry).collect()
}

fn members(count: u64) -> Membership {
    let member = |id: u64| (NodeId(id), Member::new(format!("node{id}:7000")));
    Membership::of_voters((1..=count).map(member).collect())
}
