//! The city's daily rhythm: how much traffic flows and how fast, by local time.
//!
//! The curves are medians over 391 road segments of Aarhus, August and September 2014, derived from the five-minute archive
//! of the City of Aarhus (Open Data DK, CC BY 4.0), collected by the CityPulse project: the mean of each hour over the mean of
//! the segment, and its mean speed over the segment's 85th percentile.
use crate::calendar::{DayType, LocalTime};

/// One value for each hour of a local day; the value of an hour holds at its middle.
pub(crate) type Hours = [f64; 24];

struct DayCurve {
    flow: Hours,
    speed: Hours,
}

const MONDAY_TO_THURSDAY: DayCurve = DayCurve {
    flow: [
        0.047, 0.031, 0.02, 0.026, 0.064, 0.213, 0.966, 2.226, 2.567, 1.92, 1.861, 1.83, 1.895, 1.952, 2.139, 2.379,
        2.361, 1.719, 1.116, 0.724, 0.559, 0.489, 0.365, 0.163,
    ],
    speed: [
        0.929, 0.947, 0.954, 0.944, 0.939, 0.922, 0.873, 0.745, 0.711, 0.8, 0.798, 0.797, 0.794, 0.786, 0.762, 0.714,
        0.688, 0.772, 0.828, 0.866, 0.875, 0.871, 0.888, 0.917,
    ],
};

const FRIDAY: DayCurve = DayCurve {
    flow: [
        0.07, 0.041, 0.026, 0.033, 0.065, 0.227, 0.896, 2.211, 2.445, 1.823, 1.871, 1.965, 1.942, 2.049, 2.258, 2.337,
        2.025, 1.525, 1.067, 0.683, 0.484, 0.419, 0.366, 0.273,
    ],
    speed: [
        0.939, 0.947, 0.956, 0.95, 0.953, 0.925, 0.879, 0.757, 0.737, 0.811, 0.803, 0.791, 0.773, 0.766, 0.734, 0.7,
        0.745, 0.794, 0.84, 0.88, 0.88, 0.882, 0.882, 0.899,
    ],
};

const SATURDAY: DayCurve = DayCurve {
    flow: [
        0.179, 0.131, 0.076, 0.058, 0.05, 0.063, 0.141, 0.263, 0.45, 0.794, 1.192, 1.362, 1.4, 1.271, 1.216, 1.085,
        1.001, 0.982, 0.721, 0.509, 0.425, 0.4, 0.345, 0.284,
    ],
    speed: [
        0.918, 0.938, 0.96, 0.97, 0.981, 0.985, 0.961, 0.933, 0.915, 0.875, 0.833, 0.817, 0.804, 0.817, 0.818, 0.837,
        0.847, 0.852, 0.875, 0.894, 0.889, 0.891, 0.891, 0.903,
    ],
};

const SUNDAY: DayCurve = DayCurve {
    flow: [
        0.172, 0.144, 0.104, 0.071, 0.046, 0.044, 0.086, 0.15, 0.261, 0.555, 0.84, 1.027, 1.208, 1.184, 1.22, 1.11,
        1.066, 0.991, 0.791, 0.596, 0.5, 0.385, 0.247, 0.113,
    ],
    speed: [
        0.924, 0.954, 0.955, 0.961, 0.974, 0.994, 0.98, 0.949, 0.939, 0.891, 0.865, 0.843, 0.827, 0.818, 0.822, 0.838,
        0.848, 0.855, 0.868, 0.887, 0.893, 0.889, 0.895, 0.92,
    ],
};

/// Traffic as a multiple of the segment's mean over the week.
pub(crate) fn flow_multiplier(local: &LocalTime) -> f64 {
    at_hour(&day_curve(local.day_type).flow, local.hour)
}

/// Mean speed as a share of the free flow.
pub(crate) fn speed_share(local: &LocalTime) -> f64 {
    at_hour(&day_curve(local.day_type).speed, local.hour)
}

fn day_curve(day_type: DayType) -> &'static DayCurve {
    match day_type {
        DayType::MondayToThursday => &MONDAY_TO_THURSDAY,
        DayType::Friday => &FRIDAY,
        DayType::Saturday => &SATURDAY,
        DayType::Sunday => &SUNDAY,
    }
}

/// Interpolates between the middles of the hours; at the ends of a day its own first and last hour are joined.
pub(crate) fn at_hour(hours: &Hours, hour: f64) -> f64 {
    let since_middle = hour + 23.5;
    let share = since_middle.fract();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 23 and 48")]
    let before = since_middle as usize;
    hours[before % 24] * (1.0 - share) + hours[(before + 1) % 24] * share
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use jiff::Timestamp;

    use super::*;

    fn flow(moment: Timestamp) -> f64 {
        flow_multiplier(&LocalTime::of(moment))
    }

    #[test]
    fn weekday_peaks_are_at_eight_and_fifteen_local_time() {
        let flow = |text: &str| flow(text.parse().unwrap());
        assert!((flow("2014-09-02T06:30:00Z") - 2.567).abs() < 1e-9, "08:30 summer time");
        assert!((flow("2014-12-02T07:30:00Z") - 2.567).abs() < 1e-9, "08:30 winter time");
        assert!(flow("2014-09-02T13:30:00Z") > 2.3 && flow("2014-09-02T00:30:00Z") < 0.03);
        assert!(flow("2014-09-06T06:30:00Z") < 0.5, "no rush hour on a Saturday");
    }

    #[test]
    fn the_curve_does_not_jump_within_a_day() {
        let midnight: Timestamp = "2014-09-01T22:00:00Z".parse().unwrap();
        let flow = |minutes: i64| flow(midnight + SignedDuration::from_mins(minutes));
        for minutes in 0..1439 {
            assert!((flow(minutes) - flow(minutes + 1)).abs() < 0.03, "minute {minutes}");
        }
    }
}
