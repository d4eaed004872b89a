//! How far the simulated city is from measured ones: the same figures of both, and the distance as a number.
//!
//! Start at [`Fidelity::of`]. `measured` reads the files, `simulated` runs a city of the same devices at the same season
//! without faults, `page` draws both. Curves that were made from a file are near it by design; what is shown is that the
//! devices' reports still are.
mod measured;
mod page;
mod simulated;

use std::path::Path;

use crate::replay::ReplayError;

/// How two figures are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Mean of the differences over the mean of the measured values.
    Profile,
    /// Half of the sum of the differences of the shares (total variation).
    Shares,
    /// The largest difference of the shares below any value (Kolmogorov and Smirnov).
    Distribution,
}

/// One figure, measured and simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    pub title: String,
    /// File that it was measured from.
    pub file: &'static str,
    pub unit: &'static str,
    pub measure: Measure,
    /// What stands below the plot.
    pub axis: &'static str,
    pub positions: Vec<f64>,
    pub measured: Vec<f64>,
    pub simulated: Vec<f64>,
    /// 0 is alike.
    pub distance: f64,
}

/// All fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Fidelity {
    pub fits: Vec<Fit>,
}

impl Fidelity {
    /// Reads the files in `dir` and runs the city of `seed` for so many days; its prices are always of a year.
    pub fn of(dir: &Path, seed: u64, days: u32) -> Result<Self, ReplayError> {
        let mut fits = measured::traffic(dir)?.against(simulated::traffic(seed, days));
        fits.extend(measured::garages(dir)?.against(simulated::garages(seed, days)));
        fits.extend(measured::bins(dir)?.against(simulated::bins(seed, days)));
        fits.extend(measured::sessions(dir)?.against(simulated::sessions(seed, days)));
        fits.extend(measured::prices(dir)?.against(simulated::prices(seed)));
        fits.extend(measured::water(dir)?.against(simulated::water(seed, days)));
        Ok(Self { fits })
    }

    /// One page without references to anything outside it.
    pub fn page(&self) -> String {
        page::page(&self.fits)
    }
}

/// The figures of one file: some by hour, some as distributions.
#[derive(Clone, Debug, PartialEq)]
struct Figures {
    file: &'static str,
    figures: Vec<Figure>,
}

#[derive(Clone, Debug, PartialEq)]
struct Figure {
    title: &'static str,
    unit: &'static str,
    content: Content,
}

#[derive(Clone, Debug, PartialEq)]
enum Content {
    /// Mean of each local hour.
    Hours(Means),
    /// Share of the events that fall into each local hour.
    HourShares(Means),
    /// All values.
    Values(Vec<f64>),
}

/// Means by local hour.
#[derive(Clone, Debug, Default, PartialEq)]
struct Means {
    sums: [f64; 24],
    counts: [f64; 24],
}

impl Means {
    fn add(&mut self, hour: f64, value: f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 23")]
        let hour = hour.clamp(0.0, 23.0) as usize;
        self.sums[hour] += value;
        self.counts[hour] += 1.0;
    }

    fn means(&self) -> Vec<f64> {
        self.sums.iter().zip(&self.counts).map(|(sum, count)| if *count > 0.0 { sum / count } else { 0.0 }).collect()
    }

    /// Of all values.
    fn mean(&self) -> f64 {
        self.sums.iter().sum::<f64>() / self.counts.iter().sum::<f64>().max(1.0)
    }

    fn shares(&self) -> Vec<f64> {
        let all = self.counts.iter().sum::<f64>().max(1.0);
        self.counts.iter().map(|count| count / all).collect()
    }

    /// As multiples of the mean.
    fn normalized(mut self) -> Self {
        let mean = self.mean();
        if mean > 0.0 {
            self.sums.iter_mut().for_each(|sum| *sum /= mean);
        }
        self
    }
}

impl Figures {
    /// Both sides, figure by figure.
    fn against(self, simulated: Figures) -> Vec<Fit> {
        let both = self.figures.into_iter().zip(simulated.figures);
        both.map(|(measured, simulated)| compare(self.file, measured, simulated.content)).collect()
    }
}

fn compare(file: &'static str, figure: Figure, simulated: Content) -> Fit {
    let hours = || (0..24_u32).map(f64::from).collect();
    let (measure, axis, positions, measured, simulated): (_, _, Vec<f64>, Vec<f64>, Vec<f64>) =
        match (figure.content, simulated) {
            (Content::Values(measured), Content::Values(simulated)) => {
                let percents: Vec<f64> = (1..20_u32).map(|step| f64::from(step) * 5.0).collect();
                let (own, theirs) = (sorted(measured), sorted(simulated));
                let distance = largest_gap(&own, &theirs);
                let read = |values: &[f64]| percents.iter().map(|percent| quantile(values, *percent)).collect();
                let (measured, simulated) = (read(&own), read(&theirs));
                return Fit {
                    title: figure.title.to_owned(),
                    file,
                    unit: figure.unit,
                    measure: Measure::Distribution,
                    axis: "percent of values below",
                    positions: percents,
                    measured,
                    simulated,
                    distance,
                };
            }
            (Content::HourShares(measured), Content::HourShares(simulated) | Content::Hours(simulated)) => {
                (Measure::Shares, "local hour", hours(), measured.shares(), simulated.shares())
            }
            (Content::Hours(measured), Content::Hours(simulated) | Content::HourShares(simulated)) => {
                (Measure::Profile, "local hour", hours(), measured.means(), simulated.means())
            }
            (Content::Values(_) | Content::Hours(_) | Content::HourShares(_), _) => {
                (Measure::Profile, "", Vec::new(), Vec::new(), Vec::new())
            }
        };
    let differences: f64 = measured.iter().zip(&simulated).map(|(one, other)| (one - other).abs()).sum();
    let distance = match measure {
        Measure::Shares => differences / 2.0,
        Measure::Profile | Measure::Distribution => {
            let size: f64 = measured.iter().map(|value| value.abs()).sum();
            // Nothing was measured: nothing is alike.
            if size > 0.0 { differences / size } else { 1.0 }
        }
    };
    let title = figure.title.to_owned();
    Fit { title, file, unit: figure.unit, measure, axis, positions, measured, simulated, distance }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The value with so many percent of all `values`, which are in order, below it.
fn quantile(values: &[f64], percent: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
    let place = (percent / 100.0 * values.len() as f64) as usize;
    values.get(place).or(values.last()).copied().unwrap_or(0.0)
}

/// Between the shares below a value, over all values; both lists are in order.
fn largest_gap(one: &[f64], other: &[f64]) -> f64 {
    if one.is_empty() || other.is_empty() {
        return 1.0;
    }
    let below = |values: &[f64], value: f64| values.partition_point(|own| *own <= value) as f64 / values.len() as f64;
    one.iter().chain(other).map(|value| (below(one, *value) - below(other, *value)).abs()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests;
