//! Being asked to stop: by SIGTERM, by Ctrl-C, by the end of a terminal or of a parent process.

use crate::failure::Failure;
use std::io::Read;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Where requests to stop arrive. From its making on, signals no longer end the process.
#[derive(Debug)]
pub(crate) struct StopRequests {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
    parent_gone: Option<oneshot::Receiver<()>>,
}

impl StopRequests {
    /// Starts to listen. With `exit_with_parent` the end of standard input is a request, too: the
    /// system closes the pipe from a parent however it ended.
    pub(crate) fn listen(exit_with_parent: bool) -> Result<Self, Failure> {
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: None,
            parent_gone: exit_with_parent.then(end_of_input).transpose()?,
        })
    }

    /// The same, and SIGHUP is a request, too, unless it is ignored as `nohup` wants it.
    pub(crate) fn or_hangup(mut self) -> Result<Self, Failure> {
        if !ignores_hangup() {
            self.hangup = Some(on(SignalKind::hangup())?);
        }
        Ok(self)
    }

    /// Waits for the next request to stop; says what it was.
    pub(crate) async fn next(&mut self) -> &'static str {
        let parent_gone = async {
            if let Some(gone) = &mut self.parent_gone {
                let _ = gone.await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let what = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = hangup => "SIGHUP",
            () = parent_gone => "end of the parent process",
        };
        if what.starts_with("end") {
            self.parent_gone = None;
        }
        what
    }
}

fn on(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::local("cannot listen for signals", &error))
}

/// Whether this process was started with SIGHUP ignored. Only Linux tells.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The lowest bit is signal 1.
    ignored.is_some_and(|mask| mask & 1 == 1)
}

/// Resolves when standard input has ended. A thread of its own reads it, because a read of a pipe
/// cannot be given up, and the process need not wait for it.
fn end_of_input() -> Result<oneshot::Receiver<()>, Failure> {
    let (ended, receiver) = oneshot::channel();
    let read = move || {
        let mut ignored = [0; 64];
        let mut input = std::io::stdin().lock();
        while input.read(&mut ignored).is_ok_and(|bytes| bytes > 0) {}
        let _ = ended.send(());
    };
    std::thread::Builder::new()
        .name("parent-watch".into())
        .spawn(read)
        .map_err(|error| Failure::local("cannot start a thread", &error))?;
    Ok(receiver)
}
