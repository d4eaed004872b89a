//! Both plays of a figure of merit are the same but for what the service orders.
use std::collections::BTreeMap;

use jiff::SignedDuration;
use jiff::civil::date;
use kvarter_api::v1::ServiceMode;
use kvarter_simulator::{LightingPlan, MeritError, Preset};

use crate::city::City;

fn plan() -> LightingPlan {
    LightingPlan {
        preset: Preset::Village,
        seed: 5,
        days: vec![date(2025, 12, 21)],
        districts: 2,
        step: SignedDuration::from_hours(2),
    }
}

#[tokio::test]
async fn a_service_that_orders_nothing_saves_nothing_and_both_plays_have_one_trace() {
    let (city, _nodes, client) = City::start(vec![], None).await;
    let mut news = Vec::new();
    let merit = plan().run(&client, &mut |words: &str| news.push(words.to_owned())).await.unwrap();

    let summary = merit.summary();
    let day = &summary["days"][0];
    assert_eq!((day["saved_percent"].as_f64(), day["unsafe_street_minutes_with"].as_u64()), (Some(0.0), Some(0)));
    assert!(day["kwh_without"].as_f64().unwrap() > 50.0, "{summary}");
    assert_eq!((summary["districts_played"].as_u64(), day["hurried_steps"].as_u64()), (Some(2), Some(0)));

    let state = city.state();
    let modes: Vec<ServiceMode> = state.modes.iter().map(|(_, mode)| *mode).collect();
    assert_eq!(modes, [ServiceMode::Observe, ServiceMode::Observe, ServiceMode::Active, ServiceMode::Active]);
    assert!(state.modes[0].0.contains("-without-") && state.modes[2].0.contains("-with-"), "{:?}", state.modes);
    let trace = |turn: &str| -> BTreeMap<_, _> {
        let own = state.readings.iter().filter(|((device, _), _)| device.contains(turn));
        own.map(|((device, attribute), readings)| ((device.replace(turn, ""), *attribute), readings)).collect()
    };
    let (without, with) = (trace("-without-"), trace("-with-"));
    assert!(without.len() > 500 && without == with, "{} and {} attributes", without.len(), with.len());
}

#[tokio::test]
async fn a_day_that_is_not_over_is_refused() {
    let (_city, _nodes, client) = City::start(vec![], None).await;
    let future = LightingPlan { days: vec![date(2999, 6, 21)], ..plan() };
    let refused = future.run(&client, &mut |_: &str| {}).await.unwrap_err();
    assert!(matches!(refused, MeritError::DayNotOver { .. }), "{refused}");
}
