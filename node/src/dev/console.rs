//! The terminal: what happened scrolls by, the status stands below and is drawn again in place.
//!
//! Everything goes to standard error, so that standard output has nothing but the summary. Without a terminal the status is
//! one line every few seconds.
use std::fmt::Display;
use std::io::{self, IsTerminal, Stderr, Write};
use std::time::Duration;

use tokio::time::Instant;

use super::status::Status;

/// Time between two status lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct Console {
    output: Stderr,
    is_terminal: bool,
    /// The block that stands at the bottom of the terminal; empty when there is none.
    block: String,
    next_line: Instant,
}

impl Console {
    pub(super) fn new() -> Self {
        let output = io::stderr();
        let is_terminal = output.is_terminal();
        Self { output, is_terminal, block: String::new(), next_line: Instant::now() + LINE_INTERVAL }
    }

    /// Tells an event, on a line of its own that stays.
    pub(super) fn say(&mut self, event: &dyn Display) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        self.erase(&block)?;
        writeln!(self.output, "{event}")?;
        self.draw(block)
    }

    /// Shows `status` in place of the last one.
    pub(super) fn show(&mut self, status: &Status) -> io::Result<()> {
        if self.is_terminal {
            let block = std::mem::take(&mut self.block);
            self.erase(&block)?;
            return self.draw(status.block());
        }
        if self.next_line <= Instant::now() {
            self.next_line = Instant::now() + LINE_INTERVAL;
            writeln!(self.output, "{}", status.line())?;
        }
        Ok(())
    }

    /// Shows the last `status`, which stays; what follows is written below.
    pub(super) fn finish(&mut self, status: &Status) -> io::Result<()> {
        self.next_line = Instant::now();
        self.show(status)?;
        self.keep();
        Ok(())
    }

    /// Leaves the last status where it stands.
    pub(super) fn keep(&mut self) {
        self.block.clear();
    }

    /// Moves to the block's first column and clears from there.
    fn erase(&mut self, block: &str) -> io::Result<()> {
        match block.lines().count() {
            0 => Ok(()),
            lines => write!(self.output, "\x1b[{lines}F\x1b[0J"),
        }
    }

    /// A line that is wider than the terminal is cut, or the block would be taller than its number of lines.
    fn draw(&mut self, block: String) -> io::Result<()> {
        if !block.is_empty() {
            write!(self.output, "\x1b[?7l{block}\x1b[?7h")?;
        }
        self.block = block;
        self.output.flush()
    }
}
