//! How many devices of each kind a city has.
use std::fmt;
use std::str::FromStr;

use crate::device::Place;
use crate::signal::SimulatedKind;

/// Devices by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts([u32; SimulatedKind::ALL.len()]);

impl Counts {
    /// Only these.
    pub(crate) fn only(counts: &[(SimulatedKind, u32)]) -> Self {
        let mut all = [0; SimulatedKind::ALL.len()];
        for (kind, count) in counts {
            all[*kind as usize] = *count;
        }
        Self(all)
    }

    pub(crate) fn of(&self, kind: SimulatedKind) -> u32 {
        self.0[kind as usize]
    }

    pub(crate) fn total(&self) -> u32 {
        self.0.iter().sum()
    }

    /// The same mix with `devices` in all, at least one of each kind that there was; the largest kind takes the rounding.
    #[must_use]
    pub(crate) fn scaled(&self, devices: u32) -> Self {
        let total = u64::from(self.total().max(1));
        let mut scaled = self.0.map(|count| {
            let exact = u64::from(count) * u64::from(devices) / total;
            u32::try_from(exact).unwrap_or(u32::MAX).max(count.min(1))
        });
        let sum: u32 = scaled.iter().sum();
        if let Some(largest) = scaled.iter_mut().max() {
            *largest = (*largest + devices).saturating_sub(sum).max(1);
        }
        Self(scaled)
    }
}

/// A city to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Some hundred devices, all of it assumed: what a demonstration needs.
    Village,
    Odense,
    Aarhus,
    Copenhagen,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no preset; there are village, odense, aarhus and copenhagen")]
pub struct NotAPreset {
    text: String,
}

impl Preset {
    const ALL: [Self; 4] = [Self::Village, Self::Odense, Self::Aarhus, Self::Copenhagen];

    /// Name on the command line, and the beginning of the districts' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Village => "village",
            Self::Odense => "odense",
            Self::Aarhus => "aarhus",
            Self::Copenhagen => "copenhagen",
        }
    }

    /// The middle of the city.
    pub(crate) fn centre(self) -> Place {
        let (latitude, longitude) = match self {
            Self::Village => (56.15, 10.21),
            Self::Odense => (55.396, 10.388),
            Self::Aarhus => (56.157, 10.211),
            Self::Copenhagen => (55.676, 12.568),
        };
        Place { latitude, longitude }
    }

    /// Counts from public sources are commented with them; all others are assumptions. Two are of a whole region, as the
    /// sources give them: Copenhagen's electricity meters and buses.
    pub(crate) fn counts(self) -> Counts {
        use SimulatedKind::{
            AirQuality, Battery, Building, Bus, Cabinet, CitizenReports, ElectricityMeter, EvCharger, FloodLevel,
            Garage, HeatMeter, Luminaire, Noise, ParkingBay, Pump, Solar, TrafficFlowSensor, TrafficSignal,
            WasteContainer, WaterMeter, Weather,
        };
        match self {
            Self::Village => Counts::only(&[
                (Luminaire, 480),
                (Cabinet, 10),
                (TrafficFlowSensor, 24),
                (TrafficSignal, 4),
                (Bus, 4),
                (Garage, 3),
                (ParkingBay, 40),
                (WasteContainer, 40),
                (Weather, 4),
                (AirQuality, 8),
                (Noise, 6),
                (FloodLevel, 4),
                (ElectricityMeter, 120),
                (EvCharger, 16),
                (Solar, 12),
                (Battery, 2),
                (HeatMeter, 80),
                (WaterMeter, 80),
                (Building, 8),
                (Pump, 4),
                (CitizenReports, 4),
            ]),
            Self::Odense => Counts::only(&[
                (Luminaire, 25_000),
                (Cabinet, 500),
                (TrafficFlowSensor, 230),
                // Under a central computer in 2005 (TV2 Fyn).
                (TrafficSignal, 30),
                (Bus, 120),
                (Garage, 8),
                // Spaces in the centre and at the harbour, 2020 (TV2 Fyn); that each has a sensor is assumed.
                (ParkingBay, 4_000),
                (WasteContainer, 500),
                (Weather, 4),
                (AirQuality, 20),
                (Noise, 20),
                (FloodLevel, 15),
                // 3 of 100 of Denmark's 3,400,000 consumers.
                (ElectricityMeter, 102_000),
                // 3 of 100 of Denmark's 25,598 public charge points, 2024.
                (EvCharger, 770),
                (Solar, 1_500),
                (Battery, 30),
                // Fjernvarme Fyn.
                (HeatMeter, 71_000),
                (WaterMeter, 10_000),
                (Building, 250),
                (Pump, 15),
                (CitizenReports, 20),
            ]),
            Self::Aarhus => Counts::only(&[
                // 29,000 renewed by 2018 and 20,000 left (City of Aarhus).
                (Luminaire, 49_000),
                (Cabinet, 980),
                // Segments of the archive of 2014 (Open Data DK).
                (TrafficFlowSensor, 449),
                // 2020 (DK Nyt).
                (TrafficSignal, 232),
                (Bus, 300),
                // With a live feed, 2014 (Open Data DK).
                (Garage, 8),
                (ParkingBay, 400),
                // Underground, planned in 2013 (DK Nyt).
                (WasteContainer, 1_000),
                (Weather, 5),
                // On lamp posts (Open Data DK, CityProbe).
                (AirQuality, 25),
                (Noise, 25),
                (FloodLevel, 25),
                // 6 of 100 of Denmark's 3,400,000 consumers.
                (ElectricityMeter, 204_000),
                // 6 of 100 of Denmark's 25,598 public charge points, 2024.
                (EvCharger, 1_540),
                (Solar, 3_000),
                (Battery, 60),
                // 2017 (Kamstrup).
                (HeatMeter, 53_500),
                (WaterMeter, 20_000),
                (Building, 500),
                (Pump, 25),
                (CitizenReports, 30),
            ]),
            Self::Copenhagen => Counts::only(&[
                // Half of them were replaced with 20,000 (Citylab, 2015).
                (Luminaire, 40_000),
                (Cabinet, 800),
                (TrafficFlowSensor, 600),
                // 2016 (Eltis).
                (TrafficSignal, 380),
                // Of Movia in all of eastern Denmark, 2024.
                (Bus, 1_126),
                (Garage, 20),
                // Public spaces (Berlingske); that each has a sensor is assumed.
                (ParkingBay, 125_000),
                // Litter bins, 2020 (Dit Vesterbro).
                (WasteContainer, 5_400),
                (Weather, 8),
                // Three reference stations (Copenhagen Solutions Lab); movable sensors are assumed.
                (AirQuality, 50),
                (Noise, 50),
                (FloodLevel, 60),
                // In Radius' whole grid area, 2017 (Kraftnytt).
                (ElectricityMeter, 1_000_000),
                // Public spaces (Berlingske).
                (EvCharger, 1_240),
                (Solar, 5_000),
                (Battery, 100),
                (HeatMeter, 35_000),
                (WaterMeter, 60_000),
                (Building, 1_000),
                (Pump, 60),
                (CitizenReports, 50),
            ]),
        }
    }
}

impl FromStr for Preset {
    type Err = NotAPreset;

    fn from_str(text: &str) -> Result<Self, NotAPreset> {
        let found = Self::ALL.into_iter().find(|preset| preset.name() == text);
        found.ok_or_else(|| NotAPreset { text: text.to_owned() })
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_city_has_every_kind() {
        for preset in Preset::ALL {
            assert!(SimulatedKind::ALL.into_iter().all(|kind| preset.counts().of(kind) > 0), "{preset}");
            assert_eq!(preset.name().parse(), Ok(preset));
        }
        assert!((500..2_000).contains(&Preset::Village.counts().total()));
        assert!("Aarhus".parse::<Preset>().is_err());
    }

    #[test]
    fn a_scaled_city_has_as_many_devices_as_asked_for_and_keeps_its_mix() {
        for devices in [100, 5_000, 1_000_000] {
            let counts = Preset::Aarhus.counts().scaled(devices);
            assert_eq!(counts.total(), devices);
            assert!(SimulatedKind::ALL.into_iter().all(|kind| counts.of(kind) > 0));
        }
        let large = Preset::Aarhus.counts().scaled(1_000_000);
        let share = f64::from(large.of(SimulatedKind::Luminaire)) / 1e6;
        assert!((share - 49_000.0 / f64::from(Preset::Aarhus.counts().total())).abs() < 1e-3);
    }
}
