//! The shape of the workspace: which crate may know which, and what every source file has.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What each crate may know of the others (the picture in README.md), and what it must not know of the rest of the world.
const CRATES: [Crate; 7] = [
    Crate { dir: "cluster", name: "kvarter-cluster", knows: &[], never: &["ractor"] },
    Crate {
        dir: "actors",
        name: "kvarter-actors",
        knows: &["kvarter-cluster"],
        never: &["openraft", "raft-engine", "sled", "tonic", "hyper"],
    },
    Crate { dir: "node/api", name: "kvarter-api", knows: &[], never: &["ractor", "openraft", "raft-engine", "sled"] },
    Crate {
        dir: "simulator",
        name: "kvarter-simulator",
        knows: &["kvarter-api"],
        never: &["ractor", "openraft", "raft-engine", "sled"],
    },
    Crate {
        dir: "node",
        name: "kvarter-node",
        knows: &["kvarter-actors", "kvarter-api", "kvarter-cluster", "kvarter-simulator"],
        never: &["openraft", "raft-engine", "sled"],
    },
    Crate {
        dir: "chaos",
        name: "kvarter-chaos",
        knows: &["kvarter-actors", "kvarter-api", "kvarter-cluster", "kvarter-simulator"],
        never: &[],
    },
    Crate {
        dir: "chaos/fuzz",
        name: "kvarter-fuzz",
        knows: &["kvarter-actors", "kvarter-cluster", "kvarter-node"],
        never: &["openraft", "raft-engine", "sled"],
    },
];

struct Crate {
    dir: &'static str,
    name: &'static str,
    knows: &'static [&'static str],
    never: &'static [&'static str],
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn manifest(dir: &str) -> toml::Table {
    let file = root().join(dir).join("Cargo.toml");
    std::fs::read_to_string(&file).unwrap().parse().unwrap()
}

/// Everything that ends up in the crate or its tests; what only runs at build time does not count.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let of_target = manifest.get("target").and_then(toml::Value::as_table).into_iter();
    let targets = of_target.flat_map(toml::Table::values).filter_map(toml::Value::as_table);
    let tables = std::iter::once(manifest).chain(targets);
    let sections = tables.flat_map(|table| ["dependencies", "dev-dependencies"].map(|section| table.get(section)));
    sections.flatten().filter_map(toml::Value::as_table).flat_map(toml::Table::keys).cloned().collect()
}

/// Source files of the workspace, without what is built from them.
fn sources() -> Vec<PathBuf> {
    let mut open: Vec<PathBuf> = CRATES.iter().map(|one| root().join(one.dir)).collect();
    let mut files = BTreeSet::new();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name() != Some(OsStr::new("target")) {
                open.push(path);
            } else if path.extension() == Some(OsStr::new("rs")) {
                files.insert(path);
            }
        }
    }
    assert!(files.len() > 100, "the search found only {} files", files.len());
    files.into_iter().collect()
}

#[test]
fn every_member_of_the_workspace_has_its_place() {
    let workspace = manifest(".");
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let members: BTreeSet<&str> = members.iter().map(|member| member.as_str().unwrap()).collect();
    assert_eq!(members, CRATES.iter().map(|one| one.dir).collect());
    for one in &CRATES {
        assert_eq!(manifest(one.dir)["package"]["name"].as_str(), Some(one.name));
    }
}

#[test]
fn dependencies_point_one_way() {
    let names: BTreeSet<&str> = CRATES.iter().map(|one| one.name).collect();
    let mut found = BTreeMap::new();
    for one in &CRATES {
        let dependencies = dependencies(&manifest(one.dir));
        let strange: Vec<_> = dependencies
            .iter()
            .filter(|name| names.contains(name.as_str()) && !one.knows.contains(&name.as_str()))
            .chain(dependencies.iter().filter(|name| one.never.contains(&name.as_str())))
            .collect();
        assert!(strange.is_empty(), "{} must not know {strange:?}", one.name);
        found.insert(one.name, dependencies.len());
    }
    assert!(found.values().all(|count| *count > 3), "dependencies were not found: {found:?}");
}

#[test]
fn only_the_development_cluster_knows_the_simulator() {
    let source = root().join("node/src");
    let dev = source.join("dev");
    for file in sources().iter().filter(|file| file.starts_with(&source)) {
        let is_dev = file.starts_with(&dev) || *file == dev.with_extension("rs");
        let text = std::fs::read_to_string(file).unwrap();
        assert!(is_dev || !text.contains("kvarter_simulator"), "{}", file.display());
    }
}

#[test]
fn every_file_says_what_it_is() {
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        let opening = text.lines().next().and_then(|line| line.strip_prefix("//!"));
        assert!(opening.is_some_and(|words| words.trim().len() > 10), "{}", file.display());
    }
}

#[test]
fn a_module_stands_beside_its_directory() {
    for file in sources() {
        assert_ne!(file.file_name(), Some(OsStr::new("mod.rs")), "{}", file.display());
    }
}
