//! What asks a process to end: signals, and the end of standard input for one that hangs on a leash.

use std::io;
use std::os::fd::AsFd;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Receives SIGTERM and SIGINT instead of being killed by them.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    leash: Option<pipe::Receiver>,
}

impl StopSignals {
    /// Needs a tokio runtime. With `stop_with_stdin` the end of standard input, which must be a pipe, is a signal too: whoever
    /// holds its other end lets go when it ends, however it ends.
    pub fn listen(stop_with_stdin: bool) -> io::Result<Self> {
        let leash = if stop_with_stdin { Some(leash()?) } else { None };
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, leash })
    }

    /// Waits for the next one and returns its name. Cancel safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = let_go(&mut self.leash) => "end of standard input",
        }
    }
}

fn leash() -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)
}

/// Waits for the end of the leash, which comes once; for ever where there is none.
async fn let_go(leash: &mut Option<pipe::Receiver>) {
    let mut ignored = [0; 64];
    while let Some(pipe) = leash {
        // A pipe that can not be read has nobody at its other end either.
        if matches!(pipe.read(&mut ignored).await, Ok(0) | Err(_)) {
            *leash = None;
            return;
        }
    }
    std::future::pending().await
}
