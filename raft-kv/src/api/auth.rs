//! Users, roles and what they may do.
//!
//! The model is etcd's: a user has roles, a role has permissions on ranges of keys, and whoever has
//! the role [`ROOT`] may do everything. Nobody is asked who they are until that is
//! [enabled](AuthChange::Enable). How it is checked is for store and service.

use super::{Action, Keys};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The user who must exist to enable authentication, and the role that may do everything.
pub const ROOT: &str = "root";
/// Longest name of a user or a role, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// Longest password, in bytes: what the hash tells apart.
pub const PASSWORD_BYTES_MAX: usize = 72;
/// Most bytes of all users, roles and permissions together; each name and key counts, and some more
/// for each of them.
pub const AUTH_BYTES_MAX: usize = 1024 * 1024;

/// What a permission allows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Access {
    /// To read and to watch.
    Read,
    /// To put and to delete.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    /// Whether reading is part of it.
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// Whether writing is part of it.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// What a role may do with some keys.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Permission {
    /// What.
    pub access: Access,
    /// With which keys.
    pub keys: Keys,
}

/// A password, or none. It is in no message for people.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Password {
    /// The user cannot log in with one.
    None,
    /// As it was typed: a node turns it into a hash before it reaches the log.
    Plain(String),
    /// Its bcrypt hash: only nodes say this.
    Hashed(String),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Plain(_) => "Plain(..)",
            Self::Hashed(_) => "Hashed(..)",
        })
    }
}

/// A secret of the whole cluster, in no message for people.
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a request may be longer by for who asks: a token in front of it or, of a command, on whose
/// [`Authority`] it runs. So what may be asked is the same for everybody.
pub(crate) const SIGNED_BYTES_MAX: usize = 4 * NAME_BYTES_MAX;

/// What somebody shows who has logged in; in no message for people, as whoever has it may do what
/// its user may.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// A change of users, roles or whether they count.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum AuthChange {
    /// From now on every request needs a user with the right to it. There must be a user [`ROOT`]
    /// who has the role of that name. Without effect where that is so already.
    Enable {
        /// What tokens are signed with; nodes make it up, and replace whatever a client says.
        secret: Secret,
    },
    /// Everybody may do everything again, and no token is valid any more.
    Disable,
    /// Make a user.
    AddUser {
        /// A name that nobody has.
        user: String,
        /// How it logs in.
        password: Password,
    },
    /// Remove a user.
    DeleteUser {
        /// Which.
        user: String,
    },
    /// Change how a user logs in; tokens it has are not valid any more.
    ChangePassword {
        /// Who.
        user: String,
        /// How from now on.
        password: Password,
    },
    /// Give a user a role.
    GrantRole {
        /// Whom.
        user: String,
        /// Which.
        role: String,
    },
    /// Take a role from a user.
    RevokeRole {
        /// From whom.
        user: String,
        /// Which.
        role: String,
    },
    /// Make a role without permissions.
    AddRole {
        /// A name that none has.
        role: String,
    },
    /// Remove a role, from all users too.
    DeleteRole {
        /// Which.
        role: String,
    },
    /// Give a role a permission, in the place of the one it has for the same keys.
    GrantPermission {
        /// Which role.
        role: String,
        /// What it may do.
        permission: Permission,
    },
    /// Take from a role the permission it has for exactly these keys.
    RevokePermission {
        /// Which role.
        role: String,
        /// Which keys.
        keys: Keys,
    },
}

/// On whose authority a command in the log runs. Nodes say this, never clients.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Authority {
    /// The cluster's own.
    Cluster,
    /// A user's who was allowed to do it as of some revision of users and roles. If they have
    /// changed before the command's place in the log, it does not run.
    User {
        /// Who.
        name: String,
        /// The revision of users and roles.
        revision: u64,
        /// Whether the request came through a door of the node that keeps one session for all of
        /// its clients.
        shared_session: bool,
    },
}

impl Action {
    /// The action itself, and on whose authority it runs.
    pub fn with_authority(self) -> (Option<Authority>, Self) {
        match self {
            Self::As(authority, action) => (Some(authority), *action),
            action => (None, action),
        }
    }

    /// The action itself.
    pub fn inner(&self) -> &Self {
        match self {
            Self::As(_, action) => action,
            action => action,
        }
    }
}

/// A question about users and roles. Linearizable.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum AuthQuestion {
    /// Whether they count.
    Status,
    /// What roles a user has.
    User(String),
    /// Which users there are.
    Users,
    /// What a role may do.
    Role(String),
    /// Which roles there are.
    Roles,
}

/// The answer to an [`AuthQuestion`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AuthAnswer {
    /// To `Status`.
    Status(AuthStatus),
    /// To `User`: its roles, in order.
    User(Vec<String>),
    /// To `Users`: their names, in order.
    Users(Vec<String>),
    /// To `Role`: what it may do, in the order of keys.
    Role(Vec<Permission>),
    /// To `Roles`: their names, in order.
    Roles(Vec<String>),
}

/// Whether users and roles count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuthStatus {
    /// Whether they do.
    pub enabled: bool,
    /// Counts their changes, from 1.
    pub revision: u64,
}

/// Why somebody may not do what was asked, or users and roles cannot be changed so. No effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// Nobody said who asks, and that counts.
    #[error("user name is empty")]
    UserEmpty,
    /// A role without a name.
    #[error("role name is empty")]
    RoleEmpty,
    /// A user has that name.
    #[error("user name already exists")]
    UserExists,
    /// There is no such user.
    #[error("user name not found")]
    UserNotFound,
    /// A role has that name.
    #[error("role name already exists")]
    RoleExists,
    /// There is no such role.
    #[error("role name not found")]
    RoleNotFound,
    /// The user does not have the role.
    #[error("role is not granted to the user")]
    RoleNotGranted,
    /// The role has no permission for exactly these keys.
    #[error("permission is not granted to the role")]
    PermissionNotGranted,
    /// No permission is named.
    #[error("permission not given")]
    PermissionNotGiven,
    /// Authentication cannot be enabled without it.
    #[error("root user does not exist")]
    RootUserMissing,
    /// Authentication cannot be enabled without that.
    #[error("root user does not have root role")]
    RootRoleMissing,
    /// Wrong name or password.
    #[error("authentication failed, invalid user ID or password")]
    Failed,
    /// The user may not do this.
    #[error("permission denied")]
    Denied,
    /// Nobody could undo this, or it makes no sense.
    #[error("invalid auth management")]
    InvalidManagement,
    /// The token was not made by this cluster, has expired, or its user has changed: log in again.
    #[error("invalid auth token")]
    InvalidToken,
    /// Users or roles have changed since the request was let in: send it again.
    #[error("revision of auth store is old")]
    OldRevision,
    /// Nobody can log in as long as nobody has to.
    #[error("authentication is not enabled")]
    NotEnabled,
    /// A name or a password is too long, or there are too many users, roles or permissions.
    #[error("too much for the auth store")]
    TooLarge,
}

/// The bytes of keys that permissions and requests are compared by: first key, and the key after
/// the last; `None` for no end. `None` if there can be no such key.
pub(crate) fn span_of(keys: &Keys) -> Option<(Bytes, Option<Bytes>)> {
    match keys {
        Keys::One(key) => {
            let after = [&key[..], &[0]].concat();
            Some((key.clone(), Some(after.into())))
        }
        Keys::Range { start, end } => {
            // No key is empty.
            let start = if start.is_empty() { Bytes::from_static(&[0]) } else { start.clone() };
            let is_empty = end.as_ref().is_some_and(|end| *end <= start);
            (!is_empty).then(|| (start, end.clone()))
        }
    }
}
