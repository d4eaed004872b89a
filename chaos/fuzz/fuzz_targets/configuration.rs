//! What an operator writes: the node's configuration, and the variables that override it, one `NAME=VALUE` a line behind a
//! line of three dashes.
#![no_main]

use kvarter_node::Config;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (file, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    if let Err(error) = Config::from_text(file, "fuzz.toml", variables) {
        assert!(!error.to_string().is_empty(), "an error says nothing");
    }
});
