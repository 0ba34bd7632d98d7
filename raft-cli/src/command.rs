//! A command that runs while something is held, and is ended when that is lost. Owns the child and
//! its end; knows nothing of what is held.

use crate::failure::{Failure, Kind};
use crate::serve::stop::StopRequests;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::timeout;

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
    /// Starts `command` with `variables` added to its environment.
    ///
    /// # Errors
    /// Of kind `Local` if it cannot be started.
    pub(crate) fn start(
        command: &[OsString],
        variables: [(&str, OsString); 2],
    ) -> Result<Self, Failure> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(Failure::usage("no command given"));
        };
        let mut start = Command::new(program);
        start.args(arguments).envs(variables).kill_on_drop(true);
        let apart = !io::stdin().is_terminal();
        if apart {
            start.process_group(0);
        }
        let child = start
            .spawn()
            .map_err(|error| Failure::local(format!("cannot run {}", program.display()), &error))?;
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
            // The terminal has told the child itself what it told us.
            if request == "SIGINT" && self.group.is_some() {
                self.signal(Signal::SIGINT);
            } else if request == "SIGTERM" {
                self.signal(Signal::SIGTERM);
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
