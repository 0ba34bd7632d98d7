//! Reads and parses the file on a thread of its own: reading stdin blocks, and parsing beside the
//! network uses a second core. Owns the line numbers; knows no cluster.

use crate::records::{Format, Record};
use std::io::{self, BufRead, BufReader, Read};
use tokio::sync::mpsc;

/// Most bytes of a line: a record of the largest size with every byte written as `\u00NN`.
const LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// A batch is handed on when it has this many lines,
const BATCH_LINES_MAX: usize = 64;
/// or this many bytes,
const BATCH_BYTES_MAX: u64 = 256 * 1024;
/// and this many batches may wait.
const BATCHES_MAX: usize = 8;

/// A line, counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number.
    pub number: u64,
    /// What it holds; `None` if it is blank.
    pub record: Option<Record>,
}

/// Lines in the order of the file.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Batch {
    /// The lines.
    pub lines: Vec<Line>,
    /// Bytes of the file that they and the skipped lines before them take.
    pub bytes: u64,
    /// Why reading ended after these lines, if not at the end of the file.
    pub stop: Option<Stop>,
}

/// Why reading stopped before the end of the file.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// This line is malformed, for this reason.
    Malformed(u64, String),
    /// Reading failed after this many lines.
    Unreadable(u64, String),
    /// The file has only this many lines, fewer than were to be skipped.
    Short(u64),
}

/// Starts reading `reader` after its first `skip` lines. Ends with a batch that says why, or by
/// closing the channel at the end of the file; also when the receiver is dropped and the current
/// read returns.
///
/// # Errors
/// If no thread can be started.
pub fn read(
    reader: impl Read + Send + 'static,
    format: Format,
    skip: u64,
) -> io::Result<mpsc::Receiver<Batch>> {
    let (sender, receiver) = mpsc::channel(BATCHES_MAX);
    let mut source = Source { reader: BufReader::with_capacity(256 * 1024, reader), number: 0 };
    let run = move || {
        let mut batch = source.skip(skip);
        while batch.stop.is_none() {
            let ended = source.fill(&mut batch, format);
            if sender.blocking_send(std::mem::take(&mut batch)).is_err() || ended {
                return;
            }
        }
        // The receiver may have gone; then nobody wants to know.
        let _ = sender.blocking_send(batch);
    };
    std::thread::Builder::new().name("import".into()).spawn(run)?;
    Ok(receiver)
}

struct Source<R> {
    reader: BufReader<R>,
    /// Lines read.
    number: u64,
}

impl<R: Read> Source<R> {
    /// Passes over lines that were written before.
    fn skip(&mut self, lines: u64) -> Batch {
        let mut batch = Batch::default();
        while self.number < lines && batch.stop.is_none() {
            match self.line(&mut batch.bytes) {
                Ok(Some(_)) => self.number += 1,
                Ok(None) => batch.stop = Some(Stop::Short(self.number)),
                Err(stop) => batch.stop = Some(stop),
            }
        }
        batch
    }

    /// Adds lines to a batch until it is full, the next read might wait, or nothing may follow:
    /// then returns true.
    fn fill(&mut self, batch: &mut Batch, format: Format) -> bool {
        while batch.lines.len() < BATCH_LINES_MAX && batch.bytes < BATCH_BYTES_MAX {
            let line = match self.line(&mut batch.bytes) {
                Ok(Some(line)) => line,
                Ok(None) => return true,
                Err(stop) => {
                    batch.stop = Some(stop);
                    return true;
                }
            };
            self.number += 1;
            match format.parse(&line) {
                Ok(record) => batch.lines.push(Line { number: self.number, record }),
                Err(error) => {
                    batch.stop = Some(Stop::Malformed(self.number, error));
                    return true;
                }
            }
            if self.reader.buffer().is_empty() {
                break;
            }
        }
        false
    }

    /// The next line without its line break; `None` at the end.
    fn line(&mut self, bytes: &mut u64) -> Result<Option<Vec<u8>>, Stop> {
        let mut line = Vec::with_capacity(256);
        let mut limited = self.reader.by_ref().take(LINE_BYTES_MAX);
        let read = limited
            .read_until(b'\n', &mut line)
            .map_err(|error| Stop::Unreadable(self.number, error.to_string()))?;
        *bytes += read as u64;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if read as u64 == LINE_BYTES_MAX {
            let error = format!("the line is longer than {LINE_BYTES_MAX} bytes");
            return Err(Stop::Malformed(self.number + 1, error));
        }
        Ok(if read == 0 { None } else { Some(line) })
    }
}
