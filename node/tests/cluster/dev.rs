//! The development cluster, as a newcomer starts, leaves and finds it again.
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::fleet::kvarter;

/// Far above what a run takes.
const RUN_MAX: Duration = Duration::from_secs(180);
const LOOK_PAUSE: Duration = Duration::from_millis(50);

fn dev(data: &Path, arguments: &[&str]) -> Command {
    let mut command = kvarter();
    command.args(["dev", "--json", "--speed", "600", "--data"]).arg(data).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for the end of a run that succeeds, and returns the JSON object on the last line of its output.
async fn summary(run: impl Future<Output = std::io::Result<Output>>) -> Value {
    let output = timeout(RUN_MAX, run).await.expect("it ends").unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", output.status);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let summary = stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let summary: Value = summary.unwrap_or_else(|| panic!("no summary: {stdout}{told}"));
    let outcomes = ["readings_stored", "readings_late", "readings_duplicate", "readings_rejected"];
    assert_eq!(outcomes.map(|key| number(&summary, key)).iter().sum::<u64>(), number(&summary, "readings_sent"));
    summary
}

fn number(summary: &Value, key: &str) -> u64 {
    summary[key].as_u64().unwrap_or_else(|| panic!("{key} of {summary}"))
}

/// A cluster into which a town is being played.
struct Playing {
    process: Child,
    /// Where the nodes listen.
    addresses: Vec<SocketAddr>,
    _dir: TempDir,
}

impl Playing {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let process = dev(dir.path(), &[]).spawn().unwrap();
        // Written once the play has begun.
        let clock = dir.path().join("clock.json");
        eventually("the town has a clock", async || clock.exists()).await;
        let fleet: Value = serde_json::from_slice(&std::fs::read(dir.path().join("fleet.json")).unwrap()).unwrap();
        let addresses =
            fleet.as_array().unwrap().iter().flat_map(|node| [&node["api_address"], &node["admin_address"]]);
        let addresses: Vec<SocketAddr> = addresses.map(|address| address.as_str().unwrap().parse().unwrap()).collect();
        assert_eq!(addresses.len(), 6);
        Self { process, addresses, _dir: dir }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.process.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).unwrap()));
        kill_process(pid.expect("it runs"), signal).unwrap();
    }

    async fn is_gone(addresses: &[SocketAddr]) -> bool {
        for address in addresses {
            if TcpStream::connect(address).await.is_ok() {
                return false;
            }
        }
        true
    }
}

async fn eventually(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + RUN_MAX;
    while !look().await {
        assert!(Instant::now() < give_up, "not within {RUN_MAX:?}: {what}");
        sleep(LOOK_PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_city_can_be_left_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = summary(dev(dir.path(), &["--for", "15s"]).output()).await;
    assert_eq!(["nodes", "shards", "shards_with_leader"].map(|key| number(&first, key)), [3, 16, 16]);
    assert!(number(&first, "readings_stored") > 1_000, "{first}");
    assert_eq!(["readings_rejected", "errors"].map(|key| number(&first, key)), [0, 0], "{first}");
    assert!(number(&first, "commands_succeeded") > 0, "{first}");
    for key in ["ack_p50_ms", "ack_p99_ms", "kwh_saved"] {
        assert!(first[key].as_f64().is_some_and(|figure| figure > 0.0), "{key} of {first}");
    }

    let second = summary(dev(dir.path(), &["--for", "3s"]).output()).await;
    assert_eq!(number(&second, "devices"), number(&first, "devices"));
    // Those of the very moment at which the town stopped are measured again.
    assert!(number(&second, "readings_duplicate") * 10 < number(&second, "readings_stored"), "{second}");
    assert!(number(&second, "commands_issued") >= number(&first, "commands_issued"), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_play_in_order() {
    let playing = Playing::start().await;
    playing.signal(Signal::INT);
    let Playing { process, addresses, _dir } = playing;
    let summary = summary(process.wait_with_output()).await;
    assert_eq!(number(&summary, "errors"), 0, "{summary}");
    assert!(Playing::is_gone(&addresses).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_do_not_outlive_the_program_that_started_them() {
    let mut playing = Playing::start().await;
    assert!(!Playing::is_gone(&playing.addresses).await);
    playing.signal(Signal::KILL);
    playing.process.wait().await.unwrap();
    eventually("the nodes are gone", async || Playing::is_gone(&playing.addresses).await).await;
}
