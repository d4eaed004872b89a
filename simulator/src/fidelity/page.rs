//! The fits as one page with plots drawn in it.
use std::fmt::Write;

use super::{Fit, Measure};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 220.0;
/// Room for the numbers at the left and below.
const LEFT: f64 = 52.0;
const BELOW: f64 = 34.0;
const ABOVE: f64 = 12.0;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Simulated beside measured</title>\n\
<style>body{font:15px/1.4 system-ui,sans-serif;margin:2em auto;max-width:1120px;color:#222}\
.plots{display:flex;flex-wrap:wrap;gap:1.5em}figure{margin:0}figcaption{width:520px}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.15em .8em;text-align:left;border-bottom:1px solid #ddd}\
td.n{text-align:right}.m{stroke:#1f5fa8}.s{stroke:#d2691e;stroke-dasharray:5 3}\
path{fill:none;stroke-width:2}line{stroke:#ccc}text{font-size:11px;fill:#555}\
b.m{color:#1f5fa8}b.s{color:#d2691e}</style></head><body>\n<h1>Simulated beside measured</h1>\n\
<p><b class=\"m\">Measured</b> in full lines, <b class=\"s\">simulated</b> in broken ones. A distance of 0 is alike.</p>\n";

pub(super) fn page(fits: &[Fit]) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("<table><tr><th>figure</th><th>distance</th><th>as</th><th>file</th></tr>\n");
    for Fit { title, distance, measure, file, .. } in fits {
        let row = format!(
            "<tr><td>{title}</td><td class=\"n\">{distance:.3}</td><td>{}</td><td>{file}</td></tr>\n",
            meaning(*measure)
        );
        page.push_str(&row);
    }
    page.push_str("</table>\n<div class=\"plots\">\n");
    for fit in fits {
        page.push_str(&plot(fit));
    }
    page.push_str("</div></body></html>\n");
    page
}

fn meaning(measure: Measure) -> &'static str {
    match measure {
        Measure::Profile => "mean difference over the measured mean",
        Measure::Shares => "half of the differences of the shares",
        Measure::Distribution => "largest difference of the shares below a value",
    }
}

fn plot(fit: &Fit) -> String {
    let values = || fit.measured.iter().chain(&fit.simulated).copied();
    let (low, high) = (values().fold(0.0, f64::min), values().fold(f64::MIN_POSITIVE, f64::max));
    let (first, last) = (fit.positions.first().copied(), fit.positions.last().copied());
    let (first, last) = (first.unwrap_or(0.0), last.unwrap_or(1.0));
    let across = |position: f64| LEFT + (position - first) / (last - first).max(1e-9) * (WIDTH - LEFT - 8.0);
    let up = |value: f64| HEIGHT - BELOW - (value - low) / (high - low).max(1e-9) * (HEIGHT - BELOW - ABOVE);
    let mut svg = format!(
        "<figure><figcaption><b>{}</b>, {} &middot; distance {:.3}</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">",
        fit.title, fit.unit, fit.distance
    );
    let mut write = |text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("writing to a string can not fail");
    for step in 0..=4_u32 {
        let value = low + (high - low) * f64::from(step) / 4.0;
        let height = up(value);
        write(format_args!("<line x1=\"{LEFT}\" y1=\"{height:.1}\" x2=\"{WIDTH}\" y2=\"{height:.1}\"/>"));
        write(format_args!("<text x=\"4\" y=\"{:.1}\">{value:.2}</text>", height + 4.0));
        let position = first + (last - first) * f64::from(step) / 4.0;
        write(format_args!(
            "<text x=\"{:.1}\" y=\"{}\">{position:.0}</text>",
            across(position) - 6.0,
            HEIGHT - BELOW + 14.0
        ));
    }
    write(format_args!("<text x=\"{LEFT}\" y=\"{}\">{}</text>", HEIGHT - 4.0, fit.axis));
    for (class, values) in [("m", &fit.measured), ("s", &fit.simulated)] {
        let mut path = String::new();
        for (position, value) in fit.positions.iter().zip(values) {
            let pen = if path.is_empty() { 'M' } else { 'L' };
            write!(path, "{pen}{:.1} {:.1}", across(*position), up(*value)).expect("writing to a string can not fail");
        }
        write(format_args!("<path class=\"{class}\" d=\"{path}\"/>"));
    }
    svg.push_str("</svg></figure>\n");
    svg
}
