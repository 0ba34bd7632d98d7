//! Plants known bugs, one at a time, and shows that the tests find each of them.
//!
//! Every file `mutants/NN-name.patch` plants one of the bugs that `mutants/README.md` lists, which
//! real systems had, and names the tests that are to find it. The tree is copied, so the bugs never
//! touch the working tree; all are planted in one copy, so only what a patch touches is built
//! again. First the same tests run without any bug, and must pass.
//!
//! ```text
//! cargo run -p benches --example mutants             all of them
//! cargo run -p benches --example mutants -- 5 31     those with these numbers
//! ```
//!
//! It may be interrupted at any time: with `--write` every result is in the table as soon as it is
//! known, and `--missing` goes on with those that are not.

mod hunt;
mod patch;
mod table;
mod tree;

use clap::Parser;
use hunt::{Find, Hunt, Ran};
use indicatif::{ProgressBar, ProgressStyle};
use patch::{Finder, Mutant};
use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use table::Row;
use tree::Tree;

/// Plants known bugs in a copy of the tree, one at a time, and runs the tests that must find them.
#[derive(Parser)]
struct Arguments {
    /// Numbers of the bugs to plant, or parts of their names. Default: all.
    mutants: Vec<String>,
    /// Where the tree is copied to and built. It is kept, so that the next time is faster.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Most seeds a simulation runs before a bug counts as missed.
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    seeds_max: u64,
    /// Most states the model checker explores per world before a bug counts as missed.
    #[arg(long, value_name = "NUMBER", default_value_t = 2_000_000)]
    states_max: u64,
    /// Run every test that a patch names, not only up to the first that finds it.
    #[arg(long)]
    every_finder: bool,
    /// Do not run the tests without any bug first.
    #[arg(long)]
    skip_baseline: bool,
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
    /// Write each result into the table of mutants/README.md as soon as it is known.
    #[arg(long)]
    write: bool,
    /// Leave out those whose results that table has already, written by this command.
    #[arg(long)]
    missing: bool,
}

fn main() -> ExitCode {
    benches::ended(run(&Arguments::parse()))
}

/// Whether every bug was found, and nothing without any.
fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates lie in it");
    let mut mutants = patch::read_all(&workspace.join("mutants"), &arguments.mutants)?;
    if mutants.is_empty() {
        return Err("no patch has such a number or name".into());
    }
    let page = workspace.join("mutants/README.md");
    if arguments.missing {
        let written = table::written(&page)?;
        mutants.retain(|mutant| !written.contains(&mutant.name));
    }
    let default = || std::env::temp_dir().join("raft-mutants");
    let folder = arguments.folder.clone().unwrap_or_else(default);
    let tree = Tree::copy(workspace, &folder)?;
    let hunt = Hunt { seeds_max: arguments.seeds_max, states_max: arguments.states_max };
    let bar = progress_bar(mutants.len());
    if !arguments.skip_baseline && !passes_without_bug(&hunt, &tree, &mutants, &bar)? {
        return Ok(false);
    }
    let mut rows = Vec::new();
    for mutant in &mutants {
        bar.inc(1);
        let found = match hunt_one(&hunt, &tree, mutant, arguments.every_finder, &bar) {
            Ok(found) => found,
            Err(error) => {
                // A patch that could not be tried keeps its row, and the next one is tried.
                bar.suspend(|| eprintln!("{}: {error}", mutant.name));
                rows.push(Row::new(mutant, Vec::new()));
                continue;
            }
        };
        bar.suspend(|| tell(mutant, &found));
        let row = Row::new(mutant, found);
        if arguments.write {
            table::write(&page, &row)?;
        }
        rows.push(row);
    }
    bar.finish_and_clear();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", table::terminal(&rows));
    }
    Ok(rows.iter().all(Row::is_found))
}

/// Whether whatever is to find one of `mutants` passes as long as none is planted.
fn passes_without_bug(
    hunt: &Hunt,
    tree: &Tree,
    mutants: &[Mutant],
    bar: &ProgressBar,
) -> Result<bool, Box<dyn Error>> {
    let finders: BTreeSet<&Finder> = mutants.iter().flat_map(|it| &it.finders).collect();
    for finder in finders {
        bar.set_message(format!("without a bug: {finder}"));
        if let Some(what) = hunt.without_bug(tree, finder)? {
            bar.finish_and_clear();
            eprintln!("without any bug {finder} fails: {what}");
            return Ok(false);
        }
    }
    Ok(true)
}

/// A line for each that found it, also where no bar is shown.
fn tell(mutant: &Mutant, found: &[Find]) {
    for find in found {
        eprintln!("{}: {find}", mutant.name);
    }
    if found.is_empty() {
        eprintln!("{}: NOT FOUND", mutant.name);
    }
}

/// What found `mutant`: the first, or everything that does.
fn hunt_one(
    hunt: &Hunt,
    tree: &Tree,
    mutant: &Mutant,
    every_finder: bool,
    bar: &ProgressBar,
) -> Result<Vec<Find>, Box<dyn Error>> {
    let _planted = tree.plant(&mutant.path)?;
    let mut found = Vec::new();
    for finder in &mutant.finders {
        bar.set_message(format!("{}: building for {finder}", mutant.name));
        hunt.build(tree, finder).map_err(|error| format!("{}: {error}", mutant.name))?;
        for effort in hunt.efforts(finder) {
            bar.set_message(format!("{}: {finder} {effort}", mutant.name));
            match hunt.run(tree, finder, &effort, mutant.ends)? {
                Ran::Passed => continue,
                Ran::Found(find) => found.push(find),
                Ran::Unclear(what) => bar.suspend(|| eprintln!("{}: {what}", mutant.name)),
            }
            break;
        }
        if !found.is_empty() && !every_finder {
            break;
        }
    }
    Ok(found)
}

fn progress_bar(mutants: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{pos}/{len} {elapsed} {bar:20} {msg}")
        .expect("the template is sound");
    let bar = ProgressBar::new(mutants as u64).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
