//! Colour: only where people look, and only a little.

use clap::ValueEnum;
use std::io::IsTerminal;
use std::sync::OnceLock;

/// When to colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum When {
    /// On a terminal that is not dumb, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// Whether results and messages are coloured. Without a decision, as in a library, neither is.
static DECIDED: OnceLock<Colours> = OnceLock::new();

#[derive(Clone, Copy, Debug, Default)]
struct Colours {
    results: bool,
    messages: bool,
}

/// Decides for the whole process; the first decision holds.
pub fn decide(when: When) {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    let wanted = |terminal: bool| match when {
        When::Auto => terminal && !set("NO_COLOR") && !dumb,
        When::Always => true,
        When::Never => false,
    };
    let results = wanted(std::io::stdout().is_terminal());
    let messages = wanted(std::io::stderr().is_terminal());
    // A second decision would be one about the same process: it changes nothing.
    let _ = DECIDED.set(Colours { results, messages });
}

/// Whether results, on stdout, are coloured.
pub(crate) fn results() -> bool {
    DECIDED.get().is_some_and(|colours| colours.results)
}

/// `text` as it is to be seen at the start of an error on stderr.
pub(crate) fn alarm(text: &str) -> String {
    match DECIDED.get().is_some_and(|colours| colours.messages) {
        true => format!("\u{1b}[1;31m{text}\u{1b}[0m"),
        false => text.to_owned(),
    }
}
