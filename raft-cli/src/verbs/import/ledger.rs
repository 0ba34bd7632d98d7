//! Which lines are written. Owns the files of `--acked` and `--resume`; a line is named in them
//! only after the cluster has acknowledged it, so after a crash they may lack lines that are
//! written, and never name one that is not.

use crate::failure::Failure;
use crate::verbs::temporary_beside;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Lines written, of a file whose lines are acknowledged in any order.
pub struct Ledger {
    /// Every line up to this is written or blank.
    leading: u64,
    /// Lines beyond `leading + 1` that are done.
    ahead: BTreeSet<u64>,
    acked: Option<(PathBuf, BufWriter<File>)>,
    resume: Option<Resume>,
    saved: u64,
}

impl Ledger {
    /// Opens the files; goes on after the lines that the resume file says are written.
    ///
    /// # Errors
    /// Of kind `Local` if a file cannot be opened or read, `Usage` if the resume file is another
    /// import's.
    pub fn open(acked: Option<&Path>, resume: Option<Resume>) -> Result<Self, Failure> {
        let leading = resume.as_ref().map_or(Ok(0), Resume::load)?;
        let open = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            let file = file.map_err(|error| cannot_write(path, &error))?;
            Ok::<_, Failure>((path.to_owned(), BufWriter::new(file)))
        };
        let acked = acked.map(open).transpose()?;
        Ok(Self { leading, ahead: BTreeSet::new(), acked, resume, saved: leading })
    }

    /// How many leading lines are done: written or blank.
    pub const fn leading(&self) -> u64 {
        self.leading
    }

    /// The line is acknowledged.
    ///
    /// # Errors
    /// Of kind `Local` if it cannot be noted.
    pub fn written(&mut self, line: u64) -> Result<(), Failure> {
        self.done(line);
        if let Some((path, file)) = &mut self.acked {
            writeln!(file, "{line}").map_err(|error| cannot_write(path, &error))?;
        }
        Ok(())
    }

    /// The line is blank: there is nothing to write.
    pub fn done(&mut self, line: u64) {
        assert!(line > self.leading, "line {line} is done twice; {} are done", self.leading);
        self.ahead.insert(line);
        while self.ahead.first().is_some_and(|line| line - 1 == self.leading) {
            self.ahead.pop_first();
            self.leading += 1;
        }
    }

    /// Hands everything noted so far to the operating system, the resume file to the disk.
    ///
    /// # Errors
    /// Of kind `Local`.
    pub fn save(&mut self) -> Result<(), Failure> {
        if let Some((path, file)) = &mut self.acked {
            file.flush().map_err(|error| cannot_write(path, &error))?;
        }
        if let Some(resume) = self.resume.as_ref().filter(|_| self.leading != self.saved) {
            resume.store(self.leading)?;
            self.saved = self.leading;
        }
        Ok(())
    }
}

/// The file that remembers how far an import came.
pub struct Resume {
    /// Its path.
    pub path: PathBuf,
    /// What is imported, so that the file is not used with another.
    pub source: String,
}

#[derive(Serialize, Deserialize)]
struct ResumeText {
    source: String,
    lines: u64,
}

impl Resume {
    /// How many leading lines are written; 0 if there is no such file yet.
    ///
    /// # Errors
    /// Of kind `Local` if it cannot be read, `Usage` if it is another import's or no resume file.
    pub fn load(&self) -> Result<u64, Failure> {
        let name = self.path.display();
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(Failure::local(format!("cannot read {name}"), &error)),
        };
        let text: ResumeText = serde_json::from_slice(&text).map_err(|error| {
            Failure::usage(format!("{name} is not a resume file: {error}"))
                .advice("remove it to start from the first line")
        })?;
        if text.source != self.source {
            let message =
                format!("{name} belongs to the import of {}, not {}", text.source, self.source);
            return Err(Failure::usage(message)
                .advice("give another --resume file, or remove it to start from the first line"));
        }
        Ok(text.lines)
    }

    /// Replaces the file in one step: whoever reads it sees the old or the new count.
    ///
    /// # Errors
    /// Of kind `Local`.
    pub fn store(&self, lines: u64) -> Result<(), Failure> {
        let text = ResumeText { source: self.source.clone(), lines };
        let text = serde_json::to_string(&text).expect("a string and a number are JSON");
        let store = || {
            let mut file = temporary_beside(&self.path)?;
            writeln!(file, "{text}")?;
            file.as_file().sync_data()?;
            file.persist(&self.path).map_err(|error| error.error)?;
            Ok(())
        };
        store().map_err(|error| cannot_write(&self.path, &error))
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::local(format!("cannot write {}", path.display()), error)
}
