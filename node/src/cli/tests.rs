//! What the command line accepts.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(line.split_whitespace())
}

#[test]
fn the_arguments_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn the_documented_commands_are_understood() {
    for line in [
        "kvarter node --config node.toml",
        "kvarter node --print-sample",
        "kvarter cluster status --json",
        "kvarter cluster replicas --hash --endpoint localhost:1,localhost:2",
        "kvarter cluster node remove 2",
        "kvarter cluster drain 2 --undo",
        "kvarter twin get harbour/lamp-1 --stale 2s",
        "kvarter twin list --kind luminaire --profile client.toml",
        "kvarter twin list harbour --where level>50 --where on=true --near 56.15,10.2,500",
        "kvarter twin list --district harbour --box -1.5,-2,3,4",
        "kvarter twin set harbour/lamp-1 level=40 --if-version 3",
        "kvarter command cancel harbour/lamp-1/A-1",
        "kvarter command send-all set_level level=4 --kind luminaire --where level>5 --wave 20 --dry-run",
        "kvarter command send harbour/lamp-1 set_level level=-4 --priority emergency --watch",
        "kvarter command watch harbour/lamp-1/A-1",
        "kvarter feed watch --district harbour --cursor 3:1042:7",
        "kvarter kind get luminaire",
    ] {
        assert!(
            parse(line).is_ok(),
            "{line}: {}",
            parse(line).err().map(|error| error.to_string()).unwrap_or_default()
        );
    }
}

#[test]
fn wrong_usage_is_told_before_anything_is_called() {
    for line in [
        "kvarter node",
        "kvarter cluster node remove 0",
        "kvarter twin get lamp-1",
        "kvarter twin set harbour/lamp-1",
        "kvarter twin list --where level~50",
        "kvarter command send-all set_level --kind luminaire --wave 201",
        "kvarter twin list --near 56.15,10.2",
        "kvarter twin list --near 1,2,3 --box 1,2,3,4",
        "kvarter twin list harbour --district harbour",
        "kvarter twin set harbour/lamp-1 level",
        "kvarter command send harbour/lamp-1 set_level --timeout 30",
        "kvarter feed watch --cursor 3:1042:7 --from-beginning",
        "kvarter zookeeper",
    ] {
        let error = parse(line).expect_err(line);
        assert!(!matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion), "{line}");
    }
}

#[test]
fn every_command_has_help() {
    fn check(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        command.get_subcommands().for_each(check);
    }
    check(&Arguments::command());
}
