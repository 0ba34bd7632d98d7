//! `raft check`: workloads on a cluster, trouble if asked for, and a verdict on what clients saw.
//! This file puts the parts together: clients (`workload`) and trouble (`nemesis`, `proxy`,
//! `cluster`) make a history, `judge` judges it, `causal` says what could have known of what,
//! `report` sums it up and `page` draws it.
//!
//! It leaves behind no key and no process, and never says that a cluster is right.

pub mod causal;
pub mod cluster;
pub mod history;
pub mod judge;
pub mod nemesis;
pub mod page;
pub mod proxy;
pub mod recorder;
pub mod report;
pub mod workload;

use crate::args::check::Check;
use crate::args::connection::Target;
use crate::client::connector;
use crate::demo::describe;
use crate::failure::{Failure, Kind};
use crate::output::Output;
use crate::output::check::{json, text};
use crate::random::random;
use crate::serve::stop::StopRequests;
use crate::verbs::progress::Progress;
use cluster::LocalCluster;
use history::History;
use recorder::Recorder;
use report::Report;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::sleep;
use workload::Plan;

/// How long one operation may take if nothing else is said: beyond an election.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(3);
/// How long a cluster may take to be reached, and to answer what is asked after a run.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often the progress is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Makes a history, or reads one, judges it, and prints what came of it. `target` says how to reach
/// the cluster; it is asked for only if there is one to be reached.
///
/// # Errors
/// Of kind `No` if something is wrong with the history, `Unknown` if nobody knows, `Unavailable` if
/// no operation was answered; and whatever keeps it from making, reading or writing a history.
pub async fn run(
    args: &Check,
    target: impl FnOnce() -> Result<Target, Failure>,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let (history, broken_off) = match &args.history {
        Some(path) => (read(path)?, None),
        None if args.nemesis.is_empty() => {
            let target = target()?;
            let plan = Plan {
                workloads: args.workloads(),
                clients: args.clients,
                pause: args.pause,
                deadline: target.deadline.unwrap_or(DEADLINE_DEFAULT),
                patience: PATIENCE,
                prefix: format!("check-{:016x}/", random()?),
                seed: random()?,
                connector: connector(&target)?,
                endpoints: target.endpoints,
            };
            live(&plan, args.duration).await
        }
        None => troubled(args).await?,
    };
    // With nothing to judge, what broke it off is all there is to say.
    let broken_off = match broken_off {
        Some(failure) if history.operations.is_empty() => return Err(failure),
        broken_off => broken_off,
    };
    if let Some(path) = &args.record {
        write(path, |file| history.write(file))?;
    }
    let progress = Progress::of_operations(history.operations.len() as u64);
    let report = Report::of(history, |done| progress.set(done, done));
    drop(progress);
    if let Some(path) = &args.html {
        write(path, |mut file| file.write_all(page::page(&report).as_bytes()))?;
    }
    output.print(&json(&report), || text(&report))?;
    match broken_off {
        // A violation says more than why it was not looked for any longer.
        Some(failure) if !report.is_violated() => Err(failure),
        _ => verdict(&report),
    }
}

/// Runs the workloads for a while. What was taken down, and what broke it off, if anything did.
async fn live(plan: &Plan, duration: Duration) -> (History, Option<Failure>) {
    let recorder = Arc::new(Recorder::new(None));
    let lived = run_until(plan, &recorder, async |interrupted| {
        tokio::select! {
            () = show(&recorder, duration) => {}
            // Asked to stop early: what there is, is judged.
            _ = interrupted.next() => {}
        }
        Ok(())
    });
    let lived = lived.await;
    (recorder.take(), lived.err())
}

/// Runs the workloads on a cluster of its own, and makes trouble.
async fn troubled(args: &Check) -> Result<(History, Option<Failure>), Failure> {
    let seed = args.seed.map_or_else(random, Ok)?;
    let dir = tempfile::Builder::new().prefix("raft-check-").tempdir();
    let dir = dir.map_err(|error| Failure::local("cannot make a temporary folder", &error))?;
    let binary = std::env::current_exe()
        .map_err(|error| Failure::local("cannot find this program's own file", &error))?;
    let mut cluster = LocalCluster::start(dir.path(), binary, seed).await?;
    let steps = nemesis::plan(seed, &args.troubles(), args.duration);
    let plan = Plan {
        workloads: args.workloads(),
        clients: args.clients,
        pause: args.pause,
        deadline: args.connection.deadline.unwrap_or(DEADLINE_DEFAULT),
        patience: PATIENCE,
        prefix: "check/".to_owned(),
        seed,
        connector: connector(&cluster.target()?)?,
        endpoints: cluster.target()?.endpoints,
    };
    let (history, broken_off) =
        trouble(&plan, &steps, &mut cluster, Some(seed), args.duration).await;
    let failed = cluster.processes.stop_all().await;
    let failed = failed.first().map(|(id, status)| {
        let words = cluster.processes.last_words(*id);
        Failure::new(Kind::Local, format!("{id} {}: {words}", describe(*status)))
    });
    Ok((history, broken_off.or(failed)))
}

/// Runs the workloads on `cluster` while following `steps`, for `duration` at least. Gives what was
/// taken down, and what broke it off, if anything did: a node that does not start again, a cluster
/// that cannot be reached or has no leader for long, a request to stop. Whatever that was, what was
/// taken down is to be judged.
pub async fn trouble(
    plan: &Plan,
    steps: &[nemesis::Step],
    cluster: &mut LocalCluster,
    seed: Option<u64>,
    duration: Duration,
) -> (History, Option<Failure>) {
    let recorder = Arc::new(Recorder::new(seed));
    let troubled = run_until(plan, &recorder, async |interrupted| {
        let following = async {
            let shown = async {
                show(&recorder, duration).await;
                Ok(())
            };
            tokio::try_join!(nemesis::follow(steps, cluster, &recorder), shown).map(|_| ())
        };
        let followed = tokio::select! {
            followed = following => followed,
            _ = interrupted.next() => {
                Err(Failure::new(Kind::Local, "stopped before the plan was followed"))
            }
        };
        // What is asked from now on is to be answered, however it ended.
        let mended = nemesis::mend(cluster).await;
        followed.and(mended)
    });
    let troubled = troubled.await;
    (recorder.take(), troubled.err())
}

/// Runs the workloads until `done`, which hears requests to stop, has ended.
async fn run_until(
    plan: &Plan,
    recorder: &Arc<Recorder>,
    done: impl AsyncFnOnce(&mut StopRequests) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let clients = plan.connect().await?;
    let mut interrupted = StopRequests::listen(false)?;
    let (stop, stopped) = watch::channel(false);
    let run = plan.run(&clients, recorder, stopped);
    let until = async {
        let done = done(&mut interrupted).await;
        // Whoever listens no more needs no telling.
        let _ = stop.send(true);
        done
    };
    let (ran, done) = tokio::join!(run, until);
    done.and(ran)
}

/// Waits for `duration`, and shows how far it is.
async fn show(recorder: &Recorder, duration: Duration) {
    let total = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (progress, begin) = (Progress::of_time(total), Instant::now());
    while begin.elapsed() < duration && !recorder.is_full() {
        sleep(DRAW_EVERY.min(duration.saturating_sub(begin.elapsed()))).await;
        let passed = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        progress.set(passed.min(total), *recorder.answered().borrow());
    }
}

fn read(path: &Path) -> Result<History, Failure> {
    let name = path.display().to_string();
    let file = File::open(path);
    let file = file.map_err(|error| Failure::local(format!("cannot read {name}"), &error))?;
    History::read(BufReader::new(file), &name)
}

fn write(
    path: &Path,
    write: impl FnOnce(BufWriter<File>) -> io::Result<()>,
) -> Result<(), Failure> {
    let written = File::create(path).map(BufWriter::new).and_then(write);
    written.map_err(|error| Failure::local(format!("cannot write {}", path.display()), &error))
}

fn verdict(report: &Report) -> Result<(), Failure> {
    if report.is_violated() {
        let of = report.judged.iter().filter(|judged| !judged.violations.is_empty());
        let of: Vec<&str> = of.map(|judged| judged.workload.name()).collect();
        return Err(Failure::new(Kind::No, format!("violation: {}", of.join(", ")))
            .advice("keep the history with --record, and draw it with --html"));
    }
    if report.answered() == 0 {
        return Err(Failure::new(Kind::Unavailable, "no operation was answered"));
    }
    if report.is_undecided() {
        return Err(Failure::new(Kind::Unknown, "no verdict on some keys: too many orders to try")
            .advice("run it with fewer --clients or for a shorter --duration"));
    }
    Ok(())
}
