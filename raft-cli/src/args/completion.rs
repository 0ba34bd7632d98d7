//! Arguments of `raft completion`.

use clap::Args;
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  raft completion bash > /etc/bash_completion.d/raft
  source <(raft completion zsh)";

/// Print a shell's completion script.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Completion {
    /// The shell.
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}
