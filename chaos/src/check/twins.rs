//! Promise 1, seen from the twins: no twin is behind what its device was told that the cluster has.
use std::collections::HashMap;

use kvarter_simulator::{Ledger, Serial};

use super::{Violation, Violations};

/// What a twin shows of the attribute that the load reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinObservation {
    /// `districts/{district}/devices/{device}`
    pub device: String,
    /// Observation time; none when the twin has no value.
    pub observed_us: Option<i64>,
}

/// Holds every device of `ledgers` against its twin. A device without twin counts as one without value.
pub fn check_twins(ledgers: &[Ledger], twins: &[TwinObservation]) -> Violations {
    let shown: HashMap<&str, Option<i64>> = twins.iter().map(|twin| (twin.device.as_str(), twin.observed_us)).collect();
    let mut violations = Violations::default();
    let mut compared = 0;
    for ledger in ledgers {
        for (turn, device) in ledger.devices().iter().enumerate() {
            let twin_us = shown.get(device.as_str()).copied().flatten();
            // What is older comes from before the ledger, and is judged as being behind.
            if let Some(twin_us) = twin_us
                && twin_us >= ledger.observed_us(Serial(0))
                && ledger.find(turn, twin_us).is_none()
            {
                violations.add(Violation::TwinInvented { device: device.clone(), twin_us });
            }
            let Some(acknowledged) = ledger.newest_accepted(turn) else { continue };
            compared += 1;
            let acknowledged_us = ledger.observed_us(acknowledged);
            if twin_us.is_none_or(|twin_us| twin_us < acknowledged_us) {
                violations.add(Violation::TwinBehind { device: device.clone(), twin_us, acknowledged_us });
            }
        }
    }
    violations.require("twins", "devices with an acknowledged reading", compared, 1);
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two devices with three readings each, of which the last of each is in doubt.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(vec!["a".to_owned(), "b".to_owned()], 1_000);
        for number in 0..6 {
            let serial = ledger.send();
            if number < 4 {
                ledger.accept(serial);
            }
        }
        ledger
    }

    fn check(a: Option<i64>, b: Option<i64>) -> Vec<Violation> {
        let twin = |device: &str, observed_us| TwinObservation { device: device.to_owned(), observed_us };
        check_twins(&[ledger()], &[twin("a", a), twin("b", b)]).first
    }

    #[test]
    fn twins_at_the_acknowledged_or_a_newer_sent_reading_pass() {
        let ledger = ledger();
        assert_eq!(check(Some(ledger.observed_us(Serial(2))), Some(ledger.observed_us(Serial(5)))), []);
    }

    #[test]
    fn a_twin_behind_or_without_value_is_caught() {
        let behind = |device: &str, twin_us| Violation::TwinBehind {
            device: device.to_owned(),
            twin_us,
            acknowledged_us: 2_000,
        };
        assert_eq!(check(Some(1_000), None), [behind("a", Some(1_000)), behind("b", None)]);
    }

    #[test]
    fn a_value_that_nobody_sent_is_caught() {
        let invented = Violation::TwinInvented { device: "a".to_owned(), twin_us: 2_500 };
        assert_eq!(check(Some(2_500), Some(2_000)), [invented]);
    }

    #[test]
    fn no_devices_is_not_a_pass() {
        assert!(matches!(check_twins(&[], &[]).first[..], [Violation::TooLittleSeen { checker: "twins", .. }]));
    }
}
