//! etcd's flags as Go reads them from a command line: `-name x` is `--name x`, and an empty value
//! is none.

use super::{EtcdFlags, FOREIGN, SHARED};
use clap::{Arg, Args, Command};
use std::ffi::{OsStr, OsString};

/// The names of all flags of etcd that are known here.
pub fn known() -> Vec<String> {
    let command = EtcdFlags::augment_args(Command::new("etcd"));
    let own = command.get_arguments().filter_map(Arg::get_long).map(str::to_owned);
    let foreign = FOREIGN.iter().map(|foreign| foreign.flag.to_owned());
    own.chain(foreign).chain(SHARED.map(str::to_owned)).collect()
}

/// A command line of `raft` as clap reads it: what stands behind `serve` is rewritten.
pub fn rewrite(line: Vec<OsString>) -> Vec<OsString> {
    let Some(verb) = line.iter().skip(1).position(|word| word == "serve") else { return line };
    let known = known();
    let mut line = line.into_iter();
    let mut words: Vec<OsString> = line.by_ref().take(verb + 2).collect();
    words.extend(line.filter_map(|word| rewritten(word, &known)));
    words
}

/// One word; `None` if it says nothing.
fn rewritten(word: OsString, known: &[String]) -> Option<OsString> {
    let Some(text) = word.to_str() else { return Some(word) };
    let Some(flag) = text.strip_prefix("--").or_else(|| text.strip_prefix('-')) else {
        return Some(word);
    };
    let (name, value) = match flag.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (flag, None),
    };
    if !known.iter().any(|known| known == name) {
        return Some(word);
    }
    let mut whole = OsString::from(format!("--{name}"));
    match value {
        // Where etcd's default is empty, saying so is common.
        Some("") => return None,
        Some(value) => {
            whole.push("=");
            whole.push(OsStr::new(&super::boolean_of(name, value)));
        }
        None => {}
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_flags_are_rewritten_behind_the_verb() {
        let of = |line: &str| {
            let words = rewrite(line.split(' ').map(OsString::from).collect());
            let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
            words.join(" ")
        };
        for (line, expected) in [
            ("raft serve -name x", "raft serve --name x"),
            ("raft serve -name=x -cors=", "raft serve --name=x"),
            ("raft serve --enable-v2=T -id 3", "raft serve --enable-v2=true -id 3"),
            ("raft -o json serve -data-dir=d", "raft -o json serve --data-dir=d"),
            ("raft put -name x", "raft put -name x"),
            ("raft serve -quota-backend-bytes=-1", "raft serve --quota-backend-bytes=-1"),
            ("raft serve --name=1 -n", "raft serve --name=1 -n"),
        ] {
            assert_eq!(of(line), expected);
        }
    }
}
