//! `kvarter-chaos simulate`: plays seeds and says what became of the promises in each.

use std::io::Write as _;
use std::ops::Range;
use std::process::ExitCode;

use clap::Args;
use kvarter_chaos::simulate;

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Play this seed
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "seeds")]
    seed: u64,
    /// Play the seeds from A up to, and without, B
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Option<Range<u64>>,
    /// One line of JSON for each seed
    #[arg(long)]
    json: bool,
    /// Also what happened, line by line
    #[arg(long, conflicts_with = "json")]
    trace: bool,
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let seed = |text: &str| text.parse().map_err(|_number| format!("`{text}` is no seed"));
    let (from, to) = text.split_once("..").ok_or("two seeds with `..` between them are wanted")?;
    let seeds = seed(from)?..seed(to)?;
    if seeds.is_empty() { Err("there is no seed between the two".to_owned()) } else { Ok(seeds) }
}

impl SimulateArgs {
    /// The exit code is 1 when a seed broke a promise, or saw too little to tell.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let seeds = self.seeds.unwrap_or(self.seed..self.seed.saturating_add(1));
        let mut code = ExitCode::SUCCESS;
        let mut out = std::io::stdout().lock();
        for seed in seeds {
            let outcome = simulate(seed);
            if self.trace {
                outcome.trace.lines().iter().try_for_each(|line| writeln!(out, "{line}"))?;
            }
            if self.json {
                writeln!(out, "{}", serde_json::to_string(&outcome)?)?;
            } else {
                writeln!(out, "{outcome}")?;
            }
            out.flush()?;
            if !outcome.is_passed() {
                code = ExitCode::FAILURE;
            }
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::parse_seeds;

    #[test]
    fn seeds_are_a_range() {
        assert_eq!(parse_seeds("3..10"), Ok(3..10));
        assert!(parse_seeds("3").is_err() && parse_seeds("5..5").is_err() && parse_seeds("a..b").is_err());
    }
}
