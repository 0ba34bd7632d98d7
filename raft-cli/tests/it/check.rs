//! `raft check` on recorded histories: what is wrong is found, shown and drawn, what is right is
//! not. On clusters it is tested in `nemesis.rs` and by the sessions of docs/cli.md.

mod causal;
mod workload;

use crate::cluster::support::binary;
use raft_cli::check::history::{Action, Ending, Fault, History, Operation, Workload};
use raft_cli::check::page::page;
use raft_cli::check::report::Report;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn history(lines: &str) -> History {
    History::read(lines.as_bytes(), "test").expect("a history")
}

/// Lines of a file from short ones: workload, client, key, times, outcome, and the operation.
fn long(short: &str) -> String {
    let line = |line: &str| {
        let parts: Vec<&str> = line.trim().trim_start_matches('!').splitn(6, ' ').collect();
        let [workload, client, key, times, outcome, op] = parts[..] else { panic!("{line}") };
        let (start, end) = times.split_once("..").expect("two times");
        let key = key.trim_start_matches('-');
        let mut json: Value = serde_json::from_str(op).expect("JSON");
        json["workload"] = workload.into();
        json["client"] = client.parse::<u64>().expect("a number").into();
        json["key"] = key.into();
        json["start"] = start.parse::<u64>().expect("a time").into();
        json["end"] = end.parse::<u64>().expect("a time").into();
        json["outcome"] = outcome.into();
        json.to_string()
    };
    short.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn judged(lines: &str) -> Report {
    Report::of(history(&long(lines)), |_| {})
}

/// Histories in short lines, each with one line that makes it wrong, marked with `!`, which is left
/// out to make it right; and what is said of it.
const WRONG: [(&str, &str, &str); 22] = [
    (
        "a lost acknowledged write",
        r#"register 1 x 1..2 ok {"op":"write","value":1}
           register 2 x 3..4 ok {"op":"write","value":2}
          !register 1 x 9..10 ok {"op":"read","result":null}"#,
        "no order explains read null of client 1",
    ),
    (
        "a stale read",
        r#"register 1 x 1..2 ok {"op":"write","value":1}
           register 1 x 3..9 ok {"op":"write","value":2}
           register 2 x 4..5 ok {"op":"read","result":2}
          !register 3 x 6..7 ok {"op":"read","result":1}"#,
        "no order explains read 1 of client 3",
    ),
    (
        "a value that nobody wrote",
        r#"register 1 x 1..2 failed {"op":"write","value":1}
          !register 2 x 4..5 ok {"op":"read","result":1}"#,
        "no order explains read 1",
    ),
    (
        "two that both found what they expected",
        r#"register 1 x 1..4 ok {"op":"cas","expected":null,"value":1,"result":true}
          !register 2 x 2..5 ok {"op":"cas","expected":null,"value":2,"result":true}"#,
        "no order explains cas null to",
    ),
    (
        "an append that ran twice",
        r#"append 1 l 1..2 unknown {"op":"append","value":"a"}
           append 2 l 3..4 ok {"op":"append","value":"b"}
          !append 2 l 5..6 ok {"op":"read","result":["a","b","a"]}"#,
        "\"a\" is in the list twice",
    ),
    (
        "a lost element",
        r#"append 1 l 1..2 ok {"op":"append","value":1}
           append 2 l 1..2 ok {"op":"append","value":2}
          !append 2 l 5..6 ok {"op":"read","result":[2]}"#,
        "1 was acknowledged before this read",
    ),
    (
        "two orders of one list",
        r#"append 1 l 1..9 ok {"op":"append","value":1}
           append 2 l 1..9 ok {"op":"append","value":2}
           append 3 l 3..4 ok {"op":"read","result":[1,2]}
          !append 4 l 3..4 ok {"op":"read","result":[2,1]}"#,
        "no order explains",
    ),
    (
        "a member created twice",
        r#"set 1 s 1..2 ok {"op":"add","value":7,"result":true}
          !set 2 s 1..3 ok {"op":"add","value":7,"result":true}"#,
        "no order explains add 7",
    ),
    (
        "a member that is gone",
        r#"set 1 s 1..2 ok {"op":"add","value":7,"result":true}
           set 2 s 1..3 ok {"op":"add","value":8,"result":true}
          !set 2 s 4..5 ok {"op":"read","result":[8]}"#,
        "no order explains read [8]",
    ),
    (
        "an event told twice",
        r#"watch 1 w 1..2 ok {"op":"write","value":1,"revision":5}
           watch 2 w 3..3 ok {"op":"event","value":1,"revision":5}
          !watch 2 w 4..4 ok {"op":"event","value":1,"revision":5}"#,
        "1 was told twice",
    ),
    (
        "an event never told",
        r#"watch 1 w 1..2 ok {"op":"write","value":1,"revision":5}
           watch 1 v 3..4 ok {"op":"write","value":2,"revision":6}
           watch 2 v 5..5 ok {"op":"event","value":2,"revision":6}
          !watch 2 - 1..9 ok {"op":"watched","after":4,"revision":6}"#,
        "client 2 was never told of 1",
    ),
    (
        "events in the wrong order",
        r#"watch 1 w 1..2 ok {"op":"write","value":1,"revision":5}
           watch 1 v 3..4 ok {"op":"write","value":2,"revision":6}
           watch 2 v 5..5 ok {"op":"event","value":2,"revision":6}
          !watch 2 w 6..6 ok {"op":"event","value":1,"revision":5}"#,
        "revision 5 was told after revision 6",
    ),
    (
        "a watch that is told nothing any more",
        r#"watch 1 w 1..2 ok {"op":"write","value":1,"revision":5}
           watch 2 w 3..3 ok {"op":"event","value":1,"revision":5}
          !watch 2 - 1..9 failed {"op":"watched","after":4,"revision":6}"#,
        "client 2 never caught up with revision 6",
    ),
    (
        "a holder that writes too late",
        r#"lock 1 k 1..2 ok {"op":"acquire","token":10}
           lock 2 k 3..4 ok {"op":"acquire","token":11}
          !lock 1 k 5..6 ok {"op":"write","value":1,"token":10}"#,
        "a write under token 10 was taken after another client held token 11",
    ),
    (
        "two holders at once",
        r#"lock 1 k 1..9 ok {"op":"write","value":1,"token":10,"revision":20}
           lock 2 k 1..9 ok {"op":"write","value":2,"token":11,"revision":21}
          !lock 1 k 1..9 ok {"op":"write","value":3,"token":10,"revision":22}"#,
        "two holders at once",
    ),
    (
        "a write of which nobody knew, after the next holder has read",
        r#"lock 1 k 1..2 ok {"op":"acquire","token":10}
           lock 1 k 3..4 unknown {"op":"write","value":1,"token":10}
           lock 2 k 5..6 ok {"op":"acquire","token":11}
           lock 2 k 7..8 ok {"op":"read","result":null,"token":11,"revision":0}
          !lock 2 k 9..10 ok {"op":"read","result":1,"token":11,"revision":21}"#,
        "under token 10 took effect after the holder of 11 had read",
    ),
    (
        "a write of which nobody knew, after the next holder has written",
        r#"lock 1 k 1..9 unknown {"op":"write","value":1,"token":10}
           lock 2 k 1..9 ok {"op":"write","value":2,"token":11,"revision":20}
          !lock 3 k 10..11 ok {"op":"read","result":1,"revision":21}"#,
        "under token 10 took effect after the holder of 11 had written",
    ),
    (
        "a write of which nobody knew, asked too late",
        r#"lock 1 k 1..2 ok {"op":"acquire","token":10}
           lock 2 k 3..4 ok {"op":"acquire","token":11}
           lock 1 k 5..6 unknown {"op":"write","value":1,"token":10}
          !lock 3 k 7..8 ok {"op":"read","result":1}"#,
        "a write under token 10 was taken after another client held token 11",
    ),
    (
        "a write that was answered: not done, and read",
        r#"lock 1 k 1..2 failed {"op":"write","value":1,"token":10}
          !lock 2 k 3..4 ok {"op":"read","result":1,"revision":21}"#,
        "1 was read, though its write was answered: not done",
    ),
    (
        "a holder's write that is lost",
        r#"lock 1 k 1..2 ok {"op":"write","value":1,"token":10,"revision":20}
           lock 1 k 3..4 ok {"op":"write","value":2,"token":10,"revision":21}
          !lock 1 k 5..6 ok {"op":"read","result":1,"token":10,"revision":20}"#,
        "acknowledged before this read is not seen",
    ),
    (
        "a later holder's write that is lost",
        r#"lock 1 k 1..2 ok {"op":"write","value":1,"token":10}
           lock 2 k 3..4 ok {"op":"write","value":2,"token":11}
          !lock 3 k 5..6 ok {"op":"read","result":1}"#,
        "acknowledged before this read is not seen",
    ),
    (
        "tokens that shrink",
        r#"lock 1 k 1..2 ok {"op":"acquire","token":10}
          !lock 2 k 3..4 ok {"op":"acquire","token":9}"#,
        "token 9 was handed out after 10",
    ),
];

#[test]
fn what_is_wrong_is_found_and_drawn() {
    for (name, lines, expected) in WRONG {
        let lines: Vec<&str> = lines.lines().map(str::trim).collect();
        let right: Vec<&str> = lines.iter().copied().filter(|it| !it.starts_with('!')).collect();
        assert_eq!(right.len() + 1, lines.len(), "{name}");
        let report = judged(&right.join("\n"));
        assert!(!report.is_violated() && !report.is_undecided(), "{name}, without the wrong line");

        let report = judged(&lines.join("\n"));
        let found: Vec<_> = report.judged.iter().flat_map(|judged| &judged.violations).collect();
        let [violation] = found[..] else { panic!("{name}: {found:?}") };
        assert!(violation.what.contains(expected), "{name}: {}", violation.what);
        let [.., wrong] = lines[..] else { unreachable!() };
        let wrong = &history(&long(wrong)).operations[0];
        let shown = |at: &usize| report.history.operations[*at] == *wrong;
        assert!(violation.involved.iter().any(shown), "{name}: {violation:?}");

        let html = page(&report);
        let text = expected.replace('"', "&quot;");
        assert!(html.contains("Violation of") && html.contains(&text), "{name}");
        assert!(html.contains("no explanation from"), "{name}");
        assert!(!html.contains("http") && !html.contains("src="), "{name}: it loads nothing");
    }
}

/// A holder that has lost the lock may look at what others do, and be overtaken by them.
#[test]
fn a_holder_that_lost_its_lock_may_look() {
    let report = judged(
        r#"lock 1 k 1..2 ok {"op":"acquire","token":10}
           lock 2 k 3..4 ok {"op":"acquire","token":11}
           lock 2 k 5..6 ok {"op":"write","value":1,"token":11,"revision":20}
           lock 2 k 7..8 ok {"op":"write","value":2,"token":11,"revision":21}
           lock 1 k 5..9 unknown {"op":"write","value":3,"token":10}
           lock 1 k 10..11 ok {"op":"read","result":2,"token":10,"revision":21}
           lock 2 k 12..13 ok {"op":"write","value":4,"token":11,"revision":22}"#,
    );
    assert!(!report.is_violated(), "{:?}", report.judged);
}

fn read(result: Value) -> Action {
    Action::Read { result, token: None, revision: None }
}

/// A long history in which one write is lost: the few operations that show it are found.
#[test]
fn few_operations_show_what_is_wrong() {
    let mut operations = Vec::new();
    for number in 1..=150_u64 {
        let (start, end) = (number * 10, number * 10 + 8);
        let operation = |client, action, start, end| Operation {
            workload: Workload::Register,
            client,
            key: "x".into(),
            action,
            start,
            end,
            outcome: Ending::Ok,
            position: None,
        };
        let write = Action::Write { value: number.into(), token: None, revision: None };
        operations.push(operation(1, write, start, end));
        // The reader is as late as may be, and once a little later.
        let late = if number == 110 { 2 } else { 1 };
        let result = Value::from(number - late);
        operations.push(operation(2, read(result), start + 1, end - 1));
    }
    operations[1].action = read(Value::Null);
    let mut history = History { operations, ..History::default() };
    history.sort();
    let report = Report::of(history, |_| {});
    let violation = &report.judged[0].violations[0];
    assert_eq!(violation.at, 1107, "the end of the read that is too late");
    assert!(violation.involved.len() <= 4, "{violation:?}");
    assert_eq!(violation.decisive.len(), 1, "{violation:?}");
}

/// A recovery is counted from when the trouble began to be made, and only what was asked when it
/// was made has met it. Histories that do not tell of that are read as well.
#[test]
fn a_recovery_begins_with_the_trouble() {
    let lines = r#"register 1 x 100..150 ok {"op":"write","value":1}
                   register 2 x 210..950 ok {"op":"write","value":2}"#;
    for (made, after) in [("", 50), (r#""made":200,"#, 850)] {
        let fault = format!(r#"{{"fault":"kill","what":"","start":100,{made}"end":700}}"#);
        let report = Report::of(history(&format!("{fault}\n{}", long(lines))), |_| {});
        assert_eq!(report.recoveries[0].after, Some(after));
        assert_eq!((report.longest_silence.start, report.longest_silence.length), (150, 800));
        assert_eq!(report.longest_unprovoked.length, 250, "from 700 to 950");
    }
}

#[test]
fn a_history_is_read_as_it_was_written() {
    let (_, lines, _) = WRONG[17];
    let mut history = history(&long(lines));
    history.seed = Some(7);
    let (fault, what) = ("kill".to_owned(), "it was killed".to_owned());
    history.faults.push(Fault { fault, what, start: 1, made: Some(2), end: 3 });
    let mut bytes = Vec::new();
    history.write(&mut bytes).unwrap();
    assert_eq!(History::read(&bytes[..], "test"), Ok(history));
}

fn check(dir: &Path, lines: &str, more: &[&str]) -> Output {
    let file = dir.join("history.jsonl");
    std::fs::write(&file, lines).unwrap();
    let output = Command::new(binary()).arg("check").arg("--history").arg(file).args(more).output();
    output.unwrap()
}

#[test]
fn the_exit_code_says_what_was_found() {
    let dir = tempfile::tempdir().unwrap();
    let (_, lines, expected) = WRONG[0];
    let page = dir.path().join("page.html");
    let wrong = long(lines);
    let output = check(dir.path(), &wrong, &["--html", page.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("VIOLATION of register x") && text.contains(expected), "{text}");
    assert!(std::fs::read_to_string(page).unwrap().contains(expected));

    let output = check(dir.path(), &wrong, &["-o", "json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["verdict"], "violation");
    assert_eq!(json["workloads"][0]["violations"][0]["key"], "x");

    let right: Vec<&str> = lines.lines().filter(|line| !line.contains('!')).collect();
    let output = check(dir.path(), &long(&right.join("\n")), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    for (lines, why) in [
        ("{\"version\":1}\n{\"workload\":\"register\"}", ":2: missing field"),
        ("{\"version\":2}", ":1: version 2"),
        (&wrong.replace("\"end\":10", "\"end\":1"), ":3: it ended before it started"),
        (&wrong.replace("\"read\"", "\"append\",\"value\":1"), ":3: the workload register has no"),
        ("nonsense", ":1: expected"),
    ] {
        let output = check(dir.path(), lines, &[]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(why), "{error}");
    }
    let output = check(dir.path(), "", &[]);
    assert_eq!(output.status.code(), Some(4), "nothing was answered: {output:?}");
}
