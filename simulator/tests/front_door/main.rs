//! Plays and loads through the front door, against a cluster that is one process and forgets no rule of the gateway stream.
mod city;
mod load;
mod merit;
mod play;

#[path = "../../../node/api/tests/faults/certificates.rs"]
mod certificates;
#[expect(dead_code, reason = "the client's own tests need more of it")]
#[path = "../../../node/api/tests/faults/node.rs"]
mod node;
