//! Frames to line bytes and back: postcard, then CRC-32, then COBS, then one zero byte.
//!
//! COBS leaves no zero inside a frame, so a zero ends every frame and a reader that lost its place
//! waits for the next one. The CRC is CRC-32/ISO-HDLC (the one of Ethernet and gzip), little-endian,
//! over the postcard bytes.

use core::fmt;

use crc::{CRC_32_ISO_HDLC, Crc, Table};
use postcard::ser_flavors::crc::CrcModifier;
use postcard::ser_flavors::{Cobs, Slice};

use crate::{Frame, WIRE_VERSION};

/// Most postcard bytes of one frame.
pub const FRAME_BYTES_MAX: usize = 2048;

/// Most line bytes of one frame: payload, CRC, COBS overhead (one in 254, and one) and the zero.
pub const LINE_BYTES_MAX: usize = FRAME_BYTES_MAX + CRC_BYTES + (FRAME_BYTES_MAX + CRC_BYTES) / 254 + 2;

const CRC_BYTES: usize = 4;

static CRC_32: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// Encodes a frame into `line`, the ending zero included, and returns the bytes to send.
///
/// # Errors
/// [`EncodeError`] where the frame does not fit into `line`; [`LINE_BYTES_MAX`] bytes fit any frame whose
/// texts and byte strings keep it within [`FRAME_BYTES_MAX`].
pub fn encode<'line>(frame: &Frame<'_>, line: &'line mut [u8]) -> Result<&'line [u8], EncodeError> {
    let cobs = Cobs::try_new(Slice::new(line)).map_err(|_| EncodeError)?;
    let digest = CRC_32.digest();
    let sent = postcard::serialize_with_flavor(frame, CrcModifier::new(cobs, digest));
    sent.map(|line| &*line).map_err(|_| EncodeError)
}

/// Decodes one frame from the bytes between two zeros, which are overwritten.
///
/// # Errors
/// [`DecodeError`] says which layer did not hold.
pub fn decode(line: &mut [u8]) -> Result<Frame<'_>, DecodeError> {
    if line.len() >= LINE_BYTES_MAX {
        return Err(DecodeError::TooLong);
    }
    let len = cobs::decode_in_place(line).map_err(|_| DecodeError::Cobs)?;
    let decoded = line.get(..len).ok_or(DecodeError::Cobs)?;
    let (payload, crc) = decoded.split_last_chunk::<CRC_BYTES>().ok_or(DecodeError::Crc)?;
    if crc32(payload) != u32::from_le_bytes(*crc) {
        return Err(DecodeError::Crc);
    }
    parse(payload)
}

fn crc32(payload: &[u8]) -> u32 {
    CRC_32.checksum(payload)
}

/// Parses a payload whose CRC held: a failure here is a difference in version, not a damaged line.
fn parse(payload: &[u8]) -> Result<Frame<'_>, DecodeError> {
    match postcard::take_from_bytes::<Frame<'_>>(payload) {
        Ok((frame, [])) => Ok(frame),
        _ => Err(foreign_version(payload).map_or(DecodeError::Payload, DecodeError::Version)),
    }
}

/// Finds the version in a `Hello` of another wire version: variant 0, then the version, in every version.
fn foreign_version(payload: &[u8]) -> Option<u16> {
    let (variant, rest) = payload.split_first()?;
    let (version, _) = postcard::take_from_bytes::<u16>(rest).ok()?;
    (*variant == 0 && version != WIRE_VERSION).then_some(version)
}

/// A frame that is larger than its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeError;

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the frame does not fit into its buffer")
    }
}

impl core::error::Error for EncodeError {}

/// Bytes between two zeros that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// More bytes than any frame has.
    TooLong,
    /// Not COBS.
    Cobs,
    /// The checksum does not match: damaged on the line, or never a frame.
    Crc,
    /// A `Hello` of this other wire version.
    Version(u16),
    /// The checksum matches but the content is no frame of this version.
    Payload,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("longer than any frame"),
            Self::Cobs => f.write_str("not COBS-encoded"),
            Self::Crc => f.write_str("checksum mismatch"),
            Self::Version(version) => write!(f, "wire version {version}, not {WIRE_VERSION}"),
            Self::Payload => f.write_str("not a frame of this wire version"),
        }
    }
}

impl core::error::Error for DecodeError {}
