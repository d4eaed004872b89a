//! Medians over the rounds, and ratios: one object for programs, a table for people.
use std::fmt;

use kvarter_api::v1::ReadingBatch;
use prost::Message;
use serde::Serialize;
use serde_json::{Value, json};

use super::entries::EntriesFigures;
use super::plan::{BATCH_CLIENTS, ComparePlan, DEVICES, RECORDS_PER_BATCH, Setting};
use super::system::Clients;
use super::turn::{PhaseFigures, Shapes, TurnFigures};

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

/// A comparison with all its figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    pub setting: Setting,
    pub etcd_shapes: Option<Shapes>,
    pub kvarter_shapes: Option<Shapes>,
    pub rounds: Vec<Round>,
    pub entries: Option<Contrast<EntriesFigures>>,
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
            nodes: 3,
            shards: plan.shards,
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            etcd_tls: plan.tls,
            rounds: plan.rounds,
            phase_s: plan.duration.as_secs_f64(),
            warm_up_s: plan.warm_up.as_secs_f64(),
            devices: DEVICES,
            batch_clients: BATCH_CLIENTS,
            records_per_batch: RECORDS_PER_BATCH,
            kvarter_record_bytes: batch.encoded_len(),
            etcd_key_bytes: plan.payload.etcd_key(&device).len(),
            etcd_value_bytes: plan.payload.etcd_value(clients.first_observed_us, 1_000).len(),
        };
        Self { setting, etcd_shapes: None, kvarter_shapes: None, rounds: Vec::new(), entries: None }
    }

    /// Medians of what `figure` is in each turn.
    pub fn median(&self, figure: impl Fn(&TurnFigures) -> f64) -> Contrast<f64> {
        let of =
            |turn: fn(&Round) -> &TurnFigures| median(self.rounds.iter().map(|round| figure(turn(round))).collect());
        Contrast { kvarter: of(|round| &round.kvarter), etcd: of(|round| &round.etcd) }
    }

    /// The medians and ratios, without the rounds: short enough for one line.
    pub fn summary(&self) -> Value {
        let Headline { batched, single, p99, failover } = self.headline();
        let mut summary = json!({
            "ratio_single": single.ratio(),
            "ratio_batched": batched.ratio(),
            "p99_ratio": p99.ratio(),
            "failover_ratio": failover.ratio(),
            "kvarter_readings_per_s": batched.kvarter,
            "etcd_single_puts_per_s": single.etcd,
            "etcd_batched_puts_per_s": batched.etcd,
            "p99_ms": p99,
            "p99_ms_etcd_single": self.median(|turn| turn.single_half.latency.p99_ms).etcd,
            "p99_ms_etcd_batched": self.median(|turn| turn.batched_half.latency.p99_ms).etcd,
            "one_record_a_request_per_s": self.median(|turn| turn.single.records_per_s),
            "cpu_us_per_record_batched": self.median(|turn| turn.batched.cpu_us_per_record),
            "written_bytes_per_record_batched": self.median(|turn| turn.batched.written_bytes_per_record),
            "failover_ms": failover,
            "errors": self.errors(),
            "setting": self.setting,
        });
        if let (Some(entries), Value::Object(summary)) = (&self.entries, &mut summary) {
            let contrast = |figure: fn(&EntriesFigures) -> f64| Contrast {
                kvarter: figure(&entries.kvarter),
                etcd: figure(&entries.etcd),
            };
            let memory = contrast(|of| of.resident_bytes_per_entry);
            let restart = contrast(|of| of.restart_s);
            summary.insert("entries".to_owned(), json!(entries.kvarter.entries));
            summary.insert("memory_bytes_per_entry".to_owned(), json!(memory));
            summary.insert("memory_ratio".to_owned(), json!(memory.ratio()));
            let anonymous = contrast(|of| of.anonymous_bytes_per_entry);
            summary.insert("anonymous_bytes_per_entry".to_owned(), json!(anonymous));
            summary.insert("resident_bytes_per_node".to_owned(), json!(contrast(|of| of.resident_bytes)));
            summary.insert("restart_s".to_owned(), json!(restart));
            summary.insert("restart_ratio".to_owned(), json!(restart.ratio()));
            summary.insert("prepare_s".to_owned(), json!(contrast(|of| of.prepare_s)));
            summary.insert("fill_s".to_owned(), json!(contrast(|of| of.fill_s)));
        }
        summary
    }

    fn headline(&self) -> Headline {
        let batched = self.median(|turn| turn.batched.records_per_s);
        let single = Contrast { etcd: self.median(|turn| turn.single.records_per_s).etcd, ..batched };
        // Whichever of its two ways answers sooner, so that etcd stands at its best.
        let p99 = self.median(|turn| turn.batched_half.latency.p99_ms);
        let p99_single = self.median(|turn| turn.single_half.latency.p99_ms);
        let p99 = Contrast { etcd: p99.etcd.min(p99_single.etcd), ..p99 };
        Headline { batched, single, p99, failover: self.median(|turn| turn.failover_ms) }
    }

    fn errors(&self) -> u64 {
        let of_turn = |turn: &TurnFigures| {
            [&turn.single, &turn.single_half, &turn.batched, &turn.batched_half]
                .map(|phase| phase.errors)
                .iter()
                .sum::<u64>()
        };
        self.rounds.iter().map(|round| of_turn(&round.etcd) + of_turn(&round.kvarter)).sum()
    }
}

struct Headline {
    batched: Contrast<f64>,
    /// Kvarter's at its best beside etcd's single puts.
    single: Contrast<f64>,
    p99: Contrast<f64>,
    failover: Contrast<f64>,
}

/// One phase of a turn.
type PhaseOf = fn(&TurnFigures) -> &PhaseFigures;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setting { rounds, phase_s, batch_clients, records_per_batch, devices, shards, processors, .. } =
            &self.setting;
        writeln!(
            f,
            "3 nodes each on {processors} processors, one after the other; medians of {rounds} rounds of {phase_s} s phases"
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
        writeln!(f, "\n{:<44}{:>12}{:>12}{:>9}", "", "kvarter", "etcd", "ratio")?;
        let phases: [(&str, PhaseOf); 4] = [
            ("one record a request", |turn| &turn.single),
            ("one record a request, half", |turn| &turn.single_half),
            ("batched", |turn| &turn.batched),
            ("batched, half", |turn| &turn.batched_half),
        ];
        for (name, phase) in phases {
            row(f, &format!("{name}: records/s"), self.median(|turn| phase(turn).records_per_s), 0)?;
            row(f, "  p50 ms", self.median(|turn| phase(turn).latency.p50_ms), 1)?;
            row(f, "  p99 ms", self.median(|turn| phase(turn).latency.p99_ms), 1)?;
            row(f, "  CPU µs a record, all nodes", self.median(|turn| phase(turn).cpu_us_per_record), 1)?;
            row(f, "  bytes written a record, all nodes", self.median(|turn| phase(turn).written_bytes_per_record), 0)?;
        }
        let Headline { batched, single, p99, failover } = self.headline();
        row(f, "batched beside etcd's single puts: records/s", single, 0)?;
        row(f, "batched beside etcd's batched puts: records/s", batched, 0)?;
        row(f, "p99 ms at half of the most, etcd's best way", p99, 1)?;
        row(f, "time without writes after a kill, ms", failover, 0)?;
        if let Some(Contrast { kvarter, etcd }) = &self.entries {
            let contrast =
                |figure: fn(&EntriesFigures) -> f64| Contrast { kvarter: figure(kvarter), etcd: figure(etcd) };
            writeln!(f, "with {} entries", kvarter.entries)?;
            row(f, "  resident bytes an entry and node", contrast(|of| of.resident_bytes_per_entry), 0)?;
            row(f, "  of these anonymous", contrast(|of| of.anonymous_bytes_per_entry), 0)?;
            row(f, "  resident MB a node", contrast(|of| of.resident_bytes / 1e6), 0)?;
            row(f, "  restart of all nodes, s", contrast(|of| of.restart_s), 1)?;
            row(f, "  prepared in, s", contrast(|of| of.prepare_s), 1)?;
            row(f, "  filled in, s", contrast(|of| of.fill_s), 1)?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, contrast: Contrast<f64>, digits: usize) -> fmt::Result {
    let ratio = contrast.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
    writeln!(f, "{name:<44}{:>12.digits$}{:>12.digits$}{ratio:>9}", contrast.kvarter, contrast.etcd)
}

impl fmt::Display for EntriesFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prepare_s, fill_s, resident_bytes, resident_bytes_per_entry, restart_s, .. } = self;
        let resident = resident_bytes / 1e6;
        write!(f, "prepared in {prepare_s:.1} s, filled in {fill_s:.1} s, {resident:.0} MB resident a node, ")?;
        write!(f, "{resident_bytes_per_entry:.0} bytes an entry, restart in {restart_s:.1} s")
    }
}

/// 0 of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        even if even.is_multiple_of(2) => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![9.0, 1.0, 5.0]) - 5.0).abs() < 1e-9);
        assert!((median(vec![4.0, 2.0]) - 3.0).abs() < 1e-9);
        assert!(median(Vec::new()).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        assert_eq!(Contrast { kvarter: 3.0, etcd: 0.0 }.ratio(), None);
        assert_eq!(Contrast { kvarter: 3.0, etcd: 2.0 }.ratio(), Some(1.5));
    }
}
