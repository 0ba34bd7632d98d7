//! Runs cases on both sides, one after the other, and says where they come apart.

use super::case::{Case, words};
use super::normal::Format;
use super::side::{Outcome, Side};
use crate::cluster::support::GUARD;
use std::fmt::Write;
use tokio::time::timeout;

/// A cluster of this store and one of etcd, which have seen the same.
pub(super) struct Pair {
    pub(super) ours: Side,
    pub(super) theirs: Side,
    /// What was not as it has to be.
    wrong: String,
    cases: usize,
}

impl Pair {
    pub(super) async fn start() -> Self {
        let (ours, theirs) = tokio::join!(Side::ours(), Side::theirs());
        Self::of(ours, theirs)
    }

    /// One member each, which others can join.
    pub(super) async fn alone() -> Self {
        let (ours, theirs) = tokio::join!(Side::ours_alone(), Side::theirs_alone());
        Self::of(ours, theirs)
    }

    fn of(ours: Side, theirs: Side) -> Self {
        Self { ours, theirs, wrong: String::new(), cases: 0 }
    }

    /// Waits until etcd is willing to change its members: some seconds after they were started.
    pub(super) async fn until_settled(&self) {
        const UNHEALTHY: &str = "etcdserver: unhealthy cluster";
        let add = words("member add n4 --peer-urls http://127.0.0.1:8 --learner");
        let remove = words("member remove");
        let settled = async {
            loop {
                let added = self.theirs.etcdctl(&add, "").await;
                if !added.stderr.contains(UNHEALTHY) {
                    break added.stdout;
                }
            }
        };
        let added = timeout(GUARD, settled).await.expect("it settles");
        let id = added.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let removed = self.theirs.etcdctl(&[remove, vec![id]].concat(), "").await;
        assert_eq!(removed.code, 0, "{removed:?}");
    }

    /// Runs a table.
    pub(super) async fn run(&mut self, cases: &[Case]) {
        for case in cases {
            self.case(case).await;
        }
    }

    async fn case(&mut self, case: &Case) {
        // Shown should it be the last.
        println!("etcdctl {}", case.words);
        let words = words(case.words);
        let (ours, theirs) = tokio::join!(
            self.ours.etcdctl(&words, case.input),
            self.theirs.etcdctl(&words, case.input)
        );
        let format = Format::of(&words);
        let ours = normal(&mut self.ours, ours, format);
        let theirs = normal(&mut self.theirs, theirs, format);
        self.judge(case.words, case.differs, &ours, &theirs);
    }

    /// Compares what was printed line by line.
    pub(super) fn lines(&mut self, words: &str, ours: &[String], theirs: &[String]) {
        let outcome =
            |lines: &[String]| Outcome { code: 0, stdout: lines.join("\n"), stderr: String::new() };
        let format = Format::of(&super::case::words(words));
        let ours = normal(&mut self.ours, outcome(ours), format);
        let theirs = normal(&mut self.theirs, outcome(theirs), format);
        self.judge(words, None, &ours, &theirs);
    }

    fn judge(&mut self, words: &str, differs: Option<&str>, ours: &Outcome, theirs: &Outcome) {
        self.cases += 1;
        let wrong = &mut self.wrong;
        let done = match (differs, ours == theirs) {
            (None, true) | (Some(_), false) => Ok(()),
            (None, false) => write!(
                wrong,
                "\n== etcdctl {words}\n-- this store: {}\n{}{}-- etcd: {}\n{}{}",
                ours.code, ours.stdout, ours.stderr, theirs.code, theirs.stdout, theirs.stderr
            ),
            (Some(why), true) => {
                write!(wrong, "\n== etcdctl {words}: is alike, but was said to differ: {why}\n")
            }
        };
        done.expect("a string takes everything");
    }

    /// Compares how it goes when it is no longer refused for `reason`, which may be for some time.
    pub(super) async fn once_allowed(&mut self, text: &str, reason: &str) {
        println!("etcdctl {text}");
        let words = words(text);
        let allowed = async |side: &Side| loop {
            let outcome = side.etcdctl(&words, "").await;
            if outcome.code == 0 {
                break outcome;
            }
            assert!(outcome.stderr.contains(reason), "{}: {text}: {outcome:?}", side.name);
        };
        let both = async { tokio::join!(allowed(&self.ours), allowed(&self.theirs)) };
        let (ours, theirs) = timeout(GUARD, both).await.expect("it is allowed in the end");
        let format = Format::of(&words);
        let ours = normal(&mut self.ours, ours, format);
        let theirs = normal(&mut self.theirs, theirs, format);
        self.judge(text, None, &ours, &theirs);
    }

    /// Waits until `etcdctl` prints something on both sides.
    pub(super) async fn until_printed(&self, text: &str, what: &str) {
        let words = words(text);
        let printed = async |side: &Side| {
            while !side.etcdctl(&words, "").await.stdout.contains(what) {}
        };
        let both = async { tokio::join!(printed(&self.ours), printed(&self.theirs)) };
        timeout(GUARD, both).await.unwrap_or_else(|_| panic!("{text} does not print {what:?}"));
    }

    /// Says what was found.
    pub(super) fn end(self) {
        println!("{} cases of etcdctl compared", self.cases);
        assert!(self.wrong.is_empty(), "{}", self.wrong);
    }
}

fn normal(side: &mut Side, outcome: Outcome, format: Format) -> Outcome {
    let stdout = side.names.output(&outcome.stdout, format);
    let stderr = side.names.errors(&outcome.stderr, format);
    let (clients, names) = (&side.clients, &side.names);
    let replaced = |text: String| names.addresses(text, clients);
    Outcome { code: outcome.code, stdout: replaced(stdout), stderr: replaced(stderr) }
}
