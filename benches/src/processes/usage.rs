//! What Linux tells of a process; see proc(5).

use crate::Fallible;
use std::fs;
use std::time::Duration;

/// Linux counts in hundredths of a second for whoever reads `/proc`, on every machine.
const TICK: Duration = Duration::from_millis(10);

/// What processes have used so far, in user space and in the kernel.
///
/// # Errors
/// If there is no such process.
pub fn processor_time(processes: &[u32]) -> Fallible<Duration> {
    let mut ticks = 0;
    for process in processes {
        let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name before it may hold anything; behind it, the first field is the third.
        let (_, fields) = text.rsplit_once(')').ok_or("a stat has a name")?;
        for field in fields.split_whitespace().skip(11).take(2) {
            ticks += field.parse::<u32>()?;
        }
    }
    Ok(TICK * ticks)
}

/// What a process has in memory.
///
/// # Errors
/// If there is no such process.
pub fn resident_bytes(process: u32) -> Fallible<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")).ok_or("it has no memory")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}

/// Whether a process has a thread of this name, of which Linux keeps 15 bytes.
pub fn has_thread(process: u32, name: &str) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { return false };
    let is_it = |comm: String| comm.trim_end() == &name[..name.len().min(15)];
    let comms = tasks.flatten().map(|task| fs::read_to_string(task.path().join("comm")));
    comms.flatten().any(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread::Builder;

    #[test]
    fn what_this_process_uses_and_runs_is_seen() {
        let own = std::process::id();
        let before = processor_time(&[own]).unwrap();
        assert!(processor_time(&[own, own]).unwrap() >= before);
        assert!(resident_bytes(own).unwrap() > 0);
        assert!(processor_time(&[u32::MAX]).is_err());
        assert!(resident_bytes(u32::MAX).is_err());

        let (end, ended) = channel::<()>();
        let name = "a-name-of-a-thread";
        let waits = move || assert!(ended.recv().is_err());
        let thread = Builder::new().name(name.into()).spawn(waits).unwrap();
        // A thread takes its name when it has begun.
        while !has_thread(own, name) {
            std::thread::yield_now();
        }
        assert!(!has_thread(own, "another-name"));
        drop(end);
        thread.join().unwrap();
        assert!(!has_thread(u32::MAX, name));
    }
}
