//! Distances, and a page from small files.
use super::*;

fn hours(of: impl Fn(f64) -> f64) -> Content {
    let mut means = Means::default();
    for hour in (0..24_u32).map(f64::from) {
        means.add(hour, of(hour));
    }
    Content::Hours(means)
}

fn distance(measured: Content, simulated: Content) -> f64 {
    compare("x.csv", Figure { title: "x", unit: "y", content: measured }, simulated).distance
}

#[test]
fn alike_is_zero_and_the_measures_mean_what_they_say() {
    assert!(distance(hours(|hour| hour), hours(|hour| hour)).abs() < 1e-12);
    assert!((distance(hours(|_| 2.0), hours(|_| 3.0)) - 0.5).abs() < 1e-12);
    let values = |shift: u32| Content::Values((0..100).map(|value| f64::from(value + shift)).collect());
    assert!(distance(values(0), values(0)).abs() < 1e-12);
    assert!((distance(values(0), values(25)) - 0.25).abs() < 1e-12);
    let mut morning = Means::default();
    (0..4).for_each(|hour| morning.add(f64::from(hour), 1.0));
    let mut noon = Means::default();
    (2..6).for_each(|hour| noon.add(f64::from(hour), 1.0));
    assert!((distance(Content::HourShares(morning), Content::HourShares(noon)) - 0.5).abs() < 1e-12);
}

#[test]
fn small_files_make_a_page_without_references() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "aarhus_traffic_5min.csv",
        "ts_utc,report_id,vehicle_count,avg_speed_kmh,median_travel_s\n2014-09-01T06:00:00Z,1,9,50,9\n2014-09-01T01:00:00Z,1,1,50,9\n",
    );
    write(
        "aarhus_parking.csv",
        "update_time,garage_code,vehicle_count,total_spaces\n2014-05-22 09:09:04,NORREPORT,30,65\n",
    );
    write(
        "uk_bin_collections.csv",
        "collected_local,site_id,fill_before_pct\n2016-06-03T13:23:26,1,43\n2016-06-05T13:23:26,1,\n",
    );
    write("no_ev_sessions.csv", "plug_in_local,energy_kwh,duration_h\n2018-12-21T16:20,9.3,10.05\n");
    write(
        "dk_energy_hourly.csv",
        "ts_utc,area,price_eur_mwh\n2025-08-01T00:00:00Z,DK1,92.15\n2025-12-01T00:00:00Z,DK2,50\n",
    );
    write("it_water_flow_hourly.csv", "ts,flow_l_s\n2022-03-20T11:00:00+01:00,100.59\n");
    let fidelity = Fidelity::of(dir.path(), 3, 3).unwrap();
    assert_eq!(fidelity.fits.len(), 16);
    assert!(fidelity.fits.iter().all(|one| one.distance.is_finite() && one.positions.len() == one.simulated.len()));
    let page = fidelity.page();
    assert!(page.contains("<svg") && !page.contains("http") && !page.contains("<script"));
    std::fs::remove_file(dir.path().join("no_ev_sessions.csv")).unwrap();
    assert!(Fidelity::of(dir.path(), 3, 3).unwrap_err().to_string().contains("no_ev_sessions.csv"));
}
