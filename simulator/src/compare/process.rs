//! A process of a system under comparison: started with its output in a log, ended with this program.
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::CompareError;

/// Longest time for a process to end when it is asked to; then it is killed.
const END_MAX: Duration = Duration::from_secs(60);

/// Fails when there is no such program; `hint` says what to do then.
pub(super) async fn find(program: &Path, hint: &'static str) -> Result<(), CompareError> {
    let asked = Command::new(program).arg("--version").stdin(Stdio::null()).output().await;
    asked.map(drop).map_err(|source| not_started(program, hint, source))
}

fn not_started(program: &Path, hint: &'static str, source: io::Error) -> CompareError {
    let program = program.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => CompareError::NoProgram { program, hint },
        _ => CompareError::NotStarted { program, source },
    }
}

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; `hint` says what to do when there is no such program.
    pub(super) fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        log: PathBuf,
        hint: &'static str,
    ) -> Result<Self, CompareError> {
        let output = File::options().create(true).append(true).open(&log);
        let output = output.map_err(|source| CompareError::Directory { dir: log.clone(), source })?;
        let error_output = output.try_clone().map_err(|source| CompareError::Directory { dir: log.clone(), source })?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(error_output)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| not_started(program, hint, source))?;
        let pid = child.id().expect("the process was not waited for yet");
        Ok(Self { child, pid, log })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Fails when the process has ended by itself.
    pub(super) fn check(&mut self) -> Result<(), CompareError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(_)) | Err(_) => Err(CompareError::Ended { log: self.log.clone() }),
        }
    }

    /// Kills the process as a power failure would, and waits for its end.
    pub(super) async fn kill(&mut self) -> Result<(), CompareError> {
        self.child.kill().await.map_err(|_ended| CompareError::Ended { log: self.log.clone() })
    }

    /// Asks the process to end with `signal`, and waits until it has.
    pub(super) async fn stop(mut self, signal: Signal) -> Result<(), CompareError> {
        self.check()?;
        signal_process(self.pid, signal).map_err(|_gone| CompareError::Ended { log: self.log.clone() })?;
        if timeout(END_MAX, self.child.wait()).await.is_err() {
            self.kill().await?;
        }
        Ok(())
    }
}

/// Sends `signal` to a process that is known to be one of ours.
pub(super) fn signal_process(pid: u32, signal: Signal) -> io::Result<()> {
    // 0 and 1 name groups of processes and the system's first.
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::NotFound)?;
    Ok(kill_process(pid, signal)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named_with_what_to_do() {
        let error = find(Path::new("/nowhere/etcd"), "install it").await.unwrap_err();
        assert_eq!(error.to_string(), "there is no program /nowhere/etcd; install it");
        assert!(find(Path::new("sh"), "install it").await.is_ok());
    }
}
