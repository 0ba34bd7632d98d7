//! Settings: which word holds, where it came from, and what is said of wrong ones.

use clap::{Arg, CommandFactory};
use raft_cli::args::Cli;
use raft_cli::serve::etcd_flags::HEADING;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A folder with one file of settings in it.
struct Settings {
    dir: TempDir,
}

impl Settings {
    fn new(text: &str) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("raft.toml"), text).unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("raft.toml")
    }

    /// Runs `raft` with the file, and an environment of its own.
    fn raft(&self, environment: &[(&str, &str)], words: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_raft"))
            .env_clear()
            .env("RAFT_CONFIG", self.path())
            .envs(environment.iter().copied())
            .args(words)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        // The folder differs from run to run.
        let folder = format!("{}/", self.dir.path().display());
        (code, text(output.stdout), text(output.stderr).replace(&folder, ""))
    }

    fn check(&self, environment: &[(&str, &str)], words: &[&str]) -> Value {
        let words = [&["-o", "json", "config", "check"], words].concat();
        let (_, stdout, stderr) = self.raft(environment, &words);
        serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"))
    }

    fn error(&self) -> String {
        let (code, _, stderr) = self.raft(&[], &["config", "check"]);
        assert_eq!(code, 2, "{stderr}");
        stderr.trim_end().to_owned()
    }
}

/// One setting, as `raft config check` tells it.
fn setting<'a>(check: &'a Value, section: &str, key: &str) -> &'a Value {
    let settings = check["settings"].as_array().unwrap();
    let found = settings.iter().find(|one| one["section"] == section && one["key"] == key);
    found.unwrap_or_else(|| panic!("no {section}.{key}"))
}

const NODE: &str = r#"
[serve]
data-dir = "data"
id = 2
cluster = ["n1=10.0.0.1:2380", "n2=10.0.0.2:2380"]
ca = "/etc/raft/ca.pem"
cert = "n2.pem"
key = "n2-key.pem"
heartbeat-interval = "100ms"
election-timeout = "1s"
lease-reads = true

[client]
endpoints = ["10.0.0.1:2380", "10.0.0.2:2380"]
deadline = "1m 30s"
ca = "ca.pem"
"#;

#[test]
fn every_value_tells_where_it_came_from() {
    let file = Settings::new(NODE);
    let environment = [("RAFT_ELECTION_TIMEOUT", "2s"), ("RAFT_DEADLINE", "3s")];
    let check = file.check(&environment, &["--heartbeat-interval", "200ms"]);
    assert_eq!(check["ok"], true, "{check}");
    assert_eq!(check["file"], file.path().to_str().unwrap());
    let all: [(&str, &str, &str, &str, Value); 9] = [
        ("serve", "id", "2", "file", 4.into()),
        ("serve", "heartbeat-interval", "200ms", "flag", Value::Null),
        ("serve", "election-timeout", "2s", "env", Value::Null),
        ("serve", "checkpoint-bytes", "32MiB", "default", Value::Null),
        ("serve", "lease-reads", "true", "file", 11.into()),
        ("serve", "ca", "/etc/raft/ca.pem", "file", 6.into()),
        ("client", "deadline", "3s", "env", Value::Null),
        ("client", "endpoints", "10.0.0.1:2380,10.0.0.2:2380", "file", 14.into()),
        ("client", "dir", "", "default", Value::Null),
    ];
    for (section, key, value, from, line) in all {
        let setting = setting(&check, section, key);
        let value = if value.is_empty() { Value::Null } else { value.into() };
        assert_eq!((&setting["value"], &setting["from"]), (&value, &from.into()), "{key}");
        assert_eq!(setting["line"], line, "{key}");
    }
    let variable = &setting(&check, "serve", "election-timeout")["variable"];
    assert_eq!(variable, "RAFT_ELECTION_TIMEOUT");
    // Paths are relative to the file.
    let data_dir = &setting(&check, "serve", "data-dir")["value"];
    assert_eq!(Path::new(data_dir.as_str().unwrap()), file.dir.path().join("data"));
}

/// Of heartbeats and election timeout one follows the other where nothing is said of it.
#[test]
fn times_are_shown_as_they_are_in_force() {
    let file = Settings::new("");
    let times = |words: &[&str]| {
        let check = file.check(&[], words);
        ["heartbeat-interval", "election-timeout"].map(|key| {
            let setting = setting(&check, "serve", key);
            (setting["value"].as_str().unwrap().to_owned(), setting["from"] == "default")
        })
    };
    let time = |text: &str, default| (text.to_owned(), default);
    assert_eq!(times(&[]), [time("100ms", true), time("400ms", true)]);
    let short = times(&["--election-timeout", "300ms"]);
    assert_eq!(short, [time("70ms", true), time("300ms", false)]);
    let slow = times(&["--heartbeat-interval", "300ms"]);
    assert_eq!(slow, [time("300ms", false), time("1s200ms", true)]);
    // What does not fit is shown as it was said.
    let wrong = times(&["--heartbeat-interval", "300ms", "--election-timeout", "1s"]);
    assert_eq!(wrong, [time("300ms", false), time("1s", false)]);
}

#[test]
fn people_get_a_table_and_shells_get_lines() {
    let file = Settings::new("[serve]\nid = 7\n");
    let (code, table, stderr) = file.raft(&[], &["config", "check", "--data-dir", "d"]);
    assert_eq!(code, 2);
    let row = |key: &str| {
        let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.find(|row| row[1] == key).unwrap()
    };
    assert_eq!(row("SETTING"), ["SECTION", "SETTING", "VALUE", "FROM"]);
    assert_eq!(row("id")[..3], ["serve", "id", "7"]);
    assert!(row("id")[3].ends_with("raft.toml:2"), "{table}");
    assert_eq!(row("data-dir"), ["serve", "data-dir", "d", "flag"]);
    let absent = ["ca", "cert", "key"].map(|key| {
        let variable = key.to_uppercase();
        format!(
            "error: no --{key} given; give it, or {key} under [serve] in the file of --config, or \
             RAFT_{variable}\n"
        )
    });
    assert_eq!(stderr, absent.concat(), "all of it is told");
    let check = file.check(&[], &[]);
    assert_eq!(check["errors"].as_array().map(Vec::len), Some(4), "{check}");
    let (_, lines, _) = file.raft(&[], &["-o", "simple", "config", "check", "--data-dir", "d"]);
    assert_eq!(lines.lines().next(), Some("serve.data-dir = d (flag)"));
}

/// One word on how a cluster comes about puts aside every weaker one.
#[test]
fn a_flag_puts_alternatives_in_the_file_aside() {
    let file = Settings::new(NODE);
    let listen = ["--single", "--listen", "10.0.0.2:2380"];
    let check = file.check(&[], &listen);
    assert_eq!(check["ok"], true, "{check}");
    assert_eq!(setting(&check, "serve", "cluster")["value"], Value::Null);
    assert_eq!(setting(&check, "serve", "single")["from"], "flag");
    let check = file.check(&[("RAFT_SINGLE", "1"), ("RAFT_LISTEN", "10.0.0.2:2380")], &[]);
    assert_eq!(check["ok"], true, "{check}");
    assert_eq!(setting(&check, "serve", "single")["from"], "env");
    let off = file.check(&[], &["--lease-reads=false"]);
    assert_eq!(setting(&off, "serve", "lease-reads")["value"], "false");
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line() {
    let wrong = [
        (
            "\n[serve]\nheartbeat_interval = \"1s\"",
            "raft.toml:3: [serve] has no setting heartbeat_interval; did you mean \
             heartbeat-interval?",
        ),
        (
            "[client]\nelection-timout = \"1s\"",
            "raft.toml:2: [client] has no setting election-timout; did you mean election-timeout, \
             under [serve]?",
        ),
        (
            "[serve]\nxyz = 1",
            "raft.toml:2: [serve] has no setting xyz; `raft config example` shows all",
        ),
        ("[sreve]", "raft.toml:1: there is no section [sreve]; did you mean [serve]?"),
        ("# top\nid = 3", "raft.toml:2: id stands outside of a section; put it under [serve]"),
        (
            "ca = \"x\"",
            "raft.toml:1: ca stands outside of a section; put it under [serve] or [client]",
        ),
        (
            "[serve]\nwatch-progress-interval = 5",
            "raft.toml:2: watch-progress-interval: time unit needed, for example 5sec or 5ms; \
             write it as `250ms`, `5s` or `1m 30s`",
        ),
        (
            "[serve]\ncheckpoint-bytes = \"64mb\"",
            "raft.toml:2: checkpoint-bytes: a size is a whole number and B, KiB, MiB, GiB, TiB, \
             kB, MB, GB or TB, as in `64MiB`",
        ),
        ("[serve]\nsingle = 1", "raft.toml:2: single: write true or false"),
        (
            "[serve]\nid = [1, 2]",
            "raft.toml:2: id: array is out of place here; `raft config example` shows how",
        ),
        (
            "[client]\nendpoints = [\"h\"]",
            "raft.toml:2: endpoints: an address is written HOST:PORT",
        ),
        ("[serve]\n\nid = 1\nid = 2\n", "raft.toml:4: duplicate key"),
        ("[serve\n", "raft.toml:1: "),
    ];
    for (text, says) in wrong {
        let error = Settings::new(text).error();
        assert!(error.starts_with(&format!("error: {says}")), "{text}: {error}");
    }
    let (code, _, error) = Settings::new("").raft(&[("RAFT_ID", "x")], &["config", "check"]);
    assert_eq!(code, 2);
    assert!(error.starts_with("error: RAFT_ID: id: a node id is a whole number"), "{error}");
    let (code, _, error) = Settings::new("").raft(&[], &["--config", "absent", "status"]);
    assert_eq!(code, 6);
    assert!(error.starts_with("error: cannot read absent: "), "{error}");
}

/// A size that may lack its unit is told as what it is.
#[test]
fn sizes_without_a_unit_are_told_as_bytes() {
    let settings = Settings::new("[serve]\nquota = 4096000\ncheckpoint-bytes = \"64MiB\"\n");
    let warning = "raft.toml:2: quota = 4096000 are 4096000 bytes; write a unit, as in `64MiB`";
    let check = settings.check(&[], &[]);
    let warnings = check["warnings"].as_array().unwrap();
    assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().ends_with(warning), "{check}");
}

/// A misspelt variable is not silently ignored.
#[test]
fn variables_that_are_no_settings_are_named() {
    let environment = [("RAFT_HEARTBEAT", "1s"), ("RAFT_LOCK_KEY", "a"), ("RAFT_XYZZY", "")];
    let settings = Settings::new("");
    let check = settings.check(&environment, &[]);
    let warnings = [
        "RAFT_HEARTBEAT is no setting; did you mean RAFT_HEARTBEAT_INTERVAL?",
        "RAFT_XYZZY is no setting",
    ];
    assert_eq!(check["warnings"], serde_json::json!(warnings));
    let (_, table, _) = settings.raft(&environment, &["config", "check"]);
    assert!(table.ends_with(&(warnings.join("\n") + "\n")), "{table}");
}

/// The example explains every setting, changes nothing as it is, and is right when uncommented.
#[test]
fn the_example_file_holds_every_setting() {
    let (code, example, _) = Settings::new("").raft(&[], &["config", "example"]);
    assert_eq!(code, 0);
    assert!(example.lines().all(|line| line.len() <= 100), "{example}");
    let check = Settings::new(&example).check(&[], &[]);
    assert_eq!(check["ok"], true);
    for setting in check["settings"].as_array().unwrap() {
        assert_eq!(setting["from"], "default", "{setting}");
    }
    // Of those that exclude each other, one; and no directory that is not there.
    let excluded = ["#single", "#join", "#cluster-id", "#dir", "#insecure"];
    let uncommented = example.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => {
            if excluded.iter().any(|one| line.starts_with(one)) { "" } else { setting }
        }
        _ => line,
    });
    let text: Vec<&str> = uncommented.collect();
    let check = Settings::new(&text.join("\n")).check(&[], &[]);
    assert_eq!(check["ok"], true, "{check}");
    for setting in check["settings"].as_array().unwrap() {
        let key = format!("#{}", setting["key"].as_str().unwrap());
        assert_eq!(setting["from"] == "file", !excluded.contains(&&*key), "{setting}");
    }
}

/// Every flag of a node is a setting: what can be said on the command line can stand in a file.
/// etcd's stand in etcd's.
#[test]
fn every_flag_of_serve_is_a_setting() {
    let check = Settings::new("").check(&[], &[]);
    let mut command = Cli::command();
    let serve = command.find_subcommand_mut("serve").unwrap();
    let etcds = |flag: &&Arg| flag.get_help_heading() == Some(HEADING);
    let flags = serve.get_arguments().filter(|flag| !flag.is_hide_set() && !etcds(flag));
    for flag in flags.filter_map(|flag| flag.get_long()).filter(|flag| *flag != "help") {
        setting(&check, "serve", flag);
    }
}

/// The same words in another order of places, as a shell would try them.
#[test]
fn verbs_without_a_cluster_do_not_read_settings() {
    let broken = Settings::new("[nothing]\n");
    let (code, script, _) = broken.raft(&[], &["completion", "bash"]);
    assert_eq!(code, 0);
    assert!(script.contains("config"), "every verb completes");
    assert_eq!(broken.raft(&[], &["get", "key"]).0, 2);
}

#[test]
fn colour_is_for_terminals() {
    let settings = Settings::new("");
    let (_, plain, error) = settings.raft(&[], &["config", "check", "--id", "1"]);
    assert!(!plain.contains('\u{1b}') && !error.contains('\u{1b}'), "{plain}{error}");
    let always = ["--color", "always", "config", "check", "--id", "1"];
    let (_, coloured, error) = settings.raft(&[("NO_COLOR", "1")], &always);
    assert!(coloured.starts_with("\u{1b}["), "{coloured}");
    assert!(error.starts_with("\u{1b}[1;31merror:\u{1b}[0m no "), "{error}");
}
