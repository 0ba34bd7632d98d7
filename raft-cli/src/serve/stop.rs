//! Being asked to stop: by SIGTERM, by Ctrl-C, or by the end of a parent process.

use crate::failure::Failure;
use std::io::Read;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Where requests to stop arrive. From its making on, signals no longer end the process.
#[derive(Debug)]
pub(crate) struct StopRequests {
    terminate: Signal,
    interrupt: Signal,
    parent_gone: Option<oneshot::Receiver<()>>,
}

impl StopRequests {
    /// Starts to listen. With `exit_with_parent` the end of standard input is a request, too: the
    /// system closes the pipe from a parent however it ended.
    pub(crate) fn listen(exit_with_parent: bool) -> Result<Self, Failure> {
        let on = |kind| {
            signal(kind).map_err(|error| Failure::local("cannot listen for signals", &error))
        };
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            parent_gone: exit_with_parent.then(end_of_input).transpose()?,
        })
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
        let what = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = parent_gone => "end of the parent process",
        };
        if what.starts_with("end") {
            self.parent_gone = None;
        }
        what
    }
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
