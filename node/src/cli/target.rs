//! Names as people type them: `harbour/lamp-1` for `districts/harbour/devices/lamp-1`.

use kvarter_api::{CommandName, DeviceName, DistrictName, MalformedName};

/// Reads `{district}/{device}` or the full name.
pub(super) fn device(text: &str) -> Result<DeviceName, MalformedName> {
    match text.split('/').collect::<Vec<_>>()[..] {
        [district, device] => DeviceName::new(district, device),
        _ => text.parse(),
    }
}

/// Reads `{district}` or the full name.
pub(super) fn district(text: &str) -> Result<DistrictName, MalformedName> {
    if text.contains('/') { text.parse() } else { DistrictName::new(text) }
}

/// Reads `{district}/{device}/{id}` or the full name.
pub(super) fn command(text: &str) -> Result<CommandName, MalformedName> {
    match text.split('/').collect::<Vec<_>>()[..] {
        [district, device, id] => format!("districts/{district}/devices/{device}/commands/{id}").parse(),
        _ => text.parse(),
    }
}

/// The short form of a full name, for tables.
pub(super) fn short(name: &str) -> String {
    name.split('/').skip(1).step_by(2).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_full_names_are_the_same() {
        let full = "districts/harbour/devices/lamp-1";
        assert_eq!(device("harbour/lamp-1").expect("valid").as_str(), full);
        assert_eq!(device(full).expect("valid").as_str(), full);
        assert_eq!(short(full), "harbour/lamp-1");
        assert_eq!(district("harbour").expect("valid").as_str(), "districts/harbour");
        assert_eq!(command("harbour/lamp-1/A-7").expect("valid").as_str(), format!("{full}/commands/A-7"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "lamp-1", "harbour/Lamp", "a/b/c/d"] {
            assert!(device(text).is_err(), "{text}");
        }
    }
}
