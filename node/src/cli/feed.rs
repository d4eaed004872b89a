//! `kvarter feed`: what happens in the city, as it is committed.

mod archive;
mod fact;

use std::process::ExitCode;

use kvarter_api::v1::{Fact, FeedFilter, FeedMessage, Gap, Position, SubscribeRequest};
use kvarter_api::{Client, DistrictName};
use serde_json::json;

use super::call::Call;
use super::failure::explained;
use super::output::Output;
use super::{json, target};

#[derive(Debug, clap::Subcommand)]
pub(super) enum FeedCommand {
    /// Print facts as they are committed, until interrupted
    #[command(after_help = "\
Examples:
  kvarter feed watch
  kvarter feed watch --district harbour --kind luminaire
  kvarter feed watch --from-beginning --limit 100 --json
  kvarter feed watch --cursor 3:1042:7              on from behind that fact; other shards are left out

Each shard's facts come in order, without gap or repeat; when facts are gone for good, a line says so.
The position of a fact (shard:index:ordinal) is a cursor.")]
    Watch {
        /// Only these districts
        #[arg(long = "district", value_name = "DISTRICT", value_parser = target::district)]
        districts: Vec<DistrictName>,
        /// Only devices of these kinds
        #[arg(long = "kind", value_name = "KIND")]
        kinds: Vec<String>,
        /// Begin at the first fact that is kept, not at the end
        #[arg(long, conflicts_with = "cursors")]
        from_beginning: bool,
        /// Begin behind these facts, one per shard
        #[arg(long = "cursor", value_name = "SHARD:INDEX:ORDINAL", value_parser = parse_cursor)]
        cursors: Vec<Position>,
        /// End after so many facts
        #[arg(long, value_name = "COUNT")]
        limit: Option<u64>,
    },
    /// Keep the feed in files, longer than the cluster does, until interrupted
    Archive(archive::ArchiveArguments),
}

impl Call for FeedCommand {
    async fn run(self, client: &Client, output: &mut Output) -> anyhow::Result<ExitCode> {
        let (districts, kinds, from_beginning, cursors, limit) = match self {
            FeedCommand::Archive(arguments) => return arguments.run(client, output).await,
            FeedCommand::Watch { districts, kinds, from_beginning, cursors, limit } => {
                (districts, kinds, from_beginning, cursors, limit)
            }
        };
        let districts = districts.into_iter().map(String::from).collect();
        let request = SubscribeRequest { cursors, filter: Some(FeedFilter { districts, kinds }), from_beginning };
        let mut facts = client.subscribe(request).await.map_err(explained)?;
        let mut left = limit.unwrap_or(u64::MAX);
        while left > 0 {
            let message = facts.next().await.map_err(explained)?;
            left = print(&message, left, output)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints at most `left` facts, and returns how many may follow.
fn print(message: &FeedMessage, mut left: u64, output: &mut Output) -> std::io::Result<u64> {
    if let Some(gap) = &message.gap {
        print_gap(gap, output)?;
    }
    for fact in &message.facts {
        if left == 0 {
            break;
        }
        left -= 1;
        print_fact(fact, output)?;
    }
    Ok(left)
}

pub(super) fn print_gap(gap: &Gap, output: &mut Output) -> std::io::Result<()> {
    let (from, to) = (gap.from.as_ref(), gap.to.as_ref());
    if output.is_json() {
        return output.json(&json!({ "gap": { "from": json::position(from), "to": json::position(to) } }));
    }
    let place = |position: Option<&Position>| position.map(cursor).unwrap_or_default();
    output.line(&format!("GAP: the facts behind {} up to {} are gone", place(from), place(to)))
}

pub(super) fn print_fact(fact: &Fact, output: &mut Output) -> std::io::Result<()> {
    if output.is_json() { output.json(&fact::json(fact)) } else { output.line(&fact::line(fact)) }
}

/// `shard:index:ordinal`
pub(super) fn cursor(position: &Position) -> String {
    format!("{}:{}:{}", position.shard, position.index, position.ordinal)
}

fn parse_cursor(text: &str) -> Result<Position, String> {
    let mut parts = text.splitn(3, ':');
    let position = (|| {
        Some(Position {
            shard: parts.next()?.parse().ok()?,
            index: parts.next()?.parse().ok()?,
            ordinal: parts.next()?.parse().ok()?,
        })
    })();
    position.ok_or_else(|| "write shard:index:ordinal as positions are printed, e.g. 3:1042:7".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_cursor() {
        let position = Position { shard: 3, index: 1042, ordinal: 7 };
        assert_eq!(parse_cursor(&cursor(&position)), Ok(position));
        for text in ["", "3", "3:1042", "3:x:7", "3:1:2:3", "4294967296:1:1"] {
            assert!(parse_cursor(text).is_err(), "{text}");
        }
    }
}
