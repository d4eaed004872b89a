//! Page tokens of lists that go over shards: where the next page begins, opaque to callers.

use kvarter_actors::DeviceNumber;
use kvarter_cluster::ShardId;
use tonic::Status;

use crate::api::status;

/// First digits of a token; another layout gets another version.
const VERSION: &str = "01";

/// The device from which a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageToken {
    pub(crate) shard: ShardId,
    pub(crate) device: DeviceNumber,
}

impl PageToken {
    /// Hex digits: version, shard, device number.
    pub(crate) fn encode(self) -> String {
        format!("{VERSION}{:08x}{:08x}", self.shard.0, self.device.0)
    }

    /// The token under `field` of a request; `None` for an empty one, the first page.
    pub(crate) fn decode(text: &str, field: &str) -> Result<Option<Self>, Status> {
        if text.is_empty() {
            return Ok(None);
        }
        let token = text.strip_prefix(VERSION).filter(|digits| digits.len() == 16).and_then(|digits| {
            let number = |digits: Option<&str>| u32::from_str_radix(digits?, 16).ok();
            Some(Self { shard: ShardId(number(digits.get(..8))?), device: DeviceNumber(number(digits.get(8..))?) })
        });
        token.map(Some).ok_or_else(|| status::invalid(field, format!("`{text}` was not given out by a list")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_given_out_is_understood(shard: u32, device: u32) {
            let token = PageToken { shard: ShardId(shard), device: DeviceNumber(device) };
            prop_assert_eq!(PageToken::decode(&token.encode(), "page_token").expect("a token"), Some(token));
        }

        #[test]
        fn other_text_is_refused(text in ".{1,17}|.{19,40}|02[0-9a-f]{16}") {
            prop_assert!(PageToken::decode(&text, "page_token").is_err());
        }
    }
}
