//! Work that can wait, on threads that step back for all others.
//!
//! A checkpoint or a snapshot keeps a processor busy for seconds, and nobody waits for it. Entries
//! that come meanwhile are waited for, each by a client.

use std::io;
use std::panic::resume_unwind;
use std::thread::{Builder, JoinHandle};

/// By how much it steps back: while the processors are busy it gets about a tenth of what another
/// thread gets, so that it ends under any load. All of what nobody else asks for.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

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

/// Runs `work` on such a thread and waits for it. It panics if `work` does.
pub(super) fn run<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = Builder::new().name(name.into()).spawn_scoped(scope, || {
            step_back();
            work()
        })?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
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

#[cfg(test)]
mod tests;
