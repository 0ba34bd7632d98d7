//! Running tests on the tree with a bug in it, with growing effort, until something finds it.
//!
//! Found is a bug only if a test of the finder fails and the harness says which. That a run takes
//! too long, or that the process is aborted, finds only a bug whose patch announces just that.

use crate::patch::{Ends, Finder};
use crate::tree::Tree;
use serde::Serialize;
use std::error::Error;
use std::fmt::{Display, Formatter};
use std::ops::Range;
use std::process::{Command, Output};
use std::time::Instant;

/// States per world that the model checker explores first.
const STATES_FIRST: u64 = 20_000;

/// A run of tests that takes longer never ends.
const RUN_SECONDS_MAX: u32 = 1800;

/// The same where the bug is to make a test wait for ever.
const ENDLESS_SECONDS_MAX: u32 = 300;

/// So many efforts of each finder are made without any bug: as much as in an ordinary test run.
const EFFORTS_WITHOUT_BUG: usize = 3;

/// What `timeout` exits with if time ran out.
const TIMED_OUT: i32 = 124;

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

/// What came of a run.
pub(crate) enum Ran {
    Passed,
    Found(Find),
    /// It failed, but no test of the finder did, so far as the harness says.
    Unclear(String),
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
    ) -> Result<Option<String>, Box<dyn Error>> {
        self.build(tree, finder)?;
        for effort in self.efforts(finder).iter().take(EFFORTS_WITHOUT_BUG) {
            match self.run(tree, finder, effort, Ends::WithFailure)? {
                Ran::Passed => {}
                Ran::Found(find) => return Ok(Some(find.to_string())),
                Ran::Unclear(what) => return Ok(Some(what)),
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

    /// Runs the tests; what they found. A bug `ends` a run as its patch says.
    pub(crate) fn run(
        &self,
        tree: &Tree,
        finder: &Finder,
        effort: &Effort,
        ends: Ends,
    ) -> Result<Ran, Box<dyn Error>> {
        let mut command = limited(&cargo_test(tree, finder), ends);
        match effort {
            Effort::Seeds(seeds) => {
                command.env("SIM_SEEDS", format!("{}..{}", seeds.start, seeds.end));
            }
            Effort::States(states) => {
                command.env("MODEL_STATES", states.to_string());
            }
            Effort::Whole => {}
        }
        command.arg("--").arg(finder.filter());
        if ends != Ends::WithFailure {
            // Then a test is named before it runs.
            command.arg("--test-threads=1");
        }
        let began = Instant::now();
        let output = command.output()?;
        if !output.status.success() {
            let seconds = began.elapsed().as_secs_f64();
            return Ok(judge(finder, effort, ends, &output, seconds));
        }
        // A finder that runs no test finds nothing, ever.
        let text = String::from_utf8_lossy(&output.stdout);
        match text.contains("test result: ok. 0 passed") {
            true => Err(format!("{finder}: there is no such test").into()),
            false => Ok(Ran::Passed),
        }
    }
}

/// The tests of a crate, a little optimized: worth it from some hundred seeds on. More, as the
/// profile has it for the core, costs more than it saves.
fn cargo_test(tree: &Tree, finder: &Finder) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(&tree.root).args(["test", "--locked", "--all-features"]);
    command.args(["-p", &finder.package]);
    command.args(["--config", "profile.dev.package.raft-core.opt-level=1"]);
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
fn limited(command: &Command, ends: Ends) -> Command {
    let mut limited = Command::new("timeout");
    let seconds = if ends == Ends::Never { ENDLESS_SECONDS_MAX } else { RUN_SECONDS_MAX };
    limited.arg(seconds.to_string()).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.current_dir(command.get_current_dir().expect("it was set"));
    limited
}

/// What a run that did not succeed says of the bug.
fn judge(finder: &Finder, effort: &Effort, ends: Ends, output: &Output, seconds: f64) -> Ran {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let timed_out = output.status.code() == Some(TIMED_OUT);
    let found = match ends {
        Ends::WithFailure => failed(finder, &stdout).map(|test| (test, said(&stdout, test))),
        Ends::Never if timed_out => under_way(&stdout).map(|test| (test, "does not end".into())),
        Ends::Aborted if !timed_out => {
            under_way(&stdout).map(|test| (test, "the process is aborted".into()))
        }
        Ends::Never | Ends::Aborted => None,
    };
    let Some((test, said)) = found else {
        let what = if timed_out { "does not end".into() } else { output.status.to_string() };
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().last().unwrap_or_default();
        return Ran::Unclear(format!("{finder} {effort}: {what}, no failed test: {last}"));
    };
    let seeds = stdout.lines().rev().find_map(|line| {
        let line = line.strip_prefix("seed ")?;
        line.split(' ').next()?.parse::<u64>().ok()
    });
    Ran::Found(Find {
        package: finder.package.clone(),
        test: test.into(),
        seeds: seeds.filter(|_| matches!(effort, Effort::Seeds(_))).map(|seed| seed + 1),
        states: match effort {
            Effort::States(states) => Some(*states),
            _ => None,
        },
        seconds,
        said,
    })
}

/// The first test of the finder that failed, if the harness came to its end and says so.
fn failed<'a>(finder: &Finder, stdout: &'a str) -> Option<&'a str> {
    let ended = stdout.lines().any(|line| line.starts_with("test result: FAILED"));
    let mut failed = stdout.lines().filter_map(|line| {
        let line = line.strip_prefix("test ")?;
        line.strip_suffix(" ... FAILED")
    });
    failed.find(|test| ended && test.contains(&finder.filter()))
}

/// The test that was begun last and has no result.
fn under_way(stdout: &str) -> Option<&str> {
    stdout.lines().last()?.strip_prefix("test ")?.strip_suffix(" ... ")
}

/// The first line of the first panic of the test `test`.
fn said(stdout: &str, test: &str) -> String {
    let shown = stdout.split_once(&format!("---- {test} stdout ----")).map_or("", |it| it.1);
    let mut lines = shown.lines().skip_while(|line| !line.contains("panicked at"));
    lines.next();
    let line = lines.find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.chars().take(SAID_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    const FAILED: i32 = 101;

    fn judged(ends: Ends, code: i32, stdout: &str) -> Ran {
        let finder = Finder { package: "raft-core".into(), tests: "votes".into() };
        let status = ExitStatus::from_raw(code << 8);
        let output = Output { status, stdout: stdout.into(), stderr: Vec::new() };
        judge(&finder, &Effort::Whole, ends, &output, 1.0)
    }

    fn test_found(ran: Ran) -> Option<String> {
        match ran {
            Ran::Found(find) => Some(find.test),
            Ran::Passed | Ran::Unclear(_) => None,
        }
    }

    #[test]
    fn only_a_failed_test_of_the_finder_is_a_find() {
        let result = "test result: FAILED. 0 passed; 1 failed";
        let failed = format!("test votes::one ... FAILED\n{result}\n");
        let found = |code, stdout: &str| test_found(judged(Ends::WithFailure, code, stdout));
        assert_eq!(found(FAILED, &failed).as_deref(), Some("votes::one"));
        // Of another module; a harness that died; a build that broke; time that ran out.
        assert_eq!(found(FAILED, &failed.replace("votes", "codec")), None);
        assert_eq!(found(FAILED, "test votes::one ... FAILED\n"), None);
        assert_eq!(found(FAILED, ""), None);
        assert_eq!(found(TIMED_OUT, "test votes::one ... "), None);
    }

    #[test]
    fn time_that_runs_out_and_a_process_that_dies_count_where_they_are_announced() {
        let begun = "test votes::zero ... ok\ntest votes::one ... ";
        let found = |ends, code| test_found(judged(ends, code, begun));
        assert_eq!(found(Ends::Never, TIMED_OUT).as_deref(), Some("votes::one"));
        assert_eq!(found(Ends::Never, FAILED), None);
        assert_eq!(found(Ends::Aborted, FAILED).as_deref(), Some("votes::one"));
        assert_eq!(found(Ends::Aborted, TIMED_OUT), None);
    }
}
