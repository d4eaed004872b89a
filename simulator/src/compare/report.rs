//! Medians over the rounds, and ratios: one object for programs, a table for people.
use std::fmt;

use kvarter_api::v1::ReadingBatch;
use prost::Message;
use serde::Serialize;
use serde_json::{Value, json};

use super::entries::EntriesFigures;
use super::plan::{BATCH_CLIENTS, ComparePlan, DEVICES, ENTRIES_ROUNDS_MAX, NODES, RECORDS_PER_BATCH, Setting};
use super::system::Clients;
use super::turn::{PhaseFigures, RateFigures, RequestShapes, TurnFigures};

/// The same of both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Contrast<T> {
    pub kvarter: T,
    pub etcd: T,
}

/// One turn of each.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Round {
    pub etcd: TurnFigures,
    pub kvarter: TurnFigures,
}

/// A comparison with all its figures; those of parts that were not asked for are absent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    pub setting: Setting,
    pub shapes: Option<Contrast<RequestShapes>>,
    pub rounds: Vec<Round>,
    /// One of each round.
    pub entries: Vec<Contrast<EntriesFigures>>,
}

impl Contrast<f64> {
    /// Kvarter's over etcd's; none where there is nothing to divide by.
    pub fn ratio(&self) -> Option<f64> {
        (self.etcd > 0.0 && self.kvarter.is_finite()).then(|| self.kvarter / self.etcd)
    }
}

impl Comparison {
    pub(super) fn new(plan: &ComparePlan) -> Self {
        let clients = Clients::new(BATCH_CLIENTS, DEVICES, plan.payload);
        let device = clients.devices_of(BATCH_CLIENTS / 2).last().expect("every client has devices");
        let reading = plan.payload.reading(u32::from(u8::MAX) / 2, 1, clients.first_observed_us, 1_000);
        let batch = ReadingBatch { sequence: 0, readings: vec![reading] };
        let setting = Setting {
            parts: plan.parts.clone(),
            nodes: NODES,
            shards: plan.shards,
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            etcd_tls: plan.etcd_tls,
            kvarter_tls: true,
            rounds: plan.rounds,
            entries_rounds: plan.rounds.min(ENTRIES_ROUNDS_MAX),
            phase_s: plan.duration.as_secs_f64(),
            warm_up_s: plan.warm_up.as_secs_f64(),
            devices: DEVICES,
            batch_clients: BATCH_CLIENTS,
            records_per_batch: RECORDS_PER_BATCH,
            kvarter_record_bytes: batch.encoded_len(),
            etcd_key_bytes: plan.payload.etcd_key(&device).len(),
            etcd_value_bytes: plan.payload.etcd_value(clients.first_observed_us, 1_000).len(),
        };
        Self { setting, shapes: None, rounds: Vec::new(), entries: Vec::new() }
    }

    /// Medians of what `figure` is in each turn; none where no turn has it.
    pub fn median(&self, figure: impl Fn(&TurnFigures) -> Option<f64>) -> Option<Contrast<f64>> {
        let of = |turn: fn(&Round) -> &TurnFigures| {
            median(self.rounds.iter().filter_map(|round| figure(turn(round))).collect())
        };
        Some(Contrast { kvarter: of(|round| &round.kvarter)?, etcd: of(|round| &round.etcd)? })
    }

    fn median_rate(&self, figure: impl Fn(&RateFigures) -> f64) -> Option<Contrast<f64>> {
        self.median(|turn| turn.rates.as_ref().map(&figure))
    }

    fn median_of_entries(&self, figure: impl Fn(&EntriesFigures) -> f64) -> Option<Contrast<f64>> {
        let of = |system: fn(&Contrast<EntriesFigures>) -> &EntriesFigures| {
            median(self.entries.iter().map(|round| figure(system(round))).collect())
        };
        Some(Contrast { kvarter: of(|round| &round.kvarter)?, etcd: of(|round| &round.etcd)? })
    }

    /// The medians and ratios, without the rounds: short enough for one line. What was not measured is null.
    pub fn summary(&self) -> Value {
        let Headline { batched, single, p99, p99_single, failover, memory, anonymous, restart } = self.headline();
        let etcd = |contrast: Option<Contrast<f64>>| contrast.map(|contrast| contrast.etcd);
        json!({
            "ratio_single": ratio(single),
            "ratio_batched": ratio(batched),
            "p99_ratio": ratio(p99),
            "p99_ratio_single": ratio(p99_single),
            "failover_ratio": ratio(failover),
            "memory_ratio": ratio(memory),
            "anonymous_memory_ratio": ratio(anonymous),
            "restart_ratio": ratio(restart),
            "kvarter_readings_per_s": batched.map(|batched| batched.kvarter),
            "etcd_single_puts_per_s": etcd(single),
            "etcd_batched_puts_per_s": etcd(batched),
            "p99_ms": p99,
            "p99_ms_single": p99_single,
            "one_record_a_request_per_s": self.median_rate(|rates| rates.single.records_per_s),
            "cpu_us_per_record_batched": self.median_rate(|rates| rates.batched.cpu_us_per_record),
            "written_bytes_per_record_batched": self.median_rate(|rates| rates.batched.written_bytes_per_record),
            "failover_ms": failover,
            "entries": self.entries.first().map(|round| round.kvarter.entries),
            "memory_bytes_per_entry": memory,
            "anonymous_bytes_per_entry": anonymous,
            "resident_bytes_per_node": self.median_of_entries(|of| of.resident_bytes),
            "restart_s": restart,
            "prepare_s": self.median_of_entries(|of| of.prepare_s),
            "fill_s": self.median_of_entries(|of| of.fill_s),
            "errors": self.errors(),
            "setting": self.setting,
        })
    }

    fn headline(&self) -> Headline {
        let batched = self.median_rate(|rates| rates.batched.records_per_s);
        let single = self.median_rate(|rates| rates.single.records_per_s);
        Headline {
            batched,
            single: batched.zip(single).map(|(batched, single)| Contrast { etcd: single.etcd, ..batched }),
            p99: self.median_rate(|rates| rates.batched_half.latency.p99_ms),
            p99_single: self.median_rate(|rates| rates.single_half.latency.p99_ms),
            failover: self.median(|turn| turn.failover_ms),
            memory: self.median_of_entries(|of| of.resident_bytes_per_entry),
            anonymous: self.median_of_entries(|of| of.anonymous_bytes_per_entry),
            restart: self.median_of_entries(|of| of.restart_s),
        }
    }

    fn errors(&self) -> u64 {
        let of_rates = |rates: &RateFigures| -> u64 {
            [&rates.single, &rates.single_half, &rates.batched, &rates.batched_half]
                .map(|phase| phase.errors)
                .iter()
                .sum()
        };
        let turns = self.rounds.iter().flat_map(|round| [&round.etcd, &round.kvarter]);
        turns.filter_map(|turn| turn.rates.as_ref()).map(of_rates).sum()
    }
}

struct Headline {
    batched: Option<Contrast<f64>>,
    /// Kvarter's at its best beside etcd's single puts.
    single: Option<Contrast<f64>>,
    /// Each at half of the most that it carries, which is batched for both.
    p99: Option<Contrast<f64>>,
    /// Each at half of what it carries with one record a request.
    p99_single: Option<Contrast<f64>>,
    failover: Option<Contrast<f64>>,
    /// Bytes of one node for each stored entry: all that is resident, and without the pages of files, such as etcd's database,
    /// that the system can take back.
    memory: Option<Contrast<f64>>,
    anonymous: Option<Contrast<f64>>,
    restart: Option<Contrast<f64>>,
}

fn ratio(contrast: Option<Contrast<f64>>) -> Option<f64> {
    contrast?.ratio()
}

/// One phase of a turn.
type PhaseOf = fn(&RateFigures) -> &PhaseFigures;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setting { nodes, rounds, phase_s, batch_clients, records_per_batch, devices, shards, processors, .. } =
            &self.setting;
        writeln!(
            f,
            "{nodes} nodes each on {processors} processors, one after the other; medians of {rounds} rounds of {phase_s} s phases"
        )?;
        let tls = if self.setting.etcd_tls { "mutual TLS for both" } else { "mutual TLS for Kvarter, none for etcd" };
        writeln!(
            f,
            "{devices} devices, {shards} shards, {batch_clients} clients with {records_per_batch} records a request; {tls}"
        )?;
        writeln!(
            f,
            "a record is {} bytes for Kvarter, and a key of {} with a value of {} bytes for etcd",
            self.setting.kvarter_record_bytes, self.setting.etcd_key_bytes, self.setting.etcd_value_bytes
        )?;
        writeln!(f, "\n{:<46}{:>12}{:>12}{:>9}", "", "kvarter", "etcd", "ratio")?;
        let phases: [(&str, PhaseOf); 4] = [
            ("one record a request", |rates| &rates.single),
            ("one record a request, half", |rates| &rates.single_half),
            ("batched", |rates| &rates.batched),
            ("batched, half", |rates| &rates.batched_half),
        ];
        for (name, phase) in phases {
            row(f, &format!("{name}: records/s"), self.median_rate(|rates| phase(rates).records_per_s), 0)?;
            row(f, "  p50 ms", self.median_rate(|rates| phase(rates).latency.p50_ms), 1)?;
            row(f, "  p99 ms", self.median_rate(|rates| phase(rates).latency.p99_ms), 1)?;
            row(f, "  CPU µs a record, all nodes", self.median_rate(|rates| phase(rates).cpu_us_per_record), 1)?;
            let written = self.median_rate(|rates| phase(rates).written_bytes_per_record);
            row(f, "  bytes written a record, all nodes", written, 0)?;
        }
        let Headline { batched, single, p99, p99_single, failover, memory, anonymous, restart } = self.headline();
        row(f, "batched beside etcd's single puts: records/s", single, 0)?;
        row(f, "batched beside etcd's batched puts: records/s", batched, 0)?;
        row(f, "p99 ms at half of the most, batched", p99, 1)?;
        row(f, "p99 ms at half of the most, one a request", p99_single, 1)?;
        row(f, "time without writes after a kill, ms", failover, 0)?;
        if let Some(Contrast { kvarter, .. }) = self.entries.first() {
            let rounds = self.entries.len();
            writeln!(f, "with {} entries, medians of {rounds} rounds", kvarter.entries)?;
        }
        row(f, "  resident bytes an entry and node", memory, 0)?;
        row(f, "  of these anonymous", anonymous, 0)?;
        row(f, "  resident MB a node", self.median_of_entries(|of| of.resident_bytes / 1e6), 0)?;
        row(f, "  restart of all nodes until each writes, s", restart, 1)?;
        row(f, "  prepared in, s", self.median_of_entries(|of| of.prepare_s), 1)?;
        row(f, "  filled in, s", self.median_of_entries(|of| of.fill_s), 1)
    }
}

/// Nothing where nothing was measured.
fn row(f: &mut fmt::Formatter<'_>, name: &str, contrast: Option<Contrast<f64>>, digits: usize) -> fmt::Result {
    let Some(contrast) = contrast else { return Ok(()) };
    let ratio = contrast.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
    writeln!(f, "{name:<46}{:>12.digits$}{:>12.digits$}{ratio:>9}", contrast.kvarter, contrast.etcd)
}

impl fmt::Display for EntriesFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prepare_s, fill_s, resident_bytes, resident_bytes_per_entry, restart_s, .. } = self;
        let resident = resident_bytes / 1e6;
        write!(f, "prepared in {prepare_s:.1} s, filled in {fill_s:.1} s, {resident:.0} MB resident a node, ")?;
        write!(f, "{resident_bytes_per_entry:.0} bytes an entry, restart in {restart_s:.1} s")
    }
}

/// None of nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        even if even.is_multiple_of(2) => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::compare::plan::Part;
    use crate::compare::turn::RequestShape;
    use crate::latency::LatencySummary;

    fn plan(parts: &[Part]) -> ComparePlan {
        ComparePlan {
            etcd: "etcd".into(),
            kvarter: "kvarter".into(),
            dir: "data".into(),
            parts: parts.iter().copied().collect::<BTreeSet<_>>(),
            duration: Duration::from_secs(8),
            warm_up: Duration::from_secs(2),
            rounds: 3,
            etcd_tls: true,
            shards: 16,
            payload: crate::compare::Payload::Text,
            entries: 1_000_000,
        }
    }

    fn phase(records_per_s: f64, p99_ms: f64) -> PhaseFigures {
        PhaseFigures {
            shape: RequestShape { clients: 256, records_per_request: 1, leader_only: false },
            asked_per_s: None,
            records_per_s,
            latency: LatencySummary { p99_ms, ..LatencySummary::default() },
            cpu_us_per_record: 5.0,
            written_bytes_per_record: 300.0,
            errors: 1,
            last_error: None,
        }
    }

    fn turn(single: f64, batched: f64, p99_ms: f64, failover_ms: f64) -> TurnFigures {
        let rates = RateFigures {
            single: phase(single, 90.0),
            single_half: phase(single / 2.0, p99_ms),
            batched: phase(batched, 90.0),
            batched_half: phase(batched / 2.0, 2.0 * p99_ms),
        };
        TurnFigures { rates: Some(rates), failover_ms: Some(failover_ms) }
    }

    fn entries(resident_bytes_per_entry: f64, restart_s: f64) -> EntriesFigures {
        let entries = 1_000_000;
        EntriesFigures { entries, resident_bytes_per_entry, restart_s, ..EntriesFigures::default() }
    }

    #[test]
    fn the_summary_has_every_ratio_of_medians() {
        let mut comparison = Comparison::new(&plan(&Part::ALL));
        for luck in [0.5, 1.0, 4.0] {
            let etcd = turn(4_000.0 * luck, 40_000.0 * luck, 20.0 * luck, 1_500.0 * luck);
            let kvarter = turn(2_000.0 * luck, 200_000.0 * luck, 8.0 * luck, 3_000.0 * luck);
            comparison.rounds.push(Round { etcd, kvarter });
        }
        for (kvarter, etcd) in [(500.0, 900.0), (700.0, 1_100.0)] {
            comparison.entries.push(Contrast { kvarter: entries(kvarter, 6.0), etcd: entries(etcd, 3.0) });
        }
        let summary = comparison.summary();
        let ratio = |name: &str| summary[name].as_f64().unwrap_or_else(|| panic!("{name} is missing"));
        assert!((ratio("ratio_single") - 50.0).abs() < 1e-9);
        assert!((ratio("ratio_batched") - 5.0).abs() < 1e-9);
        assert!((ratio("p99_ratio") - 16.0 / 40.0).abs() < 1e-9, "batched beside batched");
        assert!((ratio("p99_ratio_single") - 8.0 / 20.0).abs() < 1e-9);
        assert!((ratio("failover_ratio") - 2.0).abs() < 1e-9);
        assert!((ratio("memory_ratio") - 0.6).abs() < 1e-9);
        assert!((ratio("restart_ratio") - 2.0).abs() < 1e-9);
        assert_eq!((summary["entries"].as_u64(), summary["errors"].as_u64()), (Some(1_000_000), Some(24)));
        assert!(comparison.to_string().contains("resident bytes an entry and node"));
    }

    #[test]
    fn a_part_that_was_not_measured_is_null_and_has_no_row() {
        let mut comparison = Comparison::new(&plan(&[Part::Failover]));
        let turn = |failover_ms| TurnFigures { rates: None, failover_ms: Some(failover_ms) };
        comparison.rounds.push(Round { etcd: turn(1_000.0), kvarter: turn(1_500.0) });
        let summary = comparison.summary();
        assert_eq!(summary["failover_ratio"].as_f64(), Some(1.5));
        for absent in ["ratio_single", "ratio_batched", "p99_ratio", "memory_ratio", "restart_ratio"] {
            assert!(summary.as_object().is_some_and(|summary| summary.contains_key(absent)), "{absent}");
            assert!(summary[absent].is_null(), "{absent}");
        }
        assert!(!comparison.to_string().contains("batched, half"), "{comparison}");
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(vec![4.0, 2.0]), Some(3.0));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        assert_eq!(Contrast { kvarter: 3.0, etcd: 0.0 }.ratio(), None);
        assert_eq!(Contrast { kvarter: 3.0, etcd: 2.0 }.ratio(), Some(1.5));
    }
}
