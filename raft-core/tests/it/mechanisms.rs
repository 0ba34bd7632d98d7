//! `docs/mechanisms.md` says what does what, and what shows it. This keeps it from saying so of
//! files and names that are not there.

use std::fs;
use std::path::Path;

const ROWS: usize = 104;
const NOT_YET: &str = "not yet";

/// What may stand before a name where it is defined.
const KINDS: [&str; 4] = ["fn", "struct", "enum", "trait"];

struct Row {
    number: usize,
    place: Cell,
    shown: Cell,
}

/// What a cell refers to, and whether it says that something is missing.
struct Cell {
    references: Vec<Reference>,
    lacks: bool,
}

/// A file of the workspace, and a name it defines.
struct Reference {
    file: String,
    name: Option<String>,
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates lie in the workspace")
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mechanisms.md");
    fs::read_to_string(path).expect("the document is there")
}

/// The rows of all tables.
fn rows(document: &str) -> Vec<Row> {
    let begins = |line: &&str| line.strip_prefix("| ").is_some_and(|rest| !rest.starts_with('#'));
    document.lines().filter(begins).map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let ["", number, mechanism, place, shown, ""] = cells[..] else {
        panic!("not four cells: {line}")
    };
    assert!(!mechanism.is_empty(), "no mechanism: {line}");
    let number = number.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    Row { number, place: cell(place), shown: cell(shown) }
}

/// Either "not yet", or references in backticks, and "; not yet: " with what is missing after them.
fn cell(text: &str) -> Cell {
    if text == NOT_YET {
        return Cell { references: Vec::new(), lacks: true };
    }
    let (listed, missing) = match text.split_once("; not yet: ") {
        Some((listed, missing)) => (listed, Some(missing)),
        None => (text, None),
    };
    let free = missing.unwrap_or("something");
    assert!(!free.is_empty() && !free.contains(['`', ';']), "not what is missing: {text}");
    let references = listed.split(", ").map(|quoted| {
        let inner = quoted.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        let inner = inner.unwrap_or_else(|| panic!("neither references nor \"not yet\": {text}"));
        match inner.split_once(": ") {
            Some((file, name)) => Reference { file: file.into(), name: Some(name.into()) },
            None => Reference { file: inner.into(), name: None },
        }
    });
    Cell { references: references.collect(), lacks: missing.is_some() }
}

/// The line of `source` that defines `name`.
fn definition(source: &str, name: &str) -> Option<usize> {
    let continues = |c: char| c.is_alphanumeric() || c == '_';
    let defines = |line: &str| {
        KINDS.iter().any(|kind| {
            let words = format!("{kind} {name}");
            line.match_indices(&words).any(|(at, _)| {
                let whole = !line[at + words.len()..].starts_with(continues);
                whole && !line[..at].ends_with(continues)
            })
        })
    };
    source.lines().position(|line| !line.trim_start().starts_with("//") && defines(line))
}

/// Whether the attributes above line `at` make it a test.
fn is_test(source: &str, at: usize) -> bool {
    let lines: Vec<&str> = source.lines().collect();
    let above = lines[..at].iter().rev().map(|line| line.trim_start());
    let mut attributes = above.take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    attributes.any(|line| {
        let tested = line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        tested && !line.contains("ignore")
    })
}

/// What is wrong with a reference, if anything. Those that show something are tests, scripts or
/// benches.
fn wrong(reference: &Reference, shows: bool) -> Option<String> {
    let Reference { file, name } = reference;
    let path = workspace().join(file);
    if !path.is_file() {
        return Some(format!("there is no {file}"));
    }
    let Some(name) = name else {
        let runs = file.contains("/tests/scripts/") || file.starts_with("benches/");
        return (!runs).then(|| format!("{file}: which name?"));
    };
    let source = fs::read_to_string(path).unwrap();
    let Some(at) = definition(&source, name) else {
        return Some(format!("{file} defines no {name}"));
    };
    (shows && !is_test(&source, at)).then(|| format!("{file}: {name} is no test"))
}

#[test]
fn rows_are_numbered_without_a_gap() {
    let numbers: Vec<usize> = rows(&document()).iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=ROWS).collect::<Vec<_>>());
}

#[test]
fn every_reference_exists() {
    let mut found = Vec::new();
    for Row { number, place, shown } in rows(&document()) {
        for (cell, shows) in [(place, false), (shown, true)] {
            let faults = cell.references.iter().filter_map(|reference| wrong(reference, shows));
            found.extend(faults.map(|fault| format!("row {number}: {fault}")));
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Nobody counts by hand what changes so often.
#[test]
fn the_count_is_right() {
    let document = document();
    let (mut done, mut begun, mut open) = (0, 0, 0);
    for Row { place, shown, .. } in rows(&document) {
        if !place.lacks && !shown.lacks {
            done += 1;
        } else if place.references.is_empty() && shown.references.is_empty() {
            open += 1;
        } else {
            begun += 1;
        }
    }
    let count = format!("Of {ROWS} rows {done} are done, {begun} partly, {open} not yet.");
    assert!(document.lines().any(|line| line == count), "it should say: {count}");
}
