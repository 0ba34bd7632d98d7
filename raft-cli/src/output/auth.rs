//! What roles permit, printed.

use super::{Table, printable};
use raft_kv::api::{Access, Keys, Permission};
use serde::Serialize;

/// A permission as JSON; keys are escaped as tables escape them.
#[derive(Serialize)]
pub struct PermissionJson {
    access: &'static str,
    key: String,
    range_end: Option<String>,
    /// Whether it goes on to the last key there is.
    open: bool,
}

impl PermissionJson {
    /// The JSON form.
    pub fn of(permission: &Permission) -> Self {
        let access = name(permission.access);
        let (key, range_end, open) = match &permission.keys {
            Keys::One(key) => (key, None, false),
            Keys::Range { start, end } => (start, end.as_ref(), end.is_none()),
        };
        Self { access, key: printable(key), range_end: range_end.map(|end| printable(end)), open }
    }
}

/// A table of what a role permits.
pub fn permissions(permissions: &[Permission]) -> String {
    let mut table = Table::new(&["ACCESS", "FROM", "UP TO"]);
    for permission in permissions {
        let PermissionJson { access, key, range_end, open } = PermissionJson::of(permission);
        let end = if open { "the last".into() } else { range_end.unwrap_or_else(|| "-".into()) };
        table.row(vec![access.into(), key, end]);
    }
    table.render()
}

const fn name(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Write => "write",
        Access::ReadWrite => "readwrite",
    }
}
