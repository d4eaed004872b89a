//! Services and their modes.

use kvarter_actors::{ServiceMode, message};
use kvarter_api::v1;
use kvarter_cluster::ShardId;
use tonic::Status;

use super::timestamp_if_any;
use crate::api::{name, status};

pub(crate) fn to_public(service: message::Service, shard: ShardId) -> v1::Service {
    let cursor = v1::Position { shard: shard.0, index: service.cursor_index, ordinal: service.cursor_ordinal };
    v1::Service {
        name: name::service(&service.name),
        mode: mode_to_public(service.mode).into(),
        figures: service.figures,
        cursor: Some(cursor),
        observe_time: timestamp_if_any(service.observed_us),
    }
}

fn mode_to_public(mode: u32) -> v1::ServiceMode {
    match ServiceMode::from_message(mode) {
        None => v1::ServiceMode::Unspecified,
        Some(ServiceMode::Active) => v1::ServiceMode::Active,
        Some(ServiceMode::Observe) => v1::ServiceMode::Observe,
    }
}

pub(crate) fn mode_from_public(mode: i32, field: &str) -> Result<ServiceMode, Status> {
    match v1::ServiceMode::try_from(mode) {
        Ok(v1::ServiceMode::Active) => Ok(ServiceMode::Active),
        Ok(v1::ServiceMode::Observe) => Ok(ServiceMode::Observe),
        Ok(v1::ServiceMode::Unspecified) | Err(_) => Err(status::invalid(field, "neither active nor observe")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_keep_their_meaning() {
        for mode in [ServiceMode::Active, ServiceMode::Observe] {
            let public = mode_to_public(mode.to_message());
            assert_eq!(mode_from_public(public.into(), "mode").expect("a mode"), mode);
        }
        assert!(mode_from_public(0, "mode").is_err());
        assert!(mode_from_public(7, "mode").is_err());
    }
}
