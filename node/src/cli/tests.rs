//! What the command line accepts.

use clap::CommandFactory;
use clap::error::ErrorKind;
use kvarter_actors::Catalog;

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
        "kvarter kind delete bench --json",
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

/// The examples in the help of `command` and of all below it.
fn examples(command: &clap::Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let own = help.lines().map(str::trim_start).filter(|line| line.starts_with("kvarter ")).map(str::to_owned);
    own.chain(command.get_subcommands().flat_map(examples)).collect()
}

/// The name that an assignment, a condition or a path begins with.
fn name_in(text: &str) -> &str {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next().unwrap_or_default()
}

#[test]
fn every_example_is_understood_and_names_what_kinds_have() {
    let catalog = Catalog::built_in();
    let attribute = |name: &str| catalog.kinds().find_map(|kind| kind.attributes.iter().find(|it| it.name == name));
    let is_writable = |name: &str| attribute(name).is_some_and(|attribute| attribute.writable);
    let takes = |action: &str, argument: &str| {
        let mut commands = catalog.kinds().flat_map(|kind| &kind.commands).filter(|command| command.name == action);
        commands.any(|command| command.arguments.iter().any(|declared| declared.name == argument))
    };
    let examples = examples(&Arguments::command());
    assert!(examples.len() > 30, "{examples:?}");
    for example in examples {
        // What stands behind: an explanation, or where the output goes.
        let line = ["  ", " | ", " > "].iter().fold(&*example, |line, end| line.split(end).next().unwrap_or_default());
        let words: Vec<_> = line.split(' ').map(|word| word.trim_matches('\'')).collect();
        if let Err(error) = Arguments::try_parse_from(&words) {
            panic!("{example}: {error}");
        }
        for pair in words.windows(2) {
            let name = name_in(pair[1]);
            let is_right = match (words.get(1..3).unwrap_or_default(), pair[0]) {
                (_, "--where") => attribute(name).is_some(),
                (_, "--clear") => is_writable(name),
                (["twin", "set"], _) if pair[1].contains('=') => is_writable(name),
                (["command", "send"], _) if pair[1].contains('=') => takes(words[4], name),
                (["command", "send-all"], _) if pair[1].contains('=') => takes(words[3], name),
                _ => true,
            };
            assert!(is_right, "{example}: no kind has `{name}` there");
        }
        for path in example.split(".reported.").skip(1) {
            assert!(attribute(name_in(path)).is_some(), "{example}: no kind has `{}`", name_in(path));
        }
    }
}
