//! `kvarter-sim run`: a city or a replay, with a line of status every second.
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use kvarter_simulator::{
    CityOptions, Dials, PlayOptions, PlayReport, PlayStatus, Player, Preset, Scenario, Speed, World, WorldClock,
    parse_duration, town_start, wall_clock,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::{ConnectionArgs, SpanArgs, stop_token};

/// Play a city, or recorded readings with `--replay`
///
/// Registers the city's devices, sends their readings and lets them obey commands. Simulated time never passes real time:
/// a city begins 30 days ago and slows down when it has caught up.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// City to build: village, odense, aarhus or copenhagen
    #[arg(long, default_value = "village", conflicts_with = "replay")]
    preset: Preset,
    /// Devices in all, in the preset's mix; the preset's own number without
    #[arg(long, value_name = "N", conflicts_with = "replay", value_parser = clap::value_parser!(u32).range(21..=10_000_000))]
    devices: Option<u32>,
    /// The same number is the same city
    #[arg(long, default_value_t = 1, conflicts_with = "replay")]
    seed: u64,
    /// What changes in the city, when and where; see simulator/scenarios
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    scenario: Option<PathBuf>,
    /// First moment of the city, e.g. 2026-01-15T00:00:00Z; 30 days ago without
    #[arg(long, value_name = "TIME", conflicts_with_all = ["replay", "clock"])]
    start: Option<Timestamp>,
    /// Directory with the files of Aarhus: aarhus_traffic_5min.csv, aarhus_traffic_sensors.csv, aarhus_parking.csv
    #[arg(long, value_name = "DIR")]
    replay: Option<PathBuf>,
    #[command(flatten)]
    span: SpanArgs,
    /// Simulated seconds in a second, or `max`: as fast as the cluster accepts
    #[arg(long, default_value = "60")]
    speed: Speed,
    /// Stop after this time, e.g. 60s; without it, play until the replay ends or Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Gateway streams side by side
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    streams: u32,
    /// File that keeps the city's clock, so that the next run goes on from there
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    clock: Option<PathBuf>,
    /// Longest wait for open acknowledgements and commands at the end
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    patience: Duration,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
}

impl RunArgs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let world = self.world()?;
        let client = self.connection.connect().await?;
        let options = PlayOptions { speed: self.speed, lanes: self.streams, patience: self.patience };
        let player = Player::prepare(&client, world, options).await?;

        let mut tasks = JoinSet::new();
        let stop = stop_token(self.duration, &mut tasks)?;
        let (status_tx, mut status) = watch::channel(PlayStatus::default());
        let playing = player.run(&stop, &status_tx);
        tokio::pin!(playing);
        let mut lines = interval(Duration::from_secs(1));
        let report = loop {
            tokio::select! {
                report = &mut playing => break report,
                _ = lines.tick() => self.show_status(&status.borrow_and_update())?,
            }
        };
        if let Some(file) = &self.clock {
            WorldClock { world: self.world_name(), simulated: report.simulated_until }.save(file)?;
        }
        self.show(&report)?;
        Ok(if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn world_name(&self) -> String {
        let devices = self.devices.map(|devices| format!(" of {devices}")).unwrap_or_default();
        format!("{}{devices} {}", self.preset, self.seed)
    }

    fn world(&self) -> anyhow::Result<World> {
        if let Some(dir) = &self.replay {
            return Ok(World::replay(dir, self.span.span()?)?);
        }
        let stored = self.clock.as_deref().map(WorldClock::load).transpose()?.flatten();
        let going_on = stored.filter(|clock| clock.world == self.world_name()).map(|clock| clock.simulated);
        let start = self.start.or(going_on).unwrap_or_else(|| town_start(wall_clock()));
        let scenario = self.scenario.as_deref().map(Scenario::load).transpose()?;
        let options = CityOptions {
            seed: self.seed,
            preset: self.preset,
            devices: self.devices,
            dials: Dials::default(),
            scenario,
        };
        Ok(World::city(&options, start))
    }

    fn show_status(&self, status: &PlayStatus) -> std::io::Result<()> {
        if self.json {
            return Ok(());
        }
        let PlayStatus { simulated, totals, latency, commands_executed, disconnects, .. } = status;
        writeln!(
            std::io::stdout(),
            "{simulated:.0}  sent {:>9}  acknowledged {:>9}  p50 {:>7.1} ms  p99 {:>7.1} ms  commands {commands_executed:>6}  \
             lost connections {disconnects}",
            totals.sent,
            totals.acknowledged,
            latency.p50_ms,
            latency.p99_ms,
        )
    }

    fn show(&self, report: &PlayReport) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(report)?)?;
            return Ok(());
        }
        writeln!(out)?;
        writeln!(out, "played until          {}", report.simulated_until)?;
        writeln!(out, "readings sent         {:>10}", report.readings_sent)?;
        writeln!(out, "  stored              {:>10}", report.readings_stored)?;
        writeln!(out, "  late                {:>10}", report.readings_late)?;
        writeln!(out, "  duplicate           {:>10}", report.readings_duplicate)?;
        writeln!(out, "  rejected            {:>10}", report.readings_rejected)?;
        writeln!(out, "  unanswered          {:>10}", report.readings_unanswered)?;
        writeln!(out, "acknowledged in       {:>10.1} ms (p50), {:.1} ms (p99)", report.ack_p50_ms, report.ack_p99_ms)?;
        writeln!(
            out,
            "commands executed     {:>10}, failed {}, ignored {}",
            report.commands_executed, report.commands_failed, report.commands_ignored
        )?;
        if !report.expected.is_empty() {
            let verdict = if report.is_as_expected() { "as the files foretell" } else { "NOT as the files foretell" };
            writeln!(out, "outcomes              {verdict}")?;
        }
        for failure in &report.failures {
            writeln!(out, "stream ended          {failure}")?;
        }
        Ok(())
    }
}
