//! Bytes off the line to frames, resynchronising at every zero.
//!
//! [`Decoder`] is fed pieces of any size and hands out one [`FrameEvent`] or one [`DamagedFrame`] after
//! another. It holds at most one line, so a stream without zeros costs no memory.

use memchr::memchr;
use nmiprof_wire::{DecodeError, Frame, LINE_BYTES_MAX, decode};

/// Incremental decoder of a stream.
///
/// # Examples
/// ```
/// use nmiprof::capture::Decoder;
///
/// let mut decoder = Decoder::new();
/// let mut input: &[u8] = b"boot text\0";
/// while let Some(event) = decoder.next_frame(&mut input) {
///     assert!(event.is_err(), "not a frame");
/// }
/// assert!(decoder.finish().is_none(), "nothing is left over");
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    /// The line so far, or as much of it as decides that it is too long.
    line: Vec<u8>,
    /// Length of the line so far, in bytes.
    line_bytes: u64,
    /// Offset of the line's first byte.
    line_offset: u64,
    /// Whether the line was handed out, so that the next byte begins another one.
    is_ended: bool,
}

/// A decoded frame and where it was.
#[derive(Debug)]
pub struct FrameEvent<'a> {
    /// The frame.
    pub frame: Frame<'a>,
    /// Offset of its first byte in the stream.
    pub offset: u64,
    /// Its length on the line in bytes, the ending zero included.
    pub line_bytes: u64,
}

/// Bytes between two zeros that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedFrame {
    /// Offset of the first byte in the stream.
    pub offset: u64,
    /// Number of bytes, the ending zero included where there is one.
    pub bytes: u64,
    /// What is wrong; `None` where the stream ended inside a frame.
    pub cause: Option<DecodeError>,
}

impl Decoder {
    /// Creates a decoder at offset 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next frame from the front of `input`, which shrinks by what was used.
    ///
    /// `None` means that `input` is used up: call again when there is more. Zeros that follow each
    /// other are padding.
    pub fn next_frame(&mut self, input: &mut &[u8]) -> Option<Result<FrameEvent<'_>, DamagedFrame>> {
        loop {
            self.begin_line();
            let Some(zero) = memchr(0, input) else {
                self.hold(input);
                *input = &[];
                return None;
            };
            let (line, rest) = input.split_at(zero);
            *input = rest.get(1..).unwrap_or_default();
            self.hold(line);
            self.is_ended = true;
            if self.line_bytes > 0 {
                return Some(self.decode_line());
            }
        }
    }

    /// Ends the stream: returns what was left over, if anything.
    pub fn finish(&mut self) -> Option<DamagedFrame> {
        let is_cut = !self.is_ended && self.line_bytes > 0;
        let cut =
            is_cut.then_some(DamagedFrame { offset: self.line_offset, bytes: self.line_bytes, cause: None });
        self.is_ended = false;
        self.line_offset = self.line_offset.saturating_add(self.line_bytes);
        self.line_bytes = 0;
        self.line.clear();
        cut
    }

    fn begin_line(&mut self) {
        if self.is_ended {
            self.is_ended = false;
            self.line_offset = self.line_offset.saturating_add(self.line_bytes + 1);
            self.line_bytes = 0;
            self.line.clear();
        }
    }

    /// Appends to the line. What exceeds [`LINE_BYTES_MAX`] is counted but not stored.
    fn hold(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.line_bytes = self.line_bytes.saturating_add(bytes.len() as u64);
    }

    fn decode_line(&mut self) -> Result<FrameEvent<'_>, DamagedFrame> {
        let (offset, bytes) = (self.line_offset, self.line_bytes.saturating_add(1));
        match decode(&mut self.line) {
            Ok(frame) => Ok(FrameEvent { frame, offset, line_bytes: bytes }),
            Err(cause) => Err(DamagedFrame { offset, bytes, cause: Some(cause) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nmiprof_wire::{CpuTotals, encode};

    fn sync(cpu: u16) -> Vec<u8> {
        let mut line = [0; LINE_BYTES_MAX];
        let totals = CpuTotals { cpu, ..CpuTotals::default() };
        encode(&Frame::Sync(totals), &mut line).expect("totals fit").to_vec()
    }

    /// Decodes `bytes` in pieces: CPU numbers of the `Sync` frames, and the damage.
    fn decode_all(bytes: &[u8], piece_bytes: usize) -> (Vec<u16>, Vec<DamagedFrame>) {
        let (mut decoder, mut cpus, mut damaged) = (Decoder::new(), Vec::new(), Vec::new());
        for mut piece in bytes.chunks(piece_bytes) {
            while let Some(event) = decoder.next_frame(&mut piece) {
                match event {
                    Ok(FrameEvent { frame: Frame::Sync(totals), .. }) => cpus.push(totals.cpu),
                    Ok(other) => panic!("only Sync was sent, not {other:?}"),
                    Err(damage) => damaged.push(damage),
                }
            }
        }
        damaged.extend(decoder.finish());
        (cpus, damaged)
    }

    #[test]
    fn frames_are_found_whatever_the_size_of_the_pieces() {
        let bytes: Vec<u8> = (0..9).flat_map(sync).collect();
        for piece_bytes in [1, 2, 7, 64, bytes.len()] {
            assert_eq!(decode_all(&bytes, piece_bytes), ((0..9).collect(), Vec::new()));
        }
    }

    #[test]
    fn garbage_is_skipped_to_the_next_zero_and_located() {
        let head = sync(1);
        let bytes = [&head[..], b"garbage\0", &sync(2), &sync(3)[..5]].concat();
        let (cpus, damaged) = decode_all(&bytes, 3);
        assert_eq!(cpus, [1, 2]);
        let spans: Vec<_> = damaged.iter().map(|d| (d.offset, d.bytes)).collect();
        let tail = bytes.len() as u64 - 5;
        assert_eq!(spans, [(head.len() as u64, 8), (tail, 5)]);
        assert_eq!(damaged[1].cause, None, "a cut tail has no error of its own");
    }

    #[test]
    fn a_line_without_end_is_counted_and_not_stored() {
        let mut decoder = Decoder::new();
        for _ in 0..1000 {
            assert!(decoder.next_frame(&mut &[1; 4096][..]).is_none());
        }
        assert!(decoder.line.capacity() <= 2 * LINE_BYTES_MAX, "bounded memory");
        let damage = decoder.next_frame(&mut &[0][..]).expect("the line ended").expect_err("no frame");
        assert_eq!((damage.bytes, damage.cause), (4_096_001, Some(DecodeError::TooLong)));
    }

    #[test]
    fn zeros_in_a_row_are_padding() {
        let bytes = [&[0; 50][..], &sync(4), &[0; 50]].concat();
        assert_eq!(decode_all(&bytes, 16), (vec![4], Vec::new()));
    }
}
