//! Who may do what.
//!
//! Asked twice: by the service, before a request costs anything, and where it takes effect, when
//! its command is applied. Both ask the same functions.

use super::{Auth, Role, Spans};
use crate::api::{
    Access, Action, Attach, AuthError, Fence, Keys, Op, Put, ROOT, SEQUENCE_DIGITS, Txn, span_of,
};
use bytes::Bytes;

impl Auth {
    /// Whether a user may do everything.
    ///
    /// # Errors
    /// [`AuthError::Denied`] if not.
    pub(crate) fn check_root(&self, user: &str) -> Result<(), AuthError> {
        if self.is_root(user) { Ok(()) } else { Err(AuthError::Denied) }
    }

    /// Whether a user may do something with all of some keys.
    ///
    /// # Errors
    /// [`AuthError::Denied`] if not.
    pub(crate) fn check(&self, user: &str, access: Access, keys: &Keys) -> Result<(), AuthError> {
        if self.is_root(user) || self.covers(user, access, keys) {
            return Ok(());
        }
        Err(AuthError::Denied)
    }

    /// Whether a user may have `action` done, if `fence` holds. What depends on leases is looked at
    /// only when it is applied.
    ///
    /// # Errors
    /// [`AuthError::Denied`] if not.
    pub(crate) fn check_action(
        &self,
        user: &str,
        action: &Action,
        fence: Option<&Fence>,
    ) -> Result<(), AuthError> {
        if self.is_root(user) {
            return Ok(());
        }
        if self.user(user).is_none() {
            return Err(AuthError::Denied);
        }
        if let Some(fence) = fence {
            self.check(user, Access::Read, &Keys::One(fence.key.clone()))?;
        }
        match action {
            Action::OpenSession | Action::Grant { .. } | Action::Revoke(_) => Ok(()),
            Action::Op(op) => self.check_op(user, op),
            Action::Txn(txn) => self.check_txn(user, txn),
            Action::Compact(_)
            | Action::Advance(_)
            | Action::Auth(_)
            | Action::Alarm(_)
            | Action::As(..) => Err(AuthError::Denied),
        }
    }

    fn check_txn(&self, user: &str, txn: &Txn) -> Result<(), AuthError> {
        for compare in &txn.compares {
            self.check(user, Access::Read, &compare.keys)?;
        }
        txn.success.iter().chain(&txn.failure).try_for_each(|op| self.check_op(user, op))
    }

    fn check_op(&self, user: &str, op: &Op) -> Result<(), AuthError> {
        match op {
            Op::Put(put) => {
                let keys = written_by(put);
                self.check(user, Access::Write, &keys)?;
                if put.prev_kv { self.check(user, Access::Read, &keys) } else { Ok(()) }
            }
            Op::Delete { keys, prev_kv } => {
                self.check(user, Access::Write, keys)?;
                if *prev_kv { self.check(user, Access::Read, keys) } else { Ok(()) }
            }
            Op::Range(range) => self.check(user, Access::Read, &range.keys),
            Op::Txn(txn) => self.check_txn(user, txn),
        }
    }

    /// Whether a user may end a lease on which `keys` hang, told by the first of them from a place
    /// on: who could not write them could not delete them.
    ///
    /// # Errors
    /// [`AuthError::Denied`] if not.
    pub(crate) fn check_lease<'a>(
        &self,
        user: &str,
        first_from: impl Fn(&[u8]) -> Option<&'a [u8]>,
    ) -> Result<(), AuthError> {
        if self.is_root(user) {
            return Ok(());
        }
        let mut at = Bytes::new();
        while let Some(key) = first_from(&at) {
            match self.reach(user, Access::Write, key) {
                None => return Err(AuthError::Denied),
                Some(None) => return Ok(()),
                Some(Some(end)) => at = end,
            }
        }
        Ok(())
    }

    fn is_root(&self, user: &str) -> bool {
        self.user(user).is_some_and(|user| user.roles.contains(ROOT))
    }

    /// Whether all of `keys` are in what the user's roles allow, together.
    fn covers(&self, user: &str, access: Access, keys: &Keys) -> bool {
        // Of no keys nothing is seen, and nothing changed; but whoever has no right at all is not
        // told even that.
        let Some((mut at, end)) = span_of(keys) else {
            let (Keys::One(start) | Keys::Range { start, .. }) = keys;
            return self.reach(user, access, start).is_some();
        };
        loop {
            match self.reach(user, access, &at) {
                None => return false,
                Some(None) => return true,
                Some(Some(reached)) if end.as_ref().is_some_and(|end| *end <= reached) => {
                    return true;
                }
                // Farther than before: what covers a key ends after it.
                Some(Some(reached)) => at = reached,
            }
        }
    }

    /// Up to where, from `at` on, one of the user's roles allows everything.
    fn reach(&self, user: &str, access: Access, at: &[u8]) -> Option<Option<Bytes>> {
        let spans = |role: &Role| -> Option<Option<Bytes>> {
            let spans: &Spans = if access.reads() { &role.read } else { &role.write };
            Some(spans.reach(at)?.cloned())
        };
        let roles = self.user(user)?.roles.iter().filter_map(|role| self.roles.get(role));
        roles.filter_map(spans).reduce(|one, other| match (one, other) {
            (Some(one), Some(other)) => Some(one.max(other)),
            _ => None,
        })
    }
}

/// The keys that a put may write.
fn written_by(put: &Put) -> Keys {
    if !put.sequential {
        return Keys::One(put.key.clone());
    }
    let ends = |digit: u8| [&put.key[..], &[digit; SEQUENCE_DIGITS]].concat();
    let (first, mut last) = (ends(b'0'), ends(b'9'));
    last.push(0);
    Keys::Range { start: first.into(), end: Some(last.into()) }
}

/// Whether an action hangs keys on leases, or ends one: those.
pub(in crate::store) fn leases_of(action: &Action) -> Vec<crate::api::LeaseId> {
    let mut leases = Vec::new();
    match action {
        Action::Revoke(id) => leases.push(*id),
        Action::Op(op) => leases_in(op, &mut leases),
        Action::Txn(txn) => leases_in_txn(txn, &mut leases),
        _ => {}
    }
    leases.sort_unstable();
    leases.dedup();
    leases
}

fn leases_in_txn(txn: &Txn, leases: &mut Vec<crate::api::LeaseId>) {
    txn.success.iter().chain(&txn.failure).for_each(|op| leases_in(op, leases));
}

fn leases_in(op: &Op, leases: &mut Vec<crate::api::LeaseId>) {
    match op {
        Op::Put(Put { lease: Attach::To(id), .. }) => leases.push(*id),
        Op::Put(_) | Op::Delete { .. } | Op::Range(_) => {}
        Op::Txn(txn) => leases_in_txn(txn, leases),
    }
}
