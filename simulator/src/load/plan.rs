//! Which devices a load has, and which lane speaks for them.
use std::time::Duration;

use kvarter_api::v1;

/// What load to put on a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadPlan {
    /// At least one for each lane.
    pub devices: u32,
    /// Devices are dealt out to this many districts, which the cluster spreads over its shards; at least 1.
    pub districts: u32,
    /// Readings in a second, all lanes together; above zero.
    pub readings_per_s: f64,
    pub duration: Duration,
    /// Gateway streams side by side; at least 1.
    pub lanes: u32,
    /// Readings that become due within this time go in one batch.
    pub linger: Duration,
    /// Begins the names of the districts, so that loads of one cluster do not share devices.
    pub district_prefix: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("{devices} devices are too few for {lanes} streams: each needs one")]
    DevicesTooFew { devices: u32, lanes: u32 },
    #[error("a load needs at least one {what}")]
    None { what: &'static str },
    #[error("the rate must be above zero")]
    RateNotPositive,
}

impl LoadPlan {
    /// Kind of the devices of a load.
    pub const KIND: &str = "air_quality";
    /// What they report: a plain number that no city service reads.
    pub const ATTRIBUTE: &str = "no2";
    /// 16 times as many districts as there are shards by default: enough that every shard gets its share.
    pub const DISTRICTS: u32 = 256;

    pub fn check(&self) -> Result<(), PlanError> {
        match self {
            Self { lanes: 0, .. } => Err(PlanError::None { what: "stream" }),
            Self { districts: 0, .. } => Err(PlanError::None { what: "district" }),
            Self { devices, lanes, .. } if devices < lanes => {
                Err(PlanError::DevicesTooFew { devices: *devices, lanes: *lanes })
            }
            Self { readings_per_s, .. } if *readings_per_s > 0.0 && readings_per_s.is_finite() => Ok(()),
            Self { .. } => Err(PlanError::RateNotPositive),
        }
    }

    /// Names of the devices of one lane, dealt out so that neighbours in a batch are in different districts.
    pub(super) fn lane_devices(&self, lane: u32) -> Vec<String> {
        let lanes = usize::try_from(self.lanes).expect("32 bits fit");
        (0..self.devices).skip(lane as usize).step_by(lanes).map(|number| self.device(number)).collect()
    }

    fn device(&self, number: u32) -> String {
        format!("districts/{}-{}/devices/d-{number}", self.district_prefix, number % self.districts)
    }

    pub(super) fn device_names(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.devices).map(|number| self.device(number))
    }

    pub(super) fn registrations(&self) -> impl Iterator<Item = v1::Device> + '_ {
        self.device_names().map(|name| v1::Device { name, kind: Self::KIND.to_owned(), ..v1::Device::default() })
    }

    /// A lane's share of the rate.
    pub(super) fn lane_rate(&self) -> f64 {
        self.readings_per_s / f64::from(self.lanes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn plan() -> LoadPlan {
        LoadPlan {
            devices: 1_000,
            districts: 32,
            readings_per_s: 100.0,
            duration: Duration::from_secs(1),
            lanes: 3,
            linger: Duration::from_millis(5),
            district_prefix: "load".to_owned(),
        }
    }

    #[test]
    fn every_device_is_registered_and_has_one_lane() {
        let registered: BTreeSet<_> = plan().registrations().map(|device| device.name).collect();
        let spoken_for: Vec<_> = (0..3).flat_map(|lane| plan().lane_devices(lane)).collect();
        assert_eq!(spoken_for.len(), 1_000);
        assert_eq!(spoken_for.into_iter().collect::<BTreeSet<_>>(), registered);
    }

    #[test]
    fn plans_that_can_not_run_are_refused() {
        assert_eq!(plan().check(), Ok(()));
        let refused = |plan: LoadPlan| plan.check().unwrap_err();
        assert_eq!(refused(LoadPlan { lanes: 0, ..plan() }), PlanError::None { what: "stream" });
        assert_eq!(refused(LoadPlan { districts: 0, ..plan() }), PlanError::None { what: "district" });
        assert_eq!(refused(LoadPlan { devices: 2, ..plan() }), PlanError::DevicesTooFew { devices: 2, lanes: 3 });
        for readings_per_s in [0.0, -5.0, f64::NAN, f64::INFINITY] {
            assert_eq!(refused(LoadPlan { readings_per_s, ..plan() }), PlanError::RateNotPositive);
        }
    }
}
