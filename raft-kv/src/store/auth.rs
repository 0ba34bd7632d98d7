//! Users, roles and what they may do, as part of the replicated state.
//!
//! All of it is one value, small by its bound, that changes seldom: it is shared with whoever asks
//! and copied when it changes. It never sees a password, only hashes, and looks at no clock and no
//! token; who somebody is, is found out by the service.

mod judge;
mod spans;
#[cfg(all(test, feature = "service"))]
mod tests;

use super::check::{Changed, RollEntry};
use crate::api::{
    AUTH_BYTES_MAX, AuthChange, AuthError, AuthStatus, Keys, NAME_BYTES_MAX, Password, Permission,
    ROOT, Secret,
};
pub(super) use judge::leases_of;
use serde::{Deserialize, Serialize};
use spans::Spans;
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes that a user, a role or a permission counts besides its own.
const OVERHEAD: usize = 64;
/// Longest hash of a password, in bytes.
const HASH_BYTES_MAX: usize = 128;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Auth {
    enabled: bool,
    /// Counts the changes, from 1.
    revision: u64,
    /// The log index of the last change; 0 if there was none.
    changed: u64,
    /// What tokens are signed with; another one each time it is enabled.
    secret: Secret,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct User {
    /// The hash of the password; `None` if it has none.
    pub(crate) hash: Option<String>,
    roles: BTreeSet<String>,
    /// The revision at which it was made, or its password was changed last: tokens name it.
    pub(crate) since: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Role {
    /// In the order of keys.
    permissions: Vec<Permission>,
    /// What follows from them.
    #[serde(skip)]
    read: Spans,
    #[serde(skip)]
    write: Spans,
}

impl User {
    /// What roles it has, in order.
    pub(crate) fn roles(&self) -> impl Iterator<Item = &String> {
        self.roles.iter()
    }

    pub(crate) fn has(&self, role: &str) -> bool {
        self.roles.contains(role)
    }
}

impl Default for Auth {
    fn default() -> Self {
        let (users, roles) = (BTreeMap::new(), BTreeMap::new());
        Self { enabled: false, revision: 1, changed: 0, secret: Secret::default(), users, roles }
    }
}

impl Auth {
    /// Whether it counts who asks.
    pub(crate) const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Counts the changes.
    pub(crate) const fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) const fn status(&self) -> AuthStatus {
        AuthStatus { enabled: self.enabled, revision: self.revision }
    }

    /// What tokens are signed with.
    pub(crate) const fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(crate) fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// The hash of one user or another, the same for a name on every member as long as there are
    /// the same users; nobody can tell from outside whose. `None` if none has a password.
    pub(crate) fn some_hash(&self, name: &str) -> Option<&String> {
        let hashes = self.users.values().filter_map(|user| user.hash.as_ref());
        let hashes: Vec<&String> = hashes.collect();
        let drawn = xxh3_64(&[&self.secret.0, name.as_bytes()].concat());
        let at = usize::try_from(drawn % hashes.len().max(1) as u64).ok()?;
        hashes.get(at).copied()
    }

    pub(crate) fn users(&self) -> impl Iterator<Item = &String> {
        self.users.keys()
    }

    pub(crate) fn roles(&self) -> impl Iterator<Item = &String> {
        self.roles.keys()
    }

    /// What a role was granted; that of root needs nothing.
    pub(crate) fn permissions(&self, role: &str) -> Option<Vec<Permission>> {
        self.roles.get(role).map(|role| role.permissions.clone())
    }

    /// Whether nothing was ever put into it.
    pub(super) const fn is_untouched(&self) -> bool {
        self.changed == 0
    }

    /// The change of entry `index`; whether it has made a difference.
    ///
    /// # Errors
    /// See [`AuthError`]; nothing has changed then.
    pub(super) fn change(&mut self, change: &AuthChange, index: u64) -> Result<bool, AuthError> {
        let mut next = self.clone();
        if !next.apply(change)? {
            return Ok(false);
        }
        if next.bytes() > AUTH_BYTES_MAX && next.bytes() > self.bytes() {
            return Err(AuthError::TooLarge);
        }
        // That it is enabled changes nothing of who may do what.
        if !matches!(change, AuthChange::Enable { .. }) {
            next.revision += 1;
        }
        next.changed = index;
        *self = next;
        Ok(true)
    }

    fn apply(&mut self, change: &AuthChange) -> Result<bool, AuthError> {
        match change {
            AuthChange::Enable { secret } => return self.enable(secret),
            AuthChange::Disable => return Ok(std::mem::replace(&mut self.enabled, false)),
            AuthChange::AddUser { user, password } => self.add_user(user, password)?,
            AuthChange::DeleteUser { user } => {
                self.check_lasting(user == ROOT)?;
                self.users.remove(user).ok_or(AuthError::UserNotFound)?;
            }
            AuthChange::ChangePassword { user, password } => {
                let since = self.revision + 1;
                let user = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
                (user.hash, user.since) = (hash_of(password)?, since);
            }
            AuthChange::GrantRole { user, role } => {
                let is_role = role == ROOT || self.roles.contains_key(role);
                let user = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
                if !is_role {
                    return Err(AuthError::RoleNotFound);
                }
                return Ok(user.roles.insert(role.clone()));
            }
            AuthChange::RevokeRole { user, role } => {
                self.check_lasting(user == ROOT && role == ROOT)?;
                let user = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
                if !user.roles.remove(role) {
                    return Err(AuthError::RoleNotGranted);
                }
            }
            AuthChange::AddRole { role } => {
                check_name(role, AuthError::RoleEmpty)?;
                if self.roles.contains_key(role) {
                    return Err(AuthError::RoleExists);
                }
                self.roles.insert(role.clone(), Role::default());
            }
            AuthChange::DeleteRole { role } => {
                self.check_lasting(role == ROOT)?;
                self.roles.remove(role).ok_or(AuthError::RoleNotFound)?;
                for user in self.users.values_mut() {
                    user.roles.remove(role);
                }
            }
            AuthChange::GrantPermission { role, permission } => {
                let role = self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?;
                role.grant(permission)?;
            }
            AuthChange::RevokePermission { role, keys } => {
                let role = self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?;
                role.revoke(keys)?;
            }
        }
        Ok(true)
    }

    fn enable(&mut self, secret: &Secret) -> Result<bool, AuthError> {
        if self.enabled {
            return Ok(false);
        }
        let root = self.users.get(ROOT).ok_or(AuthError::RootUserMissing)?;
        if !root.roles.contains(ROOT) {
            return Err(AuthError::RootRoleMissing);
        }
        (self.enabled, self.secret) = (true, secret.clone());
        Ok(true)
    }

    fn add_user(&mut self, name: &str, password: &Password) -> Result<(), AuthError> {
        check_name(name, AuthError::UserEmpty)?;
        if self.users.contains_key(name) {
            return Err(AuthError::UserExists);
        }
        let (hash, since) = (hash_of(password)?, self.revision + 1);
        self.users.insert(name.into(), User { hash, roles: BTreeSet::new(), since });
        Ok(())
    }

    /// What must not go while it is enabled, or nobody could disable it.
    const fn check_lasting(&self, is_lasting: bool) -> Result<(), AuthError> {
        if self.enabled && is_lasting { Err(AuthError::InvalidManagement) } else { Ok(()) }
    }

    fn bytes(&self) -> usize {
        let user = |(name, user): (&String, &User)| {
            let roles: usize = user.roles.iter().map(|role| role.len() + OVERHEAD).sum();
            OVERHEAD + name.len() + user.hash.as_ref().map_or(0, String::len) + roles
        };
        let role = |(name, role): (&String, &Role)| {
            let permissions: usize = role.permissions.iter().map(size).sum();
            OVERHEAD + name.len() + permissions
        };
        self.users.iter().map(user).sum::<usize>() + self.roles.iter().map(role).sum::<usize>()
    }

    /// Ends reading it from bytes.
    pub(super) fn loaded(&mut self) {
        self.roles.values_mut().for_each(Role::settle);
    }

    /// Its entry in the roll.
    pub(super) fn entry(&self) -> RollEntry {
        let bytes = super::format::auth_row(self);
        RollEntry {
            id: 0,
            hash: xxh3_64(&bytes),
            bytes: bytes.len(),
            changed: Changed::By(self.changed),
        }
    }
}

impl Role {
    fn grant(&mut self, permission: &Permission) -> Result<(), AuthError> {
        crate::store::validate_keys(&permission.keys).map_err(|_| AuthError::InvalidManagement)?;
        if crate::api::span_of(&permission.keys).is_none() {
            return Err(AuthError::InvalidManagement);
        }
        match self.permissions.binary_search_by(|known| known.keys.cmp(&permission.keys)) {
            Ok(at) => self.permissions[at] = permission.clone(),
            Err(at) => self.permissions.insert(at, permission.clone()),
        }
        self.settle();
        Ok(())
    }

    fn revoke(&mut self, keys: &Keys) -> Result<(), AuthError> {
        let at = self.permissions.binary_search_by(|known| known.keys.cmp(keys));
        self.permissions.remove(at.map_err(|_| AuthError::PermissionNotGranted)?);
        self.settle();
        Ok(())
    }

    fn settle(&mut self) {
        let of = |wanted: fn(crate::api::Access) -> bool| {
            Spans::of(self.permissions.iter().filter(|it| wanted(it.access)).map(|it| &it.keys))
        };
        (self.read, self.write) = (of(crate::api::Access::reads), of(crate::api::Access::writes));
    }
}

fn size(permission: &Permission) -> usize {
    let keys = match &permission.keys {
        Keys::One(key) => key.len(),
        Keys::Range { start, end } => start.len() + end.as_ref().map_or(0, |end| end.len()),
    };
    OVERHEAD + keys
}

const fn check_name(name: &str, empty: AuthError) -> Result<(), AuthError> {
    match name.len() {
        0 => Err(empty),
        1..=NAME_BYTES_MAX => Ok(()),
        _ => Err(AuthError::TooLarge),
    }
}

fn hash_of(password: &Password) -> Result<Option<String>, AuthError> {
    match password {
        Password::None => Ok(None),
        Password::Hashed(hash) if hash.len() <= HASH_BYTES_MAX => Ok(Some(hash.clone())),
        // It must not get this far.
        Password::Plain(_) | Password::Hashed(_) => Err(AuthError::InvalidManagement),
    }
}
