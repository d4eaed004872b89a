//! What all pages share: a format number and protobuf bytes.

use kvarter_cluster::DamagedBytes;
use prost::Message;

/// Version of every page's bytes.
pub(crate) const FORMAT: u32 = 1;

pub(crate) fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, DamagedBytes> {
    M::decode(bytes).map_err(|error| damaged(error.to_string()))
}

pub(crate) fn check_format(format: u32) -> Result<(), DamagedBytes> {
    if format == FORMAT { Ok(()) } else { Err(damaged(format!("page format {format}, this program knows {FORMAT}"))) }
}

pub(crate) fn append(page: &impl Message, buffer: &mut Vec<u8>) {
    page.encode(buffer).expect("a vector grows as needed");
}

pub(crate) fn damaged(reason: impl Into<String>) -> DamagedBytes {
    DamagedBytes { reason: reason.into() }
}

/// Place of a device in a table with `per_page` devices a page: page and slot.
pub(crate) fn place(device: u32, per_page: u32) -> (u32, usize) {
    (device / per_page, (device % per_page) as usize)
}
