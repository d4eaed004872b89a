//! How much a request matters when its shard can not take all: the order in which requests are refused. Pure.
//!
//! Decided once per request, from what it asks for and what its caller said; readings are not looked at one by one.

use std::time::Duration;

use crate::message::{self, shard_request::Request};

/// A command of this priority or a higher one (a lower number) is an operator's.
const OPERATOR_PRIORITY: u32 = 2;

/// Less critical requests are refused first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Criticality {
    /// Work in bulk, that can wait: lists, registrations, exports.
    Low,
    /// Readings and reads.
    Normal,
    /// What services and integrators steer with, and what streams need to be opened.
    High,
    /// Emergency and operator commands, and what devices say to commands. Callers can not ask for it.
    Vital,
}

impl Criticality {
    pub const ALL: [Self; 4] = [Self::Low, Self::Normal, Self::High, Self::Vital];

    /// `None` for 0, which is nothing, and for what a newer version may say.
    pub fn from_message(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|criticality| criticality.to_message() == number)
    }

    pub fn to_message(self) -> u32 {
        match self {
            Self::Low => 1,
            Self::Normal => 2,
            Self::High => 3,
            Self::Vital => 4,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Vital => "vital",
        }
    }

    /// What `request` has: its own by what it asks for, or less when its caller said so. The readings of a stream have what
    /// its client said, up to `High`, since only the client knows what its devices are.
    pub(crate) fn of(request: &message::ShardRequest) -> Self {
        let asked = Self::from_message(request.criticality);
        match (&request.request, asked) {
            (Some(Request::SubmitReadings(_)), Some(asked)) => asked.min(Self::High),
            (Some(request), Some(asked)) => asked.min(Self::own(request)),
            (Some(request), None) => Self::own(request),
            (None, _) => Self::Low,
        }
    }

    fn own(request: &Request) -> Self {
        match request {
            Request::AcknowledgeCommands(_) | Request::CancelCommand(_) | Request::SetServiceMode(_) => Self::Vital,
            Request::IssueCommand(issue) if (1..=OPERATOR_PRIORITY).contains(&issue.priority) => Self::Vital,
            Request::IssueCommand(_)
            | Request::PatchDesired(_)
            | Request::OpenStream(_)
            | Request::AttachDevices(_)
            | Request::CloseStream(_)
            | Request::ReadCommand(_)
            | Request::ReadStream(_) => Self::High,
            Request::SubmitReadings(_)
            | Request::ReadTwin(_)
            | Request::ReadServices(_)
            | Request::RetireDevice(_)
            | Request::CountDevices(_) => Self::Normal,
            Request::RegisterDevices(_) | Request::ListTwins(_) | Request::ReadTwins(_) | Request::ReadFeed(_) => {
                Self::Low
            }
        }
    }

    /// How much of a queue for `max` may be in use once a request of this criticality is in it. What is above is kept for
    /// more critical ones.
    pub(crate) fn share_of(self, max: usize) -> usize {
        let kept_free = match self {
            Self::Low => max / 2,
            Self::Normal => max / 4,
            Self::High => max / 10,
            Self::Vital => 0,
        };
        max - kept_free
    }

    /// The same for how long may be waited.
    pub(crate) fn share_of_time(self, max: Duration) -> Duration {
        match self {
            Self::Low => max / 2,
            Self::Normal => max * 3 / 4,
            Self::High => max * 9 / 10,
            Self::Vital => max,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(criticality: u32, request: Request) -> message::ShardRequest {
        message::ShardRequest { criticality, request: Some(request), ..message::ShardRequest::default() }
    }

    fn command(priority: u32) -> Request {
        Request::IssueCommand(message::IssueCommand { priority, ..message::IssueCommand::default() })
    }

    #[test]
    fn operators_and_acknowledgements_come_before_services_and_these_before_readings_and_lists() {
        let of = |asked| Criticality::of(&request(0, asked));
        for priority in [1, 2] {
            assert_eq!(of(command(priority)), Criticality::Vital);
        }
        // 0 is the default, which is the lowest priority.
        for priority in [0, 3, 5] {
            assert_eq!(of(command(priority)), Criticality::High);
        }
        assert_eq!(of(Request::AcknowledgeCommands(message::AcknowledgeCommands::default())), Criticality::Vital);
        assert_eq!(of(Request::SubmitReadings(message::SubmitReadings::default())), Criticality::Normal);
        assert_eq!(of(Request::ListTwins(message::ListTwins::default())), Criticality::Low);
    }

    #[test]
    fn a_caller_may_ask_for_less_and_for_more_with_its_readings_alone() {
        let asked = |asked: Criticality, what| Criticality::of(&request(asked.to_message(), what));
        assert_eq!(asked(Criticality::Low, command(1)), Criticality::Low);
        assert_eq!(asked(Criticality::Vital, command(5)), Criticality::High);
        let readings = || Request::SubmitReadings(message::SubmitReadings::default());
        assert_eq!(asked(Criticality::High, readings()), Criticality::High);
        assert_eq!(asked(Criticality::Vital, readings()), Criticality::High);
        assert_eq!(Criticality::of(&request(99, readings())), Criticality::Normal);
    }

    proptest! {
        #[test]
        fn the_more_critical_has_more_room_and_time(max: usize, max_ms: u32) {
            let max_time = Duration::from_millis(max_ms.into());
            for pair in Criticality::ALL.windows(2) {
                prop_assert!(pair[0].share_of(max) <= pair[1].share_of(max));
                prop_assert!(pair[0].share_of_time(max_time) <= pair[1].share_of_time(max_time));
            }
            prop_assert_eq!(Criticality::Vital.share_of(max), max);
            for criticality in Criticality::ALL {
                prop_assert!(max == 0 || criticality.share_of(max) > 0);
                prop_assert_eq!(Criticality::from_message(criticality.to_message()), Some(criticality));
            }
        }
    }
}
