//! A load, or several with different rates, as a file for programs and a page for people.
use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::{CallReport, CommandReport, LoadOutcome, LoadPlan, LoadReport, LoadSecond};
use crate::page::{Axis, Page, Plot};
use crate::resources::UsagePoint;

/// Distributions in one plot; more could not be told apart.
const LINES_MAX: usize = 7;

/// All that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct LoadStudy {
    pub devices: u32,
    pub districts: u32,
    pub streams: u32,
    pub linger_ms: f64,
    pub shards: usize,
    /// Time until the devices were registered and attached, before the first phase.
    pub prepare_s: f64,
    /// What a search was for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchResult>,
    pub phases: Vec<LoadPhase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SearchResult {
    pub p99_ms_bound: f64,
    /// The highest rate that kept the bound for the whole time of the last phase; none if no rate did.
    pub rate_per_s: Option<f64>,
}

/// One rate for some time.
#[derive(Clone, Debug, Serialize)]
pub struct LoadPhase {
    pub name: String,
    pub warm_up_s: f64,
    pub duration_s: f64,
    /// Of the readings.
    pub report: LoadReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads: Option<CallReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commands: Option<CommandReport>,
    pub seconds: Vec<LoadSecond>,
    /// One reading in so many was slower than so many milliseconds.
    pub one_in_slower_ms: Vec<(f64, f64)>,
    /// By node; empty when the nodes' processes are not on this machine.
    pub nodes: BTreeMap<u64, Vec<UsagePoint>>,
    pub failures: Vec<String>,
}

impl LoadPhase {
    pub fn new(name: String, warm_up_s: f64, plan: &LoadPlan, outcome: LoadOutcome) -> Self {
        Self {
            name,
            warm_up_s,
            duration_s: plan.duration.as_secs_f64(),
            report: outcome.report,
            reads: outcome.reads,
            commands: outcome.commands,
            one_in_slower_ms: outcome.latencies.distribution(),
            seconds: outcome.seconds,
            nodes: BTreeMap::new(),
            failures: outcome.failures,
        }
    }

    /// Processor time of all nodes for a reading, over the whole phase; none when the nodes were not seen.
    pub fn cpu_us_per_reading(&self) -> Option<f64> {
        let mut busy_s = 0.0;
        for points in self.nodes.values() {
            let begins = std::iter::once(0.0).chain(points.iter().map(|point| point.at_s));
            busy_s +=
                points.iter().zip(begins).map(|(point, begin)| point.processors * (point.at_s - begin)).sum::<f64>();
        }
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 readings")]
        let acknowledged = (self.report.sent - self.report.unanswered) as f64;
        (busy_s > 0.0 && acknowledged > 0.0).then(|| busy_s * 1e6 / acknowledged)
    }
}

impl LoadStudy {
    /// One page with all plots; nothing is loaded from elsewhere.
    pub fn page(&self) -> String {
        let mut page = Page::new("Kvarter under load");
        let Self { devices, districts, streams, linger_ms, shards, prepare_s, .. } = self;
        page.paragraph(&format!(
            "Open loop: readings are due by a schedule that waits for no answer, and a latency counts from when its \
             reading was due to its durable acknowledgement. {devices} devices in {districts} districts and {shards} shards, \
             {streams} gateway streams, readings that become due within {linger_ms} ms in one batch; registered and attached \
             in {prepare_s:.1} s."
        ));
        if let Some(search) = &self.search {
            let bound = search.p99_ms_bound;
            page.paragraph(&match search.rate_per_s {
                Some(rate) => format!("Highest rate found with p99 at most {bound} ms: {rate:.0} readings/s."),
                None => format!("No rate kept p99 at most {bound} ms."),
            });
        }
        page.table(&self.table());
        page.plot(&self.distribution());
        for phase in &self.phases {
            phase.write(&mut page);
        }
        page.finish()
    }

    fn table(&self) -> Vec<Vec<String>> {
        let head = [
            "phase",
            "asked /s",
            "reached /s",
            "",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
            "errors",
            "CPU µs/reading",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for phase in &self.phases {
            let LoadReport { asked_per_s, rate_per_s, is_rate_reached, latency, .. } = &phase.report;
            let errors = phase.report.errors + phase.report.rejected + phase.report.unanswered;
            rows.push(vec![
                phase.name.clone(),
                format!("{asked_per_s:.0}"),
                format!("{rate_per_s:.0}"),
                if *is_rate_reached { String::new() } else { "not reached".to_owned() },
                format!("{:.1}", latency.p50_ms),
                format!("{:.1}", latency.p99_ms),
                format!("{:.1}", latency.p999_ms),
                format!("{:.1}", latency.max_ms),
                errors.to_string(),
                phase.cpu_us_per_reading().map_or_else(|| "-".to_owned(), |cost| format!("{cost:.1}")),
            ]);
        }
        rows
    }

    fn distribution(&self) -> Plot {
        let mut plot = Plot::over("Latency distribution: one reading in N is slower", "N", "ms");
        (plot.x.1, plot.y.1) = (Axis::Logarithmic, Axis::Logarithmic);
        // The last first: of a search, what was found and the trials closest to it.
        self.phases.iter().rev().take(LINES_MAX).fold(plot, |plot, phase| {
            let name = format!("{:.0}/s, {} s", phase.report.asked_per_s, phase.duration_s);
            plot.line(&name, phase.one_in_slower_ms.iter().copied())
        })
    }
}

impl LoadPhase {
    fn write(&self, page: &mut Page) {
        page.heading(&self.name);
        let mut words =
            format!("{} s, of which the first {} s are not in the latencies above. ", self.duration_s, self.warm_up_s);
        let LoadReport { sent, stored, late, duplicate, rejected, unanswered, disconnects, .. } = &self.report;
        let counts = format_args!(
            "{sent} readings sent: {stored} stored, {late} late, {duplicate} duplicate, {rejected} rejected, {unanswered} \
             unanswered; {disconnects} connections lost."
        );
        words.write_fmt(counts).expect("a string takes what is written to it");
        page.paragraph(&words);
        if let Some(reads) = &self.reads {
            let CallReport { answered, errors, asked_per_s, rate_per_s, latency, .. } = reads;
            let reached = if reads.is_rate_reached { "" } else { " (not reached)" };
            page.paragraph(&format!(
                "Linearizable reads of twins: {rate_per_s:.0} of {asked_per_s:.0} in a second{reached}, {answered} answered, \
                 {errors} errors, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms.",
                latency.p50_ms, latency.p99_ms, latency.max_ms
            ));
        }
        if let Some(CommandReport { accepted, delivered, delivery }) = &self.commands {
            let CallReport { answered, errors, asked_per_s, rate_per_s, latency, .. } = accepted;
            let reached = if accepted.is_rate_reached { "" } else { " (not reached)" };
            page.paragraph(&format!(
                "Commands: {rate_per_s:.0} of {asked_per_s:.0} in a second{reached}, {answered} accepted, {errors} errors, p50 \
                 {:.1} ms, p99 {:.1} ms; {delivered} delivered, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms.",
                latency.p50_ms, latency.p99_ms, delivery.p50_ms, delivery.p99_ms, delivery.max_ms
            ));
        }
        for failure in &self.failures {
            page.paragraph(failure);
        }
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 readings in a second")]
        let line = |figure: fn(&LoadSecond) -> u64| {
            self.seconds.iter().map(move |second| (f64::from(second.until_s), figure(second) as f64))
        };
        let latency = |figure: fn(&LoadSecond) -> f64| {
            let heard = self.seconds.iter().filter(|second| second.acknowledged > 0);
            heard.map(move |second| (f64::from(second.until_s), figure(second)))
        };
        let end = self.duration_s.ceil();
        let asked = self.report.asked_per_s;
        let mut plots = vec![
            Plot::over("Throughput", "s", "readings/s")
                .line("acknowledged", line(|second| second.acknowledged))
                .line("asked for", [(0.0, asked), (end, asked)]),
        ];
        let mut percentiles = Plot::over("Latency of what was acknowledged in a second", "s", "ms")
            .line("max", latency(|second| second.latency.max_ms))
            .line("p99", latency(|second| second.latency.p99_ms))
            .line("p90", latency(|second| second.latency.p90_ms))
            .line("p50", latency(|second| second.latency.p50_ms));
        percentiles.y.1 = Axis::Logarithmic;
        plots.push(percentiles);
        plots.push(
            Plot::over("Errors", "s", "in a second")
                .line("rejected", line(|second| second.rejected))
                .line("lost connections", line(|second| second.disconnects)),
        );
        let of_nodes = |title: &str, unit: &str, figure: fn(&UsagePoint) -> f64| {
            self.nodes.iter().fold(Plot::over(title, "s", unit), |plot, (node, points)| {
                plot.line(&format!("node {node}"), points.iter().map(|point| (point.at_s, figure(point))))
            })
        };
        if !self.nodes.is_empty() {
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 bytes")]
            let resident = |point: &UsagePoint| point.resident_bytes as f64 / 1e6;
            plots.push(of_nodes("Processors busy", "processors", |point| point.processors));
            plots.push(of_nodes("Resident memory", "MB", resident));
            plots.push(of_nodes("Written to the disk", "MB/s", |point| point.written_bytes_per_s / 1e6));
        }
        for mut plot in plots {
            if self.warm_up_s > 0.0 {
                plot.marks.push((self.warm_up_s, "measured from here".to_owned()));
            }
            page.plot(&plot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::LatencySummary;

    fn phase() -> LoadPhase {
        let latency = LatencySummary { p50_ms: 2.0, p99_ms: 9.0, ..LatencySummary::default() };
        let report =
            LoadReport { sent: 1_000_000, asked_per_s: 500.0, rate_per_s: 400.0, latency, ..LoadReport::default() };
        let point = |at_s| UsagePoint { at_s, processors: 0.5, ..UsagePoint::default() };
        LoadPhase {
            name: "500 /s".to_owned(),
            warm_up_s: 1.0,
            duration_s: 4.0,
            report,
            reads: None,
            commands: None,
            seconds: (1..=4)
                .map(|until_s| LoadSecond { until_s, acknowledged: 400, ..LoadSecond::default() })
                .collect(),
            one_in_slower_ms: vec![(1.0, 0.5), (100.0, 9.0)],
            nodes: BTreeMap::from([(1, vec![point(2.0), point(4.0)]), (2, vec![point(4.0)])]),
            failures: Vec::new(),
        }
    }

    #[test]
    fn a_page_has_every_plot_and_says_what_was_not_reached() {
        let study = LoadStudy {
            devices: 10,
            districts: 2,
            streams: 1,
            linger_ms: 5.0,
            shards: 2,
            prepare_s: 0.5,
            search: Some(SearchResult { p99_ms_bound: 100.0, rate_per_s: None }),
            phases: vec![phase()],
        };
        let page = study.page();
        assert_eq!(page.matches("<svg").count(), 7, "{page}");
        assert!(page.contains("not reached") && page.contains("No rate kept p99 at most 100 ms"), "{page}");
    }

    #[test]
    fn the_cost_of_a_reading_is_that_of_all_nodes() {
        // Two nodes, half a processor for four seconds each: 4 s for a million readings.
        let cost = phase().cpu_us_per_reading().unwrap();
        assert!((cost - 4.0).abs() < 1e-9, "{cost}");
        assert_eq!(LoadPhase { nodes: BTreeMap::new(), ..phase() }.cpu_us_per_reading(), None);
    }
}
