//! Runs every file of `tests/scripts`. `UPDATE_GOLDENFILES=1 cargo test -p raft-core` writes what
//! comes out; read the diff before you believe it.

use goldenscript::{Argument as Golden, Command, Context, Runner};
use raft_core::testing::{Argument, Script};
use std::error::Error;
use std::path::Path;

struct ScriptRunner(Script);

impl Runner for ScriptRunner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let arguments: Vec<Argument> = command
            .args
            .iter()
            .map(|argument| match argument {
                Golden::Positional(value) => Argument::Positional(value.clone()),
                Golden::KeyValue(key, value) => Argument::Keyed(key.clone(), value.clone()),
                other => panic!("unknown argument {other}"),
            })
            .collect();
        Ok(self.0.run(&command.name, &arguments)?)
    }
}

/// One test per file, and a list of the files.
macro_rules! scripts {
    ($($name:ident)*) => {
        /// Every script that is run.
        pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
                let path = scripts.join(concat!(stringify!($name), ".txt"));
                goldenscript::run(&mut ScriptRunner(Script::new()), path).expect("the script runs");
            }
        )*
    };
}

scripts! {
    election_restarted_leader
    election_restoring_node_votes
    election_simple
    overload_full_log_takes_noop
    overload_inherited_entries
}
