//! Membership changes that wait to be complete.
//!
//! A change is complete once its configuration, or of a joint one that which leaves it, is
//! committed (§6). The log tells, in the entries that are handed to the state machine; and it goes
//! on telling for a while after leadership is lost, so a leader that removes itself gets its answer
//! too.

use crate::node::event::ChangeRequest;
use crate::node::{ChangeError, Changed};
use crate::types::{Entry, Index, LogId, Payload, Run};
use tokio::sync::oneshot;

/// The changes begun here. The core allows one at a time in each term.
#[derive(Default)]
pub(super) struct Changes(Vec<Pending>);

struct Pending {
    id: LogId,
    /// Whether its configuration is committed, and is a joint one.
    joint: bool,
    /// When it is given up, counted in ticks; set once leadership is lost.
    due: Option<u64>,
    reply: oneshot::Sender<Result<Changed, ChangeError>>,
}

impl Changes {
    /// Waits for the change that was appended as `id`.
    pub(super) fn begun(&mut self, id: LogId, request: ChangeRequest) {
        self.0.push(Pending { id, joint: false, due: None, reply: request.reply });
    }

    /// Looks through committed entries for what became of the changes.
    pub(super) fn committed(&mut self, run: &Run) {
        // Nearly always nothing waits, and the entries need not be looked at.
        if self.0.is_empty() {
            return;
        }
        for entry in run.entries() {
            let mut waiting = Vec::new();
            for pending in std::mem::take(&mut self.0) {
                waiting.extend(pending.advance(entry));
            }
            self.0 = waiting;
        }
    }

    /// A snapshot has taken the place of the entries up to `index`: they tell nothing any more.
    pub(super) fn skipped(&mut self, index: Index) {
        for pending in self.0.extract_if(.., |pending| pending.id.index <= index) {
            pending.resolve(Err(ChangeError::LeadershipLost));
        }
    }

    /// This node does not lead at tick `now`: waits `patience` ticks longer for what the log tells.
    pub(super) fn leadership_lost(&mut self, now: u64, patience: u64) {
        for pending in &mut self.0 {
            pending.due.get_or_insert(now + patience);
        }
        let over = |pending: &mut Pending| pending.due.is_some_and(|due| now >= due);
        for pending in self.0.extract_if(.., over) {
            pending.resolve(Err(ChangeError::LeadershipLost));
        }
    }

    /// The node stops.
    pub(super) fn stop(&mut self) {
        for pending in self.0.drain(..) {
            pending.resolve(Err(ChangeError::Stopped));
        }
    }
}

impl Pending {
    /// Takes in the next committed entry; nothing is left if that settles it.
    fn advance(mut self, entry: &Entry) -> Option<Self> {
        let own = entry.id.index == self.id.index;
        if own && entry.id.term != self.id.term {
            // Another leader's entry stands there: the change was never committed.
            self.resolve(Err(ChangeError::LeadershipLost));
            return None;
        }
        match &entry.payload {
            // Behind a joint configuration the next one is that which leaves it.
            Payload::Membership(membership) if own || self.joint => {
                if membership.is_joint() {
                    self.joint = true;
                    return Some(self);
                }
                let membership = (**membership).clone();
                self.resolve(Ok(Changed { id: entry.id, membership }));
                None
            }
            _ => Some(self),
        }
    }

    fn resolve(self, outcome: Result<Changed, ChangeError>) {
        // Whoever asked may have gone.
        let _ = self.reply.send(outcome);
    }
}
