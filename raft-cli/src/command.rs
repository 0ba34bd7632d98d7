//! A command that runs while something is held, and is ended when that is lost. Owns the child and
//! its end; knows nothing of what is held.
//!
//! On Linux the command does not outlive this process, however that ends. A child can ask the
//! system for that, and nobody else can for it: so what is started is this program once more, which
//! asks and then becomes the command.

use crate::failure::{Failure, Kind};
use crate::output::Format;
use crate::serve::stop::StopRequests;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The first word of a command line of this program that is to become a command; then come the id
/// of the process it is to end with, and the command.
const BECOME: &str = "--become-child-of";
/// The same if failures are to be told as JSON.
const BECOME_JSON: &str = "--become-child-of-json";
/// This program, even if its file was replaced.
const SELF: &str = "/proc/self/exe";

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// By itself, or by a signal that was meant for it: with this exit code.
    Code(u8),
    /// By us, because what was held is lost.
    Lost,
}

/// A running command.
pub(crate) struct Running {
    child: Child,
    /// The group of the child and everything it has started, if that is its own; the terminal's
    /// signals go to our group, so with a terminal the child is in that.
    group: Option<Pid>,
}

impl Running {
    /// Starts `command` with `variables` added to its environment. If it cannot be started it may
    /// be itself that says so, in `format`, and ends with the exit code of `Local`.
    ///
    /// # Errors
    /// Of kind `Local` if it cannot be started.
    pub(crate) fn start(
        command: &[OsString],
        variables: &[(&str, OsString)],
        format: Format,
    ) -> Result<Self, Failure> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(Failure::usage("no command given"));
        };
        let mut start = match cfg!(target_os = "linux") && Path::new(SELF).exists() {
            true => {
                let word = if format == Format::Json { BECOME_JSON } else { BECOME };
                let mut start = Command::new(SELF);
                start.arg(word).arg(std::process::id().to_string()).arg(program);
                start
            }
            false => Command::new(program),
        };
        start.args(arguments).kill_on_drop(true);
        start.envs(variables.iter().map(|(name, value)| (name, value)));
        let apart = !io::stdin().is_terminal();
        if apart {
            start.process_group(0);
        }
        let child = start.spawn().map_err(|error| cannot_run(program, &error))?;
        let group = child.id().filter(|_| apart).and_then(|id| i32::try_from(id).ok());
        Ok(Self { child, group: group.map(|id| Pid::from_raw(-id)) })
    }

    /// Waits until it ends; ends it when `lost` does, with `grace` between asking and killing.
    /// Requests to stop us are passed on to it.
    ///
    /// # Errors
    /// Of kind `Local` if the system does not tell how it ended.
    pub(crate) async fn until_ended(
        mut self,
        lost: impl Future<Output = ()>,
        stop: &mut StopRequests,
        grace: Duration,
    ) -> Result<Ended, Failure> {
        let failed = |error| Failure::local("cannot wait for the command", &error);
        tokio::pin!(lost);
        loop {
            let request = tokio::select! {
                biased;
                status = self.child.wait() => return Ok(Ended::Code(code(status.map_err(failed)?))),
                () = &mut lost => break,
                request = stop.next() => request,
            };
            match request {
                // The terminal has told the child itself what it told us.
                "SIGINT" if self.group.is_none() => {}
                "SIGINT" => self.signal(Signal::SIGINT),
                "SIGHUP" => self.signal(Signal::SIGHUP),
                "SIGTERM" => self.signal(Signal::SIGTERM),
                _ => {}
            }
        }
        self.signal(Signal::SIGTERM);
        let ended = timeout(grace, self.child.wait()).await;
        // Whatever it has started may have outlived it.
        self.signal(Signal::SIGKILL);
        if ended.is_err() {
            self.child.wait().await.map_err(failed)?;
        }
        Ok(Ended::Lost)
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        if let Some(target) = self.group.or(child) {
            // Those that are gone already need no signal.
            let _ = kill(target, signal);
        }
    }
}

/// If that is what the command line says, becomes the command in it: returns only what is wrong
/// with that, and how to tell it.
pub(crate) fn become_command(line: &[OsString]) -> Option<(Failure, Format)> {
    let [_, word, parent, program, arguments @ ..] = line else { return None };
    let format = match word.to_str()? {
        BECOME => Format::Table,
        BECOME_JSON => Format::Json,
        _ => return None,
    };
    let failure = match end_with(parent) {
        Ok(()) => cannot_run(program, &std::process::Command::new(program).args(arguments).exec()),
        Err(error) => Failure::local("cannot end with the parent process", &error),
    };
    Some((failure, format))
}

/// Has the system kill this process, and what it becomes, when the process `parent` ends.
#[cfg(target_os = "linux")]
fn end_with(parent: &OsStr) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    // It may have ended before that was said.
    let now = nix::unistd::getppid().to_string();
    if parent == OsStr::new(&now) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

#[cfg(not(target_os = "linux"))]
fn end_with(_parent: &OsStr) -> io::Result<()> {
    Ok(())
}

fn cannot_run(program: &OsStr, error: &io::Error) -> Failure {
    Failure::local(format!("cannot run {}", program.display()), error)
}

/// The exit code that shells give.
fn code(status: ExitStatus) -> u8 {
    let signal = status.signal().map(|signal| 128 + signal);
    let code = status.code().or(signal).unwrap_or(1);
    u8::try_from(code).unwrap_or(u8::MAX)
}

impl Ended {
    /// What that is to the process: the command's exit code, or a failure that says what was lost.
    pub(crate) fn outcome(self, what: &str) -> Result<(), Failure> {
        match self {
            Self::Code(0) => Ok(()),
            Self::Code(code) => Err(Failure::new(Kind::Command(code), "the command failed")),
            Self::Lost => Err(lost(what)),
        }
    }
}

/// That something that was held is lost.
pub(crate) fn lost(what: &str) -> Failure {
    Failure::new(Kind::Unknown, format!("{what} was lost: another one may hold it"))
        .advice("what was done last without --fence may have been done at the same time")
}
