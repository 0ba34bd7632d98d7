//! `docs/mechanisms.md` says what does what, and what shows it. This keeps it from saying so of
//! files and names that are not there.

use super::references::{Reference, text_of};

const DOCUMENT: &str = "docs/mechanisms.md";
const ROWS: usize = 104;
const NOT_YET: &str = "not yet";

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
    Cell { references: Reference::parse_list(listed), lacks: missing.is_some() }
}

#[test]
fn rows_are_numbered_without_a_gap() {
    let numbers: Vec<usize> = rows(&text_of(DOCUMENT)).iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=ROWS).collect::<Vec<_>>());
}

#[test]
fn every_reference_exists() {
    let mut found = Vec::new();
    for Row { number, place, shown } in rows(&text_of(DOCUMENT)) {
        for (cell, shows) in [(place, false), (shown, true)] {
            let faults = cell.references.iter().filter_map(|reference| reference.wrong(shows));
            found.extend(faults.map(|fault| format!("row {number}: {fault}")));
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Nobody counts by hand what changes so often.
#[test]
fn the_count_is_right() {
    let document = text_of(DOCUMENT);
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
