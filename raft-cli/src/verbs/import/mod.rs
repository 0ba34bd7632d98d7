//! `raft import`: writes the lines of a file, many on their way at once, so that it can be stopped
//! at any time and go on. A line is counted as written only after the cluster acknowledged it; two
//! lines with one key are never on their way together, so that the later one wins.

pub mod ledger;
pub mod source;

use super::progress::Progress;
use crate::args::import::Import;
use crate::client::Store;
use crate::failure::{Failure, Kind};
use crate::output::Output;
use crate::records::{Format, Record};
use bytes::Bytes;
use ledger::{Ledger, Resume};
use raft_kv::api::{Revision, SESSION_WINDOW_MAX};
use serde_json::json;
use source::{Batch, Line, Stop};
use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::ctrl_c;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// How often the files of `--acked` and `--resume` are brought up to date.
const SAVE_INTERVAL: Duration = Duration::from_millis(500);
/// How far a line may run ahead of the first unanswered one: within a session's window.
const AHEAD_MAX: u64 = SESSION_WINDOW_MAX / 2;

/// Writes the lines of a file or stdin.
///
/// # Errors
/// Of every kind but `No`. Lines acknowledged until then stay written and are accounted for.
pub async fn run(store: Store, args: &Import, output: &mut Output<'_>) -> Result<(), Failure> {
    let started = Instant::now();
    let format = args.format.or_else(|| Format::of(&args.file)).ok_or_else(|| {
        Failure::usage(format!("cannot tell the format from the name {}", args.file.display()))
            .advice("give --format jsonl or --format tsv")
    })?;
    let Opened { reader, size, source } = open(&args.file)?;
    let resume = args.resume.clone().map(|path| Resume { path, source });
    let ledger = Ledger::open(args.acked.as_deref(), resume)?;
    let skipped = ledger.leading();
    let batches = source::read(reader, format, skipped)
        .map_err(|error| Failure::local("cannot start a thread", &error))?;
    let mut writer = Writer {
        store: Arc::new(store),
        concurrency: usize::from(args.concurrency),
        ledger,
        queue: VecDeque::new(),
        keys: HashSet::new(),
        tasks: JoinSet::new(),
        written: 0,
        bytes: 0,
        failed: None,
        stop: None,
    };
    let outcome = writer.run(batches, &Progress::of_file(size)).await;
    let saved = writer.ledger.save();
    let (written, leading) = (writer.written, writer.ledger.leading());
    outcome.and(saved).map_err(|failure| explain(failure, args, written, leading))?;
    let seconds = started.elapsed().as_secs_f64();
    let json = json!({ "written": written, "skipped": skipped, "seconds": seconds });
    output.print(&json, || {
        let again = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        format!("{written} lines written{again}, in {seconds:.1} s")
    })
}

struct Opened {
    reader: Box<dyn Read + Send>,
    /// Bytes, where that is known.
    size: Option<u64>,
    /// The name that the resume file keeps.
    source: String,
}

fn open(path: &Path) -> Result<Opened, Failure> {
    if path == Path::new("-") {
        let reader = Box::new(std::io::stdin());
        return Ok(Opened { reader, size: None, source: "stdin".into() });
    }
    let failed =
        |error: std::io::Error| Failure::local(format!("cannot read {}", path.display()), &error);
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let source = path.canonicalize().map_err(failed)?.display().to_string();
    let size = meta.is_file().then_some(meta.len());
    Ok(Opened { reader: Box::new(file), size, source })
}

/// Says what is written and how to go on.
fn explain(failure: Failure, args: &Import, written: u64, leading: u64) -> Failure {
    let advice = match (&args.resume, failure.kind) {
        (Some(_), Kind::Usage) => "correct it and run the same command again to go on",
        (Some(_), _) => "run the same command again to go on",
        (None, Kind::Usage) => "correct it and import again; writing a line twice is harmless",
        (None, _) => "import again; writing a line twice is harmless (--resume skips what is done)",
    };
    let message = format!("{}; {written} lines written", failure.message);
    let message =
        if leading > 0 { format!("{message}, all up to line {leading} are done") } else { message };
    Failure::new(failure.kind, message).advice(failure.advice.as_deref().unwrap_or(advice))
}

/// A line's number and key, and how writing it went.
type Answer = (u64, Bytes, Result<Revision, Failure>);

struct Writer {
    store: Arc<Store>,
    concurrency: usize,
    ledger: Ledger,
    /// Lines read and not yet on their way; at most one batch.
    queue: VecDeque<Line>,
    /// Keys of the lines on their way.
    keys: HashSet<Bytes>,
    tasks: JoinSet<Answer>,
    written: u64,
    /// Bytes of the file read.
    bytes: u64,
    /// The first line that failed; from then on nothing more is started.
    failed: Option<(u64, Failure)>,
    /// Why no lines follow those read, if not for the end of the file.
    stop: Option<Failure>,
}

impl Writer {
    async fn run(
        &mut self,
        mut batches: mpsc::Receiver<Batch>,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let mut save = interval(SAVE_INTERVAL);
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut interrupt = pin!(ctrl_c());
        let mut reading = true;
        loop {
            self.start();
            if self.tasks.is_empty() && (!reading && self.queue.is_empty() || self.failed()) {
                break;
            }
            tokio::select! {
                Some(answer) = self.tasks.join_next() => {
                    self.answered(answer.expect("writing does not panic and is not aborted"))?;
                    progress.set(self.bytes, self.written);
                }
                batch = batches.recv(), if reading && self.queue.is_empty() && !self.failed() => {
                    reading = batch.is_some();
                    self.take(batch.unwrap_or_default());
                }
                _ = save.tick() => self.ledger.save()?,
                _ = &mut interrupt => {
                    // The first waits for what is on its way, the second does not.
                    let failure = Failure::new(Kind::Local, "interrupted");
                    if self.failed() {
                        return Err(failure);
                    }
                    self.failed = Some((u64::MAX, failure));
                    interrupt.set(ctrl_c());
                }
            }
        }
        let failed = self.failed.take().map(|(_, failure)| failure);
        failed.or_else(|| self.stop.take()).map_or(Ok(()), Err)
    }

    const fn failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Sends lines on their way, as many as may be.
    fn start(&mut self) {
        while !self.failed()
            && self.tasks.len() < self.concurrency
            && let Some(line) = self.queue.pop_front()
        {
            let number = line.number;
            let Some(Record { key, value }) = line.record else {
                self.ledger.done(number);
                continue;
            };
            if number > self.ledger.leading() + AHEAD_MAX || !self.keys.insert(key.clone()) {
                let record = Some(Record { key, value });
                self.queue.push_front(Line { number, record });
                break;
            }
            let store = Arc::clone(&self.store);
            self.tasks.spawn(async move {
                let answer = store.put(key.clone(), value).await;
                (number, key, answer)
            });
        }
    }

    fn answered(&mut self, (number, key, answer): Answer) -> Result<(), Failure> {
        self.keys.remove(&key);
        match answer {
            Ok(_) => {
                self.written += 1;
                self.ledger.written(number)
            }
            Err(failure) => {
                if self.failed.as_ref().is_none_or(|(first, _)| number < *first) {
                    let message = format!("line {number}: {}", failure.message);
                    self.failed = Some((number, Failure::new(failure.kind, message)));
                }
                Ok(())
            }
        }
    }

    fn take(&mut self, batch: Batch) {
        self.bytes += batch.bytes;
        self.queue.extend(batch.lines);
        let Some(stop) = batch.stop else { return };
        let failure = match stop {
            Stop::Malformed(line, error) => Failure::usage(format!("line {line}: {error}")),
            Stop::Unreadable(line, error) => {
                Failure::new(Kind::Local, format!("cannot read on after line {line}: {error}"))
            }
            Stop::Short(lines) => Failure::usage(format!(
                "the --resume file says that more lines are written than the {lines} there are"
            ))
            .advice("check that the file is the same; remove the --resume file to start again"),
        };
        self.stop = Some(failure);
    }
}
