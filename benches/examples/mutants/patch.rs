//! The files of `mutants/`: a header that says what the bug is and what must find it, then a diff.

use std::error::Error;
use std::fmt::{Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};

const UNIT: &str = "unit::";

/// A bug that can be planted.
pub(crate) struct Mutant {
    /// Of the bug in the list.
    pub(crate) number: u32,
    /// The file without its ending.
    pub(crate) name: String,
    /// What is wrong, in one line.
    pub(crate) bug: String,
    /// What is to find it, the cheapest first.
    pub(crate) finders: Vec<Finder>,
    /// How it shows.
    pub(crate) ends: Ends,
    pub(crate) path: PathBuf,
}

/// How a run of tests ends that finds a bug.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// A test fails.
    WithFailure,
    /// `ends: no`. A test waits for ever for what does not come.
    Never,
    /// `ends: aborted`. The process of the tests dies.
    Aborted,
}

impl Ends {
    fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None => Some(Self::WithFailure),
            Some("no") => Some(Self::Never),
            Some("aborted") => Some(Self::Aborted),
            Some(_) => None,
        }
    }
}

/// Some tests of a crate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finder {
    pub(crate) package: String,
    /// A module of the crate's `tests/it`, or part of a test's path; behind `unit::` of those that
    /// lie in the crate itself.
    pub(crate) tests: String,
}

impl Finder {
    /// `CRATE: TESTS`.
    fn parse(text: &str) -> Option<Self> {
        let (package, tests) = text.split_once(": ")?;
        Some(Self { package: package.into(), tests: tests.into() })
    }

    /// Whether the tests lie in the crate itself.
    pub(crate) fn is_unit(&self) -> bool {
        self.tests.starts_with(UNIT)
    }

    /// The filter of test names: a module means its tests, not all whose names contain that word.
    pub(crate) fn filter(&self) -> String {
        match (self.tests.strip_prefix(UNIT), self.tests.contains("::")) {
            (Some(path), _) => path.into(),
            (None, true) => self.tests.clone(),
            (None, false) => format!("{}::", self.tests),
        }
    }
}

impl Display for Finder {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.package, self.tests)
    }
}

/// The patches of `folder` that are `wanted`, by number; all if nothing is.
pub(crate) fn read_all(folder: &Path, wanted: &[String]) -> Result<Vec<Mutant>, Box<dyn Error>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "patch") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut mutants = Vec::new();
    for path in paths {
        let mutant = read(&path).ok_or_else(|| format!("{}: no whole header", path.display()))?;
        let is_wanted = |text: &String| match text.parse::<u32>() {
            Ok(number) => number == mutant.number,
            Err(_) => mutant.name.contains(text.as_str()),
        };
        if wanted.is_empty() || wanted.iter().any(is_wanted) {
            mutants.push(mutant);
        }
    }
    Ok(mutants)
}

fn read(path: &Path) -> Option<Mutant> {
    let text = fs::read_to_string(path).ok()?;
    let name = path.file_stem()?.to_str()?.to_string();
    let number = name.split_once('-')?.0.parse().ok()?;
    let header = text.lines().take_while(|line| !line.starts_with("diff "));
    let field = |wanted: &'static str| {
        let fields = header.clone().filter_map(|line| line.split_once(": "));
        fields.filter(move |(field, _)| *field == wanted).map(|(_, value)| value)
    };
    let bug = field("bug").next()?.to_string();
    let finders = field("found-by").map(Finder::parse).collect::<Option<Vec<_>>>()?;
    if finders.is_empty() {
        return None;
    }
    let ends = Ends::parse(field("ends").next())?;
    Some(Mutant { number, name, bug, finders, ends, path: path.into() })
}
