//! Settings from a file, the environment and the command line. A setting has one name: the flag's
//! `--data-dir` is `data-dir` in the file and RAFT_DATA_DIR in the environment. The flags' own
//! definitions say what there is, what is allowed and what it means; nothing is said twice.
//!
//! Flags win over the environment, that over the file, that over defaults. Owns who wins and where
//! a value came from; knows nothing of what a setting does.

mod etcd;
mod example;
mod file;
mod table;

pub use example::example;
pub use table::{Setting, check, settings};

use crate::args::connection::{Connection, PASSWORD_VARIABLE};
use crate::args::serve::Serve;
use crate::failure::Failure;
use crate::serve::etcd_flags::HEADING;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// A part of the file, and the command line it stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// What `raft serve` takes.
    Serve,
    /// How verbs reach a cluster.
    Client,
}

/// Settings of which only one can stand: a flag of them puts aside what the file says of any.
const ALTERNATIVES: [&[&str]; 2] =
    [&["cluster", "single", "join"], &["cluster-id", "cluster-token"]];

impl Section {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Serve, Self::Client];

    /// Its name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Client => "client",
        }
    }

    /// Its flags, none of them required.
    fn command(self) -> Command {
        let command = Command::new(self.name()).no_binary_name(true).disable_help_flag(true);
        match self {
            Self::Serve => Serve::augment_args(command),
            Self::Client => Connection::augment_args(command),
        }
    }

    /// Its settings, as flags. What etcd's flags say has a place of its own.
    pub(crate) fn options(self) -> Vec<Arg> {
        let command = self.command();
        let options = command.get_arguments().filter(|option| !option.is_hide_set());
        let own = options.filter(|option| option.get_help_heading() != Some(HEADING));
        own.filter(|option| option.get_long().is_some()).cloned().collect()
    }
}

/// Variables of this program that are no settings.
const OTHERS: [&str; 5] =
    ["RAFT_CONFIG", "RAFT_LOCK_KEY", "RAFT_LOCK_TOKEN", "RAFT_PARTITION", PASSWORD_VARIABLE];

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nothing was said.
    Default,
    /// The file, at this line.
    File(PathBuf, usize),
    /// This variable of the environment.
    Environment(String),
    /// What `raft demo` wrote for clients.
    Directory(PathBuf),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Directory(path) => path.display().fmt(f),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// What was said of one setting, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// The setting.
    pub key: String,
    /// Its value; several for a list.
    pub values: Vec<OsString>,
    /// Where.
    pub origin: Origin,
}

impl Said {
    /// The words of a command line that say the same.
    fn words(&self, option: &Arg) -> Vec<OsString> {
        let mut word = OsString::from(format!("--{}", self.key));
        let values = self.values.join(OsStr::new(","));
        if is_switch(option) {
            return if values == "true" { vec![word] } else { Vec::new() };
        }
        word.push("=");
        word.push(values);
        vec![word]
    }

    /// Checks it alone, as the flag would be.
    fn check(&self, section: Section, option: &Arg) -> Result<(), Failure> {
        let wrong = |why: &dyn fmt::Display| {
            Failure::usage(format!("{}: {}: {why}", self.origin, self.key))
        };
        if is_switch(option) {
            let boolean = matches!(&*self.values, [one] if one == "true" || one == "false");
            return if boolean { Ok(()) } else { Err(wrong(&"write true or false")) };
        }
        section.command().try_get_matches_from(self.words(option)).map(drop).map_err(|error| {
            use std::error::Error;
            error
                .source()
                .map_or_else(|| wrong(&crate::usage(&error).message), |cause| wrong(&cause))
        })
    }
}

/// Whether an option takes no value.
fn is_switch(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::SetTrue)
}

/// The name of a setting's variable in the environment.
pub fn variable(key: &str) -> String {
    format!("RAFT_{}", key.to_ascii_uppercase().replace('-', "_"))
}

/// The variables that say something of nodes.
pub(crate) fn settings_in_environment() -> impl Iterator<Item = String> {
    let options = Section::Serve.options().into_iter();
    options.filter_map(|option| option.get_long().map(variable))
}

/// What the places other than the command line say; of one setting in one section each at most
/// once.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    from_file: Vec<(Section, Said)>,
    environment: Vec<(Section, Said)>,
    /// What etcd's environment or file says of the node to run.
    etcd: Vec<(Section, Said)>,
    /// What the command line says of the node to run.
    flags: Vec<Said>,
    /// Variables that look like settings and are none, each with the one that was probably meant.
    strangers: Vec<(String, Option<String>)>,
    /// What etcd's file holds that is no setting, a line each.
    unknown: Vec<String>,
}

impl Config {
    /// Reads the file, if one is named by the flag or by RAFT_CONFIG, and the environment.
    ///
    /// # Errors
    /// Of kind `Local` if the file cannot be read, `Usage` if it, or the environment, says what
    /// makes no sense.
    pub fn load(
        flag: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let file = flag.map(Path::to_path_buf);
        let file = file.or_else(|| environment("RAFT_CONFIG").map(PathBuf::from));
        let from_file = file.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let mut config = Self { file, from_file, ..Self::default() };
        for section in Section::ALL {
            for option in section.options() {
                let key = option.get_long().unwrap_or_default().to_owned();
                let name = variable(&key);
                let Some(value) = environment(&name) else { continue };
                let values = match option.get_value_delimiter() {
                    Some(comma) => value.split(comma).map(|part| part.trim().into()).collect(),
                    None if is_switch(&option) => vec![boolean(&value).into()],
                    None => vec![value.into()],
                };
                let said = Said { key, values, origin: Origin::Environment(name) };
                config.environment.push((section, said));
            }
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Failure> {
        for section in Section::ALL {
            let options = section.options();
            let said = self.from_file.iter().chain(&self.environment);
            for (_, said) in said.filter(|(of, _)| *of == section) {
                let option = options.iter().find(|option| option.get_long() == Some(&*said.key));
                option.map_or(Ok(()), |option| said.check(section, option))?;
            }
        }
        Ok(())
    }

    /// Takes in what a command line, parsed, says of the node to run.
    pub(crate) fn note_flags(&mut self, given: &ArgMatches) {
        for option in etcd::all_options() {
            let id = option.get_id().as_str();
            if given.value_source(id) != Some(ValueSource::CommandLine) {
                continue;
            }
            let key = option.get_long().unwrap_or_default().to_owned();
            let values = given.get_raw(id).into_iter().flatten().map(OsString::from).collect();
            let values = if is_switch(&option) { vec!["true".into()] } else { values };
            self.flags.push(Said { key, values, origin: Origin::Flag });
        }
    }

    /// Looks among the names of all variables for those that are probably misspelt.
    pub(crate) fn note_variables(&mut self, names: impl Iterator<Item = String>) {
        let names: Vec<String> = names.collect();
        self.strangers_of_etcd(names.iter());
        let known: Vec<String> = Section::ALL
            .into_iter()
            .flat_map(Section::options)
            .filter_map(|option| option.get_long().map(variable))
            .collect();
        let ours = |name: &String| name.starts_with("RAFT_") && !OTHERS.contains(&&**name);
        for name in names.into_iter().filter(ours).filter(|name| !known.contains(name)) {
            // The beginning that all have would make any two alike.
            let rest = |name: &'_ str| name.trim_start_matches("RAFT_").to_owned();
            let others: Vec<String> = known.iter().map(|known| rest(known)).collect();
            let meant = file::similar(&rest(&name), others.iter().map(String::as_str));
            let meant = meant.map(|meant| format!("RAFT_{meant}"));
            self.strangers.push((name, meant));
        }
        self.strangers.sort_unstable();
    }

    /// What is probably not meant as it is, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let warning = |(name, meant): &(String, Option<String>)| match meant {
            Some(meant) => format!("{name} is no setting; did you mean {meant}?"),
            None => format!("{name} is no setting"),
        };
        let mut warnings: Vec<String> = self.strangers.iter().map(warning).collect();
        warnings.extend(self.unknown.iter().cloned());
        warnings.extend(self.bare_sizes());
        warnings
    }

    /// Sizes without a unit: they are bytes, and that is seldom meant.
    fn bare_sizes(&self) -> Vec<String> {
        let options = Section::Serve.options();
        let is_size = |said: &Said| {
            let option = options.iter().find(|option| option.get_long() == Some(&*said.key));
            let names = option.and_then(Arg::get_value_names).unwrap_or_default();
            names.iter().any(|name| name == "SIZE")
        };
        let bare = |said: &Said| {
            let value = said.values.first()?.to_str()?;
            let (key, origin) = (&said.key, &said.origin);
            value.bytes().all(|byte| byte.is_ascii_digit()).then(|| {
                format!("{origin}: {key} = {value} are {value} bytes; write a unit, as in `64MiB`")
            })
        };
        self.serve().iter().filter(|said| is_size(said)).filter_map(bare).collect()
    }

    /// What holds for the node to run, the strongest word on each setting.
    fn serve(&self) -> Vec<Said> {
        let mut holds: Vec<Said> = self.flags.clone();
        for layer in [&self.environment, &self.etcd, &self.from_file] {
            let stronger = holds.clone();
            let decided = |key: &str| {
                let mut groups = ALTERNATIVES.iter().filter(|group| group.contains(&key));
                let group = groups.next().copied();
                stronger.iter().any(|said| {
                    said.key == key || group.is_some_and(|group| group.contains(&&*said.key))
                })
            };
            let layer = layer.iter().filter(|(section, _)| *section == Section::Serve);
            holds.extend(layer.map(|(_, said)| said).filter(|said| !decided(&said.key)).cloned());
        }
        holds
    }

    /// The command line `line` of a node with what file and environment add to it.
    pub(crate) fn complete(&self, line: &[OsString]) -> Vec<OsString> {
        let options = etcd::all_options();
        let added = self.serve().into_iter().filter(|said| said.origin != Origin::Flag);
        let words = added.flat_map(|said| {
            let option = options.iter().find(|option| option.get_long() == Some(&*said.key));
            option.map(|option| said.words(option)).unwrap_or_default()
        });
        line.iter().cloned().chain(words).collect()
    }

    /// What environment and file say of how to reach a cluster, the stronger first.
    pub(crate) fn connections(&self) -> [Layer; 2] {
        [&self.environment, &self.from_file].map(|layer| {
            let of_clients = layer.iter().filter(|(section, _)| *section == Section::Client);
            Layer::of(of_clients.map(|(_, said)| said.clone()).collect())
        })
    }

    /// Whether file or environment say anything of a section, or flags of the node to run.
    fn says(&self, section: Section) -> bool {
        let flags = section == Section::Serve && !self.flags.is_empty();
        let said = self.from_file.iter().chain(&self.environment).chain(&self.etcd);
        flags || said.into_iter().any(|(of, _)| *of == section)
    }
}

/// The ways to write a boolean in the environment.
fn boolean(value: &str) -> String {
    match value {
        "1" | "yes" | "on" => "true".into(),
        "0" | "no" | "off" => "false".into(),
        other => other.into(),
    }
}

/// How to reach a cluster, as one place says it.
#[derive(Clone, Debug)]
pub struct Layer {
    /// What it says.
    pub connection: Connection,
    /// Where each setting was said; flags if empty.
    said: Vec<Said>,
}

impl Layer {
    /// What the command line says.
    pub const fn flags(connection: Connection) -> Self {
        Self { connection, said: Vec::new() }
    }

    fn of(said: Vec<Said>) -> Self {
        let options = Section::Client.options();
        let words = said.iter().flat_map(|said| {
            let option = options.iter().find(|option| option.get_long() == Some(&*said.key));
            option.map(|option| said.words(option)).unwrap_or_default()
        });
        // Each was checked alone, and none excludes another: it parses.
        let parsed = Section::Client.command().try_get_matches_from(words);
        let parsed = parsed.and_then(|matches| Connection::from_arg_matches(&matches));
        Self { connection: parsed.unwrap_or_default(), said }
    }

    /// Where `key` was said.
    pub fn origin(&self, key: &str) -> Origin {
        let said = self.said.iter().find(|said| said.key == key);
        said.map_or(Origin::Flag, |said| said.origin.clone())
    }
}
