//! Compiles the protos with protox (no `protoc`), keeps their comments, and writes the descriptors for reflection.

use std::{env, error::Error, fs, path::PathBuf};

const PROTOS: [&str; 11] = [
    "kvarter/v1/cluster_admin.proto",
    "kvarter/v1/command.proto",
    "kvarter/v1/criticality.proto",
    "kvarter/v1/error_reason.proto",
    "kvarter/v1/feed.proto",
    "kvarter/v1/gateway.proto",
    "kvarter/v1/history.proto",
    "kvarter/v1/kind.proto",
    "kvarter/v1/service_control.proto",
    "kvarter/v1/twin.proto",
    "kvarter/v1/value.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(PROTOS)?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("kvarter.v1.fds"), compiler.encode_file_descriptor_set())?;
    // Ordered maps: their order reaches tables, JSON and tests.
    tonic_prost_build::configure().btree_map(".").bytes(".").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
