//! Page tokens of lists that go over shards: where the next page begins, and of which list; opaque to callers.

use kvarter_actors::DeviceNumber;
use kvarter_cluster::ShardId;
use tonic::Status;

use crate::api::status;

/// First digits of a token; another layout gets another version.
const VERSION: &str = "02";

/// The device from which a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageToken {
    /// Of what is listed, the same on every node.
    pub(crate) digest: u64,
    pub(crate) shard: ShardId,
    pub(crate) device: DeviceNumber,
}

impl PageToken {
    /// Hex digits: version, shard, device number, digest.
    pub(crate) fn encode(self) -> String {
        format!("{VERSION}{:08x}{:08x}{:016x}", self.shard.0, self.device.0, self.digest)
    }

    /// The token under `field` of a request for the list with this digest; `None` for an empty one, the first page.
    pub(crate) fn decode(text: &str, digest: u64, field: &str) -> Result<Option<Self>, Status> {
        if text.is_empty() {
            return Ok(None);
        }
        let token = text.strip_prefix(VERSION).filter(|digits| digits.len() == 32).and_then(|digits| {
            let number = |digits: Option<&str>| u32::from_str_radix(digits?, 16).ok();
            let (shard, device) = (number(digits.get(..8))?, number(digits.get(8..16))?);
            let digest = u64::from_str_radix(digits.get(16..)?, 16).ok()?;
            Some(Self { digest, shard: ShardId(shard), device: DeviceNumber(device) })
        });
        match token {
            None => Err(status::invalid(field, format!("`{text}` was not given out by a list"))),
            Some(token) if token.digest != digest => Err(status::invalid(field, "given out for another list")),
            Some(token) => Ok(Some(token)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_given_out_is_understood(shard: u32, device: u32, digest: u64) {
            let token = PageToken { digest, shard: ShardId(shard), device: DeviceNumber(device) };
            prop_assert_eq!(PageToken::decode(&token.encode(), digest, "page_token").expect("a token"), Some(token));
            prop_assert!(PageToken::decode(&token.encode(), digest ^ 1, "page_token").is_err());
        }

        #[test]
        fn other_text_is_refused(text in ".{1,33}|.{35,60}|01[0-9a-f]{32}") {
            prop_assert!(PageToken::decode(&text, 0, "page_token").is_err());
        }
    }
}
