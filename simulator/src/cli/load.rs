//! `kvarter-sim load`: readings at a fixed rate.
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use kvarter_simulator::{Load, LoadOutcome, LoadPlan, LoadProgress, LoadReport};
use tokio::task::JoinSet;

use super::{ConnectionArgs, parse_duration, stop_token};

/// Put load on a cluster: readings at a fixed rate, whatever it answers
///
/// Latency counts from the moment a reading was due, so a cluster that stalls shows it.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Devices, registered first
    #[arg(long, default_value_t = 10_000)]
    devices: u32,
    /// Districts that the devices are dealt out to
    #[arg(long, default_value_t = LoadPlan::DISTRICTS)]
    districts: u32,
    /// Readings in a second, all streams together
    #[arg(long, value_name = "READINGS", default_value_t = 10_000.0)]
    rate: f64,
    /// How long to send, e.g. 60s
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    duration: Duration,
    /// Gateway streams side by side
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1024))]
    streams: u32,
    /// Readings that become due within this time go in one batch
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = parse_duration)]
    linger: Duration,
    /// Longest wait for open acknowledgements at the end
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    patience: Duration,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
}

impl LoadArgs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.connection.connect().await?;
        let plan = LoadPlan {
            devices: self.devices,
            districts: self.districts,
            readings_per_s: self.rate,
            duration: self.duration,
            lanes: self.streams,
            linger: self.linger,
            district_prefix: "load".to_owned(),
        };
        let load = Load::prepare(&client, plan).await?;
        let mut tasks = JoinSet::new();
        let stop = stop_token(None, &mut tasks)?;
        let mut unwritten = Ok(());
        let mut last = LoadProgress::default();
        let show = |now: LoadProgress| {
            if !self.json && unwritten.is_ok() {
                unwritten = show_progress(&last, &now);
            }
            last = now;
        };
        let outcome = load.run(&stop, self.patience, show).await;
        unwritten?;
        self.show(&outcome)?;
        let is_clean = outcome.report.errors == 0 && outcome.report.unanswered == 0;
        Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn show(&self, outcome: &LoadOutcome) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        let report = &outcome.report;
        if self.json {
            writeln!(out, "{}", serde_json::to_string(report)?)?;
            return Ok(());
        }
        let LoadReport { sent, stored, late, duplicate, rejected, unanswered, latency, .. } = report;
        writeln!(out)?;
        writeln!(out, "readings sent    {sent:>12}, to {} shards", report.shards)?;
        writeln!(out, "  stored         {stored:>12}")?;
        writeln!(out, "  late           {late:>12}")?;
        writeln!(out, "  duplicate      {duplicate:>12}")?;
        writeln!(out, "  rejected       {rejected:>12}")?;
        writeln!(out, "  unanswered     {unanswered:>12}")?;
        writeln!(out, "rate             {:>12.0} /s over {:.1} s", report.rate_per_s, report.elapsed_s)?;
        writeln!(
            out,
            "due to acknowledged  p50 {:.1} ms  p99 {:.1} ms  max {:.1} ms",
            latency.p50_ms, latency.p99_ms, latency.max_ms
        )?;
        for failure in &outcome.failures {
            writeln!(out, "stream ended     {failure}")?;
        }
        Ok(())
    }
}

fn show_progress(last: &LoadProgress, now: &LoadProgress) -> std::io::Result<()> {
    let acknowledged = now.totals.acknowledged - last.totals.acknowledged;
    let seconds = (now.elapsed - last.elapsed).as_secs_f64().max(1e-3);
    #[expect(clippy::cast_precision_loss, reason = "a second's readings are far below 2^53")]
    let rate = acknowledged as f64 / seconds;
    writeln!(
        std::io::stdout(),
        "{:>5.0} s  sent {:>10}  acknowledged {:>10}  {rate:>8.0} /s",
        now.elapsed.as_secs_f64(),
        now.totals.sent,
        now.totals.acknowledged,
    )
}
