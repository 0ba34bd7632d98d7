//! A configuration file that explains itself, made from the flags' own help.

use super::{Section, is_switch, variable};
use clap::Arg;
use std::fmt::Write;

/// Longest line of a comment.
const WIDTH: usize = 96;

const HEAD: &str = "\
# Settings of `raft`. Name this file with --config, or in RAFT_CONFIG.
#
# Flags win over the environment, that over this file, that over the defaults, which are shown.
# Paths are relative to this file. `raft config check` shows every value and where it came from.
";

/// The file, every setting commented out.
pub fn example() -> String {
    let mut text = HEAD.to_owned();
    for section in Section::ALL {
        let what = match section {
            Section::Serve => "the node that `raft serve` runs",
            Section::Client => "how verbs such as `raft get` reach a cluster",
        };
        append(&mut text, format_args!("\n# {what}\n[{}]\n", section.name()));
        for option in section.options() {
            setting(&mut text, &option);
        }
    }
    text
}

fn setting(text: &mut String, option: &Arg) {
    let key = option.get_long().unwrap_or_default();
    text.push('\n');
    let help = option.get_help().map(ToString::to_string).unwrap_or_default();
    // What help says of the environment and of defaults, the lines below say.
    let help = help.split(" [env:").next().unwrap_or_default();
    // Settings have no dashes here; commands, in backquotes, keep theirs.
    let parts = help.split('`').enumerate();
    let parts: Vec<String> = parts
        .map(|(at, part)| if at % 2 == 0 { part.replace("--", "") } else { part.to_owned() })
        .collect();
    for line in wrapped(&parts.join("`")) {
        append(text, format_args!("# {line}\n"));
    }
    append(text, format_args!("# In the environment: {}\n", variable(key)));
    append(text, format_args!("#{key} = {}\n", value(key, option)));
}

fn append(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("writing to a String does not fail");
}

/// The default, or what a value looks like.
fn value(key: &str, option: &Arg) -> String {
    let default = option.get_default_values().first().map(|value| value.to_string_lossy());
    let value = default.as_deref().unwrap_or_else(|| sample(key));
    if is_switch(option) {
        return "false".to_owned();
    }
    if option.get_value_delimiter().is_some() {
        let items: Vec<String> = value.split(',').map(|item| format!("\"{item}\"")).collect();
        return format!("[{}]", items.join(", "));
    }
    match value {
        "true" | "false" => value.to_owned(),
        number if number.parse::<u64>().is_ok() => value.to_owned(),
        _ => format!("\"{value}\""),
    }
}

/// What a setting without a default may look like.
fn sample(key: &str) -> &'static str {
    match key {
        "data-dir" => "/var/lib/raft",
        "id" => "1",
        "etcd-listen" => "127.0.0.1:2379",
        "listen" => "0.0.0.0:2380",
        "advertise" => "10.0.0.1:2380",
        "peer-address" => "n2=192.0.2.1:12380",
        "cluster" => "n1=10.0.0.1:2380,n2=10.0.0.2:2380,n3=10.0.0.3:2380",
        "cluster-id" => "8ab93df4556da4fe",
        "log-level" => "info",
        "endpoints" => "127.0.0.1:2380",
        "deadline" => "5s",
        "dir" => "/tmp/trio",
        "user" => "alice",
        "password-file" => "/etc/raft/password",
        _ => "file.pem",
    }
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
