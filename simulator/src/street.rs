//! A stretch of road and the lamps along it.
use crate::device::{Place, SimulatedDevice};
use crate::signal::SimulatedKind;

/// Metres between two lamps of a road.
const LAMP_SPACING_M: f64 = 40.0;
/// Lamps of the shortest stretch.
const LAMPS_MIN: u32 = 2;

/// A stretch of road with one traffic flow sensor.
#[derive(Clone, Debug)]
pub(crate) struct Street<'a> {
    pub(crate) district: &'a str,
    /// Last part of the sensor's name; `s-{id}` is the sensor, `l-{id}-{n}` are its lamps.
    pub(crate) id: &'a str,
    pub(crate) from: Place,
    pub(crate) to: Place,
    pub(crate) length_m: f64,
    pub(crate) street: &'a str,
    pub(crate) road_type: &'a str,
}

impl Street<'_> {
    /// The sensor, in the middle of the stretch.
    pub(crate) fn sensor(&self) -> SimulatedDevice {
        let middle = self.from.towards(self.to, 0.5);
        SimulatedDevice::new(self.district, &format!("s-{}", self.id), SimulatedKind::TrafficFlowSensor, middle)
            .labelled("street", self.street)
            .labelled("road_type", self.road_type)
            .labelled("segment", self.id)
    }

    /// Lamps about every 40 m from one end to the other, in that order.
    pub(crate) fn lamps(&self) -> impl Iterator<Item = SimulatedDevice> + '_ {
        let count = self.lamp_count();
        (0..count).map(move |number| {
            let share = (f64::from(number) + 0.5) / f64::from(count);
            let name = format!("l-{}-{number}", self.id);
            SimulatedDevice::new(self.district, &name, SimulatedKind::Luminaire, self.from.towards(self.to, share))
                .labelled("street", self.street)
                .labelled("segment", self.id)
        })
    }

    fn lamp_count(&self) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates; streets are some km long"
        )]
        let count = (self.length_m / LAMP_SPACING_M).round() as u32;
        count.max(LAMPS_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn street(length_m: f64) -> Street<'static> {
        let (from, to) = (Place { latitude: 56.0, longitude: 10.0 }, Place { latitude: 56.01, longitude: 10.0 });
        Street { district: "d", id: "7", from, to, length_m, street: "Bredgade", road_type: "ROAD" }
    }

    #[test]
    fn lamps_stand_between_the_ends_in_order() {
        let lamps: Vec<_> = street(1_000.0).lamps().collect();
        assert_eq!(lamps.len(), 25);
        assert_eq!(lamps[3].name, "districts/d/devices/l-7-3");
        let latitudes: Vec<_> = lamps.iter().map(|lamp| lamp.place.unwrap().latitude).collect();
        assert!(latitudes.is_sorted() && latitudes[0] > 56.0 && latitudes[24] < 56.01);
    }

    #[test]
    fn even_the_shortest_street_is_lit() {
        assert_eq!(street(3.0).lamps().count(), 2);
    }
}
