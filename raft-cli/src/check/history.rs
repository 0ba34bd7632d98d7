//! What clients asked, when, and what came of it; and the file that keeps it: JSON lines, of which
//! docs/cli.md tells every field. Owns the form of a history; judges nothing.
//!
//! Times are microseconds since any beginning, as long as all are of one clock.

use crate::failure::Failure;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::io::{self, BufRead, Write};

/// The version of the file's form.
pub const VERSION: u32 = 1;
/// Operations of a history, at most: what is more would not be judged in reasonable time.
pub const OPERATIONS_MAX: usize = 2_000_000;

/// What clients do, and how that is judged.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Reads, writes and compare-and-set of one value.
    Register,
    /// A list that grows at its end.
    Append,
    /// Members that are created if absent.
    Set,
    /// Writes, and watchers that are told of them.
    Watch,
    /// Holders of a lock that write under its token.
    Lock,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Register, Self::Append, Self::Set, Self::Watch, Self::Lock];

    /// Its name, in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Append => "append",
            Self::Set => "set",
            Self::Watch => "watch",
            Self::Lock => "lock",
        }
    }
}

/// What was asked, and the answer if there was one. Values are any JSON; null is no value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Action {
    /// The value (register, lock), the whole list (append), or all members (set).
    Read {
        /// What was read.
        #[serde(default)]
        result: Value,
        /// Of the lock that was held meanwhile.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<u64>,
        /// The revision of the write that is seen, 0 if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<u64>,
    },
    /// Set a value: of a register, of a watched key, or under the token of a lock.
    Write {
        /// The value; no two writes of a key have the same.
        value: Value,
        /// Of the lock that it was written under.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<u64>,
        /// A number that is greater for what took effect later.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<u64>,
    },
    /// Set a value if it is as expected.
    Cas {
        /// What it must be.
        expected: Value,
        /// What it becomes.
        value: Value,
        /// Whether it was as expected.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<bool>,
    },
    /// Put an element at the end of the list.
    Append {
        /// The element; no two of a list are the same.
        value: Value,
    },
    /// Create a member if it is absent.
    Add {
        /// The member.
        value: Value,
        /// Whether it was absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<bool>,
    },
    /// A watcher was told of a write.
    Event {
        /// The value written.
        value: Value,
        /// The revision of the write.
        revision: u64,
    },
    /// A watcher was told everything after one revision, up to and with another. If it failed, it
    /// should have been.
    Watched {
        /// After this one.
        after: u64,
        /// Up to this one.
        revision: u64,
    },
    /// Take the lock.
    Acquire {
        /// Its token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<u64>,
    },
    /// Let the lock go.
    Release,
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// It was done, and answered.
    Ok,
    /// Certainly not done, and will not be.
    Failed,
    /// It may have been done, or may yet be.
    Unknown,
}

/// One operation of one client.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Operation {
    /// Of which workload.
    pub workload: Workload,
    /// Who asked. One client does one thing at a time.
    pub client: u64,
    /// About what.
    pub key: String,
    /// What.
    #[serde(flatten)]
    pub action: Action,
    /// When it was asked, in microseconds.
    pub start: u64,
    /// When it was answered or given up.
    pub end: u64,
    /// How it ended.
    pub outcome: Ending,
    /// The revision of the store that the answer is as of; of a write, the one it made. All keys
    /// have the same revisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
}

/// Trouble that was made meanwhile. What is wrong with a history does not depend on it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// Its kind, such as `kill`.
    pub fault: String,
    /// What was done, in words.
    pub what: String,
    /// When it began to be made, in microseconds.
    pub start: u64,
    /// When it was made: what is asked from then on meets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<u64>,
    /// When it ended.
    pub end: u64,
}

/// A history.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    /// What the plan of the trouble followed from.
    pub seed: Option<u64>,
    /// Everything asked, by when it was asked.
    pub operations: Vec<Operation>,
    /// Trouble, by when it began.
    pub faults: Vec<Fault>,
}

/// The first line of a file; it may be left out.
#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
}

impl Operation {
    /// Why it makes no sense, if it makes none.
    fn wrong(&self) -> Option<String> {
        let Self { workload, action, outcome, .. } = self;
        if self.end < self.start {
            return Some("it ended before it started".into());
        }
        let (fits, complete) = match action {
            Action::Read { .. } => (*workload != Workload::Watch, true),
            Action::Write { token, revision, .. } => match workload {
                Workload::Register => (true, true),
                Workload::Watch => (true, revision.is_some()),
                Workload::Lock => (true, token.is_some()),
                _ => (false, true),
            },
            Action::Cas { result, .. } => (*workload == Workload::Register, result.is_some()),
            Action::Append { .. } => (*workload == Workload::Append, true),
            Action::Add { result, .. } => (*workload == Workload::Set, result.is_some()),
            Action::Event { .. } | Action::Watched { .. } => (*workload == Workload::Watch, true),
            Action::Acquire { token } => (*workload == Workload::Lock, token.is_some()),
            Action::Release => (*workload == Workload::Lock, true),
        };
        if !fits {
            return Some(format!("the workload {} has no such op", workload.name()));
        }
        let lacks = *outcome == Ending::Ok && !complete;
        lacks.then(|| "what was answered is missing: result, revision or token".into())
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ok = self.outcome == Ending::Ok;
        match &self.action {
            Action::Read { result, token: Some(token), .. } if ok => {
                write!(f, "read {result} under token {token}")?;
            }
            Action::Read { result, .. } if ok => write!(f, "read {result}")?,
            Action::Read { .. } => f.write_str("read")?,
            Action::Write { value, token: Some(token), .. } => {
                write!(f, "write {value} under token {token}")?;
            }
            Action::Write { value, .. } => write!(f, "write {value}")?,
            Action::Cas { expected, value, result } => {
                write!(f, "cas {expected} to {value}")?;
                if *result == Some(false) {
                    f.write_str(": it was another")?;
                }
            }
            Action::Append { value } => write!(f, "append {value}")?,
            Action::Add { value, result } => {
                write!(f, "add {value}")?;
                if *result == Some(false) {
                    f.write_str(": was there")?;
                }
            }
            Action::Event { value, revision } => write!(f, "told {value} at revision {revision}")?,
            Action::Watched { after, revision } => {
                let from = after.saturating_add(1);
                if self.outcome == Ending::Failed {
                    return write!(f, "not told all of revisions {from} to {revision}");
                }
                write!(f, "told all of revisions {from} to {revision}")?;
            }
            Action::Acquire { token: Some(token) } => write!(f, "acquired with token {token}")?,
            Action::Acquire { token: None } => f.write_str("acquire")?,
            Action::Release => f.write_str("release")?,
        }
        match self.outcome {
            Ending::Ok => Ok(()),
            Ending::Failed => f.write_str(" (not done)"),
            Ending::Unknown => f.write_str(" (unknown)"),
        }
    }
}

impl History {
    /// Everything in order of time.
    pub fn sort(&mut self) {
        self.operations.sort_by_key(|operation| (operation.start, operation.end));
        self.faults.sort_by_key(|fault| (fault.start, fault.end));
    }

    /// From the first begin to the last end, in microseconds; (0, 0) if nothing happened.
    pub fn span(&self) -> (u64, u64) {
        let of_operations = self.operations.iter().map(|it| (it.start, it.end));
        let of_faults = self.faults.iter().map(|it| (it.start, it.end));
        of_operations
            .chain(of_faults)
            .reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))
            .unwrap_or_default()
    }

    /// Writes it, a line each.
    ///
    /// # Errors
    /// What the writer fails with.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        line(&mut out, &Head { version: VERSION, seed: self.seed })?;
        for fault in &self.faults {
            line(&mut out, fault)?;
        }
        for operation in &self.operations {
            line(&mut out, operation)?;
        }
        out.flush()
    }

    /// Reads what [`History::write`] wrote, or another program; `name` is for errors.
    ///
    /// # Errors
    /// Of kind `Usage` with the number of the first line that is wrong, `Local` if it cannot be
    /// read.
    pub fn read(input: impl BufRead, name: &str) -> Result<Self, Failure> {
        let mut history = Self::default();
        for (number, text) in (1..).zip(input.lines()) {
            let text = text.map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => Failure::usage(format!("{name}:{number}: no text")),
                _ => Failure::local(format!("cannot read {name}"), &error),
            })?;
            if text.trim().is_empty() {
                continue;
            }
            history.take(&text).map_err(|why| Failure::usage(format!("{name}:{number}: {why}")))?;
        }
        history.sort();
        Ok(history)
    }

    fn take(&mut self, text: &str) -> Result<(), String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let words = |error: serde_json::Error| error.to_string();
        if value.get("fault").is_some() {
            self.faults.push(serde_json::from_value(value).map_err(words)?);
        } else if value.get("version").is_some() {
            let head: Head = serde_json::from_value(value).map_err(words)?;
            if head.version != VERSION {
                return Err(format!("version {} of histories is not known here", head.version));
            }
            self.seed = head.seed;
        } else {
            let operation: Operation = serde_json::from_value(value).map_err(words)?;
            if let Some(why) = operation.wrong() {
                return Err(why);
            }
            self.operations.push(operation);
        }
        if self.operations.len() > OPERATIONS_MAX {
            return Err(format!("more than {OPERATIONS_MAX} operations"));
        }
        Ok(())
    }
}

fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
