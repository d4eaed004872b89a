//! The ticket of a gateway stream: the text under which a client keeps it, `{id, 32 hex digits}-{issue time, hex}`.

use std::fmt;

use kvarter_actors::StreamId;
use kvarter_cluster::{Ports, Timestamp};

/// Given out by the node on which a stream is first opened; any node takes it to resume the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamTicket {
    pub(crate) id: StreamId,
    /// When the id was drawn. Shards tell by it an expired stream from one that they never saw.
    pub(crate) issued: Timestamp,
}

impl StreamTicket {
    pub(crate) fn draw(ports: &Ports) -> Self {
        Self { id: StreamId(ports.random.next_u128()), issued: ports.clock.now() }
    }

    /// `None` for text that no node has given out.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let (id, issued) = text.split_once('-')?;
        if id.len() != 32 || !is_hex(id) || !is_hex(issued) {
            return None;
        }
        let id = StreamId(u128::from_str_radix(id, 16).ok()?);
        Some(Self { id, issued: Timestamp(i64::from_str_radix(issued, 16).ok()?) })
    }
}

impl fmt::Display for StreamTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.id, self.issued.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_given_out_is_understood(id: u128, issued in 0_i64..) {
            let ticket = StreamTicket { id: StreamId(id), issued: Timestamp(issued) };
            prop_assert_eq!(StreamTicket::parse(&ticket.to_string()), Some(ticket));
        }

        #[test]
        fn any_text_is_survived(text in ".*") {
            prop_assert!(StreamTicket::parse(&text).is_none_or(|ticket| ticket.issued.0 >= 0));
        }
    }

    #[test]
    fn text_that_no_node_gave_out_is_refused() {
        let id = "0".repeat(32);
        for text in [String::new(), id.clone(), format!("{id}-"), format!("{id}--1"), format!("{}-1", "F".repeat(32))] {
            assert_eq!(StreamTicket::parse(&text), None, "{text}");
        }
    }
}
