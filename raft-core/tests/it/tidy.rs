//! The house rules that a machine can check, over the whole workspace. A rule that is in the way is
//! changed here, with its reason, not evaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARS_MAX: usize = 100;
const GIT_FILE_BYTES_MAX: u64 = 256 * 1024;

/// Paragraph sign of references to the paper, and the arrow of messages.
const SECTION: char = '\u{a7}';
const ARROW: char = '\u{2192}';

/// What the pure core must not touch: it would no longer replay.
const IMPURE: [&str; 11] = [
    "HashMap",
    "HashSet",
    "Instant",
    "SystemTime",
    "std::thread",
    "std::net",
    "std::io",
    "std::fs",
    "std::env",
    "tokio",
    "rand::",
];

struct Source {
    /// Relative to the workspace.
    path: String,
    text: String,
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates lie in the workspace")
}

/// Every Rust file of the workspace.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    walk(workspace(), &mut sources);
    assert!(sources.len() > 20, "the walk finds the workspace");
    sources
}

fn walk(folder: &Path, into: &mut Vec<Source>) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            walk(&path, into);
        } else if name.ends_with(".rs") {
            let relative = path.strip_prefix(workspace()).unwrap();
            let path_text = relative.to_string_lossy().replace('\\', "/");
            into.push(Source { path: path_text, text: fs::read_to_string(&path).unwrap() });
        }
    }
}

/// Fails with everything found.
#[track_caller]
fn expect_none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn files_functions_and_lines_are_short() {
    let mut found = Vec::new();
    for Source { path, text } in sources() {
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES_MAX {
            found.push(format!("{path}: {} lines", lines.len()));
        }
        for (number, line) in lines.iter().enumerate() {
            // A row of a table cannot be broken.
            let row = line.trim_start().starts_with("//! |");
            if line.chars().count() > LINE_CHARS_MAX && !row {
                found.push(format!("{path}:{}: a line longer than {LINE_CHARS_MAX}", number + 1));
            }
            let length = function_lines(&lines[number..]);
            if length > FUNCTION_LINES_MAX {
                found.push(format!("{path}:{}: a function of {length} lines", number + 1));
            }
        }
    }
    expect_none(found);
}

/// Lines of the function that begins at the first of `lines`; 0 if none does. Trusts rustfmt: the
/// closing brace is indented as the first line is.
fn function_lines(lines: &[&str]) -> usize {
    let first = lines[0];
    let words = first.trim_start();
    let indent = &first[..first.len() - words.len()];
    let begins = words.split(' ').take_while(|word| *word != "fn").all(|word| {
        matches!(word, "pub" | "const" | "async" | "unsafe") || word.starts_with("pub(")
    });
    let is_function = begins && words.split(' ').any(|word| word == "fn");
    if !is_function || words.ends_with('}') || words.ends_with(';') {
        return 0;
    }
    let ends = |line: &str| {
        let at_level = line.strip_prefix(indent).is_some_and(|rest| rest.starts_with(['}', ')']));
        at_level && line.ends_with(['}', ';'])
    };
    lines.iter().position(|line| ends(line)).map_or(lines.len(), |end| end + 1)
}

#[test]
fn sources_are_ascii_but_for_sections_and_arrows() {
    let mut found = Vec::new();
    for Source { path, text } in sources() {
        for (number, line) in text.lines().enumerate() {
            let strange = |c: &char| !c.is_ascii() && *c != SECTION && *c != ARROW;
            if let Some(strange) = line.chars().find(strange) {
                found.push(format!("{path}:{}: {strange:?}", number + 1));
            }
        }
    }
    expect_none(found);
}

/// A section is cited as a number with its parts, so that one can search for it.
#[test]
fn sections_are_cited_by_number() {
    let mut found = Vec::new();
    for Source { path, text } in sources() {
        for (number, line) in text.lines().enumerate() {
            for (at, sign) in line.match_indices(SECTION) {
                let after = &line[at + sign.len()..];
                let end = after.find(|c: char| !c.is_ascii_digit() && c != '.');
                let cited = after[..end.unwrap_or(after.len())].trim_end_matches('.');
                let is_number = |part: &str| part.parse::<u8>().is_ok_and(|part| part > 0);
                if !cited.split('.').all(is_number) {
                    found.push(format!("{path}:{}: {line}", number + 1));
                }
            }
        }
    }
    expect_none(found);
}

#[test]
fn nothing_is_left_undone() {
    // In pieces, or this file would find itself.
    let banned = [
        concat!("to", "do!"),
        concat!("db", "g!"),
        concat!("FIX", "ME"),
        concat!("unimple", "mented!"),
    ];
    let unwrap = concat!(".unw", "rap()");
    let mut found = Vec::new();
    for Source { path, text } in sources() {
        // A module of tests lies beside what it tests where it needs what is private there.
        let tests = path.ends_with("/tests.rs") || path.contains("/tests/");
        let shipped = path.contains("/src/") && !tests;
        // Or at the end of it.
        let tested = text.lines().position(|line| line == "mod tests {").unwrap_or(usize::MAX);
        for (number, line) in text.lines().enumerate() {
            let code = !line.trim_start().starts_with("//") && number < tested;
            let careless = shipped && code && line.contains(unwrap);
            if careless || banned.iter().any(|word| line.contains(word)) {
                found.push(format!("{path}:{}: {line}", number + 1));
            }
        }
    }
    expect_none(found);
}

/// The core knows values, bytes and ordered collections; no clock, no socket, no disk, no trait.
#[test]
fn the_core_is_pure() {
    let mut found = Vec::new();
    for Source { path, text } in sources() {
        let core = path.starts_with("raft-core/src/raft/");
        if !core && !path.starts_with("raft-core/src/types/") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let impure = IMPURE.iter().any(|word| line.contains(word));
            // Its deeper modules name those above them.
            let own = |rest: &str| rest.starts_with("types") || core && rest.starts_with("raft");
            let upward = |(at, name): (usize, &str)| !own(&line[at + name.len()..]);
            if impure || line.match_indices("crate::").any(upward) {
                found.push(format!("{path}:{}: {line}", number + 1));
            }
        }
    }
    expect_none(found);
}

/// Who must not name whom. Only raft-cli and benches put the pieces together.
#[test]
fn dependencies_point_one_way() {
    let forbidden: [(&str, &[&str]); 5] = [
        ("raft-core/src/testing/", &["crate::node"]),
        ("raft-core/", &["raft-net-quic", "raft-storage-redb", "raft-kv", "raft-cli"]),
        ("raft-net-quic/", &["raft-storage-redb", "raft-kv", "raft-cli"]),
        ("raft-storage-redb/", &["raft-net-quic", "raft-kv", "raft-cli"]),
        ("raft-kv/", &["raft-net-quic", "raft-storage-redb", "raft-cli"]),
    ];
    let mut found = Vec::new();
    for (folder, names) in forbidden {
        for Source { path, text } in sources() {
            if !path.starts_with(folder) || !path.contains("/src/") {
                continue;
            }
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let code = code.collect::<Vec<_>>().join("\n").replace('_', "-");
            let named = names.iter().filter(|name| mentions(&code, name));
            found.extend(named.map(|name| format!("{path} names {name}")));
        }
        let manifest = workspace().join(folder).join("Cargo.toml");
        let Ok(manifest) = fs::read_to_string(manifest) else { continue };
        let used = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let used = used.split("\n[").next().unwrap_or_default();
        let named = names.iter().filter(|name| mentions(used, name));
        found.extend(named.map(|name| format!("{folder}Cargo.toml depends on {name}")));
    }
    expect_none(found);
}

/// Whether `text` has the name of a crate as a word: `raft-client` is not `raft-cli`.
fn mentions(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let next = text[at + name.len()..].chars().next();
        !next.is_some_and(|next| next.is_alphanumeric() || next == '-')
    })
}

/// Every script is run, and begins by saying what it is about.
#[test]
fn every_script_is_run() {
    let folder = workspace().join("raft-core/tests/scripts");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if !super::scripts::NAMES.contains(&name.as_str()) {
            found.push(format!("{name} is not run"));
        }
        if !fs::read_to_string(&path).unwrap().starts_with("# ") {
            found.push(format!("{name} does not begin with its story"));
        }
    }
    expect_none(found);
}

#[test]
fn nothing_large_is_in_git() {
    // A package unpacked from a registry has no repository, and nothing to check.
    let listed = Command::new("git").arg("-C").arg(workspace()).args(["ls-files", "-z"]).output();
    let Ok(listed) = listed else { return };
    let names = String::from_utf8(listed.stdout).unwrap();
    let mut found = Vec::new();
    for name in names.split('\0').filter(|name| !name.is_empty() && *name != "Cargo.lock") {
        let size = fs::metadata(workspace().join(name)).map_or(0, |meta| meta.len());
        if size > GIT_FILE_BYTES_MAX {
            found.push(format!("{name}: {size} bytes"));
        }
    }
    expect_none(found);
}
