//! Processor time of other processes on this machine.

use crate::failure::{Failure, Kind};
use std::time::Duration;

/// Linux counts in hundredths of a second for whoever reads `/proc`.
const TICK: Duration = Duration::from_millis(10);

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
    let ticks = ticks_in(&text);
    ticks.ok_or_else(|| Failure::new(Kind::Local, format!("{path} is not as it should be")))
}

/// Fields 14 and 15 of proc(5), counted behind the name, which may hold anything.
fn ticks_in(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok();
    let (user, system) = (next()?, next()?);
    Some(TICK * user.checked_add(system)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_confuses_nobody() {
        let stat = "17 (a) (b c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20 0 1 0 5";
        assert_eq!(ticks_in(stat), Some(Duration::from_millis(1500)));
        assert_eq!(ticks_in("17 (a) S 1"), None);
    }

    #[test]
    fn what_this_process_has_used_only_grows() {
        let own = [std::process::id()];
        let before = of(&own).unwrap();
        assert!(of(&own).unwrap() >= before);
        assert_eq!(of(&[u32::MAX]).unwrap_err().kind, Kind::Local);
    }
}
