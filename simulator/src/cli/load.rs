//! `kvarter-sim load`: readings at a fixed rate, or the highest rate that keeps a bound.
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use kvarter_api::Client;
use kvarter_simulator::{
    CallReport, CommandReport, Load, LoadPhase, LoadPlan, LoadProgress, LoadReport, LoadStudy, NodeProcesses,
    RateSearch, SearchResult, Trial, UsageWatch, parse_duration,
};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ConnectionArgs, stop_token};

/// Of each trial of a search.
const TRIAL: Duration = Duration::from_secs(6);
const TRIAL_WARM_UP: Duration = Duration::from_secs(2);
/// Long trials of what a search found, each a little lower than the last.
const CONFIRMATIONS_MAX: u32 = 5;
/// `--json` without a file.
const STANDARD_OUTPUT: &str = "-";

/// Put load on a cluster: readings at a fixed rate, whatever it answers
///
/// Latency counts from the moment a reading was due, so a cluster that stalls shows it. A rate that was not reached is told as
/// such.
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
    /// Readings in a second, all streams together; with --find-max the first to try
    #[arg(long, value_name = "READINGS", default_value_t = 10_000.0)]
    rate: f64,
    /// Linearizable reads of twins in a second, beside the readings
    #[arg(long, value_name = "READS", default_value_t = 0.0)]
    reads: f64,
    /// Commands in a second, beside the readings, to devices of their own that obey at once
    #[arg(long, value_name = "COMMANDS", default_value_t = 0.0)]
    commands: f64,
    /// How long to send, e.g. 60s
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    duration: Duration,
    /// Part of that time that the latencies leave out
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    warm_up: Duration,
    /// Seek the highest rate that keeps p99 below --p99: short trials, then --for at what was found
    #[arg(long)]
    find_max: bool,
    /// The bound of --find-max
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = parse_duration, requires = "find_max")]
    p99: Duration,
    /// Gateway streams side by side
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1024))]
    streams: u32,
    /// Readings that become due within this time go in one batch
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = parse_duration)]
    linger: Duration,
    /// Longest wait for open acknowledgements at the end
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    patience: Duration,
    /// Where `kvarter dev` tells the nodes' processes, for what they use; by default beside the profile, if it is there
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
    /// Write all that was measured to FILE; without one, end with one line of JSON
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = STANDARD_OUTPUT)]
    json: Option<PathBuf>,
    /// Write one HTML page with plots
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl LoadArgs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.connection.connect().await?;
        let mut tasks = JoinSet::new();
        let stop = stop_token(None, &mut tasks)?;
        let mut study = LoadStudy {
            devices: self.devices,
            districts: self.districts,
            streams: self.streams,
            linger_ms: self.linger.as_secs_f64() * 1e3,
            shards: 0,
            prepare_s: 0.0,
            search: None,
            phases: Vec::new(),
        };
        if self.find_max {
            self.find_max(&client, &mut study, &stop).await?;
        } else {
            let name = format!("{:.0} readings/s", self.rate);
            self.phase(&client, &mut study, name, self.rate, self.duration, self.warm_up, &stop).await?;
        }
        self.show(&study)?;
        let last = study.phases.last().map(|phase| &phase.report);
        let is_clean = last.is_some_and(|report| report.errors == 0 && report.unanswered == 0);
        let is_found = study.search.is_none_or(|search| search.rate_per_s.is_some());
        Ok(if is_clean && is_found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn find_max(&self, client: &Client, study: &mut LoadStudy, stop: &CancellationToken) -> anyhow::Result<()> {
        let bound = self.p99.as_secs_f64() * 1e3;
        let mut search = RateSearch::new(self.rate);
        while let Some(rate) = search.next().filter(|_| !stop.is_cancelled()) {
            let name = format!("trial {}: {rate:.0} readings/s", study.phases.len() + 1);
            let report = self.phase(client, study, name, rate, TRIAL, TRIAL_WARM_UP, stop).await?;
            let trial = judge(&report, bound);
            self.tell(&verdict(&report, trial, bound))?;
            search.tried(trial);
        }
        let mut found = None;
        for _ in 0..CONFIRMATIONS_MAX {
            let Some(rate) = search.answer().filter(|_| !stop.is_cancelled()) else { break };
            let name = format!("{} s at {rate:.0} readings/s", self.duration.as_secs_f64());
            let warm_up = self.warm_up.max(TRIAL_WARM_UP).min(self.duration / 2);
            let report = self.phase(client, study, name, rate, self.duration, warm_up, stop).await?;
            let trial = judge(&report, bound);
            self.tell(&verdict(&report, trial, bound))?;
            if trial == Trial::Kept && !stop.is_cancelled() {
                found = Some(rate);
                break;
            }
            search.lower();
        }
        study.search = Some(SearchResult { p99_ms_bound: bound, rate_per_s: found });
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "they are what a phase is")]
    async fn phase(
        &self,
        client: &Client,
        study: &mut LoadStudy,
        name: String,
        readings_per_s: f64,
        duration: Duration,
        warm_up: Duration,
        stop: &CancellationToken,
    ) -> anyhow::Result<LoadReport> {
        let plan = LoadPlan {
            devices: self.devices,
            districts: self.districts,
            readings_per_s,
            duration,
            lanes: self.streams,
            linger: self.linger,
            district_prefix: "load".to_owned(),
        };
        self.tell(&name)?;
        let begun = Instant::now();
        let load = Load::prepare(client, plan.clone()).await?.with_warm_up(warm_up).with_reads(client, self.reads);
        let load = load.with_commands(client, self.commands).await?;
        if study.phases.is_empty() {
            study.shards = load.shards().len();
            study.prepare_s = begun.elapsed().as_secs_f64();
            self.tell(&format!("{} devices registered and attached in {:.1} s", self.devices, study.prepare_s))?;
        }
        let mut usage = self.processes()?.map(UsageWatch::new);
        let mut unwritten = Ok(());
        let mut last = LoadProgress::default();
        let show = |now: LoadProgress| {
            if let Some(usage) = &mut usage {
                usage.look(now.elapsed);
            }
            if unwritten.is_ok() && !self.find_max {
                unwritten = self.tell(&progress(&last, &now));
            }
            last = now;
        };
        let outcome = load.run(stop, self.patience, show).await;
        unwritten?;
        let mut phase = LoadPhase::new(name, warm_up.as_secs_f64(), &plan, outcome);
        phase.nodes = usage.map(UsageWatch::points).unwrap_or_default();
        let report = phase.report.clone();
        study.phases.push(phase);
        Ok(report)
    }

    /// `None`: the nodes are not on this machine.
    fn processes(&self) -> anyhow::Result<Option<NodeProcesses>> {
        if let Some(file) = &self.fleet {
            return Ok(Some(NodeProcesses::open(file)?));
        }
        let beside = self.connection.profile.with_file_name("fleet.json");
        Ok(if beside.exists() { Some(NodeProcesses::open(&beside)?) } else { None })
    }

    fn prints_json(&self) -> bool {
        self.json.as_deref() == Some(Path::new(STANDARD_OUTPUT))
    }

    /// News on the way; nothing when standard output is for a program.
    fn tell(&self, news: &str) -> anyhow::Result<()> {
        if !self.prints_json() {
            writeln!(std::io::stdout(), "{news}")?;
        }
        Ok(())
    }

    fn show(&self, study: &LoadStudy) -> anyhow::Result<()> {
        let write = |file: &Path, text: String| {
            std::fs::write(file, text).with_context(|| format!("can not write {}", file.display()))
        };
        if let Some(file) = &self.report {
            write(file, study.page())?;
        }
        if let Some(file) = self.json.as_ref().filter(|_| !self.prints_json()) {
            write(file, serde_json::to_string_pretty(study)?)?;
        }
        let mut out = std::io::stdout().lock();
        let Some(phase) = study.phases.last() else { return Ok(()) };
        if self.prints_json() {
            let mut line = serde_json::to_value(&phase.report)?;
            if let (Some(search), Some(line)) = (&study.search, line.as_object_mut()) {
                line.insert("max_rate_per_s".to_owned(), serde_json::to_value(search.rate_per_s)?);
                line.insert("p99_ms_bound".to_owned(), serde_json::to_value(search.p99_ms_bound)?);
            }
            writeln!(out, "{line}")?;
            return Ok(());
        }
        let LoadReport { sent, stored, late, duplicate, rejected, unanswered, latency, .. } = &phase.report;
        writeln!(out)?;
        writeln!(out, "readings sent    {sent:>12}, to {} shards", phase.report.shards)?;
        writeln!(out, "  stored         {stored:>12}")?;
        writeln!(out, "  late           {late:>12}")?;
        writeln!(out, "  duplicate      {duplicate:>12}")?;
        writeln!(out, "  rejected       {rejected:>12}")?;
        writeln!(out, "  unanswered     {unanswered:>12}")?;
        writeln!(out, "rate             {:>12.0} /s over {:.1} s", phase.report.rate_per_s, phase.report.elapsed_s)?;
        if !phase.report.is_rate_reached {
            writeln!(out, "NOT REACHED      {:>12.0} /s were asked for", phase.report.asked_per_s)?;
        }
        writeln!(
            out,
            "due to acknowledged  p50 {:.1} ms  p90 {:.1} ms  p99 {:.1} ms  p99.9 {:.1} ms  max {:.1} ms",
            latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p999_ms, latency.max_ms
        )?;
        if let Some(CallReport { errors, asked_per_s, rate_per_s, is_rate_reached, latency, .. }) = &phase.reads {
            let reached = if *is_rate_reached { "" } else { " NOT REACHED" };
            writeln!(
                out,
                "reads of twins   {rate_per_s:>12.0} /s of {asked_per_s:.0} asked for{reached}, {errors} errors"
            )?;
            writeln!(
                out,
                "due to answered      p50 {:.1} ms  p99 {:.1} ms  max {:.1} ms",
                latency.p50_ms, latency.p99_ms, latency.max_ms
            )?;
        }
        if let Some(CommandReport { accepted, delivered, delivery }) = &phase.commands {
            let CallReport { answered, errors, asked_per_s, rate_per_s, is_rate_reached, latency } = accepted;
            let reached = if *is_rate_reached { "" } else { " NOT REACHED" };
            writeln!(
                out,
                "commands         {rate_per_s:>12.0} /s of {asked_per_s:.0} asked for{reached}, {errors} errors"
            )?;
            writeln!(
                out,
                "due to accepted      p50 {:.1} ms  p99 {:.1} ms  max {:.1} ms",
                latency.p50_ms, latency.p99_ms, latency.max_ms
            )?;
            writeln!(
                out,
                "due to delivered     p50 {:.1} ms  p99 {:.1} ms  max {:.1} ms, {delivered} of {answered}",
                delivery.p50_ms, delivery.p99_ms, delivery.max_ms
            )?;
        }
        if let Some(cost) = phase.cpu_us_per_reading() {
            writeln!(out, "processor time       {cost:.1} µs a reading, all nodes together")?;
        }
        for failure in &phase.failures {
            writeln!(out, "stream ended     {failure}")?;
        }
        match study.search {
            Some(SearchResult { p99_ms_bound, rate_per_s: Some(rate) }) => {
                writeln!(out, "highest rate with p99 at most {p99_ms_bound} ms: {rate:.0} readings/s")?;
            }
            Some(SearchResult { p99_ms_bound, rate_per_s: None }) => {
                writeln!(out, "no rate kept p99 at most {p99_ms_bound} ms")?;
            }
            None => {}
        }
        Ok(())
    }
}

fn judge(report: &LoadReport, p99_ms_bound: f64) -> Trial {
    let is_complete = report.errors == 0 && report.unanswered == 0 && report.rejected == 0;
    let keeps = report.is_rate_reached && is_complete && report.latency.p99_ms <= p99_ms_bound;
    if keeps { Trial::Kept } else { Trial::Broken }
}

fn verdict(report: &LoadReport, trial: Trial, p99_ms_bound: f64) -> String {
    let LoadReport { asked_per_s, rate_per_s, is_rate_reached, latency, .. } = report;
    let reached = if *is_rate_reached { "reached" } else { "NOT REACHED" };
    let kept = match trial {
        Trial::Kept => "keeps",
        Trial::Broken => "breaks",
    };
    format!(
        "  {rate_per_s:.0} of {asked_per_s:.0} readings/s {reached}, p50 {:.1} ms, p99 {:.1} ms: {kept} the bound of {p99_ms_bound} ms",
        latency.p50_ms, latency.p99_ms
    )
}

fn progress(last: &LoadProgress, now: &LoadProgress) -> String {
    let acknowledged = now.totals.acknowledged - last.totals.acknowledged;
    let seconds = (now.elapsed - last.elapsed).as_secs_f64().max(1e-3);
    #[expect(clippy::cast_precision_loss, reason = "a second's readings are far below 2^53")]
    let rate = acknowledged as f64 / seconds;
    format!(
        "{:>5.0} s  sent {:>10}  acknowledged {:>10}  {rate:>8.0} /s",
        now.elapsed.as_secs_f64(),
        now.totals.sent,
        now.totals.acknowledged,
    )
}
