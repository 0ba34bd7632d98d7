//! This program again, as a process of its own.

use std::process::{Command, Output};

/// What it prints.
pub fn run(arguments: &[String]) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = finish(Command::new(program).args(arguments), arguments)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether there is something that counts instructions.
pub fn can_count() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|it| it.status.success())
}

/// How many instructions it takes.
pub fn instructions(arguments: &[String]) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let output = finish(valgrind.args(arguments), arguments)?;
    let told = String::from_utf8_lossy(&output.stderr);
    let collected = told.lines().find_map(|line| line.split_once("Collected :"));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    count.ok_or_else(|| format!("valgrind told no count: {told}"))
}

fn finish(command: &mut Command, arguments: &[String]) -> Result<Output, String> {
    let what = arguments.join(" ");
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))?;
    if output.status.success() {
        return Ok(output);
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(format!("{what}: {}: {told}", output.status))
}
