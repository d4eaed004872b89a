//! What settings are accepted, and what the errors of the others say.

use super::*;

const MINIMAL: &str = r#"
id = 2
data_dir = "data"
peer.address = "localhost:7411"
api.address = "localhost:7410"
tls = { ca = "ca.pem", certificate = "node2.pem", key = "node2.key" }
cluster.initial = [{ id = 2, peer_address = "localhost:7411" }]
cluster.replication_factor = 1
"#;

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_text(text, "node.toml", environment)
}

fn refusal(text: &str, environment: &[(&str, &str)]) -> String {
    load(text, environment).expect_err("must be refused").to_string()
}

#[test]
fn the_sample_documents_every_key_and_no_other() {
    let config = load(SAMPLE, &[]).expect("the sample is valid");
    let written: toml::Table = toml::from_str(&toml::to_string(&config).expect("settings are TOML")).expect("TOML");
    let sample: toml::Table = SAMPLE.parse().expect("TOML");
    assert_eq!(written, sample);
}

#[test]
fn what_is_not_given_has_its_default() {
    let config = load(MINIMAL, &[]).expect("valid");
    assert_eq!((config.id, config.cluster.shards, config.retention.bytes), (2, 16, 2 << 30));
    assert_eq!(config.cluster.initial.len(), 1);
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = load(
        MINIMAL,
        &[
            ("KVARTER_NODE__ID", "3"),
            ("KVARTER_NODE__ZONE", "7"),
            ("KVARTER_NODE__CLUSTER__SHARDS", "32"),
            ("KVARTER_NODE__TELEMETRY__TRACE_RATIO", "1"),
            ("KVARTER_NODE__CLUSTER__INITIAL", "[{ id = 3, peer_address = 'a:1' }]"),
            ("KVARTER_NODE_SERVICE_HOST", "10.0.0.1"),
            ("KVARTER_ENDPOINT", "https://localhost:7400"),
        ],
    )
    .expect("valid");
    assert_eq!((config.id, config.zone.as_str(), config.cluster.shards), (3, "7", 32));
    assert_eq!(config.cluster.initial, [Initial { id: 3, peer_address: "a:1".to_owned() }]);
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_name() {
    let text = format!("{MINIMAL}[retention]\nbites = 1\n");
    assert_eq!(refusal(&text, &[]), "node.toml:10: unknown key `retention.bites`, did you mean `bytes`?");
    let text = MINIMAL.replace("peer_address =", "adress =");
    assert!(refusal(&text, &[]).starts_with("node.toml:7: unknown key `cluster.initial.adress`"));
    assert_eq!(
        refusal(MINIMAL, &[("KVARTER_NODE__CLUSTER__SHARD", "3")]),
        "KVARTER_NODE__CLUSTER__SHARD: unknown key `shard`, did you mean `shards`?"
    );
    assert!(refusal(&format!("{MINIMAL}[zookeeper]\n"), &[]).contains("known here: `admin`, `api`"));
}

#[test]
fn a_wrong_type_is_refused_with_its_place() {
    let text = MINIMAL.replace("id = 2\ndata", "id = \"two\"\ndata");
    assert_eq!(refusal(&text, &[]), "node.toml:2: `id` is a text in quotes, expected a whole number");
    assert_eq!(
        refusal(MINIMAL, &[("KVARTER_NODE__ID", "two")]),
        "KVARTER_NODE__ID: `id` is \"two\", expected a whole number"
    );
    assert!(refusal("id = ", &[]).starts_with("node.toml:1: "));
}

#[test]
fn values_outside_their_range_are_refused_with_the_range() {
    assert_eq!(
        refusal(MINIMAL, &[("KVARTER_NODE__CLUSTER__SHARDS", "-1")]),
        "`cluster.shards` is -1, allowed is 1 to 1024"
    );
    assert_eq!(
        refusal(MINIMAL, &[("KVARTER_NODE__API__LISTEN", "localhost")]),
        "`api.listen` is \"localhost\", allowed is ip:port, e.g. 0.0.0.0:7400"
    );
    for (variable, value) in [
        ("KVARTER_NODE__TELEMETRY__TRACE_RATIO", "1.5"),
        ("KVARTER_NODE__TELEMETRY__LOG_FORMAT", "xml"),
        ("KVARTER_NODE__TELEMETRY__OTLP_ENDPOINT", "https://collector:4317"),
        ("KVARTER_NODE__PEER__ADDRESS", "localhost"),
        ("KVARTER_NODE__RETENTION__HOURS", "0"),
        ("KVARTER_NODE__DATA_DIR", ""),
    ] {
        assert!(refusal(MINIMAL, &[(variable, value)]).contains("allowed is"), "{variable}");
    }
}

#[test]
fn values_that_do_not_fit_together_are_refused() {
    let cases = [
        ("KVARTER_NODE__CLUSTER__HEARTBEAT_MS", "500"),
        ("KVARTER_NODE__CLUSTER__ELECTION_TIMEOUT_MAX_MS", "300"),
        ("KVARTER_NODE__CLUSTER__REPLICATION_FACTOR", "2"),
        ("KVARTER_NODE__CLUSTER__INITIAL", "[{ id = 1, peer_address = 'a:1' }, { id = 1, peer_address = 'b:1' }]"),
        ("KVARTER_NODE__CLUSTER__INITIAL", "[{ id = 2, peer_address = 'a' }]"),
        ("KVARTER_NODE__CLUSTER__JOIN", "['a']"),
    ];
    for (variable, value) in cases {
        assert!(refusal(MINIMAL, &[(variable, value)]).starts_with("settings do not fit"), "{variable} {value}");
    }
}

#[test]
fn a_node_that_does_not_form_the_cluster_joins_it() {
    let joining = MINIMAL.lines().filter(|line| !line.starts_with("cluster."));
    let joining = joining.chain(["cluster.join = [\"a:1\", \"b:1\"]"]).collect::<Vec<_>>().join("\n");
    let config = load(&joining, &[]).expect("valid");
    assert_eq!(
        (config.cluster.initial.len(), config.cluster.join.as_slice()),
        (0, ["a:1".to_owned(), "b:1".to_owned()].as_slice())
    );
    let refused = refusal(MINIMAL, &[("KVARTER_NODE__ID", "7")]);
    assert!(refused.contains("node 7 is not in `cluster.initial`, so it has to join"), "{refused}");
}

#[test]
fn a_missing_key_is_named_with_its_variable() {
    let text = MINIMAL.replace("api.address = \"localhost:7410\"\n", "");
    assert_eq!(refusal(&text, &[]), "`api.address` is missing: set it in the file or with KVARTER_NODE__API__ADDRESS");
}

#[test]
fn relative_paths_start_at_the_files_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("node.toml");
    std::fs::write(&file, MINIMAL).expect("written");
    let config = Config::load(&file, std::iter::empty()).expect("valid");
    assert_eq!(config.data_dir, dir.path().join("data"));
    assert_eq!(config.tls.ca, dir.path().join("ca.pem"));
}
