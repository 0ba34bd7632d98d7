//! Work that can wait, on threads that step back for all others.
//!
//! A checkpoint keeps a processor busy for seconds, and nobody waits for it until the log is full;
//! so does the restore of a snapshot, on a node that has nothing to answer yet. Entries that come
//! meanwhile are waited for, each by a client, also on other nodes of the same machine.

use std::io;
use std::thread::{self, Builder, JoinHandle};

/// By how much it steps back: while the processors are busy it gets a third of what another thread
/// gets, so that it ends long before the log is full. All of what nobody else asks for.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// Runs `work` on such a thread.
pub(super) fn spawn(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.into()).spawn(|| {
        step_back();
        work();
    })
}

/// Runs `work` on such a thread and waits for it. A thread that has stepped back may not come
/// forward again, so the one that waits cannot do it itself.
pub(super) fn run<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let work = || {
            step_back();
            work()
        };
        let done = Builder::new().name(name.into()).spawn_scoped(scope, work)?.join();
        Ok(done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Lowers the priority of this thread. Elsewhere than on Linux it would be that of the process.
fn step_back() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let lowered =
            getpriority_process(None).and_then(|now| setpriority_process(None, now.max(NICE)));
        if let Err(error) = lowered {
            tracing::debug!(%error, "background work keeps its priority");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
