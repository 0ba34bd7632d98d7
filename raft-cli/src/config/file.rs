//! The configuration file: TOML, with the line of every value. What is not a setting is an error
//! that names the line and the setting that was probably meant.

use super::{Origin, Said, Section};
use crate::failure::Failure;
use clap::{Arg, ValueHint};
use std::ffi::OsString;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Most bytes of a file.
const BYTES_MAX: u64 = 1024 * 1024;

/// Reads a file: what it says, section by section.
///
/// # Errors
/// Of kind `Local` if it cannot be read, `Usage` if it is not what it should be.
pub(super) fn read(path: &Path) -> Result<Vec<(Section, Said)>, Failure> {
    let bytes = crate::verbs::read_file(path, BYTES_MAX)?;
    let name = path.display();
    let text = String::from_utf8(bytes)
        .map_err(|error| Failure::usage(format!("{name}: {}", error.utf8_error())))?;
    let document = DeTable::parse(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(&text, span.start));
        Failure::usage(format!("{name}:{line}: {}", error.message()))
    })?;
    let file = File { path, text: &text };
    let mut said = Vec::new();
    for (key, value) in document.get_ref() {
        let section = Section::ALL.into_iter().find(|section| section.name() == key.get_ref());
        let (Some(section), DeValue::Table(table)) = (section, value.get_ref()) else {
            return Err(file.no_section(key, value));
        };
        for (key, value) in table {
            said.push((section, file.said(section, key, value)?));
        }
    }
    said.sort_by_key(|(_, said)| match said.origin {
        Origin::File(_, line) => line,
        _ => 0,
    });
    Ok(said)
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn wrong<T>(&self, at: &Spanned<T>, what: impl std::fmt::Display) -> Failure {
        let line = line_of(self.text, at.span().start);
        Failure::usage(format!("{}:{line}: {what}", self.path.display()))
    }

    fn no_section<K: AsRef<str>>(&self, key: &Spanned<K>, value: &Spanned<DeValue<'_>>) -> Failure {
        let name = key.get_ref().as_ref();
        let sections = Section::ALL.map(Section::name);
        if !value.get_ref().is_table() {
            let owners = Section::ALL.into_iter().filter(|section| {
                section.options().iter().any(|option| option.get_long() == Some(name))
            });
            let owners: Vec<_> = owners.map(|owner| format!("[{}]", owner.name())).collect();
            let failure = self.wrong(key, format!("{name} stands outside of a section"));
            return match owners.is_empty() {
                true => failure.advice("settings stand under [serve] or [client]"),
                false => failure.advice(format!("put it under {}", owners.join(" or "))),
            };
        }
        let failure = self.wrong(key, format!("there is no section [{name}]"));
        match similar(name, sections.into_iter()) {
            Some(meant) => failure.advice(format!("did you mean [{meant}]?")),
            None => failure.advice("there are [serve] and [client]"),
        }
    }

    fn said<K: AsRef<str>>(
        &self,
        section: Section,
        key: &Spanned<K>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Said, Failure> {
        let name = key.get_ref().as_ref();
        let options = section.options();
        let Some(option) = options.iter().find(|option| option.get_long() == Some(name)) else {
            let failure = self.wrong(key, format!("[{}] has no setting {name}", section.name()));
            return Err(failure.advice(advice(section, name)));
        };
        let values = match value.get_ref() {
            DeValue::Array(items) if option.get_value_delimiter().is_some() => {
                items.iter().map(|item| self.text(name, option, item)).collect::<Result<_, _>>()?
            }
            _ => vec![self.text(name, option, value)?],
        };
        let line = line_of(self.text, key.span().start);
        let origin = Origin::File(self.path.to_path_buf(), line);
        Ok(Said { key: name.to_owned(), values, origin })
    }

    /// A value as a flag would have it. Paths are relative to the file.
    fn text(
        &self,
        key: &str,
        option: &Arg,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<OsString, Failure> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix())
            {
                Ok(number) => number.to_string(),
                Err(_) => return Err(self.wrong(value, format!("{key}: no such number"))),
            },
            DeValue::Boolean(boolean) => boolean.to_string(),
            other => {
                let what = format!("{key}: {} is out of place here", other.type_str());
                return Err(self.wrong(value, what).advice("`raft config example` shows how"));
            }
        };
        if option.get_value_hint() != ValueHint::AnyPath {
            return Ok(text.into());
        }
        let folder = self.path.parent().unwrap_or_else(|| Path::new(""));
        Ok(folder.join(text).into())
    }
}

/// What was probably meant by `name`, there or in the other section.
fn advice(section: Section, name: &str) -> String {
    let likely = |section: Section| {
        let options = section.options();
        similar(name, options.iter().filter_map(Arg::get_long)).map(str::to_owned)
    };
    if let Some(meant) = likely(section) {
        return format!("did you mean {meant}?");
    }
    let mut others = Section::ALL.into_iter().filter(|other| *other != section);
    let meant = others.find_map(|other| Some((other.name(), likely(other)?)));
    match meant {
        Some((other, meant)) => format!("did you mean {meant}, under [{other}]?"),
        None => "`raft config example` shows all".to_owned(),
    }
}

/// The line, from 1, of a place in `text`.
fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

/// The name that was probably meant.
pub(super) fn similar<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Less is another word, not a slip.
    const LIKE_ENOUGH: f64 = 0.75;
    let plain = |name: &str| name.replace('_', "-");
    let name = plain(name);
    let likeness = |other: &str| strsim::jaro_winkler(&name, &plain(other));
    let best = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= LIKE_ENOUGH).then_some(best)
}
