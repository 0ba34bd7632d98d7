//! Whether the disk itself stands still: a file that nobody else has to do with is flushed all the
//! time, beside those of the nodes.

use crate::windows::Window;
use benches::Fallible;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a flush takes at least that counts as a stop. One of a frame takes a fraction of that.
const STOP: Duration = Duration::from_millis(30);
/// Between two flushes: few enough to cost the nodes nothing.
const PACE: Duration = Duration::from_millis(5);
/// Bytes of a flush, and of the file, which is written over and over.
const FRAME: usize = 4096;
const FRAMES: u64 = 1024;

/// A thread that flushes, until it is dropped.
pub(super) struct Disk {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    stops: Mutex<Vec<Window>>,
}

impl Disk {
    /// Begins, with a file in `folder` that has no name.
    pub(super) fn watch(folder: &Path) -> Fallible<Self> {
        let file = tempfile::tempfile_in(folder)?;
        for frame in 0..FRAMES {
            file.write_all_at(&[0; FRAME], frame * FRAME as u64)?;
        }
        file.sync_all()?;
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let thread = Some(thread::spawn(move || flush(&file, &theirs)));
        Ok(Self { shared, thread })
    }

    /// When it stood still since it was last asked.
    pub(super) fn stops(&self) -> Vec<Window> {
        std::mem::take(&mut *self.shared.stops.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it found is lost anyway.
            let _ = thread.join();
        }
    }
}

fn flush(file: &File, shared: &Shared) {
    for frame in (0..FRAMES).cycle() {
        if shared.ends.load(Ordering::Relaxed) {
            return;
        }
        let began = Instant::now();
        let flushed = file.write_all_at(&[1; FRAME], frame * FRAME as u64);
        if let Err(error) = flushed.and_then(|()| file.sync_data()) {
            return eprintln!("the disk is not watched any more: {error}");
        }
        let ended = Instant::now();
        if ended - began >= STOP {
            shared.stops.lock().unwrap_or_else(PoisonError::into_inner).push((began, ended));
        }
        thread::sleep(PACE);
    }
}
