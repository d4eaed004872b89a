//! Orders and scenarios close their loops.
use std::collections::BTreeMap;

use super::*;
use crate::order::Argument;
use crate::preset::Preset;
use crate::signal::Shape;

fn start() -> Timestamp {
    "2025-07-03T00:00:00Z".parse().unwrap()
}

fn after(minutes: i64) -> Timestamp {
    start() + SignedDuration::from_mins(minutes)
}

fn village(scenario: Option<&Scenario>) -> City {
    let plan = Plan::new("village", 7, Preset::Village.centre(), Preset::Village.counts());
    City::new(7, plan, start(), &Signal::ALL, Dials::none(), scenario)
}

/// What device 0 of the signal's kind shows at a moment.
fn shown(city: &mut City, signal: Signal, at: Timestamp) -> Value {
    city.registers.extend(at, &city.course);
    if signal.kind() == SimulatedKind::EvCharger {
        city.advance_charger(0, at);
    }
    let sky = city.sky(at);
    city.site(signal.kind(), 0, at, &sky).value(signal)
}

fn number(city: &mut City, signal: Signal, at: Timestamp) -> f64 {
    shown(city, signal, at).number().unwrap()
}

fn tell(city: &mut City, kind: SimulatedKind, action: &str, arguments: &[(&str, Argument)], at: Timestamp) {
    let arguments: BTreeMap<_, _> = arguments.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let order = Order { action: action.to_owned(), arguments };
    let mut readings = Vec::new();
    let device = city.plan.device(kind, 0);
    assert_eq!(city.execute(device, &order, at, &mut readings), Ok(Obedience::Prompt));
    assert!(!readings.is_empty() && readings.iter().all(|reading| reading.device == device));
}

#[test]
fn a_dimmed_lamp_draws_less_and_its_energy_rises_slower() {
    let mut city = village(None);
    let energy = |city: &mut City, minutes| number(city, Signal::LuminaireEnergy, after(minutes));
    let before = energy(&mut city, 60);
    let full = energy(&mut city, 120) - before;
    tell(&mut city, SimulatedKind::Luminaire, "set_level", &[("level", Argument::Number(50.0))], after(60));
    let dimmed = energy(&mut city, 120) - before;
    assert!((dimmed / full - 41.0 / 80.0).abs() < 0.3, "{dimmed} kWh against {full}");
    assert!((number(&mut city, Signal::LuminaireActivePower, after(61)) - 41.0).abs() < 1e-9);
}

#[test]
fn an_open_feeder_darkens_its_lamps_and_lightens_its_cabinet() {
    let mut city = village(None);
    let before = number(&mut city, Signal::CabinetPower, after(10));
    let open = [("feeder", Argument::Number(1.0)), ("closed", Argument::Boolean(false))];
    tell(&mut city, SimulatedKind::Cabinet, "switch_feeder", &open, after(10));
    assert!(number(&mut city, Signal::LuminaireActivePower, after(11)).abs() < 1e-9);
    let open_share = number(&mut city, Signal::CabinetPower, after(11)) / before;
    assert!((open_share - 0.75).abs() < 0.03, "{open_share}");
}

#[test]
fn a_battery_empties_at_the_ordered_power_and_stops_at_the_end() {
    let mut city = village(None);
    let capacity = number(&mut city, Signal::BatteryCapacity, after(1));
    tell(&mut city, SimulatedKind::Battery, "set_power", &[("power", Argument::Number(capacity / 4.0))], after(0));
    assert!((number(&mut city, Signal::BatteryStateOfCharge, after(60)) - 25.0).abs() < 0.1);
    assert!((number(&mut city, Signal::BatteryActivePower, after(60)) - capacity / 4.0).abs() < 1e-9);
    assert!(number(&mut city, Signal::BatteryActivePower, after(180)).abs() < 1e-9, "it is empty");
}

#[test]
fn a_charger_s_load_follows_its_limit() {
    let mut city = village(None);
    let charging =
        (0..40_000).find(|minute| number(&mut city, Signal::ChargerPower, after(*minute)) > 3_000.0).unwrap();
    tell(
        &mut city,
        SimulatedKind::EvCharger,
        "set_charging_limit",
        &[("limit", Argument::Number(1_500.0))],
        after(charging),
    );
    assert!((number(&mut city, Signal::ChargerPower, after(charging)) - 1_500.0).abs() < 1e-9);
    let register = number(&mut city, Signal::ChargerEnergy, after(charging));
    let later = number(&mut city, Signal::ChargerEnergy, after(charging + 2));
    assert!((later - register - 0.05).abs() < 0.02, "{register} {later}");
}

#[test]
fn a_building_follows_its_set_point_slowly() {
    let mut city = village(None);
    tell(&mut city, SimulatedKind::Building, "set_temperature", &[("setpoint", Argument::Number(26.0))], after(0));
    let [soon, late] = [30, 24 * 60].map(|minutes| number(&mut city, Signal::BuildingTemperature, after(minutes)));
    assert!(soon < 22.5 && late > 25.0, "{soon} {late}");
}

#[test]
fn a_closed_valve_a_curtailed_plant_and_an_open_meter_stand_still() {
    let mut city = village(None);
    tell(&mut city, SimulatedKind::WaterMeter, "set_valve", &[("open", Argument::Boolean(false))], after(0));
    tell(&mut city, SimulatedKind::Solar, "set_power_limit", &[("limit", Argument::Number(0.0))], after(0));
    tell(
        &mut city,
        SimulatedKind::ElectricityMeter,
        "set_disconnector",
        &[("closed", Argument::Boolean(false))],
        after(0),
    );
    for register in [Signal::WaterVolume, Signal::SolarEnergyGenerated, Signal::MeterImport] {
        let [before, later] = [1, 900].map(|minutes| number(&mut city, register, after(minutes)));
        assert!((later - before).abs() < 1e-9 && before > 0.0, "{register:?}: {before} {later}");
    }
}

#[test]
fn a_garage_that_lets_no_car_in_empties() {
    let mut city = village(None);
    let noon = 11 * 60;
    tell(&mut city, SimulatedKind::Garage, "set_sign", &[("status", Argument::Text("closed".to_owned()))], after(noon));
    let [soon, late] = [noon + 1, noon + 240].map(|minutes| number(&mut city, Signal::GarageOccupied, after(minutes)));
    assert!(late < 0.2 * soon, "{soon} {late}");
    assert_eq!(shown(&mut city, Signal::GarageStatus, after(noon + 1)), Signal::GarageStatus.choice("closed").unwrap());
}

#[test]
fn the_wrong_time_plan_costs_speed() {
    let mut city = village(None);
    let mean = |city: &mut City| {
        (0..60).map(|minute| number(city, Signal::FlowSpeed, after(6 * 60 + minute))).sum::<f64>() / 60.0
    };
    let day = mean(&mut city);
    tell(&mut city, SimulatedKind::TrafficSignal, "set_plan", &[("plan", Argument::Number(2.0))], after(300));
    let rush = mean(&mut city);
    tell(&mut city, SimulatedKind::TrafficSignal, "set_plan", &[("plan", Argument::Number(3.0))], after(300));
    let night = mean(&mut city);
    assert!(rush > day && day > night, "{rush} {day} {night}");
}

#[test]
fn bins_with_a_lower_threshold_are_emptied_sooner() {
    let mut city = village(None);
    // The mean over ten bins of their fullest hour in two weeks: the fastest bins are emptied every day anyway.
    let fullest = |city: &mut City| {
        city.registers.extend(after(14 * 24 * 60), &city.course);
        let of_bin = |bin| {
            let hours = (0..14 * 24).map(|hour| {
                let sky = city.sky(after(hour * 60));
                city.site(SimulatedKind::WasteContainer, bin, after(hour * 60), &sky).value(Signal::BinFilling)
            });
            hours.filter_map(Value::number).fold(0.0, f64::max)
        };
        (0..10).map(of_bin).sum::<f64>() / 10.0
    };
    let before = fullest(&mut city);
    let wish = crate::order::wish(Signal::BinThreshold, &Argument::Number(30.0)).unwrap();
    for bin in 0..10 {
        let device = city.plan.device(SimulatedKind::WasteContainer, bin);
        assert_eq!(city.obey(device, wish, after(0), &mut Vec::new()), Obedience::Prompt);
    }
    let with_wish = fullest(&mut city);
    assert!(with_wish < 0.9 * before, "{with_wish} {before}");
}

#[test]
fn the_shipped_scenarios_are_valid_and_change_the_city() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let scenario = Scenario::load(&entry.unwrap().path()).unwrap();
        let trace = |scenario: Option<&Scenario>| {
            let plan = Plan::new("village", 7, Preset::Village.centre(), Preset::Village.counts().scaled(100));
            let mut city = City::new(7, plan, start(), &Signal::ALL, Dials::none(), scenario);
            let mut readings = Vec::new();
            while city.next_due().is_some_and(|due| due < after(23 * 60)) {
                city.report_next(&mut readings);
            }
            readings
        };
        assert_ne!(trace(None), trace(Some(&scenario)), "{}", scenario.name);
        names.push(scenario.name);
    }
    assert_eq!(names.len(), 6);
}

fn scenario(text: &str) -> Result<Scenario, crate::scenario::ScenarioError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scenario.toml");
    std::fs::write(&file, text).unwrap();
    Scenario::load(&file)
}

const HEAD: &str = "name = \"x\"\ndescription = \"y\"\n[[change]]\nat = \"02:00\"\nfor = \"30m\"\n";

#[test]
fn a_cloudburst_lifts_the_water_and_it_falls_again() {
    let cloudburst = scenario(&format!("{HEAD}rain_mm_h = 60.0\n")).unwrap();
    let mut city = village(Some(&cloudburst));
    // 02:00 of Danish summer is midnight UTC.
    let [before, peak, later] = [0, 35, 700].map(|minutes| number(&mut city, Signal::FloodLevel, after(minutes)));
    assert!(peak > before + 0.4 && later < before + 0.2, "{before} {peak} {later}");
}

#[test]
fn a_pump_lowers_the_water_at_its_station_and_it_comes_back() {
    let cloudburst = scenario(&format!("{HEAD}rain_mm_h = 60.0\n")).unwrap();
    let (mut alone, mut pumped) = (village(Some(&cloudburst)), village(Some(&cloudburst)));
    let full = [("speed", Argument::Number(100.0))];
    tell(&mut pumped, SimulatedKind::Pump, "set_speed", &full, after(10));
    let mut lower = |minutes| {
        let [alone, pumped] = [&mut alone, &mut pumped].map(|city| number(city, Signal::FloodLevel, after(minutes)));
        alone - pumped
    };
    let [before, soon, peak] = [10, 12, 60].map(&mut lower);
    assert!(before.abs() < 0.05 && soon < 0.1 && peak > 0.25, "{before} {soon} {peak}");
    assert!(number(&mut pumped, Signal::PumpFlow, after(60)) >= 200.0);
    assert!(number(&mut pumped, Signal::PumpPower, after(60)) > 1.0);
    tell(&mut pumped, SimulatedKind::Pump, "set_speed", &[("speed", Argument::Number(0.0))], after(60));
    let levels = [60, 600].map(|minutes| {
        number(&mut alone, Signal::FloodLevel, after(minutes)) - number(&mut pumped, Signal::FloodLevel, after(minutes))
    });
    assert!(levels[0] > 0.25 && levels[1].abs() < 0.05, "{levels:?}");
    assert!(number(&mut pumped, Signal::PumpFlow, after(61)).abs() < 1e-9);
}

#[test]
fn a_pump_that_has_nothing_left_runs_dry() {
    let mut city = village(None);
    tell(&mut city, SimulatedKind::Pump, "set_speed", &[("speed", Argument::Number(100.0))], after(0));
    let dry = Signal::PumpStatus.choice("runningDry");
    let times: Vec<i64> = (0..96).map(|quarter| quarter * 15).collect();
    let is_dry = times.iter().filter(|minutes| Some(shown(&mut city, Signal::PumpStatus, after(**minutes))) == dry);
    assert!(is_dry.count() > 10, "0.6 m are more than what stands there without rain");
    assert_eq!(Some(shown(&mut city, Signal::PumpStatus, after(0))), Signal::PumpStatus.choice("ok"));
}

/// What people report in the days from `start` on, after `act`: how often each service, by its text.
fn reported(days: i64, act: impl FnOnce(&mut City)) -> BTreeMap<String, usize> {
    let signals = [Signal::ReportServiceCode, Signal::ReportLocation, Signal::ReportRequestId];
    let plan = Plan::new("odense", 7, Preset::Odense.centre(), Preset::Odense.counts());
    let mut city = City::new(7, plan, start(), &signals, Dials::none(), None);
    act(&mut city);
    let mut readings = Vec::new();
    while city.next_due().is_some_and(|due| due < after(days * 24 * 60)) {
        city.report_next(&mut readings);
    }
    let Shape::Choice(services) = Signal::ReportServiceCode.shape() else { unreachable!("it is an enumeration") };
    let mut counts = BTreeMap::new();
    for reading in readings.iter().filter(|reading| reading.signal == Signal::ReportServiceCode) {
        let Value::Choice(service) = reading.value else { unreachable!("{reading:?}") };
        *counts.entry(services[usize::from(service)].to_owned()).or_insert(0) += 1;
    }
    assert_eq!(readings.len(), 3 * counts.values().sum::<usize>(), "each report has its place and number");
    counts
}

#[test]
fn people_report_what_is_wrong_and_dark_lamps_more_the_more_there_are() {
    let usual = reported(2, |_| {});
    assert_eq!(usual, reported(2, |_| {}), "the same seed is the same reports");
    let all: usize = usual.values().sum();
    assert!((6..120).contains(&all), "{usual:?}");
    let count = |counts: &BTreeMap<String, usize>, service: &str| counts.get(service).copied().unwrap_or(0);
    let off = |city: &mut City| {
        let level = Order {
            action: "set_level".to_owned(),
            arguments: BTreeMap::from([("level".to_owned(), Argument::Number(0.0))]),
        };
        for lamp in 0..2_000 {
            let device = city.plan.device(SimulatedKind::Luminaire, lamp);
            city.execute(device, &level, after(0), &mut Vec::new()).unwrap();
        }
    };
    let dark = reported(2, off);
    assert!(count(&dark, "streetLight") > count(&usual, "streetLight") + 10, "{usual:?} {dark:?}");
    assert_eq!(count(&dark, "pothole"), count(&usual, "pothole"));
}

#[test]
fn a_blackout_silences_the_wired_devices_and_all_come_back_at_once() {
    let text = format!("{HEAD}power = false\n[change.dials]\nreconnect_spread_s = 10.0\n");
    let mut city = village(Some(&scenario(&text).unwrap()));
    let mut readings = Vec::new();
    while city.next_due().is_some_and(|due| due < after(30)) {
        city.report_next(&mut readings);
    }
    assert!(!readings.is_empty() && readings.iter().all(|reading| is_on_radio(reading.signal.kind())));
    readings.clear();
    while city.next_due().is_some_and(|due| due < after(30) + SignedDuration::from_secs(10)) {
        city.report_next(&mut readings);
    }
    let back: std::collections::BTreeSet<_> = readings.iter().map(|reading| reading.device).collect();
    assert!(back.len() as f64 > 0.7 * f64::from(city.plan.device_count()), "{}", back.len());
}

#[test]
fn a_scenario_with_a_mistake_is_refused_with_its_name() {
    let refusal = |text: &str| {
        let error = anyhow::Error::from(scenario(&format!("{HEAD}{text}")).unwrap_err());
        format!("{error:#}")
    };
    assert!(refusal("rian_mm_h = 3.0").contains("rian_mm_h"), "{}", refusal("rian_mm_h = 3.0"));
    assert!(refusal("[change.dials]\nlos = 1.0").contains("los"));
    assert!(refusal("[change.dials]\nloss = -0.1").contains("`loss` must be a number"));
    assert!(refusal("part = [0.5, 0.2]").contains("change 1: part [0.5, 0.2]"));
    assert!(refusal("ramp = \"20m\"").contains("ramps"));
}
