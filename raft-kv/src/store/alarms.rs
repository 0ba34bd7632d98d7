//! The alarms that somebody has raised, as part of the replicated state, and what is refused as
//! long as they last.
//!
//! A handful that changes seldom: it is shared with whoever asks and copied when it changes. Alarms
//! that follow from the state of a member by themselves are not among them.

use super::check::{Changed, RollEntry};
use super::run::{grows, is_read_only};
use crate::api::{ALARMS_MAX, Action, AlarmChange, AlarmKind, KvError, MemberAlarm};
use raft_core::types::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use xxhash_rust::xxh3::xxh3_64;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Alarms {
    /// The log index of the last change; 0 if there was none.
    changed: u64,
    raised: BTreeSet<MemberAlarm>,
}

impl Alarms {
    /// Those that are raised, in order of kind and member.
    #[cfg(feature = "service")]
    pub(crate) fn raised(&self) -> impl Iterator<Item = MemberAlarm> {
        self.raised.iter().copied()
    }

    /// Whether nothing was ever put into it.
    pub(super) const fn is_untouched(&self) -> bool {
        self.changed == 0
    }

    /// Whether alarms can be so: those that were read from outside need not be.
    pub(super) fn is_sound(&self) -> bool {
        self.raised.len() <= ALARMS_MAX && (self.raised.is_empty() || !self.is_untouched())
    }

    /// The change of entry `index`; whether it has made a difference.
    ///
    /// # Errors
    /// [`KvError::TooManyAlarms`]; nothing has changed then.
    pub(super) fn change(&mut self, change: &AlarmChange, index: u64) -> Result<bool, KvError> {
        let changed = match change {
            AlarmChange::Raise(alarm) => {
                if self.raised.len() >= ALARMS_MAX && !self.raised.contains(alarm) {
                    return Err(KvError::TooManyAlarms { limit: ALARMS_MAX as u64 });
                }
                self.raised.insert(*alarm)
            }
            AlarmChange::Clear(alarm) => self.raised.remove(alarm),
        };
        if changed {
            self.changed = index;
        }
        Ok(changed)
    }

    /// Refuses what must not be done as long as there are these alarms.
    ///
    /// # Errors
    /// [`KvError::Alarmed`].
    pub(crate) fn check(&self, action: &Action) -> Result<(), KvError> {
        // Most stores have none.
        if self.raised.is_empty() {
            return Ok(());
        }
        if self.has(AlarmKind::Corrupt) && !is_read_only(action) && touches_data(action) {
            return Err(KvError::Alarmed(AlarmKind::Corrupt));
        }
        if self.has(AlarmKind::NoSpace) && grows(action) {
            return Err(KvError::Alarmed(AlarmKind::NoSpace));
        }
        Ok(())
    }

    fn has(&self, kind: AlarmKind) -> bool {
        let first = MemberAlarm { kind, member: NodeId(0) };
        self.raised.range(first..).next().is_some_and(|alarm| alarm.kind == kind)
    }

    /// Their entry in the roll of what there is one of, beside that of users and roles.
    pub(super) fn entry(&self) -> RollEntry {
        let bytes = super::format::sealed(&[], self);
        RollEntry {
            id: 1,
            hash: xxh3_64(&bytes),
            bytes: bytes.len(),
            changed: Changed::By(self.changed),
        }
    }
}

/// Whether an action is about keys or leases. Users, roles, sessions and the alarms themselves go
/// on whatever the data is like, and so does time.
fn touches_data(action: &Action) -> bool {
    match action {
        Action::Op(_)
        | Action::Txn(_)
        | Action::Compact(_)
        | Action::Grant { .. }
        | Action::Revoke(_) => true,
        Action::OpenSession | Action::Advance(_) | Action::Auth(_) | Action::Alarm(_) => false,
        Action::As(_, action) => touches_data(action),
    }
}
