//! The figures of a scaling measurement as a page of plots.
use super::{DevicesFigures, NodesFigures, Scale, ShardsFigures};
use crate::compare::PhaseFigures;
use crate::page::{Axis, Page, Plot};

impl Scale {
    /// One page with all plots; nothing is loaded from elsewhere.
    pub fn page(&self) -> String {
        let mut page = Page::new("How Kvarter scales on one machine");
        let Self { processors, clients, readings_per_batch, phase_s, warm_up_s, .. } = self;
        page.paragraph(&format!(
            "All nodes and {clients} clients share {processors} processors and one disk. Each client is a gateway stream with one \
             batch of {readings_per_batch} readings at a time. Every row is a fresh cluster, measured for {phase_s} s after \
             {warm_up_s} s of warm-up; processor time is that of all nodes together, in seconds for a million readings."
        ));
        self.plot_devices(&mut page);
        self.plot_nodes(&mut page);
        self.plot_shards(&mut page);
        page.finish()
    }

    fn plot_devices(&self, page: &mut Page) {
        let Self { nodes_fixed, shards_fixed, .. } = self;
        if !self.by_devices.is_empty() {
            page.heading(&format!("Registered devices: {nodes_fixed} nodes, {shards_fixed} shards, at a fixed rate"));
            page.table(&self.devices_table());
            let by = |figure: fn(&DevicesFigures) -> f64| {
                self.by_devices.iter().map(move |figures| (precise(figures.devices), figure(figures)))
            };
            let plots = [
                Plot::over("Cost of a reading", "registered devices", "CPU s a million")
                    .line("all nodes", by(|figures| figures.phase.cpu_us_per_record)),
                Plot::over("Resident memory of a node", "registered devices", "MB")
                    .line("mean of all", by(|figures| figures.resident_bytes_per_node / 1e6)),
                Plot::over("Latency from due to durable", "registered devices", "ms")
                    .line("p99", by(|figures| figures.phase.latency.p99_ms))
                    .line("p50", by(|figures| figures.phase.latency.p50_ms)),
                Plot::over("Time to register and attach", "registered devices", "s")
                    .line("all", by(|figures| figures.prepare_s)),
            ];
            plots.into_iter().for_each(|plot| page.plot(&logarithmic(plot)));
        }
    }

    fn plot_nodes(&self, page: &mut Page) {
        if self.by_nodes.is_empty() {
            return;
        }
        let Self { processors, shards_fixed, devices_fixed, .. } = self;
        page.heading(&format!("Nodes: {shards_fixed} shards, {devices_fixed} devices, as fast as it goes"));
        page.paragraph(&format!(
            "A shard has three replicas where there are so many nodes, and one on a single node. The nodes share {processors} \
             processors here, so that this tells what replication and more processes cost; it can not tell what machines of their \
             own would bring."
        ));
        page.table(&self.nodes_table());
        let by = |figure: fn(&NodesFigures) -> f64| {
            self.by_nodes.iter().map(move |figures| (f64::from(figures.nodes), figure(figures)))
        };
        page.plot(
            &Plot::over("Throughput", "nodes", "readings/s").line("most", by(|figures| figures.phase.records_per_s)),
        );
        page.plot(
            &Plot::over("Cost of a reading", "nodes", "CPU s a million")
                .line("all nodes", by(|figures| figures.phase.cpu_us_per_record)),
        );
    }

    fn plot_shards(&self, page: &mut Page) {
        if self.by_shards.is_empty() {
            return;
        }
        let Self { nodes_fixed, devices_fixed, .. } = self;
        page.heading(&format!("Shards: {nodes_fixed} nodes, {devices_fixed} devices, as fast as it goes"));
        page.table(&self.shards_table());
        let by = |figure: fn(&ShardsFigures) -> f64| {
            self.by_shards.iter().map(move |figures| (f64::from(figures.shards), figure(figures)))
        };
        let plots = [
            Plot::over("Throughput", "shards", "readings/s").line("most", by(|figures| figures.phase.records_per_s)),
            Plot::over("Cost of a reading", "shards", "CPU s a million")
                .line("all nodes", by(|figures| figures.phase.cpu_us_per_record)),
            Plot::over("Written for a reading", "shards", "bytes")
                .line("all nodes", by(|figures| figures.phase.written_bytes_per_record)),
        ];
        plots.into_iter().for_each(|plot| page.plot(&logarithmic(plot)));
    }

    fn devices_table(&self) -> Vec<Vec<String>> {
        let head = [
            "devices",
            "readings/s",
            "asked /s",
            "CPU s/million",
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

    fn nodes_table(&self) -> Vec<Vec<String>> {
        let rows = self.by_nodes.iter().map(|NodesFigures { nodes, phase, resident_bytes_per_node }| {
            let mut row = throughput_row(*nodes, phase);
            row.push(format!("{:.0}", resident_bytes_per_node / 1e6));
            row
        });
        let head = ["nodes"].into_iter().chain(THROUGHPUT_HEAD).chain(["MB/node"]).map(str::to_owned).collect();
        std::iter::once(head).chain(rows).collect()
    }

    fn shards_table(&self) -> Vec<Vec<String>> {
        let rows = self.by_shards.iter().map(|ShardsFigures { shards, phase }| throughput_row(*shards, phase));
        let head = ["shards"].into_iter().chain(THROUGHPUT_HEAD).map(str::to_owned).collect();
        std::iter::once(head).chain(rows).collect()
    }
}

const THROUGHPUT_HEAD: [&str; 5] = ["readings/s", "CPU s/million", "bytes written/reading", "p50 ms", "p99 ms"];

fn throughput_row(count: u32, phase: &PhaseFigures) -> Vec<String> {
    vec![
        count.to_string(),
        format!("{:.0}", phase.records_per_s),
        format!("{:.1}", phase.cpu_us_per_record),
        format!("{:.0}", phase.written_bytes_per_record),
        format!("{:.1}", phase.latency.p50_ms),
        format!("{:.1}", phase.latency.p99_ms),
    ]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::RequestShape;
    use crate::latency::LatencySummary;

    #[test]
    fn one_page_has_what_grows_with_devices_nodes_and_shards() {
        let phase = |records_per_s: f64, cpu_us_per_record| PhaseFigures {
            shape: RequestShape { clients: 256, records_per_request: 128, leader_only: false },
            asked_per_s: None,
            records_per_s,
            latency: LatencySummary::default(),
            cpu_us_per_record,
            written_bytes_per_record: 300.0,
            errors: 0,
            last_error: None,
        };
        let devices = |devices| DevicesFigures {
            devices,
            prepare_s: 1.0,
            resident_bytes_per_node: 2e8,
            phase: phase(20_000.0, 31.5),
        };
        let nodes = |nodes| NodesFigures { nodes, resident_bytes_per_node: 1e8, phase: phase(77_777.0, 12.5) };
        let scale = Scale {
            processors: 2,
            clients: 256,
            readings_per_batch: 128,
            phase_s: 10.0,
            warm_up_s: 3.0,
            nodes_fixed: 3,
            shards_fixed: 16,
            devices_fixed: 10_000,
            by_devices: vec![devices(10_000), devices(1_000_000)],
            by_nodes: vec![nodes(1), nodes(3), nodes(5)],
            by_shards: vec![ShardsFigures { shards: 64, phase: phase(66_666.0, 11.0) }],
        };
        let html = scale.page();
        for cell in
            ["<td>1000000</td>", "<td>5</td>", "<td>64</td>", "<td>31.5</td>", "<td>77777</td>", "<td>66666</td>"]
        {
            assert!(html.contains(cell), "{cell} is missing");
        }
        assert_eq!(html.matches("<svg").count(), 4 + 2 + 3);
    }
}
