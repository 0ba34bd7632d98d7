//! `raft auth`, `raft user` and `raft role`: who may do what.

use super::{read_file, read_stdin};
use crate::args::auth::{Action as AuthAction, Auth};
use crate::args::role::{Action as RoleAction, Extent, Role};
use crate::args::user::{Action as UserAction, User};
use crate::client::{Store, failure};
use crate::failure::Failure;
use crate::output::Output;
use crate::output::auth::{PermissionJson, permissions};
use raft_kv::api::{AuthAnswer, AuthChange, AuthQuestion, Keys, Password, Permission, Secret};
use raft_kv::client::ClientError;
use serde_json::json;
use std::io::{self, IsTerminal};
use std::path::Path;

/// Longest file that holds a password, in bytes.
const PASSWORD_FILE_MAX: u64 = 1024;

/// Has everybody log in, or nobody, or tells which.
///
/// # Errors
/// Of kind `Refused`, `Unavailable` or `Unknown`.
pub async fn auth(store: &Store, args: &Auth, output: &mut Output<'_>) -> Result<(), Failure> {
    let (change, done) = match args.action {
        AuthAction::Enable(_) => {
            (AuthChange::Enable { secret: Secret::default() }, "authentication enabled")
        }
        AuthAction::Disable(_) => (AuthChange::Disable, "authentication disabled"),
        AuthAction::Status(_) => {
            let status = store.client().auth_status().await.map_err(failure)?;
            let json = json!({ "enabled": status.enabled, "revision": status.revision });
            return output.print(&json, || {
                format!("enabled: {}\nrevision: {}\n", status.enabled, status.revision)
            });
        }
    };
    changed(store, change, output, || done.into()).await
}

/// Shows or changes users.
///
/// # Errors
/// Of kind `Refused`, `Unavailable` or `Unknown`; `Usage` or `Local` if there is no password to be
/// had.
pub async fn user(store: &Store, args: &User, output: &mut Output<'_>) -> Result<(), Failure> {
    match &args.action {
        UserAction::Add(args) => {
            let password = match args.no_password {
                true => Password::None,
                false => Password::Plain(new_password(args.new_password_file.as_deref())?),
            };
            let user = args.name.clone();
            let change = AuthChange::AddUser { user, password };
            changed(store, change, output, || format!("user {} added", args.name)).await
        }
        UserAction::Delete(args) => {
            let change = AuthChange::DeleteUser { user: args.name.clone() };
            changed(store, change, output, || format!("user {} deleted", args.name)).await
        }
        UserAction::Passwd(args) => {
            let password = Password::Plain(new_password(args.new_password_file.as_deref())?);
            let change = AuthChange::ChangePassword { user: args.name.clone(), password };
            changed(store, change, output, || format!("password of {} changed", args.name)).await
        }
        UserAction::List(_) => names(store, AuthQuestion::Users, "users", output).await,
        UserAction::Get(args) => {
            names(store, AuthQuestion::User(args.name.clone()), "roles", output).await
        }
        UserAction::GrantRole(args) => {
            let (user, role) = (args.name.clone(), args.role.clone());
            let change = AuthChange::GrantRole { user, role };
            let done = || format!("{} has the role {} now", args.name, args.role);
            changed(store, change, output, done).await
        }
        UserAction::RevokeRole(args) => {
            let (user, role) = (args.name.clone(), args.role.clone());
            let change = AuthChange::RevokeRole { user, role };
            let done = || format!("{} does not have the role {} any more", args.name, args.role);
            changed(store, change, output, done).await
        }
    }
}

/// Shows or changes roles.
///
/// # Errors
/// Of kind `Refused`, `Unavailable` or `Unknown`; `Usage` for malformed keys.
pub async fn role(store: &Store, args: &Role, output: &mut Output<'_>) -> Result<(), Failure> {
    match &args.action {
        RoleAction::Add(args) => {
            let change = AuthChange::AddRole { role: args.name.clone() };
            changed(store, change, output, || format!("role {} added", args.name)).await
        }
        RoleAction::Delete(args) => {
            let change = AuthChange::DeleteRole { role: args.name.clone() };
            changed(store, change, output, || format!("role {} deleted", args.name)).await
        }
        RoleAction::List(_) => names(store, AuthQuestion::Roles, "roles", output).await,
        RoleAction::Get(args) => {
            let asked = store.client().ask_auth(AuthQuestion::Role(args.name.clone())).await;
            let AuthAnswer::Role(found) = asked.map_err(failure)? else { return Err(nonsense()) };
            let json: Vec<_> = found.iter().map(PermissionJson::of).collect();
            let json = json!({ "role": args.name, "permissions": json });
            output.print(&json, || permissions(&found))
        }
        RoleAction::Grant(args) => {
            let permission = Permission { access: args.what.into(), keys: keys(&args.keys)? };
            let change = AuthChange::GrantPermission { role: args.name.clone(), permission };
            changed(store, change, output, || format!("granted to {}", args.name)).await
        }
        RoleAction::Revoke(args) => {
            let (role, keys) = (args.name.clone(), keys(&args.keys)?);
            let change = AuthChange::RevokePermission { role, keys };
            changed(store, change, output, || format!("revoked from {}", args.name)).await
        }
    }
}

async fn changed(
    store: &Store,
    change: AuthChange,
    output: &mut Output<'_>,
    done: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let revision = store.client().change_auth(change).await.map_err(failure)?;
    output.print(&json!({ "revision": revision }), done)
}

/// Prints a list of names, a line each.
async fn names(
    store: &Store,
    question: AuthQuestion,
    what: &str,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let found = match store.client().ask_auth(question).await.map_err(failure)? {
        AuthAnswer::User(names) | AuthAnswer::Users(names) | AuthAnswer::Roles(names) => names,
        AuthAnswer::Status(_) | AuthAnswer::Role(_) => return Err(nonsense()),
    };
    let text: String = found.iter().map(|name| format!("{name}\n")).collect();
    let json = json!({ what: found });
    output.show(
        &json,
        || text.clone().into_bytes(),
        || match text.is_empty() {
            true => format!("no {what}"),
            false => text.clone(),
        },
    )
}

/// An answer of another kind than the question.
fn nonsense() -> Failure {
    let (reason, source) = ("the answer makes no sense".into(), None);
    failure(ClientError::NotDone { reason, source })
}

fn keys(extent: &Extent) -> Result<Keys, Failure> {
    let start = extent.escaped.bytes(&extent.key)?;
    let end = extent.escaped.optional(extent.range_end.as_ref())?;
    Ok(match end {
        _ if extent.prefix => Keys::prefix(start),
        Some(end) => Keys::Range { start, end: (!end.is_empty()).then_some(end) },
        None => Keys::One(start),
    })
}

/// A new password: from the file or from stdin, which is not to be a terminal, as it would be seen
/// there.
fn new_password(file: Option<&Path>) -> Result<String, Failure> {
    match file {
        Some(file) => password_in(file),
        None if io::stdin().is_terminal() => {
            Err(Failure::usage("no password given").advice("give --new-password-file, or pipe it"))
        }
        None => first_line(read_stdin(PASSWORD_FILE_MAX)?, "stdin"),
    }
}

/// The password in a file.
///
/// # Errors
/// Of kind `Local` if it cannot be read, `Usage` if it is none.
pub(crate) fn password_in(file: &Path) -> Result<String, Failure> {
    first_line(read_file(file, PASSWORD_FILE_MAX)?, &file.display().to_string())
}

fn first_line(bytes: Vec<u8>, name: &str) -> Result<String, Failure> {
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| Failure::usage(format!("{name}: not a text")))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.into()),
        _ => Err(Failure::usage(format!("{name}: no password in it"))),
    }
}
