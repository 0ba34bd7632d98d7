//! The patches of `mutants/`, which plant bugs to show that the tests find them: each still fits
//! the tree as it is, says what it is and what must find it, and has its row in the table.
//! `cargo run -p benches --example mutants` plants them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Bugs in the list.
const BUGS: u32 = 51;

/// So many of them must be planted.
const PLANTED_MIN: usize = 40;

/// So many rows of the table were not written by the command, at most. As it writes them, this
/// falls.
const BY_HAND_MAX: usize = 0;

/// So many of these say that nobody has run them yet.
const NOT_RUN_MAX: usize = 0;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates lie in the workspace")
}

/// The patches and the text of each, by name; nothing where the crate lies alone, as in a package.
fn patches() -> BTreeMap<String, String> {
    let folder = workspace().join("mutants");
    if !folder.is_dir() {
        return BTreeMap::new();
    }
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let patches = paths.filter(|path| path.extension().is_some_and(|it| it == "patch"));
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        (name, fs::read_to_string(&path).unwrap())
    };
    patches.map(read).collect()
}

fn number(name: &str) -> Option<u32> {
    let (number, rest) = name.split_once('-')?;
    let named = number.len() == 2 && !rest.is_empty();
    number.parse().ok().filter(|number| named && (1..=BUGS).contains(number))
}

/// A hunk: the lines it expects, without their marks.
fn expected(hunk: &[&str]) -> Vec<String> {
    let kept = hunk.iter().filter(|line| line.starts_with([' ', '-']) || line.is_empty());
    kept.map(|line| line.get(1..).unwrap_or_default().to_string()).collect()
}

/// What is wrong with a diff, held against the files of the workspace.
fn misfits(diff: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut file: Option<(String, Vec<String>, usize)> = None;
    let mut at = 0;
    while at < diff.len() {
        let line = diff[at];
        at += 1;
        if let Some(path) = line.strip_prefix("+++ b/") {
            match fs::read_to_string(workspace().join(path)) {
                Ok(text) => {
                    let lines = text.lines().map(Into::into).collect();
                    file = Some((path.into(), lines, 0));
                }
                Err(error) => wrong.push(format!("{path}: {error}")),
            }
        } else if line.starts_with("@@ ") {
            let ends = |line: &&str| line.starts_with("@@ ") || line.starts_with("diff ");
            let length = diff[at..].iter().position(ends).unwrap_or(diff.len() - at);
            let hunk = expected(&diff[at..at + length]);
            at += length;
            let Some((path, lines, from)) = &mut file else {
                wrong.push(format!("{line}: of no file"));
                continue;
            };
            let found = lines[*from..].windows(hunk.len()).position(|window| window == hunk);
            match found {
                Some(found) => *from += found + hunk.len(),
                None => wrong.push(format!("{path}: {line} does not fit any more")),
            }
        }
    }
    wrong
}

#[test]
fn every_patch_fits_the_tree() {
    let mut wrong = Vec::new();
    for (name, text) in patches() {
        let lines: Vec<&str> = text.lines().collect();
        let Some(begin) = lines.iter().position(|line| line.starts_with("diff ")) else {
            wrong.push(format!("{name}: no diff"));
            continue;
        };
        let changes = |mark: &str, header: &str| {
            lines[begin..].iter().any(|line| line.starts_with(mark) && !line.starts_with(header))
        };
        if !changes("+", "+++ ") && !changes("-", "--- ") {
            wrong.push(format!("{name}: changes nothing"));
        }
        wrong.extend(misfits(&lines[begin..]).iter().map(|misfit| format!("{name}: {misfit}")));
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_patch_says_what_it_is_and_what_finds_it() {
    let mut wrong = Vec::new();
    for (name, text) in patches() {
        if number(&name).is_none() {
            wrong.push(format!("{name}: begins with no number of a bug"));
        }
        let header: Vec<&str> =
            text.lines().take_while(|line| !line.starts_with("diff ")).collect();
        let fields = |field: &str| {
            let values = header.iter().filter_map(|line| line.strip_prefix(field));
            values.filter(|value| !value.trim().is_empty()).collect::<Vec<_>>()
        };
        if fields("bug: ").len() != 1 {
            wrong.push(format!("{name}: says not once what is wrong"));
        }
        let finders = fields("found-by: ");
        let known = |finder: &&str| {
            finder.split_once(": ").is_some_and(|(package, tests)| {
                let module = tests.split("::").next().unwrap_or_default();
                let file = workspace().join(package).join("tests/it").join(module);
                // The command turns on no features, without which the door is not there.
                let built = (package, module) != ("raft-kv", "etcd");
                built && (module == "unit" || file.is_dir() || file.with_extension("rs").is_file())
            })
        };
        let ends: Vec<&&str> = header.iter().filter(|line| line.starts_with("ends:")).collect();
        if ends.len() > 1 || !ends.iter().all(|it| matches!(**it, "ends: no" | "ends: aborted")) {
            wrong.push(format!("{name}: says not how a run of tests ends"));
        }
        if finders.is_empty() || !finders.iter().all(known) {
            wrong.push(format!("{name}: says not what finds it"));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// What the row of a patch says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Row {
    /// The command has seen it found.
    Written,
    ByHand,
    NotRun,
    Wrong(&'static str),
}

fn judge_row(page: &str, name: &str) -> Row {
    let begin = format!("| [{name}]({name}.patch) |");
    let Some(row) = page.lines().find(|line| line.starts_with(&begin)) else {
        return Row::Wrong("not in the table");
    };
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let [_, _, _, finders, needed, seconds, _, _] = cells[..] else {
        return Row::Wrong("a row of another length");
    };
    if finders.starts_with("not yet run") {
        return Row::NotRun;
    }
    // The crate, the test in backticks, and what it took.
    match (finders.contains(" `") && !needed.is_empty(), seconds.is_empty()) {
        (true, false) => Row::Written,
        (true, true) => Row::ByHand,
        (false, _) => Row::Wrong("not found"),
    }
}

#[test]
fn a_row_that_does_not_say_what_found_the_bug_is_refused() {
    let row = |rest: &str| format!("| [02-it](02-it.patch) | It is wrong | {rest} |");
    let judged = |rest: &str| judge_row(&row(rest), "02-it");
    assert_eq!(judged("raft-core `votes::it` | one run | 3 | it is"), Row::Written);
    assert_eq!(judged("raft-core `votes::it` | one run |  |  "), Row::ByHand);
    assert_eq!(judged("not yet run: `raft-core: votes` |  |  |  "), Row::NotRun);
    assert_eq!(judged("**nothing** |  |  |  "), Row::Wrong("not found"));
    assert_eq!(judged("raft-core `votes::it` |  |  |  "), Row::Wrong("not found"));
    assert_eq!(judged("raft-core `votes::it` |"), Row::Wrong("a row of another length"));
    assert_eq!(judge_row("", "02-it"), Row::Wrong("not in the table"));
}

/// A bug is planted and in the table with what found it, or the page says why it is not.
#[test]
fn every_bug_of_the_list_is_planted_or_argued() {
    let patches = patches();
    if patches.is_empty() {
        return;
    }
    let page = fs::read_to_string(workspace().join("mutants/README.md")).unwrap();
    let mut wrong = Vec::new();
    let rows: Vec<Row> = patches.keys().map(|name| judge_row(&page, name)).collect();
    for (name, row) in patches.keys().zip(&rows) {
        if let Row::Wrong(what) = row {
            wrong.push(format!("{name}: {what}"));
        }
    }
    let count = |kind: Row| rows.iter().filter(|row| **row == kind).count();
    let not_run = count(Row::NotRun);
    if not_run > NOT_RUN_MAX || count(Row::ByHand) + not_run > BY_HAND_MAX {
        wrong.push(format!("{} rows by hand, {not_run} not run", count(Row::ByHand)));
    }
    let planted: BTreeSet<u32> = patches.keys().filter_map(|name| number(name)).collect();
    for bug in 1..=BUGS {
        let begins = |with: &str| page.lines().any(|line| line.starts_with(with));
        if !begins(&format!("| {bug} | ")) {
            wrong.push(format!("bug {bug}: not in the list"));
        }
        let argued = begins(&format!("- **{bug}**"));
        if planted.contains(&bug) == argued {
            wrong.push(format!("bug {bug}: planted, or argued why not; and not both"));
        }
    }
    if planted.len() < PLANTED_MIN {
        wrong.push(format!("only {} bugs are planted", planted.len()));
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
