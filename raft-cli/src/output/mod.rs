//! What verbs print on stdout: tables for people, JSON for programs, plain lines for shells. Only
//! results; progress and errors go to stderr. Nothing here talks to a cluster.

pub mod auth;
pub mod bench;
mod bytes;
pub mod check;
pub mod colour;
pub mod config;
pub mod doctor;
pub mod health;
pub mod lease;
pub mod members;
pub mod pairs;
pub mod scrub;
pub mod status;
mod table;
pub mod time;
pub mod txn;
pub mod watch;

pub use bytes::{BytesField, KeyAndValue, printable};
pub use table::Table;

use crate::failure::Failure;
use clap::ValueEnum;
use serde::Serialize;
use std::io::{self, Write};

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Format {
    /// For people: aligned columns, short sentences, unprintable bytes escaped.
    #[default]
    Table,
    /// For programs: one JSON document on one line.
    Json,
    /// For shells: plain lines as `etcdctl` prints them, without headers; keys and values as they
    /// are.
    Simple,
}

/// Where results go and how.
pub struct Output<'a> {
    /// How.
    pub format: Format,
    writer: Box<dyn Write + 'a>,
}

impl<'a> Output<'a> {
    /// Prints to `writer`, which should be buffered.
    pub fn new(format: Format, writer: impl Write + 'a) -> Self {
        Self { format, writer: Box::new(writer) }
    }

    /// Prints to stdout, buffered: call [`Output::finish`] at the end.
    pub fn stdout(format: Format) -> Output<'static> {
        Output::new(format, io::BufWriter::with_capacity(64 * 1024, io::stdout()))
    }

    /// Prints `json` as one line, or what `text` gives for people, by the format;
    /// shells get what people get.
    ///
    /// # Errors
    /// Of kind `OutputClosed` if the reader has gone, `Local` if the output cannot be written.
    pub fn print(
        &mut self,
        json: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let mut line = match self.format {
            Format::Json => serde_json::to_string(json).expect("our types have only string keys"),
            Format::Table | Format::Simple => text(),
        };
        if !line.ends_with('\n') {
            line.push('\n');
        }
        self.raw(line.as_bytes())
    }

    /// As [`Output::print`], where shells get something else than people: `simple`, complete lines.
    ///
    /// # Errors
    /// As [`Output::print`].
    pub fn show(
        &mut self,
        json: &impl Serialize,
        simple: impl FnOnce() -> Vec<u8>,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Simple => self.raw(&simple()),
            Format::Json | Format::Table => self.print(json, text),
        }
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// As [`Output::print`].
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(bytes).map_err(|error| Failure::stdout(&error))
    }

    /// Hands everything printed so far to the operating system.
    ///
    /// # Errors
    /// As [`Output::print`].
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|error| Failure::stdout(&error))
    }
}
