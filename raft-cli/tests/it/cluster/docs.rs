//! The sessions in docs/cli.md, run word for word.

use super::support::{GUARD, TestCluster, binary};
use crate::docs::read;
use std::path::Path;
use std::process::{Output, Stdio};
use tokio::process::Command;
use tokio::time::timeout;

/// A command of a session, and what it is said to print.
#[derive(Default)]
struct Step {
    command: String,
    prints: String,
}

/// The sessions' steps in order.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut session = false;
    for line in text.lines() {
        if line.starts_with("```") {
            session = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| session) {
            steps.push(Step { command: command.to_owned(), prints: String::new() });
        } else if let Some(step) = steps.last_mut().filter(|_| session) {
            match line.strip_prefix("> ").filter(|_| step.prints.is_empty()) {
                Some(more) => step.command.push_str(&format!("\n{more}")),
                None => step.prints.push_str(&format!("{line}\n")),
            }
        }
    }
    steps
}

#[tokio::test]
async fn the_sessions_are_true() {
    let mut cluster = TestCluster::new(1);
    cluster.processes.start_all().await.unwrap();
    let folder = cluster.processes.folder().dir().to_path_buf();
    let text = read("docs/cli.md");
    let steps = steps(&text);
    assert!(steps.len() > 30, "{}", steps.len());
    // Shell variables live from one step to the next.
    let mut variables = String::new();
    for Step { command, prints } in steps {
        let Output { stdout, stderr, .. } = sh(&folder, &format!("{variables}{command}")).await;
        let printed = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert_eq!(printed, prints, "$ {command}");
        if command.starts_with("token=") {
            variables.push_str(&format!("{command}\n"));
        }
    }
}

async fn sh(folder: &Path, command: &str) -> Output {
    let path = std::env::var("PATH").unwrap_or_default();
    let raft = binary();
    let bin = raft.parent().unwrap().display();
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .env("PATH", format!("{bin}:{path}"))
        .env("RAFT_DIR", folder)
        .env("RAFT_DEADLINE", "1m")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    timeout(GUARD, output).await.expect("it ends").unwrap()
}
