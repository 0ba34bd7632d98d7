//! How a verb fails: a kind that fixes the exit code, one line that says what is wrong, and what
//! to do next. Never more than one line, whatever the cause printed.

use crate::output::Format;
use crate::output::colour::alarm;
use serde::Serialize;
use std::fmt;
use std::io;

/// What the exit code tells a script. The order is that of the codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The answer is no: key not found, condition not met. Code 1.
    No,
    /// The command line or an input file is wrong; nothing was sent for it. Code 2.
    Usage,
    /// The cluster refused; certainly no effect, and trying again will not help. Code 3.
    Refused,
    /// No node, or no quorum, could be reached; certainly no effect. Try again later. Code 4.
    Unavailable,
    /// Sent, but no answer came: it may have taken effect, or may yet. Code 5.
    Unknown,
    /// This machine: a file, a port, a certificate, a disk. Code 6.
    Local,
    /// Whoever read our output has stopped reading. Code 0, and nothing is printed.
    OutputClosed,
    /// A command that was run has failed, and said why itself: its code, and nothing is printed.
    Command(u8),
}

impl Kind {
    /// The process's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Unavailable => 4,
            Self::Unknown => 5,
            Self::Local => 6,
            Self::Command(code) => code,
        }
    }
}

/// Why a verb did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Fixes the exit code.
    pub kind: Kind,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What to do next, if there is something to do.
    pub advice: Option<String>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self { kind, message: one_line(&message.to_string()), advice: None }
    }

    /// The same with what to do next.
    #[must_use]
    pub fn advice(mut self, advice: impl fmt::Display) -> Self {
        self.advice = Some(one_line(&advice.to_string()));
        self
    }

    /// A wrong command line or input.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Something on this machine; `what` says what was tried, as in `cannot read data.tsv`.
    pub fn local(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(Kind::Local, format!("{what}: {error}"))
    }

    /// Writing our own output failed.
    pub fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Kind::OutputClosed, "output closed"),
            _ => Self::local("cannot write the output", error),
        }
    }

    /// The line for stderr, without the line break; `None` if nothing is to be said.
    pub fn line(&self, format: Format) -> Option<String> {
        if matches!(self.kind, Kind::OutputClosed | Kind::Command(_)) {
            return None;
        }
        if format == Format::Json {
            let object = serde_json::json!({ "error": {
                "kind": self.kind,
                "code": self.kind.exit_code(),
                "message": self.message,
                "advice": self.advice,
            }});
            return Some(object.to_string());
        }
        Some(format!("{} {self}", alarm("error:")))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.advice {
            Some(advice) => write!(f, "{}; {advice}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Failure {}

/// Line breaks become spaces, other control characters are escaped: a message may quote anything.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.trim_end().chars() {
        match character {
            '\n' | '\r' | '\t' => line.push(' '),
            other if other.is_control() => line.extend(other.escape_default()),
            other => line.push(other),
        }
    }
    line
}
