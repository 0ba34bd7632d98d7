//! Running tests on the tree with a bug in it, with growing effort, until something finds it.

use crate::patch::Finder;
use crate::tree::Tree;
use serde::Serialize;
use std::error::Error;
use std::fmt::{Display, Formatter};
use std::ops::Range;
use std::process::{Command, Output};

/// States per world that the model checker explores first.
const STATES_FIRST: u64 = 20_000;

/// A run of tests that takes longer never ends.
const RUN_SECONDS_MAX: u32 = 1800;

/// Characters of a failure's message that are kept.
const SAID_CHARS_MAX: usize = 160;

/// How much is tried.
pub(crate) struct Hunt {
    pub(crate) seeds_max: u64,
    pub(crate) states_max: u64,
}

/// How much a test is to do, where that can be chosen.
pub(crate) enum Effort {
    Seeds(Range<u64>),
    States(u64),
    Whole,
}

/// What found a bug.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Find {
    pub(crate) package: String,
    pub(crate) test: String,
    /// Seeds it took, where seeds are run.
    pub(crate) seeds: Option<u64>,
    /// States that were enough, where states are explored.
    pub(crate) states: Option<u64>,
    pub(crate) seconds: f64,
    /// The first line of the failure.
    pub(crate) said: String,
}

impl Find {
    /// What it took.
    pub(crate) fn needed(&self) -> String {
        match (self.seeds, self.states) {
            (Some(1), _) => "1 seed".into(),
            (Some(seeds), _) => format!("{seeds} seeds"),
            (_, Some(states)) => format!("{states} states"),
            _ => "one run".into(),
        }
    }
}

impl Display for Find {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { package, test, seconds, said, .. } = self;
        write!(f, "{package} {test}, {}, {seconds:.1} s: {said}", self.needed())
    }
}

impl Display for Effort {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seeds(seeds) => write!(f, "seeds {}..{}", seeds.start, seeds.end),
            Self::States(states) => write!(f, "{states} states"),
            Self::Whole => Ok(()),
        }
    }
}

impl Hunt {
    /// What to try, the least first.
    pub(crate) fn efforts(&self, finder: &Finder) -> Vec<Effort> {
        let module = finder.tests.split("::").next().unwrap_or_default();
        match (finder.package.as_str(), module) {
            ("raft-core", "random") | ("raft-kv", "simulation") => {
                let ends = [10, 100, 1000, 10_000, 100_000].map(|end| self.seeds_max.min(end));
                let ranges = [0].into_iter().chain(ends).zip(ends).map(|(from, to)| from..to);
                ranges.filter(|range| !range.is_empty()).map(Effort::Seeds).collect()
            }
            ("raft-core", "model") => {
                let steps = [1, 10, 50, 500].map(|factor| factor * STATES_FIRST);
                let below = steps.into_iter().filter(|states| *states < self.states_max);
                below.chain([self.states_max]).map(Effort::States).collect()
            }
            _ => vec![Effort::Whole],
        }
    }

    /// What fails although no bug is planted: there should be nothing.
    pub(crate) fn without_bug(
        &self,
        tree: &Tree,
        finder: &Finder,
    ) -> Result<Option<Find>, Box<dyn Error>> {
        self.build(tree, finder)?;
        for effort in self.efforts(finder).iter().take(2) {
            if let Some(find) = self.run(tree, finder, effort)? {
                return Ok(Some(find));
            }
        }
        Ok(None)
    }

    /// Builds the tests: a bug that does not compile is none.
    pub(crate) fn build(&self, tree: &Tree, finder: &Finder) -> Result<(), Box<dyn Error>> {
        let output = cargo_test(tree, finder).args(["--no-run", "--quiet"]).output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into()),
        }
    }

    /// Runs the tests; what they found.
    pub(crate) fn run(
        &self,
        tree: &Tree,
        finder: &Finder,
        effort: &Effort,
    ) -> Result<Option<Find>, Box<dyn Error>> {
        let mut command = limited(&cargo_test(tree, finder));
        match effort {
            Effort::Seeds(seeds) => {
                command.env("SIM_SEEDS", format!("{}..{}", seeds.start, seeds.end));
            }
            Effort::States(states) => {
                command.env("MODEL_STATES", states.to_string());
            }
            Effort::Whole => {}
        }
        let output = command.arg("--").arg(finder.filter()).output()?;
        if !output.status.success() {
            return Ok(Some(find(finder, effort, &output)));
        }
        // A finder that runs no test finds nothing, ever.
        let text = String::from_utf8_lossy(&output.stdout);
        match text.contains("test result: ok. 0 passed") {
            true => Err(format!("{finder}: there is no such test").into()),
            false => Ok(None),
        }
    }
}

/// The tests of a crate, a little optimized: worth it from some hundred seeds on.
fn cargo_test(tree: &Tree, finder: &Finder) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(&tree.root).args(["test", "--locked", "-p", &finder.package]);
    match finder.is_unit() {
        true => command.arg("--lib"),
        false => command.args(["--test", "it"]),
    };
    command.env("CARGO_TARGET_DIR", &tree.build).env("RUST_BACKTRACE", "0");
    command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1").env("CARGO_PROFILE_DEV_DEBUG", "0");
    command.env_remove("RUN_SLOW_TESTS").env_remove("UPDATE_GOLDENFILES");
    command
}

/// The same, ended with all that it has started if it takes too long: a bug may make a test wait
/// for ever for what does not come.
fn limited(command: &Command) -> Command {
    let mut limited = Command::new("timeout");
    limited.arg(RUN_SECONDS_MAX.to_string()).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.current_dir(command.get_current_dir().expect("it was set"));
    limited
}

fn find(finder: &Finder, effort: &Effort, output: &Output) -> Find {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let failed = stdout.lines().find_map(|line| {
        let line = line.strip_prefix("test ")?;
        line.strip_suffix(" ... FAILED")
    });
    let seeds = stdout.lines().rev().find_map(|line| {
        let line = line.strip_prefix("seed ")?;
        line.split(' ').next()?.parse::<u64>().ok()
    });
    let ended = if output.status.code() == Some(124) { "does not end" } else { "ends at once" };
    let test = failed.map_or_else(|| format!("{}: {ended}", finder.tests), Into::into);
    Find {
        package: finder.package.clone(),
        seeds: seeds.filter(|_| matches!(effort, Effort::Seeds(_))).map(|seed| seed + 1),
        states: match effort {
            Effort::States(states) => Some(*states),
            _ => None,
        },
        seconds: 0.0,
        said: said(&stdout, &test),
        test,
    }
}

/// The first line of the first panic of the test `test`.
fn said(stdout: &str, test: &str) -> String {
    let shown = stdout.split_once(&format!("---- {test} stdout ----")).map_or("", |it| it.1);
    let mut lines = shown.lines().skip_while(|line| !line.contains("panicked at"));
    lines.next();
    let line = lines.find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.chars().take(SAID_CHARS_MAX).collect()
}
