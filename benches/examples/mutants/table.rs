//! The results: for the terminal, and as the table of `mutants/README.md`.

use crate::hunt::Find;
use crate::patch::Mutant;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- results: written by the command, do not edit -->";
const END: &str = "<!-- end of results -->";

const HEAD: &str = "| patch | bug | found by | needed | seconds | it said |\n\
                    |---|---|---|---|---|---|";

const NOTHING: &str = "**nothing**";

/// Where the seconds stand in a row that is split at every `|`.
const SECONDS: usize = 5;

/// A bug and what found it.
#[derive(Serialize)]
pub(crate) struct Row {
    number: u32,
    name: String,
    bug: String,
    found: Vec<Find>,
}

impl Row {
    pub(crate) fn new(mutant: &Mutant, found: Vec<Find>) -> Self {
        let Mutant { number, name, bug, .. } = mutant;
        Self { number: *number, name: name.clone(), bug: bug.clone(), found }
    }

    pub(crate) const fn is_found(&self) -> bool {
        !self.found.is_empty()
    }

    fn markdown(&self) -> String {
        let Self { name, bug, found, .. } = self;
        let all = |of: &dyn Fn(&Find) -> String| {
            found.iter().map(of).collect::<Vec<_>>().join("<br>").replace('|', "/")
        };
        let by = match found.is_empty() {
            true => NOTHING.into(),
            false => all(&|find| format!("{} `{}`", find.package, find.test)),
        };
        let (needed, seconds) = (all(&Find::needed), all(&|find| format!("{:.0}", find.seconds)));
        let said = all(&|find| find.said.replace('`', "'"));
        format!("| [{name}]({name}.patch) | {bug} | {by} | {needed} | {seconds} | {said} |")
    }
}

/// For people.
pub(crate) fn terminal(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["bug", "found by", "needed", "seconds"]);
    for row in rows {
        match row.found.first() {
            Some(find) => {
                let seconds = format!("{:.1}", find.seconds);
                table.add_row([&row.name, &find.test, &find.needed(), &seconds]);
            }
            None => {
                table.add_row([&row.name, "NOTHING", "", ""]);
            }
        }
    }
    let found = rows.iter().filter(|row| row.is_found()).count();
    format!("{table}\n{found} of {} found", rows.len())
}

/// The lines of the table by the name of the patch.
type Rows<'a> = BTreeMap<&'a str, &'a str>;

/// The text of the file before the table and after it, and the rows between.
fn read(text: &str) -> Result<(&str, Rows<'_>, &str), Box<dyn Error>> {
    let (before, rest) = text.split_once(BEGIN).ok_or("the file has no table")?;
    let (known, after) = rest.split_once(END).ok_or("the table does not end")?;
    let rows = known.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("| [")?.split_once(']')?;
        Some((name, line))
    });
    Ok((before, rows.collect(), after))
}

/// The bugs that were found and of which the file has a row that this command has written: others
/// say nothing of seconds.
pub(crate) fn written(path: &Path) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let text = fs::read_to_string(path)?;
    let (_, rows, _) = read(&text)?;
    let is_written = |row: &str| {
        let seconds = row.split('|').nth(SECONDS).unwrap_or_default();
        !seconds.trim().is_empty() && !row.contains(NOTHING)
    };
    let written = rows.into_iter().filter(|(_, row)| is_written(row));
    Ok(written.map(|(name, _)| name.into()).collect())
}

/// Puts `row` into the table of the file, which keeps the others it has. Whoever interrupts this
/// finds the old file or the new one.
pub(crate) fn write(path: &Path, row: &Row) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(path)?;
    let (before, mut rows, after) = read(&text)?;
    let line = row.markdown();
    rows.insert(&row.name, &line);
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    rows.retain(|name, _| folder.join(format!("{name}.patch")).is_file());
    let lines: Vec<&str> = rows.into_values().collect();
    let new = path.with_extension("new");
    fs::write(&new, format!("{before}{BEGIN}\n{HEAD}\n{}\n{END}{after}", lines.join("\n")))?;
    Ok(fs::rename(new, path)?)
}
