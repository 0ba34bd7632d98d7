//! What is shown of a history that has no explanation.

use super::search::Nearest;
use super::{Operation, Outcome};
use std::error::Error;
use std::fmt::{self, Debug, Display, Write as _};

/// Operations shown of those that were placed.
const PLACED_SHOWN: usize = 12;

/// Longest text of an operation or a reply, but for the dots in its middle.
const TEXT_CHARS_MAX: usize = 120;

/// Why no order was found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// There is none: the history is not linearizable.
    Violation,
    /// The search gave up first.
    Undecided,
}

/// A history for which no order was found, and what comes nearest to one. Its text, of
/// [`Display`] and [`Debug`] alike, tells it to a person.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Failure {
    /// Whether there is no order, or none was found.
    pub kind: Kind,
    /// The key it is about, if keys were judged one by one.
    pub key: Option<String>,
    /// The longest part of the history that was explained: positions in it, in the order found.
    pub placed: Vec<usize>,
    /// Operations that were answered, one of which would have to come next and none of which can:
    /// positions in the history.
    pub stuck: Vec<usize>,
    text: String,
}

impl Failure {
    pub(super) fn new<O: Debug, R: Debug>(
        kind: Kind,
        key: Option<String>,
        history: &[(usize, &Operation<O, R>)],
        nearest: &Nearest,
    ) -> Self {
        let mut text = String::new();
        // A string takes everything.
        let _ = describe(&mut text, kind, key.as_deref(), history, nearest);
        let stuck = nearest.stuck.iter().map(|(position, _)| *position).collect();
        Self { kind, key, placed: nearest.placed.clone(), stuck, text }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", self.text)
    }
}

impl Error for Failure {}

fn describe<O: Debug, R: Debug>(
    text: &mut String,
    kind: Kind,
    key: Option<&str>,
    history: &[(usize, &Operation<O, R>)],
    nearest: &Nearest,
) -> fmt::Result {
    let Nearest { placed, stuck, visited } = nearest;
    let of = key.map(|key| format!(" of {key}")).unwrap_or_default();
    match kind {
        Kind::Violation => writeln!(text, "the history{of} is not linearizable")?,
        Kind::Undecided => writeln!(text, "no order of the history{of} found: gave up")?,
    }
    let answered = history.iter().filter(|(_, it)| matches!(it.outcome, Outcome::Done(_))).count();
    let total = history.len();
    writeln!(
        text,
        "{} of {total} operations, {answered} of them answered, can be placed; visited {visited}",
        placed.len()
    )?;
    let find = |position: usize| {
        let at = history.binary_search_by_key(&position, |(position, _)| *position);
        history[at.expect("a position comes from the history")].1
    };
    let hidden = placed.len().saturating_sub(PLACED_SHOWN);
    if hidden > 0 {
        writeln!(text, "  ... {hidden} before")?;
    }
    for position in &placed[hidden..] {
        writeln!(text, "  {}", show(*position, find(*position)))?;
    }
    writeln!(text, "none of these can come next:")?;
    for (position, reply) in stuck {
        let shown = show(*position, find(*position));
        writeln!(text, "  {shown}; here it would be answered {reply}")?;
    }
    Ok(())
}

fn show<O: Debug, R: Debug>(position: usize, operation: &Operation<O, R>) -> String {
    let Operation { client, op, invoked, answered, outcome } = operation;
    let op = short(op);
    match outcome {
        Outcome::Done(reply) => {
            let reply = short(reply);
            format!("#{position} client {client} at {invoked}..{answered}: {op} -> {reply}")
        }
        _ => format!("#{position} client {client} at {invoked}..: {op} -> unknown"),
    }
}

/// The text of `value`, without its middle if it is long: begin and end tell most about a list.
pub(super) fn short(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let count = text.chars().count();
    if count <= TEXT_CHARS_MAX {
        return text;
    }
    let begin: String = text.chars().take(TEXT_CHARS_MAX / 2).collect();
    let end: String = text.chars().skip(count - TEXT_CHARS_MAX / 2).collect();
    format!("{begin} ... {end}")
}
