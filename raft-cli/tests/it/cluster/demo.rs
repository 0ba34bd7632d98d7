//! `raft demo` as a process: it stops everything it started, however it ends itself.

use super::support::{GUARD, binary, run, slow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A demo that is up, and the folder it told of.
async fn demo(args: &[&str]) -> (Child, PathBuf) {
    let (child, ready) = ready(args).await;
    (child, PathBuf::from(ready["dir"].as_str().unwrap()))
}

/// A demo that is up, and what it said then.
async fn ready(args: &[&str]) -> (Child, Value) {
    let mut child = Command::new(binary())
        .args(["-o", "json", "demo"])
        .args(args)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    timeout(GUARD, reader.read_line(&mut line)).await.expect("it gets ready").unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["event"], "ready", "{line}");
    assert_eq!(ready["members"].as_array().unwrap().len(), 3);
    // What it says from here on is not read, and need not be.
    (child, ready)
}

/// Every node is open to clients of etcd, and each shows what was written through another.
#[tokio::test]
async fn clients_of_etcd_find_a_door_at_every_node() {
    let (mut child, ready) = ready(&[]).await;
    let doors: Vec<String> = serde_json::from_value(ready["etcd"].clone()).unwrap();
    assert_eq!(doors.len(), 3);
    let put = say(&doors[0], "put", r#"{"key": "a2V5", "value": "dmFsdWU="}"#).await;
    assert!(put.starts_with("HTTP/1.1 200"), "{put}");
    for door in &doors {
        let found = say(door, "range", r#"{"key": "a2V5"}"#).await;
        assert!(found.starts_with("HTTP/1.1 200") && found.contains("dmFsdWU="), "{found}");
    }
    signal(&child, Signal::SIGINT);
    assert!(timeout(GUARD, child.wait()).await.expect("it stops").unwrap().success());
}

/// Asks a node in JSON, over a connection of its own.
async fn say(door: &str, what: &str, body: &str) -> String {
    let asked = async {
        let mut stream = TcpStream::connect(door).await.unwrap();
        let length = body.len();
        let head = format!(
            "POST /v3/kv/{what} HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    timeout(GUARD, asked).await.expect("it answers")
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().unwrap().try_into().unwrap()), signal).unwrap();
}

/// Waits until no node holds its data any more.
async fn until_nobody_runs(folder: &Path) {
    let stopped = async {
        for node in ["n1", "n2", "n3"] {
            // The lock goes with the process that holds it.
            while raft_storage_redb::inspect(&folder.join(node)).is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    };
    timeout(GUARD, stopped).await.expect("all nodes stop");
}

#[tokio::test]
async fn ctrl_c_stops_all_and_leaves_nothing() {
    let (mut child, folder) = demo(&[]).await;
    assert!(folder.join("n1").exists());
    signal(&child, Signal::SIGINT);
    let status = timeout(GUARD, child.wait()).await.expect("it stops").unwrap();
    assert!(status.success(), "{status}");
    assert!(!folder.exists(), "the temporary folder is gone");
}

#[tokio::test]
async fn nodes_do_not_outlive_a_demo_that_is_killed() {
    let dir = TempDir::new().unwrap();
    let (mut child, folder) = demo(&["--dir", dir.path().to_str().unwrap()]).await;
    signal(&child, Signal::SIGKILL);
    child.wait().await.unwrap();
    until_nobody_runs(&folder).await;
}

#[tokio::test]
async fn a_kept_folder_is_used_again() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().to_str().unwrap();
    let put = |key: &'static str| {
        let args = ["--dir", path, "--deadline", "30s", "put", key, "value"];
        Command::new(binary()).args(args).stdout(Stdio::null()).status()
    };
    let (mut child, folder) = demo(&["--dir", path]).await;
    let certificate = std::fs::read(folder.join("ca.pem")).unwrap();
    assert!(put("first").await.unwrap().success());
    let second = run(&["demo", "--dir", path].map(str::to_owned)).await;
    assert_eq!(second.code, 6, "{second:?}");
    assert!(second.error.contains("in use by another demo"), "{second:?}");
    signal(&child, Signal::SIGTERM);
    assert!(child.wait().await.unwrap().success());

    let (mut child, _) = demo(&["--dir", path]).await;
    let get = Command::new(binary()).args(["--dir", path, "get", "--raw", "first"]).output();
    assert_eq!(get.await.unwrap().stdout, b"value");
    assert_eq!(std::fs::read(folder.join("ca.pem")).unwrap(), certificate);
    signal(&child, Signal::SIGTERM);
    assert!(child.wait().await.unwrap().success());
}

/// The story is true, and is seen to be.
#[tokio::test]
async fn the_tour_ends_well() {
    if !slow() {
        return;
    }
    let output = Command::new(binary()).args(["demo", "--tour", "--lines", "20000"]).output();
    let output = output.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("read back all 20000 lines"), "{text}");
    assert!(text.contains("nothing that was reported as written was lost"), "{text}");
}
