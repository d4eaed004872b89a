//! What lighting saves, for people and for programs.
use std::fmt;

use jiff::civil::Date;
use serde_json::{Value, json};

use super::LightingPlan;
use crate::city::light::LightFigures;
use crate::city::plan::Plan;
use crate::signal::SimulatedKind;

/// All days.
#[derive(Clone, Debug, PartialEq)]
pub struct LightingMerit {
    plan: LightingPlan,
    /// Of the whole city.
    city_districts: u32,
    city_lamps: u32,
    pub days: Vec<LightingDay>,
}

/// The same day twice.
#[derive(Clone, Debug, PartialEq)]
pub struct LightingDay {
    pub day: Date,
    pub without: LightingRun,
    pub with: LightingRun,
}

/// One play of a day.
#[derive(Clone, Debug, PartialEq)]
pub struct LightingRun {
    pub districts: Vec<LightFigures>,
    /// Orders that lamps followed, and that they could not follow.
    pub orders: u64,
    pub orders_failed: u64,
    pub readings: u64,
    /// Steps in which an order was not waited for any longer.
    pub hurried_steps: u64,
    pub took_s: f64,
}

impl LightingRun {
    /// All districts together.
    pub fn light(&self) -> LightFigures {
        self.districts.iter().fold(LightFigures::default(), |sum, district| sum.with(district))
    }
}

impl LightingDay {
    /// Share of the energy without the service that it saves, percent.
    pub fn saved_percent(&self) -> f64 {
        saved_percent(&self.without.light(), &self.with.light())
    }

    /// The least and the most of any district.
    pub fn saved_percent_by_district(&self) -> (f64, f64) {
        let pairs = self.without.districts.iter().zip(&self.with.districts);
        let saved = pairs.filter(|(without, _)| without.lamps > 0).map(|(without, with)| saved_percent(without, with));
        saved.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), saved| (least.min(saved), most.max(saved)))
    }
}

fn saved_percent(without: &LightFigures, with: &LightFigures) -> f64 {
    if without.energy_kwh > 0.0 { (1.0 - with.energy_kwh / without.energy_kwh) * 100.0 } else { 0.0 }
}

impl LightingMerit {
    pub(super) fn new(plan: &LightingPlan) -> Self {
        let counts = plan.preset.counts();
        let city_districts = Plan::new("", plan.seed, plan.preset.centre(), counts).districts();
        let city_lamps = counts.of(SimulatedKind::Luminaire);
        Self { plan: plan.clone(), city_districts, city_lamps, days: Vec::new() }
    }

    /// One object for programs.
    pub fn summary(&self) -> Value {
        let days: Vec<Value> = self.days.iter().map(|day| self.summary_of(day)).collect();
        let played = self.days.first().map(|day| day.without.light());
        json!({
            "service": super::SERVICE,
            "preset": self.plan.preset.name(),
            "seed": self.plan.seed,
            "step_s": self.plan.step.as_secs(),
            "districts_played": self.days.first().map(|day| day.without.districts.len()),
            "districts": self.city_districts,
            "lamps_played": played.map(|light| light.lamps),
            "lamps": self.city_lamps,
            "streets_played": played.map(|light| light.streets),
            "days": days,
        })
    }

    fn summary_of(&self, day: &LightingDay) -> Value {
        let (without, with) = (day.without.light(), day.with.light());
        let (least, most) = day.saved_percent_by_district();
        json!({
            "day": day.day.to_string(),
            "kwh_without": without.energy_kwh,
            "kwh_with": with.energy_kwh,
            "saved_percent": day.saved_percent(),
            "saved_percent_least_district": least,
            "saved_percent_most_district": most,
            "saved_kwh_whole_city": self.whole_city_kwh(&without, &with),
            "dark_street_minutes": without.dark_street_minutes,
            "unsafe_street_minutes_without": without.unsafe_street_minutes,
            "unsafe_street_minutes_with": with.unsafe_street_minutes,
            "orders": day.with.orders,
            "orders_failed": day.with.orders_failed,
            "hurried_steps": day.with.hurried_steps,
            "readings": day.without.readings + day.with.readings,
            "took_s": day.without.took_s + day.with.took_s,
        })
    }

    /// What the city would save if its other districts saved as much a lamp.
    fn whole_city_kwh(&self, without: &LightFigures, with: &LightFigures) -> f64 {
        (without.energy_kwh - with.energy_kwh) * f64::from(self.city_lamps) / f64::from(without.lamps.max(1))
    }
}

impl fmt::Display for LightingDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (without, with) = (self.without.light(), self.with.light());
        write!(
            f,
            "{}: {:.1} kWh without the service, {:.1} kWh with it, {:.1} % saved",
            self.day,
            without.energy_kwh,
            with.energy_kwh,
            self.saved_percent()
        )
    }
}

impl fmt::Display for LightingMerit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.days.first().map(|day| &day.without) else { return Ok(()) };
        let (light, LightingPlan { preset, seed, .. }) = (first.light(), &self.plan);
        writeln!(
            f,
            "{preset}, seed {seed}: {} of {} districts whole, with {} of {} lamps; the same devices in both plays of a day",
            first.districts.len(),
            self.city_districts,
            light.lamps,
            self.city_lamps
        )?;
        let head =
            ["kWh without", "with", "saved %", "districts %", "unsafe min without", "with", "of dark min", "orders"];
        let widths = [12, 10, 9, 14, 20, 8, 13, 9];
        write!(f, "{:<12}", "day")?;
        for (name, width) in head.into_iter().zip(widths) {
            write!(f, "{name:>width$}")?;
        }
        writeln!(f)?;
        for day in &self.days {
            let (without, with) = (day.without.light(), day.with.light());
            let (least, most) = day.saved_percent_by_district();
            let cells = [
                format!("{:.1}", without.energy_kwh),
                format!("{:.1}", with.energy_kwh),
                format!("{:.1}", day.saved_percent()),
                format!("{least:.1} to {most:.1}"),
                without.unsafe_street_minutes.to_string(),
                with.unsafe_street_minutes.to_string(),
                without.dark_street_minutes.to_string(),
                day.with.orders.to_string(),
            ];
            write!(f, "{:<12}", day.day.to_string())?;
            for (cell, width) in cells.into_iter().zip(widths) {
                write!(f, "{cell:>width$}")?;
            }
            writeln!(f)?;
        }
        for day in &self.days {
            let kwh = self.whole_city_kwh(&day.without.light(), &day.with.light());
            writeln!(f, "{}: {kwh:.0} kWh of the whole city, if its other districts save as much a lamp", day.day)?;
            if day.with.hurried_steps > 0 {
                writeln!(f, "{}: {} steps did not wait for an order", day.day, day.with.hurried_steps)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use jiff::civil::date;

    use super::*;
    use crate::preset::Preset;

    fn run(kwh: [f64; 2], unsafe_street_minutes: u64) -> LightingRun {
        let district = |energy_kwh| LightFigures {
            lamps: 100,
            streets: 5,
            energy_kwh,
            dark_street_minutes: 4_000,
            unsafe_street_minutes,
        };
        LightingRun {
            districts: kwh.map(district).to_vec(),
            orders: 7,
            orders_failed: 0,
            readings: 10,
            hurried_steps: 0,
            took_s: 1.0,
        }
    }

    #[test]
    fn the_difference_of_two_plays_is_the_figure_of_merit() {
        let (preset, days) = (Preset::Aarhus, vec![date(2025, 12, 21)]);
        let plan = LightingPlan { preset, seed: 1, days, districts: 2, step: SignedDuration::from_mins(1) };
        let mut merit = LightingMerit::new(&plan);
        let (without, with) = (run([60.0, 40.0], 0), run([30.0, 30.0], 12));
        merit.days.push(LightingDay { day: date(2025, 12, 21), without, with });
        let summary = merit.summary();
        let day = &summary["days"][0];
        let number = |name: &str| day[name].as_f64().unwrap();
        assert!((number("saved_percent") - 40.0).abs() < 1e-9);
        assert!((number("saved_percent_least_district") - 25.0).abs() < 1e-9);
        assert!((number("saved_percent_most_district") - 50.0).abs() < 1e-9);
        assert!((number("saved_kwh_whole_city") - 40.0 * 49_000.0 / 200.0).abs() < 1e-6);
        assert_eq!(day["unsafe_street_minutes_with"], 24);
        assert_eq!((summary["lamps_played"].as_u64(), summary["lamps"].as_u64()), (Some(200), Some(49_000)));
        assert!(merit.to_string().contains("25.0 to 50.0"), "{merit}");
    }
}
