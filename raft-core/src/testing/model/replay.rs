//! The same events as a script, found by driving one: whoever gets a violation can run it step by
//! step, change it, and keep it.
//!
//! A script has clocks and random timeouts where the model has none, so seeds are tried until one
//! lets everything happen in time.

use super::Model;
use super::atlas::Atlas;
use super::event::Event;
use super::world::Action;
use crate::raft::{Envelope, Message};
use crate::testing::{Argument, Cluster, Script};
use crate::types::{Change, NodeId, WriteSeq};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds that are tried.
const SEEDS: u64 = 200;

/// The longest and the shortest election timeout of scripts, and their heartbeats, in ticks.
const LONGEST: u64 = 20;
const SHORTEST: u64 = 10;
const HEARTBEAT: u64 = 3;

/// A script of `actions`, if one can be found.
pub(super) fn script(atlas: &Atlas, model: &Model, actions: &[Action]) -> Option<String> {
    (1..=SEEDS).find_map(|seed| {
        let mut replay =
            Replay { lines: Vec::new(), script: Script::new(), quiet: BTreeSet::new() };
        let driven = AssertUnwindSafe(|| replay.drive(atlas, model, actions, seed));
        // A panic is the violation; or else it shows in the model only.
        let fits = catch_unwind(driven).unwrap_or(Some(()));
        fits.map(|()| replay.lines.join("\n"))
    })
}

struct Replay {
    lines: Vec<String>,
    script: Script,
    /// Those that have not heard a leader, nor started, for a shortest election timeout.
    quiet: BTreeSet<NodeId>,
}

impl Replay {
    /// Does one command; `None` if it cannot be done.
    fn run(&mut self, line: String) -> Option<String> {
        let mut words = line.split(' ').map(str::to_owned);
        let verb = words.next()?;
        let arguments: Vec<Argument> = words
            .map(|word| match word.split_once('=') {
                Some((key, value)) => Argument::Keyed(key.into(), value.into()),
                None => Argument::Positional(word),
            })
            .collect();
        self.lines.push(line);
        self.script.run(&verb, &arguments).ok()
    }

    fn cluster(&self) -> &Cluster {
        self.script.cluster().expect("the first command makes one")
    }

    fn drive(&mut self, atlas: &Atlas, model: &Model, actions: &[Action], seed: u64) -> Option<()> {
        let single = if model.single_entries { " message-bytes=1" } else { "" };
        let voters = model.voters;
        let keeps = "in-flight=2 trailing-bytes=0 trailing-entries=0";
        self.run(format!("cluster nodes={voters} seed={seed} {keeps}{single}"))?;
        for id in voters + 1..=model.nodes() {
            self.run(format!("server {id}"))?;
        }
        for action in actions {
            match *action {
                Action::Lose(message) => self.pick("drop", atlas.messages.of(message))?,
                Action::Node { event: Event::Deliver(message), stays, .. } => {
                    self.deliver(atlas.messages.of(message), stays)?;
                }
                Action::Node { at, event, .. } => {
                    let id = NodeId(at as u64 + 1);
                    let changes = &atlas.setting.changes;
                    self.happen(id, event, changes)?;
                }
            }
        }
        Some(())
    }

    fn deliver(&mut self, envelope: &Envelope, stays: bool) -> Option<()> {
        let to = envelope.to;
        match &envelope.message {
            message if message.is_of_leader() => {
                self.quiet.remove(&to);
            }
            Message::RequestVote { .. } => self.wait_for_quiet(to)?,
            _ => {}
        }
        if stays {
            self.pick("duplicate", envelope)?;
        }
        self.pick("deliver", envelope)
    }

    /// Nobody votes who has heard a leader lately.
    fn wait_for_quiet(&mut self, node: NodeId) -> Option<()> {
        let leads = self.cluster().server(node).raft()?.is_leader();
        if leads || !self.quiet.insert(node) {
            return Some(());
        }
        let term = self.cluster().server(node).raft()?.term();
        self.run(format!("tick {} {SHORTEST}", node.0))?;
        let raft = self.cluster().server(node).raft()?;
        let waits = raft.role() == crate::raft::RoleName::Follower && raft.term() == term;
        waits.then_some(())
    }

    /// Does `verb` to the message that reads like `envelope`.
    fn pick(&mut self, verb: &str, envelope: &Envelope) -> Option<()> {
        let text = legible(envelope);
        let kind = text.split(' ').nth(3)?.to_owned();
        let alike = |other: &&Envelope| {
            let same_way = (other.from, other.to) == (envelope.from, envelope.to);
            same_way && other.message.to_string().split(' ').next() == Some(kind.as_str())
        };
        let skip = {
            let pool = self.cluster().pool();
            pool.iter().filter(alike).position(|other| legible(other) == text)?
        };
        let (from, to) = (envelope.from.0, envelope.to.0);
        let skip = if skip == 0 { String::new() } else { format!(" skip={skip}") };
        self.run(format!("{verb} from={from} to={to} kind={kind}{skip} max=1"))?;
        Some(())
    }

    fn happen(&mut self, id: NodeId, event: Event, changes: &[Vec<Change>]) -> Option<()> {
        let node = id.0;
        let line = match event {
            Event::Timeout => {
                self.quiet.insert(id);
                return self.campaign(id);
            }
            Event::Beat => format!("tick {node} {HEARTBEAT}"),
            Event::Wait => format!("tick {node} {SHORTEST}"),
            Event::Deaf => format!("tick {node} {LONGEST}"),
            Event::Persist(writes) => {
                let until = self.write(id, writes)?;
                format!("persist {node} until={}", until.0)
            }
            Event::Restart(kept) => {
                let kept = self.write(id, kept).map(|seq| format!(" kept={}", seq.0));
                self.run(format!("crash {node}{}", kept.unwrap_or_default()))?;
                self.quiet.remove(&id);
                format!("restart {node}")
            }
            Event::Propose(number) => format!("propose {node} {number}"),
            Event::Read => format!("read {node}"),
            Event::Change(number) => format!("change {node}{}", arguments(changes, number)),
            Event::Transfer(to) => format!("transfer {node} to={}", to.0),
            Event::Checkpoint => format!("flush {node}"),
            Event::Snapshot(to) => format!("snapshot {node} {}", to.0),
            Event::Restore => format!("restore {node}"),
            Event::Deliver(_) => return Some(()),
        };
        self.run(line)?;
        Some(())
    }

    /// The clock of `node` goes until it campaigns.
    fn campaign(&mut self, id: NodeId) -> Option<()> {
        let asks = |cluster: &Cluster| {
            let asked =
                |it: &&Envelope| it.from == id && matches!(it.message, Message::RequestVote { .. });
            cluster.pool().iter().filter(asked).count()
        };
        let before = asks(self.cluster());
        let began = self.lines.len();
        for ticks in 1..=LONGEST {
            self.run(format!("tick {} 1", id.0))?;
            let alone = self.cluster().membership().voters().len() == 1;
            if asks(self.cluster()) > before || alone {
                self.lines.truncate(began);
                self.lines.push(format!("tick {} {ticks}", id.0));
                return Some(());
            }
        }
        None
    }

    /// The number of the last of the first `count` writes under way.
    fn write(&self, id: NodeId, count: u32) -> Option<WriteSeq> {
        let last = (count as usize).checked_sub(1)?;
        Some(self.cluster().server(id).writes().get(last)?.seq)
    }
}

/// A message as it reads, but for what is drawn at random.
fn legible(envelope: &Envelope) -> String {
    let text = envelope.to_string();
    let words = text.split(' ').filter(|word| !word.starts_with("request="));
    words.collect::<Vec<_>>().join(" ")
}

fn arguments(changes: &[Vec<Change>], number: u32) -> String {
    let argument = |change: &Change| {
        let key = match change {
            Change::Add { promote: true, .. } => "add",
            Change::Add { .. } => "observe",
            Change::Promote { .. } => "promote",
            Change::Demote { .. } => "demote",
            Change::Prioritize { node, priority } => return format!(" priority={node}:{priority}"),
            _ => "remove",
        };
        format!(" {key}={}", change.node().0)
    };
    changes[number as usize].iter().map(argument).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LogId, Sender, Term};

    #[test]
    fn who_is_told_of_a_commit_has_heard_the_leader() {
        let mut replay =
            Replay { lines: Vec::new(), script: Script::new(), quiet: BTreeSet::new() };
        replay.run("cluster nodes=3 seed=1".to_owned()).unwrap();
        replay.quiet.extend([NodeId(2), NodeId(3)]);
        let message = Message::Commit { entry: LogId::new(1, 1) };
        let (from, to, sender) = (NodeId(1), NodeId(2), Sender::default());
        // It is not under way, so nothing else comes of it.
        replay.deliver(&Envelope { from, to, term: Term(1), sender, message }, false);
        assert_eq!(replay.quiet, BTreeSet::from([NodeId(3)]));
    }
}
