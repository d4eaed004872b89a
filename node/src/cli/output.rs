//! Standard output: text for people, or JSON for programs.

use std::io::{self, Write};

use serde_json::Value;

use super::table::Table;

/// Where a command's results go.
pub(super) struct Output {
    is_json: bool,
}

impl Output {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    pub(super) fn is_json(&self) -> bool {
        self.is_json
    }

    /// One line for programs, flushed, so that a stream can be followed.
    pub(super) fn json(&mut self, value: &Value) -> io::Result<()> {
        self.line(&value.to_string())
    }

    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")?;
        stdout.flush()
    }

    pub(super) fn table(&mut self, table: &Table) -> io::Result<()> {
        self.line(table.render().trim_end_matches('\n'))
    }
}

/// The reader of our output has gone away, as `head` does: no failure of ours.
pub(super) fn is_closed(error: &anyhow::Error) -> bool {
    let is_broken_pipe = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(is_broken_pipe)
}
