//! Settings and where they came from, printed.

use super::Table;
use crate::config::{Config, Origin, Setting};
use crate::failure::Failure;
use serde_json::{Value, json};

/// All settings as JSON; `from` is `default`, `file`, `env`, `dir` or `flag`.
pub fn json(config: &Config, settings: &[Setting], wrong: &[Failure]) -> Value {
    let settings: Vec<Value> = settings.iter().map(setting).collect();
    let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    json!({
        "file": config.file,
        "ok": wrong.is_empty(),
        "errors": wrong,
        "warnings": config.warnings(),
        "settings": settings,
    })
}

fn setting(setting: &Setting) -> Value {
    let mut object = json!({
        "section": setting.section.name(),
        "key": setting.key,
        "value": setting.value,
    });
    let (from, more) = match &setting.origin {
        Origin::Default => ("default", None),
        Origin::File(_, line) => ("file", Some(("line", json!(line)))),
        Origin::Environment(name) => ("env", Some(("variable", json!(name)))),
        Origin::Directory(path) => ("dir", Some(("file", json!(path)))),
        Origin::Flag => ("flag", None),
    };
    object["from"] = json!(from);
    if let Some((key, value)) = more {
        object[key] = value;
    }
    object
}

fn value(setting: &Setting) -> &str {
    setting.value.as_deref().unwrap_or("-")
}

/// One line a setting: `serve.id = 1 (raft.toml:3)`.
pub fn simple(settings: &[Setting]) -> Vec<u8> {
    let line = |setting: &Setting| {
        let (section, key) = (setting.section.name(), &setting.key);
        format!("{section}.{key} = {} ({})\n", value(setting), setting.origin)
    };
    settings.iter().map(line).collect::<String>().into_bytes()
}

/// All settings as a table, and the warnings.
pub fn text(config: &Config, settings: &[Setting]) -> String {
    let mut table = Table::new(&["SECTION", "SETTING", "VALUE", "FROM"]);
    for setting in settings {
        table.row(vec![
            setting.section.name().to_owned(),
            setting.key.clone(),
            value(setting).to_owned(),
            setting.origin.to_string(),
        ]);
    }
    config.warnings().iter().fold(table.render(), |text, warning| text + warning + "\n")
}
