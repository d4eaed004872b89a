//! Resource names: what is valid, and the parts that they are made of. The server checks them again.

use std::fmt;
use std::str::FromStr;

const PART_BYTES_MAX: usize = 63;
const COMMAND_ID_BYTES_MAX: usize = 64;

/// A text that is not a resource name of the expected shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not `{shape}` with parts of lower-case letters, digits and inner hyphens")]
pub struct MalformedName {
    pub name: String,
    pub shape: &'static str,
}

/// `districts/{district}`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DistrictName(String);

/// `districts/{district}/devices/{device}`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName(String);

/// `districts/{district}/devices/{device}/commands/{id}`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandName(String);

/// `districts/{district}/services/{service}`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(String);

impl DistrictName {
    const SHAPE: &str = "districts/{district}";

    /// The district called `district`, `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
    pub fn new(district: &str) -> Result<Self, MalformedName> {
        format!("districts/{district}").parse()
    }
}

impl DeviceName {
    const SHAPE: &str = "districts/{district}/devices/{device}";

    /// The device called `device` in `district`; both match `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
    pub fn new(district: &str, device: &str) -> Result<Self, MalformedName> {
        format!("districts/{district}/devices/{device}").parse()
    }
}

impl CommandName {
    const SHAPE: &str = "districts/{district}/devices/{device}/commands/{id}";
}

impl ServiceName {
    const SHAPE: &str = "districts/{district}/services/{service}";

    /// The service called `service` in `district`; both match `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
    pub fn new(district: &str, service: &str) -> Result<Self, MalformedName> {
        format!("districts/{district}/services/{service}").parse()
    }
}

/// The district of any resource name, or of `districts/{district}` itself; `None`: no district, or all of them.
pub(crate) fn district_of(name: &str) -> Option<&str> {
    name.strip_prefix("districts/")?.split('/').next().filter(|district| is_part(district))
}

fn is_part(part: &str) -> bool {
    let is_edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    bytes.len() <= PART_BYTES_MAX
        && bytes.first().is_some_and(|byte| is_edge(*byte))
        && bytes.last().is_some_and(|byte| is_edge(*byte))
        && bytes.iter().all(|byte| is_edge(*byte) || *byte == b'-')
}

fn is_command_id(id: &str) -> bool {
    (1..=COMMAND_ID_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

macro_rules! resource_name {
    ($type:ident, $parts:pat if $condition:expr) => {
        impl $type {
            /// The whole name, as the API takes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The second part: which district.
            pub fn district(&self) -> &str {
                self.0.split('/').nth(1).expect("a checked name has a district")
            }
        }

        impl FromStr for $type {
            type Err = MalformedName;

            fn from_str(name: &str) -> Result<Self, MalformedName> {
                match name.split('/').collect::<Vec<_>>()[..] {
                    $parts if $condition => Ok(Self(name.to_owned())),
                    _ => Err(MalformedName { name: name.to_owned(), shape: Self::SHAPE }),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

resource_name!(DistrictName, ["districts", district] if is_part(district));
resource_name!(DeviceName, ["districts", district, "devices", device] if is_part(district) && is_part(device));
resource_name!(
    CommandName,
    ["districts", district, "devices", device, "commands", id]
        if is_part(district) && is_part(device) && is_command_id(id)
);
resource_name!(ServiceName, ["districts", district, "services", service] if is_part(district) && is_part(service));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_parts() {
        let name = DeviceName::new("aarhus-c", "lamp-17").expect("a well-formed name");
        assert_eq!(name.as_str(), "districts/aarhus-c/devices/lamp-17");
        assert_eq!(name.district(), "aarhus-c");
        let command: CommandName = format!("{name}/commands/Ab-1").parse().expect("a well-formed name");
        assert_eq!(command.district(), "aarhus-c");
    }

    #[test]
    fn the_district_of_a_name_is_found() {
        for name in ["districts/c", "districts/c/devices/l", "districts/c/devices/l/commands/1"] {
            assert_eq!(district_of(name), Some("c"), "{name}");
        }
        for name in ["", "c", "districts/", "districts/-", "devices/c"] {
            assert_eq!(district_of(name), None, "{name}");
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        let long = "x".repeat(64);
        for part in ["", "A", "-a", "a-", "a/b", "-", "ø", &long] {
            assert!(DistrictName::new(part).is_err(), "{part} was accepted");
            assert!(DeviceName::new("a", part).is_err(), "{part} was accepted");
            assert!(ServiceName::new(part, "lighting").is_err(), "{part} was accepted");
        }
        assert!("districts/a/devices/b/commands/".parse::<CommandName>().is_err());
        assert!("districts/a/lamps/b".parse::<DeviceName>().is_err());
    }
}
