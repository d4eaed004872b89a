//! Replays of small files: order, devices and the outcomes that are foretold.

use super::*;

const SEGMENT_HEADER: &str = "report_id,lat1,lon1,lat2,lon2,distance_m,free_flow_s,ndt_kmh,road_type,street1,postal_code,\
                              rows_2014_08_09,mean_veh_5min,max_veh_5min,share_zero";

struct City {
    dir: tempfile::TempDir,
}

impl City {
    /// Two segments that report and one that does not; one garage.
    fn new(traffic: &[&str], parking: &[&str]) -> Self {
        let city = Self { dir: tempfile::tempdir().unwrap() };
        city.write(
            SEGMENTS,
            SEGMENT_HEADER,
            &[
                "1,56.0,10.0,56.01,10.0,400,30,50,MAJOR_ROAD,Østergade,8200,1,1,1,0",
                "2,56.0,10.1,56.01,10.1,80,30,50,ROAD,,,1,1,1,0",
                "3,56.0,10.2,56.01,10.2,80,30,50,ROAD,,8000,1,1,1,0",
            ],
        );
        city.write(TRAFFIC, "ts_utc,report_id,vehicle_count,avg_speed_kmh,median_travel_s", traffic);
        city.write(GARAGES, "update_time,garage_code,vehicle_count,total_spaces", parking);
        city
    }

    fn write(&self, name: &str, header: &str, rows: &[&str]) {
        std::fs::write(self.dir.path().join(name), format!("{header}\n{}\n", rows.join("\n"))).unwrap();
    }

    fn load(&self, span: Option<ReplaySpan>) -> Result<(Replay, Vec<SimulatedDevice>), ReplayError> {
        Replay::load(self.dir.path(), span)
    }
}

const TRAFFIC_ROWS: [&str; 3] =
    ["2014-09-01T00:00:00Z,1,2,83,101", "2014-09-01T00:00:00Z,2,0,50,9", "2014-09-01T00:05:00Z,1,3,80,105"];
const PARKING_ROWS: [&str; 2] = ["2014-09-01 00:03:00,NORREPORT,10,65", "2014-09-01 00:03:00,NORREPORT,10,65"];

#[test]
fn devices_are_the_reporting_segments_their_lamps_and_the_garages() {
    let (_, devices) = City::new(&TRAFFIC_ROWS, &PARKING_ROWS).load(None).unwrap();
    let count = |kind| devices.iter().filter(|device| device.kind == kind).count();
    assert_eq!(count(SimulatedKind::TrafficFlowSensor), 2);
    assert_eq!(count(SimulatedKind::Luminaire), 10 + 2);
    assert_eq!(devices[0].name, "districts/aarhus-8200/devices/s-1");
    assert_eq!(devices[0].labels["street"], "Østergade");
    assert!(devices.iter().any(|device| device.name == "districts/aarhus-unknown/devices/l-2-0"));
    assert_eq!(devices.last().unwrap().name, "districts/aarhus-8000/devices/g-norreport");
}

#[test]
fn files_are_merged_by_time_with_their_own_observation_times() {
    let (mut replay, _) = City::new(&TRAFFIC_ROWS, &PARKING_ROWS).load(None).unwrap();
    let mut readings = Vec::new();
    while replay.next_due().is_some() {
        replay.measure_next(&mut readings);
    }
    assert_eq!(readings.len(), 9 + 4);
    assert!(readings.is_sorted_by_key(|reading| reading.observed));
    assert_eq!(readings[6].signal, Signal::GarageOccupied);
    assert_eq!(readings[6].observed, "2014-09-01T00:03:00Z".parse().unwrap());
    assert_eq!(readings[12].value, Value::Number(105.0));
}

#[test]
fn a_tally_foretells_stored_late_and_duplicate() {
    let late = ["2014-09-01T00:05:00Z,1,3,80,105", "2014-09-01T00:00:00Z,1,2,83,101"];
    let (replay, _) = City::new(&late, &PARKING_ROWS).load(None).unwrap();
    let [traffic, parking] = replay.tallies() else { panic!("two files are played") };
    assert_eq!((traffic.rows, traffic.readings, traffic.stored, traffic.late, traffic.duplicate), (2, 6, 3, 3, 0));
    assert_eq!((parking.rows, parking.readings, parking.stored, parking.late, parking.duplicate), (2, 4, 2, 0, 2));
}

#[test]
fn only_the_chosen_span_is_played() {
    let city = City::new(&TRAFFIC_ROWS, &PARKING_ROWS);
    let at = |text: &str| text.parse().unwrap();
    let span = ReplaySpan { from: at("2014-09-01T00:01:00Z"), to: at("2014-09-01T00:05:00Z") };
    let (replay, devices) = city.load(Some(span)).unwrap();
    assert_eq!(replay.tallies().iter().map(|tally| tally.rows).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(devices.len(), 2 + 12 + 1, "the city is the same in every span");
    let empty = ReplaySpan { from: at("2015-01-01T00:00:00Z"), to: at("2015-01-02T00:00:00Z") };
    assert!(matches!(city.load(Some(empty)), Err(ReplayError::NothingInSpan { .. })));
}

fn cause(error: &ReplayError) -> String {
    std::error::Error::source(error).unwrap().to_string()
}

#[test]
fn a_bad_row_is_named_with_file_and_line() {
    let city = City::new(&[TRAFFIC_ROWS[0], "2014-09-01T00:00:00Z,2,many,50,9"], &PARKING_ROWS);
    let error = city.load(None).unwrap_err();
    assert!(error.to_string().contains(TRAFFIC) && cause(&error).contains("line: 3"), "{error}");
    let city = City::new(&["yesterday,1,2,83,101"], &PARKING_ROWS);
    assert!(cause(&city.load(None).unwrap_err()).contains("line: 2"));
}

#[test]
fn a_segment_without_position_is_named() {
    let city = City::new(&["2014-09-01T00:00:00Z,77,2,83,101"], &PARKING_ROWS);
    assert!(matches!(city.load(None), Err(ReplayError::SegmentMissing { segment: 77, .. })));
}
