//! Threads for clients, each with a runtime of its own.
//!
//! Where several threads share a runtime, they wake each other and take each other's work. So each
//! has its own, and a connection belongs to one of them.

use crate::failure::Failure;
use std::future::Future;
use std::io;
use std::thread::available_parallelism;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};

/// Fewest and most threads that serve clients: while one of them puts a large answer together,
/// others go on; and the node needs processors too.
const WORKERS_MIN: usize = 2;
const WORKERS_MAX: usize = 8;

/// Threads that serve connections. They end when this is dropped.
pub(super) struct Workers {
    handles: Vec<Handle>,
    _alive: watch::Sender<()>,
}

impl Workers {
    /// Starts one for each processor, called `name`.
    ///
    /// # Errors
    /// Of kind `Local` if there are no more threads.
    pub(super) async fn start(name: &str) -> Result<Self, Failure> {
        let processors = available_parallelism().map_or(WORKERS_MIN, usize::from);
        let (alive, gone) = watch::channel(());
        let mut handles = Vec::new();
        for _ in 0..processors.clamp(WORKERS_MIN, WORKERS_MAX) {
            let mut gone = gone.clone();
            let until_gone = async move { while gone.changed().await.is_ok() {} };
            handles.push(apart(name, until_gone).await?);
        }
        Ok(Self { handles, _alive: alive })
    }

    /// The ways to their runtimes.
    pub(super) fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

/// Does `work` on a thread of its own; returns the way to its runtime.
///
/// # Errors
/// Of kind `Local` if there are no more threads.
pub(super) async fn apart(
    name: &str,
    work: impl Future<Output = ()> + Send + 'static,
) -> Result<Handle, Failure> {
    let (tell, told) = oneshot::channel();
    let run = move || match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            // Whoever asks waits for it.
            let _ = tell.send(Ok(runtime.handle().clone()));
            runtime.block_on(work);
            // Files that do not answer are not waited for.
            runtime.shutdown_background();
        }
        Err(error) => drop(tell.send(Err(error))),
    };
    let thread = std::thread::Builder::new().name(name.into()).spawn(run);
    thread.map_err(|error| Failure::local("cannot start a thread", &error))?;
    let started = told.await.unwrap_or_else(|ended| Err(io::Error::other(ended)));
    started.map_err(|error| Failure::local("cannot start a runtime", &error))
}
