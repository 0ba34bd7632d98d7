//! `raft demo`: a whole cluster on this machine, one process per node. Owns the folder and the
//! processes; whatever happens, it leaves none of them running, and no temporary folder but that
//! of a tour that failed.

mod cluster;
mod folder;
mod observe;
mod tour;

pub use cluster::{Cluster, describe};
pub use folder::Folder;
pub use observe::{Answer, Leader, Observer};

use crate::args::demo::Demo;
use crate::failure::{Failure, Kind};
use crate::output::Output;
use crate::output::status::RowJson;
use crate::serve::stop::StopRequests;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// How long a fresh cluster may take to elect its first leader.
const LEADER_MAX: Duration = Duration::from_secs(30);

/// Runs a cluster until it is asked to stop, or plays the tour on it.
///
/// # Errors
/// If the cluster cannot be started, or a statement of the tour is not true.
pub fn run(args: &Demo, output: &mut Output<'_>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("cannot start a runtime", &error))?;
    let (dir, temporary) = match &args.dir {
        Some(dir) => (dir.clone(), None),
        None => {
            let temporary = temporary_dir()?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let result = runtime.block_on(run_in(args, &dir, output));
    let Some(temporary) = temporary else { return result };
    if let (Err(failure), true) = (&result, args.tour)
        && failure.kind != Kind::OutputClosed
    {
        // Its logs say what went wrong.
        let kept = temporary.keep();
        return result
            .map_err(|failure| failure.advice(format!("see the logs in {}", kept.display())));
    }
    let path = temporary.path().display().to_string();
    let removed = temporary.close();
    let removed = removed.map_err(|error| Failure::local(format!("cannot remove {path}"), &error));
    result.and(removed)
}

fn temporary_dir() -> Result<TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("raft-demo-")
        .tempdir()
        .map_err(|error| Failure::local("cannot make a temporary folder", &error))
}

async fn run_in(args: &Demo, dir: &Path, output: &mut Output<'_>) -> Result<(), Failure> {
    let mut stop = StopRequests::listen(false)?;
    let folder = Folder::open_or_make(dir, args.nodes, args.base_port)?;
    let _lock = folder.lock()?;
    let binary = std::env::current_exe()
        .map_err(|error| Failure::local("cannot find this program's own file", &error))?;
    let mut cluster = Cluster::new(folder, binary, &args.log_level).with_etcd();
    let result = tokio::select! {
        result = play(args, &mut cluster, output) => result,
        _ = stop.next() => say(output, "stopping all nodes"),
    };
    let stopped = tokio::select! {
        failed = cluster.stop_all() => report_failed(&failed),
        // Asked again: dropping the cluster kills what still runs.
        _ = stop.next() => Err(Failure::new(Kind::Local, "nodes were killed while stopping")),
    };
    result.and(stopped)
}

async fn play(args: &Demo, cluster: &mut Cluster, output: &mut Output<'_>) -> Result<(), Failure> {
    cluster.start_all().await?;
    let observer = Observer::new(cluster.folder())?;
    observer.leader(LEADER_MAX).await?;
    observer.converged(LEADER_MAX).await?;
    if args.tour {
        return tour::play(args.lines, cluster, &observer, output).await;
    }
    introduce(cluster, &observer, output).await?;
    loop {
        let (id, status) = cluster.next_exit().await;
        let (words, how) = (cluster.last_words(id), describe(status));
        let line = match status.code() {
            Some(_) => format!("{id} {how}: {words}"),
            None => format!("{id} {how}; the others go on"),
        };
        say(output, &line)?;
        let serve = cluster.serve_args(id);
        say(output, &format!("start it again with: {}", command(&serve)))?;
    }
}

/// Prints the members and what to do next.
async fn introduce(
    cluster: &Cluster,
    observer: &Observer,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let folder = cluster.folder();
    let rows = observer.rows().await;
    let dir = folder.dir().display().to_string();
    let members: Vec<RowJson> = rows.iter().map(RowJson::of).collect();
    let processes: Vec<String> = folder
        .ids()
        .filter_map(|id| cluster.process_id(id).map(|process| format!("{id} {process}")))
        .collect();
    // Over TCP at the same ports.
    let doors: Vec<&str> = folder.ids().map(|id| folder.address(id)).collect();
    let verb = |verb: &str| {
        let mut words = vec!["--dir".to_owned(), dir.clone()];
        words.extend(verb.split(' ').map(str::to_owned));
        format!("  {}\n", command(&words))
    };
    let text = || {
        let mut text = crate::output::status::text(&rows);
        text.push_str(&format!("\nprocesses: {}\nfolder: {dir}\n", processes.join(", ")));
        text.push_str("\nIn a second terminal:\n");
        for example in ["put greeting hello", "get greeting", "status", "bench put"] {
            text.push_str(&verb(example));
        }
        let doors = doors.join(",");
        text.push_str(&format!(
            "\nFor clients of etcd:\n  etcdctl --endpoints {doors} get greeting\n"
        ));
        text.push_str("\nCtrl-C stops all nodes");
        text
    };
    let ready = json!({ "event": "ready", "dir": dir, "members": members, "etcd": doors });
    output.print(&ready, text)?;
    output.finish()
}

/// Prints a line at once.
fn say(output: &mut Output<'_>, text: &str) -> Result<(), Failure> {
    output.print(&json!({ "event": "said", "text": text }), || text.to_owned())?;
    output.finish()
}

fn report_failed(
    failed: &[(raft_core::types::NodeId, std::process::ExitStatus)],
) -> Result<(), Failure> {
    let list: Vec<String> =
        failed.iter().map(|(id, status)| format!("{id} {}", describe(*status))).collect();
    if list.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Kind::Local, format!("not stopped cleanly: {}", list.join(", "))))
}

/// A command line of this program, ready to paste into a shell in the present directory.
fn command(args: &[String]) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("raft"));
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| program.strip_prefix(here).map(Path::to_owned).ok());
    let program = short.unwrap_or(program).display().to_string();
    let words = std::iter::once(program.as_str()).chain(args.iter().map(String::as_str));
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// A word for a shell: as it is if nothing in it means something there.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=,:@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
