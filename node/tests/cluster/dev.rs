//! The development cluster, as a newcomer starts it.
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::fleet::kvarter;

/// Far above what a run takes.
const RUN_MAX: Duration = Duration::from_secs(180);

/// Runs `kvarter dev` for a while, and returns the JSON object on the last line of its output.
async fn dev(data: &Path, arguments: &[&str]) -> Value {
    let mut command = kvarter();
    command.args(["dev", "--json", "--data"]).arg(data).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = timeout(RUN_MAX, command.output()).await.expect("it ends by itself").unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", output.status);
    let stdout = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(stdout.lines().last().expect("a line")).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

fn number(summary: &Value, key: &str) -> u64 {
    summary[key].as_u64().unwrap_or_else(|| panic!("{key} of {summary}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_sees_a_city_that_can_be_left_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = dev(dir.path(), &["--for", "15s", "--speed", "600"]).await;
    assert_eq!(["nodes", "shards", "shards_with_leader"].map(|key| number(&first, key)), [3, 16, 16]);
    let outcomes = ["readings_stored", "readings_late", "readings_duplicate", "readings_rejected"];
    let outcomes: u64 = outcomes.iter().map(|key| number(&first, key)).sum();
    assert_eq!(outcomes, number(&first, "readings_sent"));
    assert!(number(&first, "readings_stored") > 1_000, "{first}");
    assert_eq!((number(&first, "readings_rejected"), number(&first, "errors")), (0, 0));
    assert!(number(&first, "commands_issued") >= number(&first, "commands_succeeded"));
    for key in ["ack_p50_ms", "ack_p99_ms", "kwh_saved"] {
        assert!(first[key].as_f64().is_some_and(|figure| figure >= 0.0), "{key} of {first}");
    }

    let second = dev(dir.path(), &["--for", "3s", "--speed", "600"]).await;
    assert_eq!(number(&second, "devices"), number(&first, "devices"));
    assert_eq!(number(&second, "readings_duplicate"), 0, "the town goes on where it stopped");
    assert!(number(&second, "commands_issued") >= number(&first, "commands_issued"));
}
