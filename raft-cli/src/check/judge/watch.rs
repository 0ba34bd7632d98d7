//! Watchers: told of every write once, in order of revisions, whatever node told them.

use super::{Numbered, Trouble, violation};
use crate::check::history::{Action, Ending, Operation};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Writes by key and value.
type Writes<'a> = HashMap<(&'a str, &'a Value), (usize, &'a Operation)>;

/// Where an event stands in the order of all: its revision, and its key.
type Place<'a> = (u64, &'a str);

/// What one watcher was told.
#[derive(Default)]
struct Watcher<'a> {
    /// In the order in which it was told.
    events: Vec<(usize, &'a Operation)>,
    /// What it was told completely, or says that it should have been: after one revision, up to
    /// another.
    spans: Vec<Span<'a>>,
}

/// The operation that tells of a span, after which revision it begins, and with which it ends.
type Span<'a> = (usize, &'a Operation, u64, u64);

pub(super) fn judge(operations: &Numbered<'_>) -> Result<(), Trouble> {
    let mut writes = Writes::new();
    let mut watchers: BTreeMap<u64, Watcher<'_>> = BTreeMap::new();
    for (at, operation) in operations {
        let watcher = || -> u64 { operation.client };
        match &operation.action {
            Action::Write { value, .. } => {
                writes.insert((&operation.key, value), (*at, operation));
            }
            Action::Event { .. } => {
                watchers.entry(watcher()).or_default().events.push((*at, operation));
            }
            Action::Watched { after, revision } => {
                let spans = &mut watchers.entry(watcher()).or_default().spans;
                spans.push((*at, operation, *after, *revision));
            }
            _ => {}
        }
    }
    for watcher in watchers.values() {
        in_order(watcher, &writes)?;
    }
    for (client, watcher) in &watchers {
        not_forgotten(*client, watcher, &writes)?;
        complete(*client, watcher, &writes)?;
    }
    Ok(())
}

impl<'a> Watcher<'a> {
    /// Of the writes between two revisions that were answered and not told: the first.
    fn untold(
        &self,
        writes: &Writes<'a>,
        after: u64,
        until: u64,
    ) -> Option<(usize, &'a Operation)> {
        let told: HashSet<(&str, &Value)> = self
            .events
            .iter()
            .filter_map(|(_, it)| match &it.action {
                Action::Event { value, .. } => Some((it.key.as_str(), value)),
                _ => None,
            })
            .collect();
        let untold = writes.iter().filter(|(name, (_, write))| {
            let Action::Write { revision: Some(revision), .. } = write.action else { return false };
            let inside = after < revision && revision <= until;
            write.outcome == Ending::Ok && inside && !told.contains(*name)
        });
        untold.map(|(_, write)| *write).min_by_key(|(at, write)| (write.end, *at))
    }
}

fn in_order(watcher: &Watcher<'_>, writes: &Writes<'_>) -> Result<(), Trouble> {
    let mut last: Option<(Place<'_>, (usize, &Operation))> = None;
    let mut told: HashMap<(&str, &Value), (usize, &Operation)> = HashMap::new();
    for (at, event) in &watcher.events {
        let Action::Event { value, revision } = &event.action else { continue };
        let (key, here) = (event.key.as_str(), (*at, *event));
        if let Some(earlier) = told.insert((key, value), here) {
            let write = writes.get(&(key, value)).copied();
            let others: Vec<_> = write.into_iter().chain([earlier]).collect();
            return Err(violation(key, format!("{value} was told twice"), here, &others));
        }
        let place = (*revision, key);
        if let Some((before, earlier)) = last
            && place <= before
        {
            let what = format!("revision {revision} was told after revision {}", before.0);
            return Err(violation(key, what, here, &[earlier]));
        }
        last = Some((place, here));
        let Some(write) = writes.get(&(key, value)).copied() else {
            let what = format!("{value} was told and never written");
            return Err(violation(key, what, here, &[]));
        };
        match &write.1.action {
            _ if write.1.outcome == Ending::Failed => {
                let what = format!("{value} was told, though its write was answered: not done");
                return Err(violation(key, what, here, &[write]));
            }
            Action::Write { revision: Some(made), .. } if made != revision => {
                let what = format!("{value} was told of revision {revision} and made {made}");
                return Err(violation(key, what, here, &[write]));
            }
            _ => {}
        }
    }
    Ok(())
}

fn complete(client: u64, watcher: &Watcher<'_>, writes: &Writes<'_>) -> Result<(), Trouble> {
    for (at, watched, after, until) in &watcher.spans {
        let Some((place, write)) = watcher.untold(writes, *after, *until) else { continue };
        let Action::Write { value, .. } = &write.action else { continue };
        let what = format!("client {client} was never told of {value}, which was acknowledged");
        return Err(violation(&write.key, what, (*at, watched), &[(place, write)]));
    }
    Ok(())
}

/// A watch that is told nothing any more is wrong even if there was nothing to tell.
fn not_forgotten(client: u64, watcher: &Watcher<'_>, writes: &Writes<'_>) -> Result<(), Trouble> {
    let failed = |(_, watched, ..): &&Span<'_>| watched.outcome == Ending::Failed;
    let Some((at, watched, after, until)) = watcher.spans.iter().find(failed) else {
        return Ok(());
    };
    let what =
        format!("client {client} never caught up with revision {until}: it was told no more");
    let others = [watcher.events.last().copied(), watcher.untold(writes, *after, *until)];
    let others: Vec<_> = others.into_iter().flatten().collect();
    Err(violation("", what, (*at, watched), &others))
}
