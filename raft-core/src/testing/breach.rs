//! What a conformance kit found wrong.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A rule that an implementation has broken, and all that its author needs to see why. `Debug`
/// prints the same text as `Display`, so that an `unwrap` in a test is readable.
#[derive(Clone, PartialEq, Eq)]
pub struct Breach {
    /// The rule, by the name it has in the table of its kit.
    pub rule: &'static str,
    /// What was being done.
    pub step: String,
    /// What the rule asks for.
    pub expected: String,
    /// What there was instead.
    pub found: String,
}

impl Breach {
    pub(super) fn new(
        rule: &'static str,
        step: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self { rule, step: step.into(), expected: expected.into(), found: found.into() }
    }

    /// The same, as part of a longer story.
    pub(super) fn during(mut self, what: impl fmt::Display) -> Self {
        self.step = format!("{what}: {}", self.step);
        self
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, step, expected, found } = self;
        write!(f, "the rule `{rule}` is broken\n  when:     {step}\n")?;
        write!(f, "  expected: {expected}\n  found:    {found}")
    }
}

impl fmt::Debug for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Breach {}

/// Runs `work`; a panic is a breach of the rule `panics`.
pub(super) fn contain<T>(step: &str, work: impl FnOnce() -> T) -> Result<T, Breach> {
    // Whatever `work` leaves half done is given up with the check.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let found = format!("a panic: {}", panic_text(panic.as_ref()));
        Breach::new("panics", step, "a result, good or bad", found)
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
