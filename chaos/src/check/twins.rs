//! Promise 1, seen from the twins: no twin is behind what its device was told that the cluster has, and each shows what was sent.
use std::collections::HashMap;

use kvarter_simulator::{Ledger, Serial, Turns};

use super::{Violation, Violations};

/// What a twin shows of the attribute that the load reports.
#[derive(Clone, Debug, PartialEq)]
pub struct TwinObservation {
    /// `districts/{district}/devices/{device}`
    pub device: String,
    /// Observation time; none when the twin has no value.
    pub observed_us: Option<i64>,
    /// None when it is no number, too.
    pub value: Option<f64>,
}

/// Holds every device of `ledgers` against its twin. A device without twin counts as one without value; of several ledgers that
/// have a device, each later than the one before, the last one says what the twin may show.
pub fn check_twins(ledgers: &[Ledger], twins: &[TwinObservation]) -> Violations {
    let shown: HashMap<&str, &TwinObservation> = twins.iter().map(|twin| (twin.device.as_str(), twin)).collect();
    let mut begins: HashMap<&str, i64> = HashMap::new();
    for ledger in ledgers {
        for device in ledger.devices() {
            let begin = begins.entry(device).or_insert(i64::MIN);
            *begin = (*begin).max(ledger.observed_us(Serial(0)));
        }
    }
    let mut violations = Violations::default();
    let mut compared = 0;
    for ledger in ledgers {
        let begin_us = ledger.observed_us(Serial(0));
        for (turn, device) in ledger.devices().iter().enumerate() {
            let twin = shown.get(device.as_str());
            let twin_us = twin.and_then(|twin| twin.observed_us);
            // What is older comes from before the ledger, and is judged as being behind.
            if let Some(twin_us) = twin_us.filter(|twin_us| *twin_us >= begin_us && begins[device.as_str()] == begin_us)
            {
                let value = twin.and_then(|twin| twin.value);
                match ledger.find(turn, twin_us).map(Turns::value) {
                    None => violations.add(Violation::TwinInvented { device: device.clone(), twin_us }),
                    Some(sent) if value != Some(sent) => {
                        let (device, shown) = (device.clone(), value.map(|value| value.to_string()));
                        violations.add(Violation::TwinChanged { device, twin_us, shown, sent: sent.to_string() });
                    }
                    Some(_as_sent) => {}
                }
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
        check_twins(&[ledger()], &[twin(0, "a", a), twin(1, "b", b)]).first
    }

    /// With the value that was sent then.
    fn twin(turn: usize, device: &str, observed_us: Option<i64>) -> TwinObservation {
        let value = observed_us.and_then(|observed_us| ledger().find(turn, observed_us)).map(Turns::value);
        TwinObservation { device: device.to_owned(), observed_us, value }
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
    fn another_value_than_was_sent_is_caught() {
        let sent = Turns::value(Serial(2));
        for value in [Some(sent + 1.0), Some(Turns::value(Serial(0))), None] {
            let changed = TwinObservation { value, ..twin(0, "a", Some(2_000)) };
            let (device, shown) = ("a".to_owned(), value.map(|value| value.to_string()));
            let expected = Violation::TwinChanged { device, twin_us: 2_000, shown, sent: sent.to_string() };
            assert_eq!(check_twins(&[ledger()], &[changed, twin(1, "b", Some(2_000))]).first, [expected]);
        }
    }

    #[test]
    fn a_device_that_somebody_else_speaks_for_later_is_held_against_the_later_word() {
        let mut later = Ledger::new(vec!["a".to_owned()], 50_000);
        let serial = later.send();
        later.accept(serial);
        let ledgers = [ledger(), later];
        let check = |a: TwinObservation| check_twins(&ledgers, &[a, twin(1, "b", Some(2_000))]).first;
        let value = Some(Turns::value(Serial(0)));
        assert_eq!(check(TwinObservation { device: "a".to_owned(), observed_us: Some(50_000), value }), []);
        let behind = Violation::TwinBehind { device: "a".to_owned(), twin_us: Some(2_000), acknowledged_us: 50_000 };
        assert_eq!(check(twin(0, "a", Some(2_000))), [behind]);
    }

    #[test]
    fn no_devices_is_not_a_pass() {
        assert!(matches!(check_twins(&[], &[]).first[..], [Violation::TooLittleSeen { checker: "twins", .. }]));
    }
}
