//! What is made of a run that fails: the few events that it takes, their trace, and a script.

use super::{Event, Simulation, SimulationConfig, Step, Workload};
use crate::state_machine::StateMachine;
use crate::testing::script::{Argument, Script};
use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Most events that are run again to find out which of them it takes.
const EVENTS_AGAIN_MAX: usize = 5_000_000;
/// What a recovery costs, in events.
const RECOVERY_COST: usize = 100;
/// Lines of a trace and of a script that are printed.
const LINES_MAX: usize = 200;
/// How many of them are the first ones: they say of what cluster it is. The others are the last.
const LINES_FIRST: usize = 8;

/// A run that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What was broken, as the run says itself.
    pub message: String,
    /// How many events had happened by then.
    pub events: usize,
    /// Those of them that it takes; [`Simulation::take`] lets them happen.
    pub steps: Vec<Step>,
    /// What was broken after these.
    pub shrunk: String,
    /// What happened in them, a line per event.
    pub trace: String,
    /// The same as a [`Script`], a command per line.
    pub script: Vec<String>,
    /// What breaks when the script is run, on a state machine that is only a digest and on disks
    /// that never fail; `None` if nothing does, because only the user's own code is broken, or the
    /// break shows at the end only.
    pub replayed: Option<String>,
}

/// Runs `config` to its end, and has `judge` say whether what came of it is right. If the run
/// fails, it is run again with fewer and fewer events, a bounded number of times.
///
/// `make` makes the simulation, each time from nothing.
///
/// # Errors
/// The run panicked, or was judged wrong.
pub fn examine<M: StateMachine, W: Workload<M>>(
    config: &SimulationConfig,
    make: impl Fn(SimulationConfig) -> Simulation<M, W>,
    judge: impl Fn(&mut Simulation<M, W>) -> Result<(), String>,
) -> Result<Simulation<M, W>, Box<Failure>> {
    let mut simulation = make(config.clone());
    let whole = silently(|| {
        simulation.run();
        judge(&mut simulation)
    });
    let Err(message) = whole else { return Ok(simulation) };
    let (events, chosen) = (simulation.events(), simulation.steps().to_vec());
    drop(simulation);
    let again = |steps: &[Step], traced| {
        let mut simulation = make(SimulationConfig { traced, ..config.clone() });
        let result = silently(|| {
            steps.iter().for_each(|step| simulation.take(*step));
            simulation.recover();
            judge(&mut simulation)
        });
        (simulation, result.err())
    };
    let kind = kind(&message);
    let fails = |steps: &[Step]| again(steps, false).1.is_some_and(|it| self::kind(&it) == kind);
    let steps = shrink(&chosen, fails);
    let (mut last, shrunk) = again(&steps, true);
    let script = last.cluster().script().to_vec();
    let replayed = replay(&script);
    let (seed, trace) = (config.seed, last.take_trace());
    let shrunk = shrunk.unwrap_or_else(|| "nothing, as it was traced".into());
    Err(Box::new(Failure { seed, message, events, steps, shrunk, trace, script, replayed }))
}

/// Leaves out of `chosen` whatever is not needed for it to fail: what did nothing; all events of a
/// kind; then halves, quarters, and so on.
fn shrink(chosen: &[(Step, bool)], fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut rest = EVENTS_AGAIN_MAX;
    let mut steps: Vec<Step> = chosen.iter().map(|(step, _)| *step).collect();
    // Whether it may do without; never once there was enough of that.
    let mut spares = |fewer: &[Step]| {
        let left = rest.checked_sub(fewer.len() + RECOVERY_COST);
        rest = left.unwrap_or(0);
        left.is_some() && fails(fewer)
    };
    let did: Vec<Step> = chosen.iter().filter(|(_, did)| *did).map(|(step, _)| *step).collect();
    if spares(&did) {
        steps = did;
    }
    for event in Event::ALL {
        let without: Vec<Step> = steps.iter().filter(|it| it.event != *event).copied().collect();
        if without.len() < steps.len() && spares(&without) {
            steps = without;
        }
    }
    let mut size = steps.len().div_ceil(2);
    while size > 0 {
        let before = steps.len();
        // From the end, where most of what is not needed is.
        let mut end = steps.len();
        while end > 0 {
            let begin = end.saturating_sub(size);
            let without = [&steps[..begin], &steps[end..]].concat();
            if spares(&without) {
                steps = without;
            }
            end = begin;
        }
        // Of single ones, as long as that helps.
        size = if size == 1 && steps.len() < before { 1 } else { size / 2 };
    }
    steps
}

/// What breaks when `script` is run.
fn replay(script: &[String]) -> Option<String> {
    let run = || {
        let mut replay = Script::new();
        for line in script {
            let mut words = line.split(' ');
            let verb = words.next().unwrap_or_default();
            let arguments: Vec<Argument> = words
                .map(|word| match word.split_once('=') {
                    Some((key, value)) => Argument::Keyed(key.into(), value.into()),
                    None => Argument::Positional(word.into()),
                })
                .collect();
            // A command that cannot be done differs from the run; what follows still may show it.
            let _ = replay.run(verb, &arguments);
        }
        Ok(())
    };
    silently(run).err()
}

/// What a message says but for its numbers: what fails alike fails for the same reason.
fn kind(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let letters = first.chars().filter(|it| it.is_ascii_alphabetic() || *it == ' ');
    letters.take(40).collect()
}

/// Does `act`; the message if it panics, of which nothing is printed.
fn silently(act: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    thread_local! {
        static SILENT: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !SILENT.get() {
                usual(info);
            }
        }));
    });
    let before = SILENT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(act));
    SILENT.set(before);
    result.unwrap_or_else(|panic| Err(text_of(panic.as_ref())))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let fixed = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let made = || panic.downcast_ref::<String>().cloned();
    fixed.or_else(made).unwrap_or_else(|| "a panic that says nothing".into())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, message, events, steps, shrunk, .. } = self;
        writeln!(f, "seed {seed} fails: SIM_SEEDS={seed}..{}", seed + 1)?;
        writeln!(f, "after {events} events: {message}")?;
        writeln!(f, "{} of them are enough for: {shrunk}", steps.len())?;
        lines(f, "events", steps.iter())?;
        lines(f, "trace", self.trace.lines())?;
        lines(f, "script", self.script.iter())?;
        match &self.replayed {
            Some(message) => write!(f, "the script breaks, too: {message}"),
            None => write!(f, "the script shows what happens, and nothing breaks in it"),
        }
    }
}

/// Beginning and end of a list that may be long.
fn lines<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    lines: impl Iterator<Item = T>,
) -> fmt::Result {
    let lines: Vec<T> = lines.collect();
    writeln!(f, "--- {title}: {} lines", lines.len())?;
    let (first, rest) = lines.split_at(lines.len().min(LINES_FIRST));
    first.iter().try_for_each(|line| writeln!(f, "{line}"))?;
    let left_out = rest.len().saturating_sub(LINES_MAX - LINES_FIRST);
    if left_out > 0 {
        writeln!(f, "... {left_out} lines are left out ...")?;
    }
    rest[left_out..].iter().try_for_each(|line| writeln!(f, "{line}"))
}
