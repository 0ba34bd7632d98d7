//! `raft demo --tour`: a story of a killed leader, told while it happens. Every statement is
//! checked before it is printed; one that is not true ends the tour with the reason.

use super::{Cluster, Observer, say};
use crate::failure::{Failure, Kind};
use crate::output::Output;
use bytes::Bytes;
use raft_core::types::NodeId;
use raft_kv::api::{Consistency, Keys, Range};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// Guard against a story that does not go on; no step comes near it.
const STEP_MAX: Duration = Duration::from_secs(120);
/// Pause between two looks at a file that grows.
const PAUSE: Duration = Duration::from_millis(10);
/// One part in so many of the lines is written when the leader is killed.
const KILL_AFTER: u64 = 5;

/// Plays the tour with a file of `lines` lines on a running cluster.
///
/// # Errors
/// If something does not happen as it should: the reason.
pub(super) async fn play(
    lines: u64,
    cluster: &mut Cluster,
    observer: &Observer,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let mut story = Story { started: Instant::now(), output };
    let nodes = cluster.folder().ids().count();
    story.tell(&format!("{nodes} nodes run, each a process of its own:")).await?;
    story.table(observer).await?;

    let load = Load::make(cluster.folder().dir(), lines)?;
    story.tell(&format!("made {} with {lines} lines, key<TAB>value", load.file.display())).await?;
    let mut import = load.import(cluster)?;
    story.tell("started `raft import` on it, 256 lines on their way at a time").await?;
    let killed = kill_the_leader(&load, &mut import, cluster, observer, &mut story).await?;
    finish_import(&load, &mut import, &mut story).await?;
    load.verify(observer, &mut story).await?;

    let Some(killed) = killed else {
        return story.tell("of fewer than three nodes none may fail: the tour ends here").await;
    };
    let restarted = Instant::now();
    cluster.start(killed).await?;
    let status = observer.converged(STEP_MAX).await?;
    story
        .tell(&format!(
            "{killed} runs again and has caught up after {}: all {nodes} nodes have applied {} \
             entries and have state hash {:016x}",
            seconds(restarted.elapsed()),
            status.last_applied,
            status.state_hash
        ))
        .await?;
    story.table(observer).await?;
    story.tell("nothing that was reported as written was lost").await
}

/// Tells what happens, with the time since the beginning in front.
struct Story<'a, 'b> {
    started: Instant,
    output: &'a mut Output<'b>,
}

impl Story<'_, '_> {
    async fn tell(&mut self, text: &str) -> Result<(), Failure> {
        say(self.output, &format!("[{:>6}] {text}", seconds(self.started.elapsed())))
    }

    async fn table(&mut self, observer: &Observer) -> Result<(), Failure> {
        let rows = observer.rows().await;
        say(self.output, &crate::output::status::text(&rows))
    }
}

/// Waits until the import is under way, kills the leader, and watches the others go on.
async fn kill_the_leader(
    load: &Load,
    import: &mut Child,
    cluster: &mut Cluster,
    observer: &Observer,
    story: &mut Story<'_, '_>,
) -> Result<Option<NodeId>, Failure> {
    let reported = load.wait_until_under_way(import).await?;
    let before = observer.leader(STEP_MAX).await?;
    if cluster.folder().ids().count() < 3 {
        return Ok(None);
    }
    let process = cluster.process_id(before.id).unwrap_or_default();
    cluster.kill(before.id).await;
    let killed = Instant::now();
    story
        .tell(&format!(
            "{reported} lines are reported as written; killed the leader {} (process {process}) \
             with SIGKILL",
            before.id
        ))
        .await?;
    let client = observer.client().with_deadline(STEP_MAX);
    let write = async {
        let written = client.put("tour-probe", "still here").await;
        written.map(|_| killed.elapsed())
    };
    let elected = async {
        let leader = observer.new_leader(STEP_MAX, Some(before.term)).await;
        leader.map(|leader| (leader, killed.elapsed()))
    };
    let (written, elected) = tokio::join!(write, elected);
    let (after, election) = elected?;
    let written = written.map_err(|error| untrue(format!("no write after the kill: {error}")))?;
    story
        .tell(&format!(
            "{} leads now, in term {}: elected and known to a majority after {}",
            after.id,
            after.term,
            seconds(election)
        ))
        .await?;
    story.tell(&format!("the first write after the kill took {}", seconds(written))).await?;
    if import.try_wait().is_ok_and(|status| status.is_some()) {
        return Err(untrue("the import ended before the leader was killed; give it more --lines"));
    }
    Ok(Some(before.id))
}

async fn finish_import(
    load: &Load,
    import: &mut Child,
    story: &mut Story<'_, '_>,
) -> Result<(), Failure> {
    let status = tokio::time::timeout(STEP_MAX, import.wait())
        .await
        .map_err(|_| untrue("the import does not end"))?
        .map_err(|error| Failure::local("cannot wait for the import", &error))?;
    if !status.success() {
        let said = std::fs::read_to_string(&load.said).unwrap_or_default();
        return Err(untrue(format!("the import {}: {said}", super::describe(status))));
    }
    story.tell(&format!("the import went on to the end: {} lines", load.lines)).await
}

/// A file of keys and values, and what an import of it reports.
struct Load {
    /// Drawn at random: tells the keys of this tour from those of an earlier one.
    run: u64,
    lines: u64,
    file: PathBuf,
    /// The numbers of the lines that the import reported as written.
    reported: PathBuf,
    /// What the import said on standard error.
    said: PathBuf,
}

impl Load {
    fn make(dir: &Path, lines: u64) -> Result<Self, Failure> {
        let run = getrandom::u64()
            .map_err(|error| Failure::local("cannot draw a random number", &error.into()))?;
        let name = |suffix: &str| dir.join(format!("tour-{run:016x}.{suffix}"));
        let load =
            Self { run, lines, file: name("tsv"), reported: name("acked"), said: name("log") };
        let write = || -> io::Result<()> {
            let mut file = BufWriter::new(File::create_new(&load.file)?);
            for line in 1..=lines {
                writeln!(file, "{}\t{}", load.key(line), load.value(line))?;
            }
            file.flush()
        };
        write().map_err(|error| {
            Failure::local(format!("cannot write {}", load.file.display()), &error)
        })?;
        Ok(load)
    }

    /// The common front of all keys of this tour.
    fn prefix(&self) -> String {
        format!("tour/{:016x}/", self.run)
    }

    fn key(&self, line: u64) -> String {
        format!("{}{line:08}", self.prefix())
    }

    /// A value that no other line has, so that a mix-up is noticed.
    fn value(&self, line: u64) -> String {
        format!(
            "value {:016x} of line {line}",
            (self.run ^ line).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        )
    }

    /// Runs `raft import` as anybody would.
    fn import(&self, cluster: &Cluster) -> Result<Child, Failure> {
        let failed = |error: io::Error| Failure::local("cannot start the import", &error);
        Command::new(cluster.binary())
            .arg("--dir")
            .arg(cluster.folder().dir())
            .arg("import")
            .arg(&self.file)
            .arg("--acked")
            .arg(&self.reported)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&self.said).map_err(failed)?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)
    }

    /// The numbers of the lines reported as written until now.
    fn reported(&self) -> Result<Vec<u64>, Failure> {
        let failed = |error: io::Error| {
            Failure::local(format!("cannot read {}", self.reported.display()), &error)
        };
        let file = match File::open(&self.reported) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut reader = BufReader::new(file);
        let (mut numbers, mut line) = (Vec::new(), String::new());
        while reader.read_line(&mut line).map_err(failed)? > 0 {
            // The last line may be half written while the import runs.
            if let Some(number) = line.strip_suffix('\n') {
                let bad = |_| untrue(format!("the import reported {number:?} as a line"));
                numbers.push(number.parse().map_err(bad)?);
            }
            line.clear();
        }
        Ok(numbers)
    }

    async fn wait_until_under_way(&self, import: &mut Child) -> Result<usize, Failure> {
        let started = Instant::now();
        loop {
            let reported = self.reported()?.len();
            if reported as u64 >= self.lines / KILL_AFTER {
                return Ok(reported);
            }
            let ended = import.try_wait().is_ok_and(|status| status.is_some());
            if ended || started.elapsed() > STEP_MAX {
                let said = std::fs::read_to_string(&self.said).unwrap_or_default();
                return Err(untrue(format!("the import got no further than {reported}: {said}")));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reads everything back and compares it with what was reported.
    async fn verify(&self, observer: &Observer, story: &mut Story<'_, '_>) -> Result<(), Failure> {
        let mut found = vec![false; usize::try_from(self.lines).unwrap_or(usize::MAX)];
        let mut range = Range::of(Keys::prefix(self.prefix()));
        loop {
            let page = observer.client().get(range.clone(), Consistency::Linearizable).await;
            let page = page.map_err(|error| untrue(format!("cannot read back: {error}")))?;
            for pair in &page.kvs {
                self.check(&pair.key, &pair.value, &mut found)?;
            }
            let Some(last) = page.kvs.last().filter(|_| page.more) else { break };
            // The next page starts right behind the last key, and is of the same revision.
            let start = Bytes::from([&last.key[..], &[0]].concat());
            let Keys::Range { end, .. } = range.keys else { break };
            range.keys = Keys::Range { start, end };
            range.revision = range.revision.or(Some(page.revision));
        }
        let reported = self.reported()?;
        for line in &reported {
            let index = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
            if !found.get(index).copied().unwrap_or(false) {
                return Err(untrue(format!("line {line} was reported as written and is lost")));
            }
        }
        if (reported.len() as u64) < self.lines {
            let count = reported.len();
            return Err(untrue(format!("only {count} of {} lines were reported", self.lines)));
        }
        let text = format!("read back all {} lines: each is as it was reported", reported.len());
        story.tell(&text).await
    }

    /// Notes a pair that was read back; one that no line of the file has is a lie.
    fn check(&self, key: &[u8], value: &[u8], found: &mut [bool]) -> Result<(), Failure> {
        let number = key.strip_prefix(self.prefix().as_bytes()).unwrap_or_default();
        let number = std::str::from_utf8(number).ok().and_then(|text| text.parse::<u64>().ok());
        let line = number.filter(|line| (1..=self.lines).contains(line));
        let Some(line) = line else {
            return Err(untrue(format!("{:?} was never written", String::from_utf8_lossy(key))));
        };
        if value != self.value(line).as_bytes() {
            return Err(untrue(format!("line {line} has another value than was written")));
        }
        let index = usize::try_from(line - 1).unwrap_or(usize::MAX);
        if let Some(found) = found.get_mut(index) {
            *found = true;
        }
        Ok(())
    }
}

fn untrue(what: impl Into<String>) -> Failure {
    Failure::new(Kind::Refused, format!("the tour failed: {}", what.into()))
}

fn seconds(time: Duration) -> String {
    match time.as_millis() {
        milliseconds @ 0..=999 => format!("{milliseconds} ms"),
        milliseconds => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
    }
}
