//! Every setting with its value and where that came from, and whether all of them together make
//! sense.

use super::{Config, Layer, Origin, Section};
use crate::args::connection::{DEADLINE_DEFAULT, ENDPOINT_DEFAULT, Settled, settle};
use crate::args::serve::Serve;
use crate::failure::Failure;
use crate::serve::plan::{Plan, timing_in_force};
use std::ffi::{OsStr, OsString};

/// A setting as it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Its section.
    pub section: Section,
    /// Its name.
    pub key: String,
    /// Its value; `None` if it has none, which may be all right.
    pub value: Option<String>,
    /// Where the value came from.
    pub origin: Origin,
}

/// Every setting; `before` is what the command line says of how to reach a cluster, `serve` what
/// all places together say of the node to run.
///
/// # Errors
/// If a file that a setting names is needed here and cannot be read.
pub fn settings(config: &Config, before: &Layer, serve: &Serve) -> Result<Vec<Setting>, Failure> {
    let said = config.serve();
    let of_serve = Section::Serve.options().into_iter().map(|option| {
        let key = option.get_long().unwrap_or_default().to_owned();
        let (section, join) =
            (Section::Serve, |values: &[OsString]| text(&values.join(OsStr::new(","))));
        match said.iter().find(|said| said.key == key) {
            Some(said) => {
                let (value, origin) = (Some(join(&said.values)), said.origin.clone());
                Setting { section, key, value, origin }
            }
            None => {
                let default = option.get_default_values().first().map(|value| text(value));
                let default = derived(&key, serve).or(default);
                Setting { section, key, value: default, origin: Origin::Default }
            }
        }
    });
    let mut settings: Vec<Setting> = of_serve.collect();
    // Of etcd's flags those that were said: there are many.
    let own: Vec<String> = settings.iter().map(|setting| setting.key.clone()).collect();
    settings.extend(said.into_iter().filter(|said| !own.contains(&said.key)).map(|said| {
        let value = text(&said.values.join(OsStr::new(",")));
        Setting { section: Section::Serve, key: said.key, value: Some(value), origin: said.origin }
    }));
    settings.extend(of_clients(settled(config, before)?));
    Ok(settings)
}

/// The value of a setting that nothing is said of where it follows from another.
fn derived(key: &str, serve: &Serve) -> Option<String> {
    let (heartbeat, election) = timing_in_force(serve)?;
    let time = match key {
        "heartbeat-interval" => heartbeat,
        "election-timeout" => election,
        _ => return None,
    };
    Some(humantime::format_duration(time).to_string().replace(' ', ""))
}

/// What of the settings makes no sense; what nothing is said of is not looked at.
pub fn check(config: &Config, before: &Layer, serve: &Serve) -> Vec<Failure> {
    let mut wrong = Vec::new();
    if config.says(Section::Serve) {
        wrong.extend(Plan::wrong(serve));
    }
    if config.says(Section::Client) {
        wrong.extend(settled(config, before).and_then(Settled::target).err());
    }
    wrong
}

fn settled(config: &Config, before: &Layer) -> Result<Settled, Failure> {
    let [environment, file] = config.connections();
    settle(&[before.clone(), environment, file])
}

fn text(value: &OsStr) -> String {
    value.to_string_lossy().into_owned()
}

fn of_clients(settled: Settled) -> Vec<Setting> {
    let section = Section::Client;
    let path = |path: std::path::PathBuf| text(path.as_os_str());
    let deadline = |time| humantime::format_duration(time).to_string();
    let setting = |key: &str, value: Option<(String, Origin)>, default: Option<String>| {
        let (value, origin) = match value {
            Some((value, origin)) => (Some(value), origin),
            None => (default, Origin::Default),
        };
        Setting { section, key: key.to_owned(), value, origin }
    };
    let Settled {
        dir,
        endpoints,
        ca,
        insecure,
        cert,
        key,
        user,
        password_file,
        deadline: patience,
    } = settled;
    // A password is not shown.
    let name =
        |user: String| user.split_once(':').map_or_else(|| user.clone(), |(name, _)| name.into());
    vec![
        setting("dir", dir.map(|(dir, from)| (path(dir), from)), None),
        setting(
            "endpoints",
            endpoints.map(|(list, from)| (list.join(","), from)),
            Some(ENDPOINT_DEFAULT.to_owned()),
        ),
        setting("ca", ca.map(|(file, from)| (path(file), from)), None),
        setting(
            "insecure",
            insecure.map(|from| ("true".to_owned(), from)),
            Some("false".to_owned()),
        ),
        setting("cert", cert.map(|(file, from)| (path(file), from)), None),
        setting("key", key.map(|(file, from)| (path(file), from)), None),
        setting("user", user.map(|(user, from)| (name(user), from)), None),
        setting("password-file", password_file.map(|(file, from)| (path(file), from)), None),
        setting(
            "deadline",
            patience.map(|(time, from)| (deadline(time), from)),
            Some(deadline(DEADLINE_DEFAULT)),
        ),
    ]
}
