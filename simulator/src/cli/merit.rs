//! `kvarter-sim merit`: what a service is worth, from two plays of the same city.
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp};
use kvarter_simulator::{LightingPlan, Preset, parse_duration, wall_clock};

use super::ConnectionArgs;
use super::measurement::{News, uninterrupted};

/// Measure what a service is worth: the same city is played with it and without it
#[derive(Debug, Args)]
pub(super) struct MeritArgs {
    #[command(subcommand)]
    service: Service,
}

#[derive(Debug, Subcommand)]
enum Service {
    Lighting(LightingArgs),
}

/// Energy that adaptive lighting saves, and the minutes in which a street had less light than its class needs
///
/// Plays each day twice into a running cluster, as fast as it carries orders out: a day takes some minutes. Whole districts of
/// the city are played, with the lamps, cabinets and traffic sensors that the whole city has there. Lighting looks at nothing
/// beyond a district, so what it does to one does not depend on how many others are played; only the sum for the whole city is
/// an estimate. The devices stay registered in the cluster.
#[derive(Debug, Args)]
struct LightingArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// City to build: village, odense, aarhus or copenhagen
    #[arg(long, default_value = "aarhus")]
    preset: Preset,
    /// The same number is the same city
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A day in Denmark that is over, e.g. 2025-12-21; may be given again. Without: the last 21 December and 21 June
    #[arg(long = "day", value_name = "DATE")]
    days: Vec<Date>,
    /// Districts to play, from the centre outwards; the others are left out
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    districts: u32,
    /// Orders are carried out so much simulated time after what led to them, at most
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_duration)]
    step: Duration,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
}

impl MeritArgs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let Service::Lighting(args) = self.service;
        args.run().await
    }
}

impl LightingArgs {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let step = SignedDuration::try_from(self.step).context("the step is too long")?;
        anyhow::ensure!(step >= SignedDuration::from_secs(1), "a step has at least a second");
        let client = self.connection.connect().await?;
        let days = if self.days.is_empty() { solstices(wall_clock()) } else { self.days };
        let plan = LightingPlan { preset: self.preset, seed: self.seed, days, districts: self.districts, step };
        let mut news = News::new();
        let merit = uninterrupted(plan.run(&client, &mut news)).await?;
        news.end()?;
        let mut out = std::io::stdout().lock();
        write!(out, "{merit}")?;
        if self.json {
            writeln!(out, "{}", merit.summary())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The last longest and the last shortest night that are over.
fn solstices(now: Timestamp) -> Vec<Date> {
    // A day later it is over in Denmark as well.
    let today = (now - SignedDuration::from_hours(24)).to_zoned(jiff::tz::TimeZone::UTC).date();
    let last = |month, day| {
        let this_year = date(today.year(), month, day);
        if this_year < today { this_year } else { date(today.year() - 1, month, day) }
    };
    vec![last(12, 21), last(6, 21)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_solstices_are_over() {
        let at = |text: &str| solstices(text.parse().unwrap());
        assert_eq!(at("2026-11-28T00:00:00Z"), [date(2025, 12, 21), date(2026, 6, 21)]);
        assert_eq!(at("2026-12-23T01:00:00Z"), [date(2026, 12, 21), date(2026, 6, 21)]);
        assert_eq!(at("2026-06-21T23:00:00Z"), [date(2025, 12, 21), date(2025, 6, 21)]);
    }
}
