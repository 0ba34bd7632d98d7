//! `docs/checked.md` says what was checked. This keeps it from naming what is not there, and from
//! claiming more.

use super::references::{Reference, text_of};

const DOCUMENT: &str = "docs/checked.md";

#[test]
fn what_is_named_exists() {
    // A reference may go on in the next line.
    let document = text_of(DOCUMENT).split_whitespace().collect::<Vec<_>>().join(" ");
    let quoted = document.split('`').skip(1).step_by(2);
    let names = |quoted: &&str| quoted.contains(".rs: ") || quoted.contains("/scripts/");
    let references = quoted.filter(names);
    let references: Vec<Reference> = references.map(Reference::parse).collect();
    assert!(references.len() > 20, "only {} references", references.len());
    let faults: Vec<String> = references.iter().filter_map(|it| it.wrong(false)).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn tests_prove_nothing() {
    let document = text_of(DOCUMENT).to_lowercase();
    for word in ["proof", "prove", "proven", "guarantee"] {
        assert!(!document.contains(word), "it says {word}");
    }
}
