//! docs/cli.md says what the program says: its reference is made of the help, and its command lines
//! are right. Its sessions are run in `cluster/docs.rs`.

use clap::{Command, CommandFactory, Parser};
use raft_cli::args::Cli;
use std::fmt::Write;
use std::path::PathBuf;

/// What stands in front of the reference is written by hand.
const REFERENCE: &str = "\n## Reference\n";

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).expect("the file is part of the repository")
}

/// The help of every verb: what it does, its form, and what its help ends with.
fn reference() -> String {
    let mut text = REFERENCE.to_owned();
    let mut command = Cli::command().term_width(100);
    command.build();
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        section(verb, 3, &mut text);
    }
    text
}

fn section(verb: &Command, depth: usize, text: &mut String) {
    let name = verb.get_display_name().unwrap_or_else(|| verb.get_name()).replace('-', " ");
    let name = if name.ends_with("keep alive") { "raft lease keep-alive".into() } else { name };
    let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim();
    let heading = "#".repeat(depth);
    write!(text, "\n{heading} {name}\n\n{about}.\n\n```text\n{usage}\n").expect("fits");
    if let Some(more) = verb.get_after_help().filter(|_| depth == 3) {
        write!(text, "\n{more}\n").expect("fits");
    }
    text.push_str("```\n");
    for part in verb.get_subcommands().filter(|part| part.get_name() != "help") {
        section(part, depth + 1, text);
    }
}

/// Set UPDATE_DOCS=1 to write the reference anew.
#[test]
fn the_reference_is_that_of_the_program() {
    let text = read("docs/cli.md");
    let written = text.find(REFERENCE).expect("there is a reference");
    let reference = reference();
    if text[written..] == reference {
        return;
    }
    if std::env::var("UPDATE_DOCS").is_ok_and(|value| value == "1") {
        std::fs::write(path("docs/cli.md"), text[..written].to_owned() + &reference).unwrap();
        return;
    }
    let lines = text[written..].lines().zip(reference.lines());
    let differs = lines.into_iter().find(|(there, here)| there != here);
    panic!("docs/cli.md is not what `raft help` says, run with UPDATE_DOCS=1: {differs:?}");
}

/// Every verb has a section, and every line that begins with `raft` in a block of README.md and
/// docs/cli.md is a right command line.
#[test]
fn command_lines_in_the_documents_are_right() {
    let mut lines = 0;
    for name in ["README.md", "docs/cli.md"] {
        let text = read(name);
        let body = text.split(REFERENCE).next().expect("one part");
        let mut block = false;
        for line in body.lines() {
            if line.starts_with("```") {
                block = !block;
            }
            let line = line.trim_start_matches("$ ");
            if !block
                || !line.starts_with("raft ")
                || line.contains(['|', '<', '>', '\'', '$', ';'])
            {
                continue;
            }
            let command = line.split("   ").next().expect("one part");
            let command = command.split(" && ").next().expect("one part");
            if let Err(error) = Cli::try_parse_from(command.split_whitespace()) {
                panic!("{name}: {command}: {error}");
            }
            lines += 1;
        }
    }
    assert!(lines > 20, "{lines}");
}
