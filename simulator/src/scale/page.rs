//! The figures of a scaling measurement as a page of plots.
use super::{DevicesFigures, Scale, ShardsFigures};
use crate::page::{Axis, Page, Plot};

impl Scale {
    /// One page with all plots; nothing is loaded from elsewhere.
    pub fn page(&self) -> String {
        let mut page = Page::new("How Kvarter scales on one machine");
        let Self { processors, clients, readings_per_batch, phase_s, warm_up_s, shards_fixed, devices_fixed, .. } =
            self;
        page.paragraph(&format!(
            "Three nodes and {clients} clients share {processors} processors. Each client is a gateway stream with one batch of \
             {readings_per_batch} readings at a time. Every row is a fresh cluster, measured for {phase_s} s after {warm_up_s} s \
             of warm-up; processor time is that of the three nodes together."
        ));
        if !self.by_devices.is_empty() {
            page.heading(&format!("Registered devices, {shards_fixed} shards, at a fixed rate"));
            page.table(&self.devices_table());
            let by = |figure: fn(&DevicesFigures) -> f64| {
                self.by_devices.iter().map(move |figures| (precise(figures.devices), figure(figures)))
            };
            let plots = [
                Plot::over("Cost of a reading", "registered devices", "µs of CPU")
                    .line("all nodes", by(|figures| figures.phase.cpu_us_per_record)),
                Plot::over("Resident memory of a node", "registered devices", "MB")
                    .line("mean of three", by(|figures| figures.resident_bytes_per_node / 1e6)),
                Plot::over("Latency from due to durable", "registered devices", "ms")
                    .line("p99", by(|figures| figures.phase.latency.p99_ms))
                    .line("p50", by(|figures| figures.phase.latency.p50_ms)),
                Plot::over("Time to register and attach", "registered devices", "s")
                    .line("all", by(|figures| figures.prepare_s)),
            ];
            plots.into_iter().for_each(|plot| page.plot(&logarithmic(plot)));
        }
        if !self.by_shards.is_empty() {
            page.heading(&format!("Shards, {devices_fixed} devices, as fast as it goes"));
            page.table(&self.shards_table());
            let by = |figure: fn(&ShardsFigures) -> f64| {
                self.by_shards.iter().map(move |figures| (f64::from(figures.shards), figure(figures)))
            };
            let plots = [
                Plot::over("Throughput", "shards", "readings/s")
                    .line("most", by(|figures| figures.phase.records_per_s)),
                Plot::over("Cost of a reading", "shards", "µs of CPU")
                    .line("all nodes", by(|figures| figures.phase.cpu_us_per_record)),
                Plot::over("Written for a reading", "shards", "bytes")
                    .line("all nodes", by(|figures| figures.phase.written_bytes_per_record)),
            ];
            plots.into_iter().for_each(|plot| page.plot(&logarithmic(plot)));
        }
        page.finish()
    }

    fn devices_table(&self) -> Vec<Vec<String>> {
        let head = [
            "devices",
            "readings/s",
            "asked /s",
            "µs CPU/reading",
            "bytes written/reading",
            "p99 ms",
            "MB/node",
            "prepared in s",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.by_devices.iter().map(
            |DevicesFigures { devices, prepare_s, resident_bytes_per_node, phase }| {
                vec![
                    devices.to_string(),
                    format!("{:.0}", phase.records_per_s),
                    phase.asked_per_s.map_or_else(|| "-".to_owned(), |asked| format!("{asked:.0}")),
                    format!("{:.1}", phase.cpu_us_per_record),
                    format!("{:.0}", phase.written_bytes_per_record),
                    format!("{:.1}", phase.latency.p99_ms),
                    format!("{:.0}", resident_bytes_per_node / 1e6),
                    format!("{prepare_s:.1}"),
                ]
            },
        ));
        rows
    }

    fn shards_table(&self) -> Vec<Vec<String>> {
        let head = ["shards", "readings/s", "µs CPU/reading", "bytes written/reading", "p50 ms", "p99 ms"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.by_shards.iter().map(|ShardsFigures { shards, phase }| {
            vec![
                shards.to_string(),
                format!("{:.0}", phase.records_per_s),
                format!("{:.1}", phase.cpu_us_per_record),
                format!("{:.0}", phase.written_bytes_per_record),
                format!("{:.1}", phase.latency.p50_ms),
                format!("{:.1}", phase.latency.p99_ms),
            ]
        }));
        rows
    }
}

/// Devices and shards grow by factors.
fn logarithmic(mut plot: Plot) -> Plot {
    plot.x.1 = Axis::Logarithmic;
    plot
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 devices")]
fn precise(count: usize) -> f64 {
    count as f64
}
