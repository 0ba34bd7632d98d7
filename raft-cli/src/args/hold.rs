//! Arguments of `raft lock` and `raft elect`.

use super::connection::Connection;
use super::text::Escaped;
use super::values;
use clap::Args;
use std::ffi::OsString;
use std::time::Duration;

const LOCK_EXAMPLES: &str = "\
Examples:
  raft lock report -- ./make-report --all       run it while nobody else does
  raft lock report --try -- ./make-report       or not at all, exit code 1
  raft lock report --wait 10s -- ./make-report  or not at all, if it takes longer to get it
  raft lock report                              hold it until Ctrl-C

The command finds RAFT_LOCK_KEY and RAFT_LOCK_TOKEN in its environment. What it writes with
--fence \"$RAFT_LOCK_KEY:$RAFT_LOCK_TOKEN\" is refused by the store once the lock is lost, however
late it comes: without that no lock is safe from a pause at the wrong time.

The lock is kept alive as long as this process runs. Should it be lost all the same, because no node
was reached for --ttl, the command gets SIGTERM, and after --grace SIGKILL; without a terminal on
stdin, everything it has started gets them, too. The same if somebody deletes the lock's key. The
command's exit code is passed on, 128 and the signal's number if one ended it; 5 if the lock was
lost. SIGTERM, SIGHUP and Ctrl-C are passed on to the command; if this process is killed, so is the
command (on Linux), but not what that has started.";

const ELECT_EXAMPLES: &str = "\
Examples:
  raft elect primary -- ./serve-primary           run it while this one leads
  raft elect primary host-7 -- ./serve-primary    the same, and tell the others who leads
  raft elect primary host-7                       lead until Ctrl-C
  raft elect primary --observe                    who leads, and every change of it

The command finds RAFT_LOCK_KEY and RAFT_LOCK_TOKEN in its environment, for writes that only the
leader may do: `raft put --fence \"$RAFT_LOCK_KEY:$RAFT_LOCK_TOKEN\"`. It is ended when leadership
is lost, and its exit code passed on, as `raft help lock` says.";

/// Flags of verbs that hold something and may run a command meanwhile.
#[derive(Args, Clone, Debug)]
pub struct Hold {
    /// How long others count on this process if it and its node vanish.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration)]
    pub ttl: Duration,
    /// How long the command may take to end between SIGTERM and SIGKILL.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::duration)]
    pub grace: Duration,
    /// Whether names and values hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
    /// The command to run, behind `--`; without one, hold until interrupted.
    #[arg(value_name = "COMMAND", last = true)]
    pub command: Vec<OsString>,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Hold a lock, and run a command meanwhile.
#[derive(Args, Clone, Debug)]
#[command(after_help = LOCK_EXAMPLES)]
pub struct Lock {
    /// The lock: any name.
    #[arg(value_name = "NAME")]
    pub name: OsString,
    /// Do not wait: exit code 1 if somebody holds it or waits for it.
    #[arg(long = "try", conflicts_with = "wait")]
    pub at_once: bool,
    /// Wait at most so long; exit code 1 if it was in vain.
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub wait: Option<Duration>,
    /// How to hold it.
    #[command(flatten)]
    pub hold: Hold,
}

/// Lead an election, and run a command meanwhile.
#[derive(Args, Clone, Debug)]
#[command(after_help = ELECT_EXAMPLES)]
pub struct Elect {
    /// The election: any name.
    #[arg(value_name = "NAME")]
    pub name: OsString,
    /// What the others are told of the leader; HOSTNAME:PID if not given.
    #[arg(value_name = "VALUE")]
    pub value: Option<OsString>,
    /// Only tell who leads.
    #[arg(long, conflicts_with_all = ["value", "command", "wait"])]
    pub observe: bool,
    /// Wait at most so long; exit code 1 if it was in vain.
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub wait: Option<Duration>,
    /// How to hold it.
    #[command(flatten)]
    pub hold: Hold,
}
