//! What time a node has, by its own word: the id of a new gateway stream tells when the node drew it, and nothing is written.
use std::time::Duration;

use bytes::Bytes;
use kvarter_api::TlsIdentity;
use kvarter_api::v1::{ConnectRequest, ConnectResponse, OpenStream, connect_request, connect_response};
use kvarter_simulator::wall_clock;
use prost::Message;
use tokio::time::timeout;
use tokio_stream::StreamExt;

use super::wire::{self, ANSWER_MAX, CONNECT, Papers};
use crate::stage::ClockShift;

/// A clock that is not further from where it was set to is there: the question takes its time.
const TOLERANCE: Duration = Duration::from_secs(15);

/// Why it is not known what time a node has.
#[derive(Debug, thiserror::Error)]
pub(super) enum TimeUntold {
    #[error("its API can not be called: {0}")]
    NoChannel(#[from] tonic::transport::Error),
    #[error("it does not open a stream: {0}")]
    Refused(#[from] tonic::Status),
    #[error("it opens a stream without a time: {0:?}")]
    Timeless(Option<String>),
}

/// How far the clock of the node with this API is ahead of this machine's, microseconds, give or take half of the time that the
/// question takes.
pub(super) async fn ahead_us(api_address: &str, tls: &TlsIdentity) -> Result<i64, TimeUntold> {
    let papers = Papers::of(tls);
    let channel = wire::channel(api_address, tls, &papers)?;
    let open = ConnectRequest { message: Some(connect_request::Message::Open(OpenStream::default())) };
    // A stream whose requests end is closed before it is answered.
    let requests = tokio_stream::once(Bytes::from(open.encode_to_vec())).chain(tokio_stream::pending());
    let asked_us = wall_clock().as_microsecond();
    let mut responses = wire::open(&channel, CONNECT, requests).await?;
    let first = timeout(ANSWER_MAX, responses.message()).await.unwrap_or(Ok(None))?;
    let answered_us = wall_clock().as_microsecond();
    let stream = match first.and_then(|first| ConnectResponse::decode(first).ok()?.message) {
        Some(connect_response::Message::Opened(opened)) => Some(opened.stream),
        _ => None,
    };
    let drawn_us = stream.as_deref().and_then(drawn_us).ok_or(TimeUntold::Timeless(stream))?;
    Ok(drawn_us - asked_us.midpoint(answered_us))
}

/// Whether a clock that is `ahead_us` ahead is where it was set to.
pub(super) fn shows(shift: ClockShift, ahead_us: i64) -> bool {
    let wanted_us = shift.ahead_s * 1_000_000;
    Duration::from_micros(ahead_us.abs_diff(wanted_us)) <= TOLERANCE
}

/// When the id of a stream was drawn, microseconds since 1970: `{id, 32 hex digits}-{time, hex}`.
fn drawn_us(stream: &str) -> Option<i64> {
    let (_id, drawn) = stream.split_once('-')?;
    i64::from_str_radix(drawn, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_read_off_a_streams_id() {
        assert_eq!(drawn_us(&format!("{}-6_5", "0".repeat(32))), None);
        assert_eq!(drawn_us(&format!("{}-65", "0".repeat(32))), Some(0x65));
        assert_eq!((drawn_us(""), drawn_us("65")), (None, None));
    }

    #[test]
    fn a_clock_that_was_not_set_does_not_show_it() {
        let shift = |ahead_s| ClockShift { ahead_s };
        assert!(shows(shift(600), 600_400_000) && shows(shift(-600), -599_000_000) && shows(shift(0), 0));
        assert!(!shows(shift(600), 0) && !shows(shift(600), -600_000_000) && !shows(shift(-600), 3_000));
    }
}
