//! Compiles the protos of the log, the state and the node-to-node requests with protox: no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let protos = ["facts", "requests", "state", "catalog"].map(|name| format!("kvarter/city/v1/{name}.proto"));
    let descriptors = protox::compile(protos, ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        // Maps in key order, so that equal messages have equal bytes.
        .btree_map(".")
        .bytes(".")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
