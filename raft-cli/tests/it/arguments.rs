//! The command line: parsing, precedence, help.

use clap::{CommandFactory, Parser};
use raft_cli::args::connection::{CLIENT_FILE, Connection};
use raft_cli::args::{Cli, text, values};
use raft_cli::config::Config;
use raft_cli::failure::{Failure, Kind};
use raft_kv::api::{LeaseId, Position, Revision};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn connection(words: &[&str]) -> Connection {
    let words = ["raft"].iter().chain(words).chain(&["completion", "bash"]);
    Cli::try_parse_from(words).expect("right").connection
}

fn nothing() -> Config {
    Config::default()
}

fn with(environment: impl Fn(&str) -> Option<String>) -> Result<Config, Failure> {
    Config::load(None, environment)
}

#[test]
fn the_definitions_hold_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_teaches_with_examples() {
    for verb in Cli::command().get_subcommands() {
        let help = verb.clone().render_long_help().to_string();
        assert!(help.contains("Example"), "{} has no example", verb.get_name());
        for line in help.lines().filter(|line| line.starts_with("  raft ")) {
            assert!(line.len() <= 100, "{line}");
        }
    }
}

#[test]
fn examples_parse() {
    for verb in Cli::command().get_subcommands() {
        let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples = help.lines().filter(|line| line.starts_with("  raft "));
        for example in examples.filter(|line| !line.contains(['|', '<', '>', '\\', '\''])) {
            let command = example.trim().split("  ").next().expect("one part");
            if let Err(error) = Cli::try_parse_from(command.split_whitespace()) {
                panic!("{command}: {error}");
            }
        }
    }
}

#[test]
fn the_last_word_on_the_connection_is_after_the_verb() {
    let before = connection(&["--endpoints", "a:1", "--ca", "ca1", "--deadline", "1s"]);
    let after = connection(&["--endpoints", "b:1,c:2", "--ca", "ca2"]);
    let target = after.resolve(before, &nothing()).expect("complete");
    assert_eq!(target.endpoints, ["b:1", "c:2"]);
    assert_eq!(target.ca.as_deref(), Some(Path::new("ca2")));
    assert_eq!(target.identity, None);
    assert_eq!(target.deadline, Some(Duration::from_secs(1)));
}

#[test]
fn the_environment_stands_in_for_flags() {
    let environment = |name: &str| match name {
        "RAFT_ENDPOINTS" => Some("x:1, y:2".to_owned()),
        "RAFT_CA" => Some("env-ca".to_owned()),
        "RAFT_CERT" => Some("env-cert".to_owned()),
        _ => None,
    };
    let after = connection(&["--key", "my-key"]);
    let target = after.resolve(Connection::default(), &with(environment).expect("right"));
    let target = target.expect("complete");
    assert_eq!(target.endpoints, ["x:1", "y:2"]);
    assert_eq!(target.ca.as_deref(), Some(Path::new("env-ca")));
    assert_eq!(target.identity, Some(("env-cert".into(), "my-key".into())));
}

#[test]
fn a_directory_tells_everything_and_flags_overrule_it() {
    let dir = tempfile::tempdir().expect("a temporary folder can be had");
    let text = r#"{"endpoints":["a:1","b:2"],"ca":"ca.pem","cert":"c.pem","key":"k.pem"}"#;
    std::fs::write(dir.path().join(CLIENT_FILE), text).expect("written");
    let name = dir.path().to_str().expect("text");

    let target = Connection::default().resolve(connection(&["--dir", name]), &nothing());
    let target = target.expect("complete");
    assert_eq!(target.endpoints, ["a:1", "b:2"]);
    assert_eq!(target.ca, Some(dir.path().join("ca.pem")));
    let identity = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    assert_eq!(target.identity, Some(identity));

    let environment = |variable: &str| (variable == "RAFT_DIR").then(|| name.to_owned());
    let after = connection(&["--endpoints", "b:2", "--ca", "other"]);
    let target = after.resolve(Connection::default(), &with(environment).expect("right"));
    let target = target.expect("complete");
    assert_eq!(target.endpoints, ["b:2"]);
    assert_eq!(target.ca, Some(PathBuf::from("other")));
}

#[test]
fn what_is_missing_is_named() {
    let failure =
        Connection::default().resolve(Connection::default(), &nothing()).expect_err("no ca");
    assert_eq!(failure.kind, Kind::Usage);
    assert_eq!(failure.message, "no --ca given");

    let half = connection(&["--ca", "ca", "--cert", "cert"]);
    let failure = half.resolve(Connection::default(), &nothing()).expect_err("no key");
    assert_eq!(failure.message, "no --key given");

    let absent = connection(&["--dir", "/nonexistent"]);
    let failure = absent.resolve(Connection::default(), &nothing()).expect_err("no directory");
    assert_eq!(failure.kind, Kind::Local);
    assert!(failure.message.starts_with("cannot read /nonexistent/client.json"));

    let wrong = |name: &str| (name == "RAFT_ENDPOINTS").then(|| "x".to_owned());
    let failure = with(wrong).expect_err("no port");
    assert_eq!(failure.kind, Kind::Usage);
    assert!(failure.message.starts_with("RAFT_ENDPOINTS: endpoints: an address"), "{failure}");
}

#[test]
fn values_say_what_would_be_right() {
    assert_eq!(values::node("n3").map(|id| id.0), Ok(3));
    assert_eq!(values::member("3=h:1").map(|(id, at)| (id.0, at)), Ok((3, "h:1".into())));
    assert_eq!(values::address("[::1]:2380"), Ok("[::1]:2380".into()));
    assert_eq!(values::cluster("2A").map(|id| id.0), Ok(42));
    assert_eq!(values::duration("1m 30s"), Ok(Duration::from_secs(90)));
    for wrong in ["0", "n0", "-1", "n", "", "nn1"] {
        assert!(values::node(wrong).is_err(), "{wrong}");
    }
    for wrong in ["h", "h:", ":1", "h:x", "h:65536", ""] {
        assert!(values::address(wrong).is_err(), "{wrong}");
    }
    for wrong in ["", "x", "+1", "12345678901234567", "0x"] {
        assert!(values::cluster(wrong).is_err(), "{wrong}");
    }
    assert!(values::duration("0s").is_err());
    assert!(values::duration("5").is_err());
    assert_eq!(text::lease("5ca1ab1e"), Ok(LeaseId(0x5ca1_ab1e)));
    assert_eq!(text::position("3:7"), Ok(Position { epoch: 3, revision: Revision(7) }));
    for wrong in ["", "0", "x", "+1", "8000000000000000", "12345678901234567"] {
        assert!(text::lease(wrong).is_err(), "{wrong}");
    }
    for wrong in ["", "3", "3:", ":7", "3:7:1", "-1:7"] {
        assert!(text::position(wrong).is_err(), "{wrong}");
    }
    assert_eq!(values::size("4096"), Ok(4096));
    assert_eq!(values::size("64MiB"), Ok(64 << 20));
    assert_eq!(values::size("2 GB"), Ok(2_000_000_000));
    for wrong in ["", "MiB", "1.5GiB", "-1", "1mib", "99999999999TiB"] {
        assert!(values::size(wrong).is_err(), "{wrong}");
    }
}
