//! Danish civil time and what kind of day it is.
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::{Date, Weekday, date};
use jiff::tz::TimeZone;

/// Danish time by the rule of the European Union, so that no time zone database is needed.
static DANISH_TIME: LazyLock<TimeZone> =
    LazyLock::new(|| TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("the rule is a valid POSIX time zone"));

/// Days that the city lives alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DayType {
    MondayToThursday,
    Friday,
    Saturday,
    /// And public holidays: an assumption, the traffic data have none.
    Sunday,
}

/// A moment in Denmark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LocalTime {
    pub(crate) day_type: DayType,
    /// With its fraction, 0 to 24.
    pub(crate) hour: f64,
    /// 1 to 366.
    pub(crate) day_of_year: i16,
    /// Local days since 1970-01-01.
    pub(crate) day: i64,
}

impl LocalTime {
    pub(crate) fn of(moment: Timestamp) -> Self {
        let offset = DANISH_TIME.to_offset(moment);
        let local = offset.to_datetime(moment);
        let date = local.date();
        let day_type = match date.weekday() {
            _ if is_holiday(date) => DayType::Sunday,
            Weekday::Monday | Weekday::Tuesday | Weekday::Wednesday | Weekday::Thursday => DayType::MondayToThursday,
            Weekday::Friday => DayType::Friday,
            Weekday::Saturday => DayType::Saturday,
            Weekday::Sunday => DayType::Sunday,
        };
        let second = moment.as_second() + i64::from(offset.seconds());
        let hour = second.rem_euclid(86_400) as f64 / 3_600.0;
        Self { day_type, hour, day_of_year: date.day_of_year(), day: second.div_euclid(86_400) }
    }

    pub(crate) fn is_weekend(&self) -> bool {
        matches!(self.day_type, DayType::Saturday | DayType::Sunday)
    }

    /// 1 in the middle of July, -1 in the middle of January, when Denmark is warmest and coldest.
    pub(crate) fn summer(&self) -> f64 {
        ((f64::from(self.day_of_year) - 200.0) / 365.25 * std::f64::consts::TAU).cos()
    }
}

/// The moment of a local day, in days since 1970-01-01, at which it is `hour` o'clock; days on which clocks change have the
/// hours of their noon.
pub(crate) fn moment_of(day: i64, hour: f64) -> Timestamp {
    let at = |second: i64| Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
    let offset = DANISH_TIME.to_offset(at(day * 86_400 + 11 * 3_600));
    #[expect(clippy::cast_possible_truncation, reason = "seconds of a day")]
    let second = (hour * 3_600.0) as i64;
    at(day * 86_400 + second - i64::from(offset.seconds()))
}

/// Local days from 1970-01-01 to `date`, as [`LocalTime::day`] counts them.
pub(crate) fn days_since_epoch(date: Date) -> i64 {
    i64::from((date - jiff::civil::date(1970, 1, 1)).get_days())
}

/// The public holidays of Denmark since 2024, when Great Prayer Day was given up.
fn is_holiday(date: Date) -> bool {
    let fixed = [(1, 1), (12, 25), (12, 26)];
    if fixed.contains(&(date.month(), date.day())) {
        return true;
    }
    let from_easter = date.day_of_year() - easter(date.year()).day_of_year();
    // Maundy Thursday, Good Friday, Easter Sunday and Monday, Ascension, Whit Sunday and Monday.
    [-3, -2, 0, 1, 39, 49, 50].contains(&from_easter)
}

/// Easter Sunday by the anonymous Gregorian computation (Meeus, Jones, Butcher).
fn easter(year: i16) -> Date {
    let year_number = i32::from(year);
    let (golden, century, in_century) = (year_number % 19, year_number / 100, year_number % 100);
    let correction = (8 * century + 13) / 25;
    let epact = (19 * golden + century - century / 4 - correction + 15) % 30;
    let weekday = (32 + 2 * (century % 4) + 2 * (in_century / 4) - epact - in_century % 4) % 7;
    let shift = (golden + 11 * epact + 22 * weekday) / 451;
    let number = epact + weekday - 7 * shift + 114;
    let part = |number: i32| i8::try_from(number).expect("months and days of Easter are small");
    date(year, part(number / 31), part(number % 31 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> LocalTime {
        LocalTime::of(text.parse().unwrap())
    }

    #[test]
    fn winter_and_summer_have_their_own_hours() {
        assert!((at("2025-01-10T11:30:00Z").hour - 12.5).abs() < 1e-9);
        assert!((at("2025-07-10T11:30:00Z").hour - 13.5).abs() < 1e-9);
        let new_day = at("2025-07-10T22:15:00Z");
        assert_eq!((new_day.day_type, new_day.day_of_year), (DayType::Friday, 192));
    }

    #[test]
    fn an_hour_of_a_day_is_found_again() {
        for day in [20_100, 20_250] {
            let moment = moment_of(day, 7.25);
            let local = LocalTime::of(moment);
            assert_eq!((local.day, local.hour.to_bits()), (day, 7.25_f64.to_bits()));
        }
    }

    #[test]
    fn a_date_is_the_day_on_which_it_is_lived() {
        let day = days_since_epoch(date(2026, 6, 21));
        assert_eq!(moment_of(day, 0.0), "2026-06-20T22:00:00Z".parse().unwrap());
        assert_eq!(LocalTime::of(moment_of(day, 12.0)).day, day);
    }

    #[test]
    fn holidays_are_lived_like_sundays() {
        assert_eq!(easter(2025), date(2025, 4, 20));
        assert_eq!(easter(2026), date(2026, 4, 5));
        for holiday in ["2025-12-25", "2025-04-17", "2025-04-21", "2025-05-29", "2025-06-09"] {
            assert_eq!(at(&format!("{holiday}T10:00:00Z")).day_type, DayType::Sunday, "{holiday}");
        }
        assert_eq!(at("2025-04-22T10:00:00Z").day_type, DayType::MondayToThursday);
    }
}
