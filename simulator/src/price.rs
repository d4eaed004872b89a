//! What electric energy costs: the day-ahead price of western Denmark, from season, hour, weekday, wind and cloud.
//!
//! Hourly means, the fall with the wind and the spread are those of area DK1, August 2025 to July 2026 (source: Energinet,
//! www.energidataservice.dk, CC BY 4.0): mean 91 EUR/MWh, 112 in the calmest fifth of hours and 61 in the windiest, 98 on
//! weekdays and 74 on weekends, 3 % of hours below zero.
use jiff::Timestamp;

use crate::calendar::LocalTime;
use crate::draw::{Subject, wave};
use crate::traffic::{Hours, at_hour};
use crate::weather::Weather;

/// Mean by local hour, EUR/MWh.
const APRIL_TO_SEPTEMBER: Hours = [
    108.0, 102.0, 98.0, 96.0, 97.0, 101.0, 112.0, 116.0, 103.0, 78.0, 56.0, 40.0, 30.0, 25.0, 25.0, 33.0, 48.0, 78.0,
    113.0, 152.0, 164.0, 148.0, 129.0, 114.0,
];
const OCTOBER_TO_MARCH: Hours = [
    79.0, 76.0, 74.0, 72.0, 72.0, 75.0, 86.0, 103.0, 108.0, 99.0, 90.0, 83.0, 78.0, 78.0, 84.0, 94.0, 108.0, 123.0,
    130.0, 123.0, 105.0, 95.0, 90.0, 82.0,
];
/// Mean over the year, EUR/MWh.
pub(crate) const PRICE_MEAN: f64 = 91.0;
const WIND_POWER_MEAN: f64 = 0.367;
/// EUR/MWh between no wind and all of it.
const FALL_WITH_WIND: f64 = 84.0;
/// Prices hold for a quarter of an hour.
const QUARTER_S: i64 = 900;

/// EUR/MWh.
pub(crate) fn price(seed: u64, moment: Timestamp, local: &LocalTime, weather: &Weather) -> f64 {
    let summer = (0.5 + local.summer()).clamp(0.0, 1.0);
    let usual =
        at_hour(&APRIL_TO_SEPTEMBER, local.hour) * summer + at_hour(&OCTOBER_TO_MARCH, local.hour) * (1.0 - summer);
    let wind = FALL_WITH_WIND * (WIND_POWER_MEAN - weather.wind_power);
    let weekday = if local.is_weekend() { -17.0 } else { 7.0 };
    // Clouds keep the price of a summer's noon up.
    let cloud = 25.0 * (weather.cloud - 0.5) * (weather.radiation / 500.0).min(1.0);
    let quarter = moment.as_second().div_euclid(QUARTER_S) * QUARTER_S;
    // Fuel, neighbours and outages come in waves of days; each hour has its own trouble.
    let market =
        26.0 * wave(seed, Subject::Price, 4 * 86_400, quarter) + 16.0 * wave(seed, Subject::Price, 3 * 3_600, quarter);
    bent(usual + wind + weekday + cloud + market)
}

/// Plants that can stop keep prices from falling far below nothing; scarcity lets them rise fast.
fn bent(price: f64) -> f64 {
    if price < 10.0 {
        10.0 + (price - 10.0) * 0.38
    } else if price > 150.0 {
        150.0 + (price - 150.0) * 1.7
    } else {
        price
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Place;
    use crate::sun::sun_height;

    #[test]
    fn prices_of_a_year_are_like_those_of_western_denmark() {
        let place = Place { latitude: 56.15, longitude: 10.2 };
        let mut prices: Vec<f64> = (0..365 * 24)
            .map(|hour| {
                let moment = Timestamp::from_second(1_754_006_400 + hour * 3_600).unwrap();
                let local = LocalTime::of(moment);
                let weather = Weather::at(3, moment, &local, sun_height(moment, place));
                price(3, moment, &local, &weather)
            })
            .collect();
        prices.sort_by(f64::total_cmp);
        let mean = prices.iter().sum::<f64>() / prices.len() as f64;
        let negative = prices.partition_point(|price| *price < 0.0) as f64 / prices.len() as f64;
        assert!((mean - PRICE_MEAN).abs() < 8.0, "{mean}");
        assert!((0.005..0.08).contains(&negative), "{negative}");
        assert!(prices[0] > -60.0 && prices[prices.len() - 1] < 700.0);
    }
}
