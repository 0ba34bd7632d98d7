//! References of the documents to the tree: a file of the workspace, and a name it defines.

use std::fs;
use std::path::Path;

/// What may stand before a name where it is defined.
const KINDS: [&str; 4] = ["fn", "struct", "enum", "trait"];

/// A file of the workspace, and a name it defines.
pub(crate) struct Reference {
    file: String,
    name: Option<String>,
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates lie in the workspace")
}

/// The text of a file of the workspace.
pub(crate) fn text_of(file: &str) -> String {
    fs::read_to_string(workspace().join(file)).unwrap_or_else(|_| panic!("there is no {file}"))
}

impl Reference {
    /// `file`, or `file: name`.
    pub(crate) fn parse(text: &str) -> Self {
        match text.split_once(": ") {
            Some((file, name)) => Self { file: file.into(), name: Some(name.into()) },
            None => Self { file: text.into(), name: None },
        }
    }

    /// References in backticks with commas between them, and nothing else.
    pub(crate) fn parse_list(text: &str) -> Vec<Self> {
        let references = text.split(", ").map(|quoted| {
            let inner = quoted.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
            Self::parse(inner.unwrap_or_else(|| panic!("neither references nor said so: {text}")))
        });
        references.collect()
    }

    /// What is wrong with it, if anything. Those that show something are tests, scripts or benches.
    pub(crate) fn wrong(&self, shows: bool) -> Option<String> {
        let Self { file, name } = self;
        if !workspace().join(file).is_file() {
            return Some(format!("there is no {file}"));
        }
        let Some(name) = name else {
            let runs = file.contains("/tests/scripts/") || file.starts_with("benches/");
            return (!runs).then(|| format!("{file}: which name?"));
        };
        let source = text_of(file);
        let Some(at) = definition(&source, name) else {
            return Some(format!("{file} defines no {name}"));
        };
        (shows && !is_test(&source, at)).then(|| format!("{file}: {name} is no test"))
    }
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
