//! The archiver writes history while it, and the nodes that it reads from, are killed.
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use prost_types::Timestamp;
use serde_json::Value;
use tokio::process::Child;

use crate::fleet::{Fleet, kvarter, terminate};
use crate::sensors::{Observation, Sensors};

/// So small that files are sealed all the time.
const SEGMENT_BYTES: &str = "8000";

fn archive(fleet: &Fleet, dir: &Path) -> Child {
    let mut command = kvarter();
    command.args(["feed", "archive", "--segment-bytes", SEGMENT_BYTES, "--profile"]).arg(fleet.profile());
    command.arg("--dir").arg(dir).stdout(Stdio::null()).spawn().unwrap()
}

fn files(dir: &Path, end: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|found| found == end)).count()
}

/// The lines of `kvarter history COMMAND DIR --json`; `None` when it fails.
async fn history(command: &str, dir: &Path) -> Option<Vec<Value>> {
    let output = kvarter().args(["history", command, "--json"]).arg(dir).output().await.unwrap();
    let lines = || String::from_utf8(output.stdout.clone()).unwrap();
    output.status.success().then(|| lines().lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// The observations in the files, in their order.
async fn observations(dir: &Path) -> Option<Vec<Observation>> {
    let observation = |fact: Value| {
        let reported = fact.get("attribute_reported")?;
        let time: Timestamp = reported["observe_time"].as_str().unwrap().parse().unwrap();
        let observed_us = time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000;
        Some((fact["device"].as_str().unwrap().to_owned(), observed_us))
    };
    Some(history("cat", dir).await?.into_iter().filter_map(observation).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn history_has_everything_once_although_its_writer_and_nodes_are_killed() {
    let mut fleet = Fleet::start().await;
    let files_dir = tempfile::tempdir().unwrap();
    let dir = files_dir.path();
    let mut sensors = Sensors::connect(fleet.client()).await;
    for round in 0..3 {
        let mut archiver = archive(&fleet, dir);
        let sealed_before = files(dir, "history");
        if round == 1 {
            fleet.kill(1).await;
        }
        let more = async || {
            sensors.send_round().await;
            sensors.acknowledged().await;
            (files(dir, "history") > sealed_before + 2).then_some(())
        };
        fleet.eventually("files are sealed", more).await;
        archiver.kill().await.unwrap();
        if round == 1 {
            fleet.restart(1);
            fleet.formed().await;
        }
        // Nobody archives these as they come.
        for _ in 0..5 {
            sensors.send_round().await;
        }
        sensors.acknowledged().await;
    }

    let archiver = archive(&fleet, dir);
    let expected = sensors.observations();
    let is_complete = async || (observations(dir).await?.len() >= expected.len()).then_some(());
    fleet.eventually("all is in the files", is_complete).await;
    assert!(terminate(archiver).await.success());
    assert_eq!(files(dir, "open"), 0, "an archiver that ends in order leaves nothing open");

    let found = observations(dir).await.expect("the files are whole");
    assert_eq!(found.len(), expected.len());
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    let verified = history("verify", dir).await.expect("the files are whole").remove(0);
    for shard in verified["shards"].as_array().unwrap() {
        assert_eq!((&shard["gaps"], &shard["first"]["index"]), (&Value::from(0), &Value::from(0)), "{shard}");
    }

    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|end| end == "history"));
    names.sort();
    names.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("shard-00001-"));
    assert!(names.len() > 2, "{names:?}");
    std::fs::remove_file(&names[1]).unwrap();
    assert_eq!(history("verify", dir).await, None, "a file that is missing is noticed");
}
