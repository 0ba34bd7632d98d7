//! What led to a violation, a line per event, in the notation of scripts.

use super::atlas::Atlas;
use super::event::Event;
use super::world::Action;
use crate::types::NodeId;

/// What happened in `actions`, from the start of the world on.
pub(super) fn lines(atlas: &mut Atlas, actions: impl Iterator<Item = Action>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut nodes = atlas.first_nodes();
    for action in actions {
        let Action::Node { at, event, stays } = action else {
            if let Action::Lose(message) = action {
                lines.push(format!("{} (lost)", atlas.messages.of(message)));
            }
            continue;
        };
        let before = nodes[at];
        lines.push(line(atlas, at, event, stays));
        let Ok(step) = atlas.take(before, event) else { break };
        let step = atlas.step(step).clone();
        nodes[at] = step.node;
        let (old, new) = (atlas.node(before), atlas.node(step.node));
        let (was, is) = (old.raft.status(), new.raft.status());
        if (was.role, was.term, was.leader) != (is.role, is.term, is.leader) {
            lines.push(format!("  {is}"));
        }
        if is.commit_index > was.commit_index {
            lines.push(format!("  {}@{} commit {}", is.id, is.term, is.commit_index));
        }
        let kept = match event {
            Event::Persist(writes) => old.writes.len() - writes as usize,
            Event::Restart(_) => 0,
            _ => old.writes.len(),
        };
        for (place, ops) in new.writes.iter().enumerate().skip(kept) {
            let ops: Vec<String> = ops.iter().map(ToString::to_string).collect();
            lines.push(format!("  {}@{} write #{} {}", is.id, is.term, place + 1, ops.join(" ")));
        }
        let sends = step.sends.iter().map(|sent| format!("  {}", atlas.messages.of(*sent)));
        lines.extend(sends);
    }
    lines
}

fn line(atlas: &Atlas, at: usize, event: Event, stays: bool) -> String {
    let node = NodeId(at as u64 + 1);
    match event {
        Event::Deliver(message) => {
            let doubled = if stays { " (doubled)" } else { "" };
            format!("deliver {}{doubled}", atlas.messages.of(message))
        }
        Event::Timeout => format!("{node} hears nothing and campaigns"),
        Event::Beat => format!("{node} tick"),
        Event::Wait => format!("{node} waits for a shortest election timeout"),
        Event::Deaf => format!("{node} hears nobody for an election timeout"),
        Event::Persist(writes) => format!("{node} persisted #{writes}"),
        Event::Restart(kept) => format!("{node} crash kept=#{kept}, restart"),
        Event::Propose(number) => format!("{node} propose {number}"),
        Event::Read => format!("{node} read"),
        Event::Change(number) => {
            let changes = &atlas.setting.changes[number as usize];
            format!("{node} change {changes:?}")
        }
        Event::Transfer(to) => format!("{node} transfer to={to}"),
        Event::Checkpoint => format!("{node} flush"),
        Event::Snapshot(to) => format!("{node} snapshot for {to}"),
        Event::Restore => format!("{node} restore"),
    }
}
