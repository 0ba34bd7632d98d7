//! Progress of long verbs, on stderr and only if that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar, or a counter where the end is not known. Gone from the screen when dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Counts keys up to `total`.
    pub(crate) fn of_keys(total: u64) -> Self {
        Self::new(Some(total), "{bar:40} {pos}/{len} keys  {per_sec}  {eta} left")
    }

    /// Counts bytes up to about `total`.
    pub(crate) fn of_bytes(total: u64) -> Self {
        Self::new(Some(total), "{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}")
    }

    /// Milliseconds of `total`, and operations that were answered.
    pub(crate) fn of_time(total: u64) -> Self {
        Self::new(Some(total), "{bar:40} {msg} operations answered  {eta} left")
    }

    /// Counts operations judged, up to `total`.
    pub(crate) fn of_operations(total: u64) -> Self {
        Self::new(Some(total), "{bar:40} {pos}/{len} operations judged  {eta} left")
    }

    /// Counts measurements up to `total`.
    pub(crate) fn of_samples(total: u64) -> Self {
        Self::new(Some(total), "{bar:40} {pos}/{len} samples  {eta} left")
    }

    /// Counts bytes up to the file's size, if it has one, and lines.
    pub(crate) fn of_file(size: Option<u64>) -> Self {
        let template = match size {
            Some(_) => "{bar:40} {bytes}/{total_bytes}  {msg} lines  {eta} left",
            None => "{spinner} {bytes}  {msg} lines  {elapsed}",
        };
        Self::new(size, template)
    }

    fn new(length: Option<u64>, template: &str) -> Self {
        // Hidden by itself where stderr is no terminal; draws at most 10 times a second.
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr_with_hz(10));
        bar.set_style(ProgressStyle::with_template(template).expect("the templates are ours"));
        Self(bar)
    }

    /// Where it stands: the position on the bar, and the lines or keys done.
    pub(crate) fn set(&self, position: u64, done: u64) {
        if !self.0.is_hidden() {
            self.0.set_position(position);
            self.0.set_message(done.to_string());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
