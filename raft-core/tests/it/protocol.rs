//! `docs/protocol.md` leads from every rule of the paper to its code and to what shows it. This
//! keeps it from leading nowhere, and from leaving a rule out that a test is named after.

use super::references::{Reference, text_of};

const DOCUMENT: &str = "docs/protocol.md";

/// Tests named after a rule. Each of them stands in a row of the document.
const RULES: [&str; 5] = [
    "raft-core/tests/it/paper/beyond.rs",
    "raft-core/tests/it/paper/figure_2.rs",
    "raft-core/tests/it/paper/section_6.rs",
    "raft-core/tests/it/paper/section_6_changes.rs",
    "raft-core/tests/it/paper/thesis.rs",
];

/// What an answer to a bug begins with that the core can do nothing about.
const ELSEWHERE: &str = "Not the core's: ";

/// Whether `cell` heads a column or underlines it.
fn is_head(cell: &str) -> bool {
    cell == "Rule" || cell == "#" || cell.chars().all(|c| c == '-')
}

/// The rows of all tables, three cells each: what, where, what shows it; or number, bug, answer.
fn rows(document: &str) -> Vec<[&str; 3]> {
    let rows = document.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").map(str::trim).collect();
        <[&str; 3]>::try_from(cells).unwrap_or_else(|_| panic!("not three cells: {row}"))
    });
    cells.filter(|[first, ..]| !is_head(first)).collect()
}

/// The references in backticks within `text`.
fn quoted(text: &str) -> Vec<Reference> {
    let quoted = text.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains('/'));
    quoted.map(Reference::parse).collect()
}

/// What is wrong with a row about a rule.
fn faults_of_rule(place: &str, shown: &str) -> Vec<String> {
    let listed = |text, shows| {
        let references = Reference::parse_list(text).into_iter();
        references.filter_map(move |reference| reference.wrong(shows))
    };
    listed(place, false).chain(listed(shown, true)).collect()
}

/// What is wrong with a row about a bug.
fn faults_of_bug(answer: &str) -> Vec<String> {
    let references = quoted(answer);
    let mut faults: Vec<String> =
        references.iter().filter_map(|reference| reference.wrong(true)).collect();
    if references.is_empty() && !answer.starts_with(ELSEWHERE) {
        faults.push("neither shown nor somebody else's".into());
    }
    faults
}

#[test]
fn every_reference_exists() {
    let document = text_of(DOCUMENT);
    let mut found = Vec::new();
    for [first, second, third] in rows(&document) {
        let is_bug = first.parse::<u32>().is_ok();
        let faults = if is_bug { faults_of_bug(third) } else { faults_of_rule(second, third) };
        found.extend(faults.into_iter().map(|fault| format!("{first}: {fault}")));
    }
    for line in document.lines().filter(|line| !line.starts_with('|')) {
        found.extend(quoted(line).iter().filter_map(|reference| reference.wrong(false)));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_rule_with_a_test_is_there() {
    let document = text_of(DOCUMENT);
    let mut found = Vec::new();
    for file in RULES {
        let source = text_of(file);
        let lines: Vec<&str> = source.lines().collect();
        let tests = lines.windows(2).filter(|pair| pair[0] == "#[test]");
        let names = tests.map(|pair| pair[1].trim_start_matches("fn ").trim_end_matches("() {"));
        let missing = names.filter(|name| !document.contains(&format!("`{file}: {name}`")));
        found.extend(missing.map(|name| format!("{file}: {name}")));
    }
    assert!(found.is_empty(), "not in {DOCUMENT}:\n{}\n", found.join("\n"));
}
