//! The results: for the terminal, and as the table of `mutants/README.md`.

use crate::hunt::Find;
use crate::patch::Mutant;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- results: written by the command, do not edit -->";
const END: &str = "<!-- end of results -->";

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
        let (by, needed, said) = match found.first() {
            Some(find) => {
                (format!("{} `{}`", find.package, find.test), find.needed(), find.said.as_str())
            }
            None => ("**nothing**".into(), String::new(), ""),
        };
        let said = said.replace('|', "/").replace('`', "'");
        format!("| [{name}]({name}.patch) | {bug} | {by} | {needed} | {said} |")
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

/// Puts `rows` into the table of the file, which keeps the others it has.
pub(crate) fn write(path: &Path, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(path)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("the file has no table")?;
    let (known, after) = rest.split_once(END).ok_or("the table does not end")?;
    let mut lines = BTreeMap::new();
    for line in known.lines().filter(|line| line.starts_with("| [")) {
        let name = line[3..].split(']').next().unwrap_or_default();
        lines.insert(name.to_string(), line.to_string());
    }
    lines.extend(rows.iter().map(|row| (row.name.clone(), row.markdown())));
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    lines.retain(|name, _| folder.join(format!("{name}.patch")).is_file());
    let lines: Vec<String> = lines.into_values().collect();
    let head = "| patch | bug | found by | needed | it said |\n|---|---|---|---|---|";
    fs::write(path, format!("{before}{BEGIN}\n{head}\n{}\n{END}{after}", lines.join("\n")))?;
    Ok(())
}
