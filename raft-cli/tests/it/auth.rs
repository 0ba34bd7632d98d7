//! auth, user, role: what they print, and where passwords come from.

use crate::fake::{Cluster, Faults};
use crate::verbs::{json, run, table};
use raft_cli::args::connection::Target;
use raft_cli::failure::Kind;
use raft_cli::output::Format;
use std::fs;
use std::path::PathBuf;

fn target(user: Option<&str>, password_file: Option<PathBuf>) -> Target {
    let (endpoints, ca) = (vec!["a:1".into()], Some("ca.pem".into()));
    let user = user.map(Into::into);
    Target { endpoints, ca, identity: None, user, password_file, deadline: None }
}

#[test]
fn users_and_roles_are_made_and_shown() {
    let cluster = Cluster::new(Faults::default());
    let dir = tempfile::tempdir().expect("a temporary folder can be had");
    let file = dir.path().join("pw");
    fs::write(&file, "a secret\nnot this\n").expect("written");
    let file = file.to_str().expect("text");
    let added = table(&cluster, &["user", "add", "root", "--new-password-file", file]);
    assert_eq!(added, "user root added\n");
    assert_eq!(json(&cluster, &["user", "add", "bob", "--no-password"]), "{\"revision\":3}\n");
    let passwd = table(&cluster, &["user", "passwd", "bob", "--new-password-file", file]);
    assert_eq!(passwd, "password of bob changed\n");
    let failure = run(&cluster, Format::Table, &["auth", "enable"]).1.expect_err("no root");
    assert_eq!(failure.kind, Kind::Refused);
    assert_eq!(failure.message, "root user does not have root role");
    assert!(failure.advice.is_some());
    table(&cluster, &["user", "grant-role", "root", "root"]);
    assert_eq!(table(&cluster, &["role", "add", "readers"]), "role readers added\n");
    let words = ["role", "grant", "readers", "read", "config/", "--prefix"];
    assert_eq!(table(&cluster, &words), "granted to readers\n");
    let words = ["role", "revoke", "readers", "config/"];
    let failure = run(&cluster, Format::Table, &words).1.expect_err("it is another range");
    assert_eq!(failure.message, "permission is not granted to the role");
    let words = ["role", "revoke", "readers", "config/", "--range-end", "config0"];
    assert_eq!(table(&cluster, &words), "revoked from readers\n");
    table(&cluster, &["role", "delete", "readers"]);
    table(&cluster, &["user", "delete", "bob"]);
    assert_eq!(table(&cluster, &["user", "list"]), "alice\nroot\n");
    assert_eq!(table(&cluster, &["user", "get", "alice"]), "readers\nwriters\n");
    assert_eq!(json(&cluster, &["role", "list"]), "{\"roles\":[\"readers\",\"root\"]}\n");
    assert_eq!(table(&cluster, &["auth", "status"]), "enabled: true\nrevision: 7\n");
    let shown = table(&cluster, &["role", "get", "readers"]);
    assert_eq!(
        shown,
        "ACCESS     FROM   UP TO\n\
         read       a      -\n\
         readwrite  b\\x01  b\\x02\n\
         write      c      the last\n"
    );
    let parsed: serde_json::Value =
        serde_json::from_str(&json(&cluster, &["role", "get", "readers"])).expect("JSON");
    assert_eq!(parsed["permissions"][2]["open"], true);
    assert_eq!(table(&cluster, &["auth", "enable"]), "authentication enabled\n");
}

#[test]
fn passwords_come_from_files_and_not_from_nowhere() {
    assert_eq!(target(None, None).credentials(), Ok(None));
    let told = |name: &str, password: &str| Ok(Some((name.to_owned(), password.to_owned())));
    assert_eq!(target(Some("alice:a:b"), None).credentials(), told("alice", "a:b"));
    let dir = tempfile::tempdir().expect("a temporary folder can be had");
    let file = dir.path().join("pw");
    fs::write(&file, "secret\n").expect("written");
    assert_eq!(target(Some("alice"), Some(file.clone())).credentials(), told("alice", "secret"));
    fs::write(&file, "\n").expect("written");
    let failure = target(Some("alice"), Some(file)).credentials().expect_err("it is empty");
    assert_eq!(failure.kind, Kind::Usage);
    let nowhere = dir.path().join("none");
    let failure = target(Some("alice"), Some(nowhere)).credentials().expect_err("no file");
    assert_eq!(failure.kind, Kind::Local);
}
