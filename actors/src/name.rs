//! Names of districts and devices: the public form `districts/{district}/devices/{device}` and the one used inside,
//! `{district}/{device}`.

use std::fmt;

/// Longest part of a name, bytes.
const PART_LENGTH_MAX: usize = 63;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("`{name}` is not of the form `{form}`")]
    WrongForm { name: String, form: &'static str },
    #[error(
        "`{part}` in `{name}` must be 1 to 63 small letters, digits and hyphens, with a letter or digit at both ends"
    )]
    WrongPart { name: String, part: String },
}

/// A district: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DistrictName(Box<str>);

impl DistrictName {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_part(text, text)?;
        Ok(Self(text.into()))
    }

    /// Reads `districts/{district}`.
    pub fn from_public(name: &str) -> Result<Self, NameError> {
        let form = "districts/{district}";
        let district =
            name.strip_prefix("districts/").ok_or_else(|| NameError::WrongForm { name: name.to_owned(), form })?;
        check_part(name, district)?;
        Ok(Self(district.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `districts/{district}`
    pub fn public(&self) -> String {
        format!("districts/{}", self.0)
    }
}

impl fmt::Display for DistrictName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A device: `{district}/{device}`, each part as a [`DistrictName`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName {
    text: Box<str>,
    slash: usize,
}

impl DeviceName {
    /// Reads the form used inside, `{district}/{device}`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let form = "{district}/{device}";
        let (district, device) =
            text.split_once('/').ok_or_else(|| NameError::WrongForm { name: text.to_owned(), form })?;
        check_part(text, district)?;
        check_part(text, device)?;
        Ok(Self { text: text.into(), slash: district.len() })
    }

    /// Reads `districts/{district}/devices/{device}`.
    pub fn from_public(name: &str) -> Result<Self, NameError> {
        let form = "districts/{district}/devices/{device}";
        let wrong_form = || NameError::WrongForm { name: name.to_owned(), form };
        let rest = name.strip_prefix("districts/").ok_or_else(wrong_form)?;
        let (district, device) = rest.split_once("/devices/").ok_or_else(wrong_form)?;
        check_part(name, district)?;
        check_part(name, device)?;
        Ok(Self { text: format!("{district}/{device}").into(), slash: district.len() })
    }

    /// `{district}/{device}`
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn district(&self) -> &str {
        &self.text[..self.slash]
    }

    pub fn device(&self) -> &str {
        &self.text[self.slash + 1..]
    }

    /// `districts/{district}/devices/{device}`
    pub fn public(&self) -> String {
        format!("districts/{}/devices/{}", self.district(), self.device())
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The district in `{district}/{device}` or `{district}/{service}`; the whole text when there is no slash.
pub fn district_of(name: &str) -> &str {
    name.split_once('/').map_or(name, |(district, _)| district)
}

fn check_part(name: &str, part: &str) -> Result<(), NameError> {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = part.as_bytes();
    let is_valid = bytes.len() <= PART_LENGTH_MAX
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-');
    if is_valid { Ok(()) } else { Err(NameError::WrongPart { name: name.to_owned(), part: part.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_name_keeps_its_two_forms() {
        let name = DeviceName::from_public("districts/old-town/devices/lamp-7").unwrap();
        assert_eq!((name.as_str(), name.district(), name.device()), ("old-town/lamp-7", "old-town", "lamp-7"));
        assert_eq!(name.public(), "districts/old-town/devices/lamp-7");
        assert_eq!(DeviceName::parse("old-town/lamp-7").unwrap(), name);
    }

    #[test]
    fn a_wrong_name_says_what_is_wrong() {
        for wrong in ["", "a", "a/", "/b", "a/b/c", "A/b", "a/-b", "a/b-", "a/b_c", &format!("a/{}", "x".repeat(64))] {
            assert!(DeviceName::parse(wrong).is_err(), "{wrong}");
        }
        let error = DeviceName::from_public("districts/a/devices/Lamp").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`Lamp` in `districts/a/devices/Lamp` must be 1 to 63 small letters, digits and hyphens, with a letter or \
             digit at both ends"
        );
        assert!(DistrictName::from_public("districts/-").is_err());
        assert_eq!(DistrictName::from_public("districts/9").unwrap().as_str(), "9");
    }
}
