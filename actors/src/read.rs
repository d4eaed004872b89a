//! Reading a view: the pure answers to requests that change nothing.

mod filter;

use std::collections::BTreeMap;
use std::time::Duration;

use kvarter_cluster::{LogIndex, Timestamp};
use prost::Message as _;

use self::filter::Filter;
use crate::message::{self, Failure, shard_reply::Reply, shard_request::Request};
use crate::name::district_of;
use crate::state::{Service, ShardState, TwinRef, twins};
use crate::{AttributeNumber, Catalog, DeviceNumber, StreamId};

/// Twins on a page of a list.
const LIST_MAX: usize = 1_000;

const LIST_DEFAULT: usize = 100;

/// A page of a list is closed when its twins are so long, bytes.
const LIST_BYTES_MAX: usize = 512 * 1024;

/// Twins that one request looks at: the reader's task is not held longer than some milliseconds, however few match.
const LOOKED_AT_MAX: usize = 10_000;

/// Quality of a value that is older than its kind allows.
const STALE: u32 = 4;

/// What a service's state says to people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceFigures {
    /// By name with the unit last (`energy_saved_kwh`).
    pub figures: BTreeMap<String, f64>,
    /// Latest observation that the service has seen, microseconds since 1970; 0 for none.
    pub observed_us: i64,
}

/// Answers reads from one view of a shard.
pub struct Reader<'a> {
    pub state: &'a ShardState,
    pub catalog: &'a Catalog,
    /// Index of the view.
    pub applied: LogIndex,
    /// Wall clock, for quality *stale*.
    pub now: Timestamp,
    /// Upper bound of the view's age; zero when it was confirmed by ReadIndex.
    pub age: Duration,
}

impl Reader<'_> {
    /// Answers a read of the state. `None`: not one of these (services need [`Reader::services`]).
    pub fn read(&self, request: &Request) -> Option<Reply> {
        let reply = match request {
            Request::ReadTwin(request) => self.twin(request),
            Request::ReadTwins(request) => Ok(self.twins(request)),
            Request::ListTwins(request) if !request.devices.is_empty() => Ok(self.identities(&request.devices)),
            Request::ListTwins(request) => Ok(self.list(request)),
            Request::ReadCommand(request) => self.command(request),
            Request::ReadStream(request) => Ok(self.stream(request)),
            _ => return None,
        };
        Some(reply.unwrap_or_else(Reply::Failure))
    }

    /// Answers `ReadServices`; `figures` decodes a service's own state.
    pub fn services(
        &self,
        request: &message::ReadServices,
        figures: impl Fn(&Service) -> ServiceFigures,
    ) -> message::ServicesRead {
        let services = self.state.services();
        let asked = services.filter(|service| is_in_district(&service.name, &request.district));
        let services = asked.map(|service| {
            let ServiceFigures { figures, observed_us } = figures(service);
            message::Service {
                name: service.name.to_string(),
                mode: service.mode.to_message(),
                figures,
                cursor_index: service.cursor.index,
                cursor_ordinal: service.cursor.ordinal,
                observed_us,
            }
        });
        message::ServicesRead { services: services.collect() }
    }

    /// The twin as callers see it.
    pub fn twin_message(&self, twin: TwinRef<'_>) -> message::Twin {
        let (connected, connectivity_us) = twin.connectivity();
        message::Twin {
            device: twin.number().0,
            name: twin.name().to_owned(),
            kind: twin.kind().to_owned(),
            location: twin.location().map(Into::into),
            labels: twin.labels().clone(),
            reported: self.reported(twin),
            desired: twins::desired_to_message(twin.desired()),
            connected,
            connectivity_us,
            version: twin.version(),
            open_commands: twin.open_commands().map(|command| command.to_command(twin.number())).collect(),
            registered_us: twin.registered_us(),
        }
    }

    fn reported(&self, twin: TwinRef<'_>) -> Vec<message::ReportedAttribute> {
        let kind = self.catalog.kind(twin.kind());
        let stale_after_us =
            |number: AttributeNumber| kind.and_then(|kind| kind.attribute(number)).and_then(|it| it.stale_after_us());
        let is_stale = |number, observed_us: i64| {
            stale_after_us(number).is_some_and(|age_us| self.now.0.saturating_sub(observed_us) > age_us)
        };
        twin.reported()
            .map(|reported| message::ReportedAttribute {
                attribute: reported.attribute.to_message(),
                value: Some(reported.value.to_message()),
                observed_us: reported.observed_us,
                quality: if is_stale(reported.attribute, reported.observed_us) {
                    STALE
                } else {
                    u32::from(reported.quality)
                },
            })
            .collect()
    }

    fn twin(&self, request: &message::ReadTwin) -> Result<Reply, Failure> {
        let twin = self.state.device_named(&request.name).ok_or_else(|| Failure::device_not_found(&request.name))?;
        let twin = Some(self.twin_message(twin));
        Ok(Reply::TwinRead(message::TwinRead { twin, index: self.applied.0, age_ms: self.age_ms() }))
    }

    fn twins(&self, request: &message::ReadTwins) -> Reply {
        let names = request.names.iter().take(LIST_MAX);
        let twins = names.filter_map(|name| Some(self.twin_message(self.state.device_named(name)?)));
        Reply::TwinsRead(message::TwinsRead { twins: twins.collect(), age_ms: self.age_ms() })
    }

    fn stream(&self, request: &message::ReadStream) -> Reply {
        let stream = StreamId::from_message(&request.stream).and_then(|id| self.state.stream(id));
        let devices = stream.map_or_else(Vec::new, |stream| stream.devices.iter().map(|device| device.0).collect());
        Reply::StreamRead(message::StreamRead { devices })
    }

    /// Who these devices are, retired or not; without those that were never registered.
    fn identities(&self, devices: &[u32]) -> Reply {
        let identities = devices.iter().take(LIST_MAX).filter_map(|device| {
            let (name, kind) = self.state.identity(DeviceNumber(*device))?;
            let (name, kind) = (name.to_owned(), kind.to_owned());
            Some(message::Twin { device: *device, name, kind, ..message::Twin::default() })
        });
        self.listed(identities.collect(), None)
    }

    fn list(&self, request: &message::ListTwins) -> Reply {
        let limit = match request.limit as usize {
            0 => LIST_DEFAULT,
            limit => limit.min(LIST_MAX),
        };
        let mut filter = request.filter.as_ref().map(|filter| Filter::new(filter, self.catalog));
        let mut matches = |twin: TwinRef<'_>| {
            is_in_district(twin.name(), &request.district)
                && (request.kind.is_empty() || twin.kind() == request.kind)
                && filter.as_mut().is_none_or(|filter| filter.matches(twin))
        };
        let (mut twins, mut bytes, mut next_device) = (Vec::new(), 0, None);
        for (looked_at, twin) in self.state.devices(DeviceNumber(request.from_device)).enumerate() {
            let is_match = matches(twin);
            let is_full = twins.len() == limit || bytes > LIST_BYTES_MAX;
            if looked_at == LOOKED_AT_MAX || is_match && is_full {
                next_device = Some(twin.number().0);
                break;
            }
            if is_match {
                let twin = self.twin_message(twin);
                bytes += twin.encoded_len();
                twins.push(twin);
            }
        }
        self.listed(twins, next_device)
    }

    fn listed(&self, twins: Vec<message::Twin>, next_device: Option<u32>) -> Reply {
        Reply::TwinsListed(message::TwinsListed { twins, next_device, age_ms: self.age_ms(), applied: self.applied.0 })
    }

    fn command(&self, request: &message::ReadCommand) -> Result<Reply, Failure> {
        let twin = self.state.device_named(&request.name).ok_or_else(|| Failure::device_not_found(&request.name))?;
        let command =
            twin.command(&request.id).ok_or_else(|| Failure::command_not_found(&request.name, &request.id))?;
        Ok(Reply::CommandRead(message::CommandRead { command: Some(command.to_command(twin.number())) }))
    }

    fn age_ms(&self) -> u32 {
        u32::try_from(self.age.as_millis()).unwrap_or(u32::MAX)
    }
}

/// Whether `{district}/…` lies in `district`; everything lies in the empty one.
fn is_in_district(name: &str, district: &str) -> bool {
    district.is_empty() || district_of(name) == district
}
