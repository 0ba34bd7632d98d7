//! Every workload on every library: each run in a process of its own, and in turn, so that
//! whatever else the machine does hits all of them alike.

mod cells;
mod child;
mod history;
mod report;

use crate::figures::{Figures, Library};
use cells::{Cell, Workload};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use report::Measured;
use std::path::PathBuf;
use std::time::Duration;

/// How a table is made.
#[derive(Args)]
pub struct Options {
    /// How often every workload is run on every library; the medians are shown.
    #[arg(long, default_value = "3")]
    rounds: usize,
    /// How long a run is measured, in milliseconds.
    #[arg(long, default_value = "2000")]
    millis: u64,
    /// One short round: whether everything works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Only workloads whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Count the instructions of the cores too, if valgrind is there: some minutes.
    #[arg(long)]
    instructions: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Append the medians to this file.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

/// Runs everything and prints what came of it.
pub fn run(options: &Options) -> Result<(), String> {
    let name = options.only.as_deref().unwrap_or_default();
    let cells: Vec<Cell> = cells::all().into_iter().filter(|it| it.name.contains(name)).collect();
    let lines = report::lines(&measure(&cells, options)?);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&lines).map_err(|error| error.to_string())?);
    } else {
        println!("{}", report::table(&lines));
    }
    options.csv.as_deref().map_or(Ok(()), |file| history::append(file, &lines))
}

fn measure<'a>(cells: &'a [Cell], options: &Options) -> Result<Vec<Measured<'a>>, String> {
    let every = cells.iter().flat_map(|cell| cell.libraries().map(move |it| (cell, it)));
    let mut measured: Vec<Measured> =
        every.map(|(cell, library)| Measured::new(cell, library)).collect();
    let counts = options.instructions && child::can_count();
    if options.instructions && !counts {
        eprintln!("valgrind is not here: no instructions are counted");
    }
    let counted = |it: &Measured| counts && it.cell.is_core();
    let (rounds, millis) =
        if options.quick { (1, 150) } else { (options.rounds.max(1), options.millis) };
    let steps = rounds * measured.len() + measured.iter().filter(|it| counted(it)).count();
    let bar = progress(steps);
    for round in 1..=rounds {
        for one in &mut measured {
            bar.set_message(format!("round {round}: {} on {}", one.cell.name, one.library));
            one.runs.push(figures(one.cell, one.library, Duration::from_millis(millis))?);
            bar.inc(1);
        }
    }
    for one in measured.iter_mut().filter(|it| counted(it)) {
        bar.set_message(format!("instructions: {} on {}", one.cell.name, one.library));
        one.instructions = Some(instructions(one.cell, one.library)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(measured)
}

fn figures(cell: &Cell, library: Library, time: Duration) -> Result<Figures, String> {
    let mut arguments = cell.arguments(library);
    arguments.extend(["--json".into(), "--millis".into(), time.as_millis().to_string()]);
    let printed = child::run(&arguments)?;
    serde_json::from_str(&printed).map_err(|error| format!("{printed:?}: {error}"))
}

/// Instructions of one commit: those of a long run but not of a short one, which leaves the start
/// out. The cores are told to compact once between the two.
fn instructions(cell: &Cell, library: Library) -> Result<f64, String> {
    let Workload::Core { in_flight } = cell.workload else {
        return Err(format!("{}: only those of a core are counted", cell.name));
    };
    let count = |commits: u64| {
        let mut arguments = cell.arguments(library);
        arguments.extend(["--rounds".into(), commits.div_ceil(in_flight).to_string()]);
        child::instructions(&arguments)
    };
    let (short, between) = (crate::core::COMPACT_EVERY / 16, crate::core::COMPACT_EVERY);
    let counted = count(short + between)?.saturating_sub(count(short)?);
    Ok(counted as f64 / between as f64)
}

fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta:>4} {wide_msg}");
    let style = style.expect("a valid template");
    ProgressBar::new(steps as u64).with_style(style)
}
