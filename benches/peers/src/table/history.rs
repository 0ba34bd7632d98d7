//! The file that says how the figures have moved.

use super::report::Line;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

const HEAD: &str = "date,commit,cell,library,commits_per_second,cpu_nanos_per_commit,p50_micros,\
                    p99_micros,instructions_per_commit";

/// Appends `lines` to `file`, which is made if it is not there.
pub fn append(file: &Path, lines: &[Line]) -> Result<(), String> {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let date = now.split('T').next().unwrap_or_default();
    let commit = commit();
    let mut text = String::new();
    if file.metadata().map_or(0, |it| it.len()) == 0 {
        text += HEAD;
        text.push('\n');
    }
    for line in lines {
        let optional = |value: Option<f64>, digits| {
            value.map_or_else(String::new, |value| format!("{value:.digits$}"))
        };
        text += &format!(
            "{date},{commit},\"{}\",{},{:.0},{:.0},{},{},{}\n",
            line.cell,
            line.library,
            line.commits_per_second,
            line.cpu_nanos_per_commit,
            optional(line.latency.map(|it| it.p50_micros), 1),
            optional(line.latency.map(|it| it.p99_micros), 1),
            optional(line.instructions_per_commit, 0),
        );
    }
    let opened = OpenOptions::new().create(true).append(true).open(file);
    let written = opened.and_then(|mut opened| opened.write_all(text.as_bytes()));
    written.map_err(|error| format!("{}: {error}", file.display()))
}

/// What is checked out where this was built.
fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR")]);
    git.args(["describe", "--always", "--dirty", "--exclude=*"]);
    let told = git.output().ok().filter(|output| output.status.success());
    told.map_or_else(
        || "unknown".into(),
        |it| String::from_utf8_lossy(&it.stdout).trim().to_owned(),
    )
}
