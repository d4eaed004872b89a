//! How a long measurement is run: news on standard error, an end by Ctrl-C, files at its end.
use std::future::Future;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use kvarter_simulator::Tell;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::stop_token;

/// Tells how far a measurement is on standard error, each time with the seconds since its begin.
pub(super) struct News {
    begun: Instant,
    written: std::io::Result<()>,
}

impl News {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), written: Ok(()) }
    }

    /// Fails when some news could not be written.
    pub(super) fn end(self) -> std::io::Result<()> {
        self.written
    }
}

impl Tell for News {
    fn tell(&mut self, news: &str) {
        if self.written.is_ok() {
            self.written = writeln!(std::io::stderr(), "{:>5.0} s  {news}", self.begun.elapsed().as_secs_f64());
        }
    }
}

/// Waits for `measurement`; SIGINT and SIGTERM drop it, and with it the processes that it started.
pub(super) async fn uninterrupted<T, E>(measurement: impl Future<Output = Result<T, E>>) -> anyhow::Result<T>
where
    anyhow::Error: From<E>,
{
    let mut tasks = JoinSet::new();
    let stop = stop_token(None, &mut tasks)?;
    let Some(measured) = stop.run_until_cancelled(Box::pin(measurement)).await else {
        anyhow::bail!("interrupted; nothing was measured to the end");
    };
    Ok(measured?)
}

/// Writes `text` to `file`, if there is one to write.
pub(super) fn write_file(file: Option<&Path>, text: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, text()?).with_context(|| format!("can not write {}", file.display()))
}
