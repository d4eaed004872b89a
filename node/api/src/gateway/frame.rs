//! Requests of a gateway stream as bytes: encoded once, however often they are sent.

use bytes::{BufMut, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

use super::BatchSequence;
use crate::v1::connect_request::Message as Request;
use crate::v1::{
    AttachDevices, Attachment, CommandAcknowledgement, CommandAcknowledgements, ConnectRequest, ConnectResponse,
    Criticality, OpenStream, Reading, ReadingBatch,
};

/// Frames that are ready together are written together up to this size.
const WRITE_BYTES: usize = 64 * 1024;

/// An encoded `ConnectRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame(Bytes);

impl Frame {
    /// `stream` empty: a new one; `connection` counts its connections.
    pub(crate) fn open(stream: String, connection: u64, criticality: Criticality) -> Self {
        Self::encode(Request::Open(OpenStream { stream, criticality: criticality.into(), connection }))
    }

    pub(crate) fn attach(devices: Vec<Attachment>) -> Self {
        Self::encode(Request::Attach(AttachDevices { devices }))
    }

    pub(crate) fn readings(sequence: BatchSequence, readings: Vec<Reading>) -> Self {
        Self::encode(Request::Readings(ReadingBatch { sequence: sequence.0, readings }))
    }

    pub(crate) fn acknowledgements(acknowledgements: Vec<CommandAcknowledgement>) -> Self {
        Self::encode(Request::Acknowledgements(CommandAcknowledgements { acknowledgements }))
    }

    fn encode(message: Request) -> Self {
        Self(Bytes::from(ConnectRequest { message: Some(message) }.encode_to_vec()))
    }
}

/// Sends frames as they are, and decodes responses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = Frame;
    type Decode = ConnectResponse;
    type Encoder = FrameEncoder;
    type Decoder = ProstDecoder<ConnectResponse>;

    fn encoder(&mut self) -> FrameEncoder {
        FrameEncoder
    }

    fn decoder(&mut self) -> ProstDecoder<ConnectResponse> {
        ProstDecoder::default()
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameEncoder;

impl Encoder for FrameEncoder {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(frame.0.len());
        buffer.put(frame.0);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(WRITE_BYTES, WRITE_BYTES)
    }
}
