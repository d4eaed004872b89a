//! Programs of the system that make and undo faults.
use std::process::Stdio;

use tokio::process::Command;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{command}: {said}")]
pub struct ToolFailed {
    pub command: String,
    pub said: String,
}

/// Runs a tool to its end, and returns what it wrote on standard output.
pub(crate) async fn run(tool: &mut Command) -> Result<String, ToolFailed> {
    let ran = tool.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let failed = |said: String| {
        let command = tool.as_std();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let command = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        ToolFailed { command, said }
    };
    match ran {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(failed(format!("{}; {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Whether a program of this name can be called.
pub(crate) fn is_installed(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(tool).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tool_that_fails_says_why() {
        let failed = run(Command::new("mount").arg("/nowhere/at-all")).await.unwrap_err().to_string();
        assert!(failed.starts_with("mount /nowhere/at-all: "), "{failed}");
        assert!(!is_installed("no-such-tool") && is_installed("mount"));
    }
}
