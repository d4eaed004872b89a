//! One plot as SVG: lines over a linear or logarithmic axis.
use std::fmt::Write;

use super::escaped;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 45.0;
const TICKS: f64 = 6.0;
/// Told apart by people who do not tell red from green (Okabe and Ito, "Color Universal Design", 2008).
const COLORS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#888888"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// From 0, or from below when a value is.
    Linear,
    /// Values that are not above 0 are left out.
    Logarithmic,
}

#[derive(Clone, Debug)]
pub struct Plot {
    pub title: String,
    pub x: (String, Axis),
    pub y: (String, Axis),
    pub lines: Vec<Line>,
    /// Where something began, on the horizontal axis.
    pub marks: Vec<(f64, String)>,
}

#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    /// In order of the first.
    pub points: Vec<(f64, f64)>,
}

impl Plot {
    /// A plot over a linear axis from 0.
    pub fn over(title: &str, x: &str, y: &str) -> Self {
        Self {
            title: title.to_owned(),
            x: (x.to_owned(), Axis::Linear),
            y: (y.to_owned(), Axis::Linear),
            lines: Vec::new(),
            marks: Vec::new(),
        }
    }

    #[must_use]
    pub fn line(mut self, name: &str, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        self.lines.push(Line { name: name.to_owned(), points: points.into_iter().collect() });
        self
    }

    /// The plot as an `svg` element.
    pub fn svg(&self) -> String {
        let of = |value: fn(&(f64, f64)) -> f64| self.lines.iter().flat_map(|line| &line.points).map(value);
        let x = Scale::new(self.x.1, of(|point| point.0), LEFT, WIDTH - RIGHT);
        let y = Scale::new(self.y.1, of(|point| point.1), HEIGHT - BOTTOM, TOP);
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
        text(&mut svg, LEFT, 18.0, "start", "title", &self.title);
        for tick in x.ticks() {
            let at = x.place(tick);
            rule(&mut svg, (at, TOP), (at, HEIGHT - BOTTOM), "grid");
            text(&mut svg, at, HEIGHT - BOTTOM + 16.0, "middle", "tick", &short(tick));
        }
        for tick in y.ticks() {
            let at = y.place(tick);
            rule(&mut svg, (LEFT, at), (WIDTH - RIGHT, at), "grid");
            text(&mut svg, LEFT - 6.0, at + 4.0, "end", "tick", &short(tick));
        }
        for (place, name) in self.marks.iter().filter(|(place, _)| x.holds(*place)) {
            rule(&mut svg, (x.place(*place), TOP), (x.place(*place), HEIGHT - BOTTOM), "mark");
            text(&mut svg, x.place(*place) + 3.0, TOP + 10.0, "start", "tick", name);
        }
        text(&mut svg, f64::midpoint(LEFT, WIDTH - RIGHT), HEIGHT - 8.0, "middle", "label", &self.x.0);
        text(&mut svg, 8.0, TOP - 6.0, "start", "label", &self.y.0);
        for ((line, color), row) in self.lines.iter().zip(COLORS.iter().cycle()).zip(0..) {
            let points = line.points.iter().filter(|point| x.holds(point.0) && y.holds(point.1));
            let points: Vec<String> =
                points.map(|point| format!("{:.1},{:.1}", x.place(point.0), y.place(point.1))).collect();
            let shape = if points.len() == 1 { "stroke-width=\"6\" stroke-linecap=\"round\"" } else { "" };
            let path = points.iter().chain(points.first().filter(|_| points.len() == 1));
            let path = path.map(String::as_str).collect::<Vec<_>>().join(" ");
            append(&mut svg, format_args!("<polyline class=\"line\" stroke=\"{color}\" {shape} points=\"{path}\"/>\n"));
            let at = TOP + 8.0 + 16.0 * f64::from(row);
            let from = WIDTH - RIGHT + 12.0;
            append(
                &mut svg,
                format_args!(
                    "<line stroke=\"{color}\" stroke-width=\"3\" x1=\"{from}\" x2=\"{}\" y1=\"{at}\" y2=\"{at}\"/>\n",
                    from + 16.0
                ),
            );
            text(&mut svg, from + 21.0, at + 4.0, "start", "tick", &line.name);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// From values to places.
struct Scale {
    axis: Axis,
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn new(axis: Axis, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let usable = values.filter(|value| value.is_finite() && (axis == Axis::Linear || *value > 0.0));
        let (least, most) =
            usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)));
        let (least, most) = match axis {
            _ if least > most => (1.0, 10.0),
            Axis::Linear => (least.min(0.0), if most > 0.0 { most * 1.05 } else { 1.0 }),
            Axis::Logarithmic => (10_f64.powf(least.log10().floor()), 10_f64.powf((most.log10() + 1e-9).ceil())),
        };
        // A single decade, or a single value, would be a point.
        let most = if most > least { most } else { least * 10.0 + 1.0 };
        Self { axis, least, most, from, to }
    }

    fn holds(&self, value: f64) -> bool {
        value.is_finite() && (self.axis == Axis::Linear || value > 0.0) && value <= self.most && value >= self.least
    }

    fn place(&self, value: f64) -> f64 {
        let share = match self.axis {
            Axis::Linear => (value - self.least) / (self.most - self.least),
            Axis::Logarithmic => (value / self.least).log10() / (self.most / self.least).log10(),
        };
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.axis {
            Axis::Linear => {
                let rough = (self.most - self.least) / TICKS;
                let decade = 10_f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|part| part * decade).into_iter().find(|step| *step >= rough);
                let step = step.unwrap_or(rough);
                let first = (self.least / step).ceil() * step;
                (0..20).map(|number| first + f64::from(number) * step).take_while(|tick| *tick <= self.most).collect()
            }
            Axis::Logarithmic => {
                let first = self.least.log10().round();
                let decades = (0..30).map(|number| 10_f64.powf(first + f64::from(number)));
                decades.take_while(|tick| *tick <= self.most * 1.000_001).collect()
            }
        }
    }
}

fn rule(svg: &mut String, from: (f64, f64), to: (f64, f64), class: &str) {
    append(
        svg,
        format_args!(
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>\n",
            from.0, from.1, to.0, to.1
        ),
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, class: &str, words: &str) {
    let words = escaped(words);
    append(
        svg,
        format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>\n"),
    );
}

fn append(svg: &mut String, words: std::fmt::Arguments<'_>) {
    svg.write_fmt(words).expect("a string takes what is written to it");
}

/// A number in few characters: 250k, 1.5M, 0.05.
pub(super) fn short(number: f64) -> String {
    let (scaled, unit) = match number.abs() {
        size if size >= 1e9 => (number / 1e9, "G"),
        size if size >= 1e6 => (number / 1e6, "M"),
        size if size >= 1e4 => (number / 1e3, "k"),
        _ => (number, ""),
    };
    let digits = match scaled.abs() {
        size if !(1e-9..100.0).contains(&size) => 0,
        size if size >= 1.0 => 2,
        _ => 4,
    };
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 0.05, 1.5, 250.0, 9_999.0, 250_000.0, 1_500_000.0].map(short);
        assert_eq!(all, ["0", "0.05", "1.5", "250", "9999", "250k", "1.5M"]);
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_a_logarithmic_one_at_a_decade() {
        let linear = Scale::new(Axis::Linear, [20.0, 95.0].into_iter(), 0.0, 100.0);
        assert!(linear.place(0.0).abs() < 1e-9 && linear.place(95.0) < 100.0);
        assert_eq!(linear.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0]);
        let decades = Scale::new(Axis::Logarithmic, [0.3, 40.0, 0.0].into_iter(), 0.0, 100.0);
        assert!((decades.place(0.1)).abs() < 1e-6 && (decades.place(100.0) - 100.0).abs() < 1e-6);
        assert_eq!(decades.ticks().len(), 4);
    }

    #[test]
    fn what_can_not_be_placed_is_left_out() {
        let mut plot = Plot::over("a & b", "s", "ms").line("p50", [(1.0, f64::NAN), (2.0, 5.0), (3.0, 6.0)]);
        plot.y.1 = Axis::Logarithmic;
        let svg = plot.line("p99", [(1.0, 0.0)]).svg();
        assert!(svg.contains("a &amp; b") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(!Plot::over("nothing", "s", "ms").svg().contains("NaN"));
    }
}
