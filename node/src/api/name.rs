//! Resource names of requests and answers: `districts/{district}/devices/{device}/commands/{id}` and the like.
//!
//! Parsing checks each part, so that everything behind it routes by names that are known to be well formed. What names
//! are made of is [`DeviceName`]'s and [`DistrictName`]'s to say.

use kvarter_actors::{CommandId, DeviceName, DistrictName};
use tonic::Status;

use crate::api::status;

/// Parent that stands for all districts.
const ALL_DISTRICTS: &str = "districts/-";

/// Parses `districts/{district}/devices/{device}`; `field` is where the caller wrote it.
pub(crate) fn parse_device(name: &str, field: &str) -> Result<DeviceName, Status> {
    DeviceName::from_public(name).map_err(|error| status::invalid(field, error.to_string()))
}

/// Parses `districts/{district}`.
pub(crate) fn parse_district(name: &str, field: &str) -> Result<DistrictName, Status> {
    DistrictName::from_public(name).map_err(|error| status::invalid(field, error.to_string()))
}

/// Parses `districts/{district}`, or `districts/-` as `None`: all of them.
pub(crate) fn parse_parent(name: &str, field: &str) -> Result<Option<DistrictName>, Status> {
    if name == ALL_DISTRICTS { Ok(None) } else { parse_district(name, field).map(Some) }
}

/// Parses `districts/{district}/devices/{device}/commands/{id}`.
pub(crate) fn parse_command(name: &str, field: &str) -> Result<(DeviceName, CommandId), Status> {
    let malformed = || {
        let form = "districts/{district}/devices/{device}/commands/{id}";
        status::invalid(field, format!("`{name}` is not of the form `{form}`"))
    };
    let (device, id) = name.split_once("/commands/").ok_or_else(malformed)?;
    let id = CommandId::parse(id).ok_or_else(malformed)?;
    Ok((parse_device(device, field)?, id))
}

/// Parses `districts/{district}/services/{service}` into the district and `{district}/{service}`.
pub(crate) fn parse_service(name: &str, field: &str) -> Result<(DistrictName, String), Status> {
    let malformed =
        || status::invalid(field, format!("`{name}` is not of the form `districts/{{district}}/services/{{service}}`"));
    let (district, service) = name.split_once("/services/").ok_or_else(malformed)?;
    let district = parse_district(district, field)?;
    // Services are named as districts are.
    let service = DistrictName::parse(service).map_err(|error| status::invalid(field, error.to_string()))?;
    let inner = format!("{district}/{service}");
    Ok((district, inner))
}

/// `districts/{district}/devices/{device}` of `{district}/{device}`.
pub(crate) fn device(inner: &str) -> String {
    outer(inner, "devices")
}

/// `districts/{district}/devices/{device}/commands/{id}` of `{district}/{device}` and the id.
pub(crate) fn command(inner: &str, id: &str) -> String {
    format!("{}/commands/{id}", device(inner))
}

/// `districts/{district}/services/{service}` of `{district}/{service}`.
pub(crate) fn service(inner: &str) -> String {
    outer(inner, "services")
}

fn outer(inner: &str, collection: &str) -> String {
    let (district, rest) = inner.split_once('/').unwrap_or((inner, ""));
    format!("districts/{district}/{collection}/{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_name_keeps_its_parts() {
        let name = parse_device("districts/aarhus-c/devices/lamp-17", "name").expect("a well-formed name");
        assert_eq!((name.as_str(), name.district()), ("aarhus-c/lamp-17", "aarhus-c"));
        assert_eq!(device(name.as_str()), "districts/aarhus-c/devices/lamp-17");
    }

    #[test]
    fn a_command_name_holds_device_and_id() {
        let (name, id) = parse_command("districts/c/devices/l/commands/Ab-1", "name").expect("a well-formed name");
        assert_eq!(command(name.as_str(), id.as_str()), "districts/c/devices/l/commands/Ab-1");
        assert!(parse_command("districts/c/devices/l/commands/", "name").is_err());
        assert!(parse_command("districts/c/devices/l/commands/a/b", "name").is_err());
        assert!(parse_command("districts/c/devices/l", "name").is_err());
    }

    #[test]
    fn a_service_name_holds_its_district() {
        let (district, inner) = parse_service("districts/c/services/lighting", "name").expect("a well-formed name");
        assert_eq!((district.as_str(), inner.as_str()), ("c", "c/lighting"));
        assert_eq!(service(&inner), "districts/c/services/lighting");
        assert!(parse_service("districts/c/devices/lighting", "name").is_err());
        assert!(parse_service("districts/c/services/a/b", "name").is_err());
    }

    #[test]
    fn a_dash_is_every_district() {
        assert_eq!(parse_parent("districts/-", "parent").expect("a parent"), None);
        assert!(parse_parent("districts/c", "parent").expect("a parent").is_some());
        assert!(parse_parent("c", "parent").is_err());
        assert!(parse_district("districts/-", "district").is_err());
    }

    #[test]
    fn the_field_of_a_wrong_name_is_told() {
        use tonic_types::StatusExt;
        let details = parse_device("lamp", "devices[3].name").expect_err("no name").get_error_details();
        assert_eq!(details.bad_request().expect("a bad request").field_violations[0].field, "devices[3].name");
    }
}
