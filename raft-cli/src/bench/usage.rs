//! Processor time of other processes on this machine.

use crate::failure::{Failure, Kind};
use crate::stat::Stat;
use std::time::Duration;

/// What `processes` have used so far, in user space and in the kernel.
///
/// # Errors
/// Of kind `Local` if there is no such process.
pub(super) fn of(processes: &[u32]) -> Result<Duration, Failure> {
    processes.iter().map(|process| of_one(*process)).sum()
}

fn of_one(process: u32) -> Result<Duration, Failure> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::new(Kind::Local, format!("process {process}: {error}"))
            .advice("--pids takes processes on this machine, and needs Linux")
    })?;
    let used = Stat::parse(&text).and_then(|stat| stat.processor_time());
    used.ok_or_else(|| Failure::new(Kind::Local, format!("{path} is not as it should be")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_has_used_only_grows() {
        let own = [std::process::id()];
        let before = of(&own).unwrap();
        assert!(of(&own).unwrap() >= before);
        assert_eq!(of(&[u32::MAX]).unwrap_err().kind, Kind::Local);
    }
}
