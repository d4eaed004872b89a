//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second for an immediate one.
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What the user asked for so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupts {
    /// End in order: finish what was sent, drain the nodes.
    pub(super) stop: CancellationToken,
    /// End now.
    pub(super) kill: CancellationToken,
}

/// Both signals that ask a program to end.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on the signals no longer end the program by themselves.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Turns signals into `interrupts`; returns after the second.
    pub(super) async fn forward(mut self, interrupts: Interrupts) {
        self.next().await;
        interrupts.stop.cancel();
        self.next().await;
        interrupts.kill.cancel();
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
