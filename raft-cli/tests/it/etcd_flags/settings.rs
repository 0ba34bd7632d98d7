//! etcd's environment and file: where a value came from, and which word holds.

use serde_json::Value;
use std::process::Command;
use tempfile::TempDir;

/// What `raft config check` says, and how it ends.
fn check(dir: &TempDir, environment: &[(&str, &str)], words: &[&str]) -> (Value, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_raft"))
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(dir.path())
        .args(["-o", "json", "config", "check"])
        .args(words)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let value = serde_json::from_str(&text).unwrap_or(Value::String(error));
    (value, output.status.code().unwrap())
}

fn value<'a>(check: &'a Value, key: &str) -> (&'a str, &'a str) {
    let settings = check["settings"].as_array().unwrap_or_else(|| panic!("{check}"));
    let found = settings.iter().find(|setting| setting["key"] == key);
    let found = found.unwrap_or_else(|| panic!("no {key} in {check}"));
    (found["value"].as_str().unwrap_or_default(), found["from"].as_str().unwrap_or_default())
}

#[test]
fn the_environment_of_etcd_says_the_same_as_its_flags() {
    let dir = TempDir::new().unwrap();
    let environment = [
        ("ETCD_NAME", "a"),
        ("ETCD_DATA_DIR", "here"),
        ("ETCD_ENABLE_V2", "1"),
        ("ETCD_INITIAL_CLUSTER", "a=http://h:1,b=http://h:2"),
        ("ETCD_HEARTBEAT_INTERVAL", "200"),
        ("ETCD_UNHEARD_OF", "x"),
    ];
    let (told, code) = check(&dir, &environment, &["--name", "b"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(value(&told, "name").0, "b");
    assert_eq!(value(&told, "data-dir").0, "here");
    assert_eq!(value(&told, "enable-v2").0, "true");
    assert_eq!(value(&told, "heartbeat-interval").0, "200");
    let warnings = told["warnings"].to_string();
    assert!(warnings.contains("ETCD_UNHEARD_OF is no setting"), "{warnings}");
    // A node with an id is none of etcd's, and its environment nobody's business.
    let (told, _) = check(&dir, &environment, &["--id", "1"]);
    assert_eq!(value(&told, "heartbeat-interval").0, "100ms");
    let (told, code) = check(&dir, &[("ETCD_INITIAL_CLUSTER", "nonsense")], &[]);
    assert_eq!(code, 2, "{told}");
    assert!(told.to_string().contains("ETCD_INITIAL_CLUSTER"), "{told}");
}

#[test]
fn the_file_of_etcd_stands_for_its_environment() {
    let dir = TempDir::new().unwrap();
    let yaml = "\
name: a
initial-cluster: a=https://h:1,
  b=https://h:2
initial-advertise-peer-urls: https://h:1
auto-compaction-retention: 5
peer-transport-security:
  auto-tls: true
log-outputs: [stderr]
unheard-of: 1
";
    std::fs::write(dir.path().join("etcd.yaml"), yaml).unwrap();
    let environment = [("ETCD_CONFIG_FILE", "etcd.yaml"), ("ETCD_NAME", "b")];
    for (environment, words) in
        [(&environment[..], &[][..]), (&environment[1..], &["--config-file=etcd.yaml"])]
    {
        let (told, code) = check(&dir, environment, words);
        assert_eq!(code, 0, "{told}");
        assert_eq!(value(&told, "name").0, "a");
        assert_eq!(value(&told, "peer-auto-tls").0, "true");
        let warnings = told["warnings"].to_string();
        assert!(warnings.contains("etcd.yaml:9: unheard-of is no setting"), "{warnings}");
    }
    let (told, _) = check(&dir, &environment, &["--name=c"]);
    assert_eq!(value(&told, "name").0, "c");
    std::fs::write(dir.path().join("etcd.yaml"), "name: a\nheartbeat-interval: soon\n").unwrap();
    let (told, code) = check(&dir, &environment, &[]);
    assert_eq!(code, 2);
    assert!(told.to_string().contains("etcd.yaml:2: heartbeat-interval"), "{told}");
    let (told, code) = check(&dir, &[], &["--config-file=nowhere.yaml"]);
    assert_ne!(code, 0);
    assert!(told.to_string().contains("nowhere.yaml"), "{told}");
}
