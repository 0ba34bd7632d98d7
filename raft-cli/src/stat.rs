//! What Linux tells of a process in `/proc/PID/stat`; see proc(5).

use std::time::Duration;

/// Linux counts in hundredths of a second for whoever reads `/proc`, on every machine.
const TICK_MILLIS: u64 = 10;

/// The fields behind the name, which may hold anything.
pub(crate) struct Stat<'a>(Vec<&'a str>);

impl<'a> Stat<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        Some(Self(fields.split_whitespace().collect()))
    }

    /// A field by its number in proc(5), where the name is field 2.
    pub(crate) fn field(&self, number: usize) -> Option<u64> {
        self.0.get(number.checked_sub(3)?)?.parse().ok()
    }

    /// Used so far, in user space and in the kernel.
    pub(crate) fn processor_time(&self) -> Option<Duration> {
        in_ticks(self.field(14)?.checked_add(self.field(15)?)?)
    }

    /// When it started, counted from when the system did.
    pub(crate) fn started(&self) -> Option<Duration> {
        in_ticks(self.field(22)?)
    }
}

fn in_ticks(ticks: u64) -> Option<Duration> {
    ticks.checked_mul(TICK_MILLIS).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_confuses_nobody() {
        let used = |text| Stat::parse(text).and_then(|stat| stat.processor_time());
        let stat = "17 (a) (b c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20 0 1 0 5";
        assert_eq!(used(stat), Some(Duration::from_millis(1500)));
        assert_eq!(used("17 (a) S 1"), None);
    }
}
