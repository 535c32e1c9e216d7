//! The frames of the GDB remote protocol: `$data#checksum`, acknowledged by `+` or `-`.
//!
//! The stub may escape bytes (`}` and the byte with bit 5 flipped) and shorten runs (`*` and a count).

/// Most bytes of one packet, before and after its runs are spelled out.
pub const PACKET_BYTES_MAX: usize = 16 << 10;

const ESCAPE: u8 = b'}';
const ESCAPE_FLIP: u8 = 0x20;
const RUN: u8 = b'*';
/// A run of so many repetitions is written as the character `RUN_BASE` + repetitions.
const RUN_BASE: u8 = 29;

/// Frames `data`, which must not need escapes: requests of this client are plain text.
#[must_use]
pub fn encode(data: &str) -> Vec<u8> {
    format!("${data}#{:02x}", checksum(data.as_bytes())).into_bytes()
}

fn checksum(data: &[u8]) -> u8 {
    data.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// What the other side sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It got the last packet.
    Ack,
    /// It wants the last packet again.
    Resend,
    /// A packet, checked and with its runs spelled out.
    Packet(Vec<u8>),
    /// A packet that was damaged on the way, or is too long.
    Damaged,
}

/// Bytes that came and were not yet understood.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the next event; `None` where more bytes are needed. Bytes outside packets are skipped.
    pub fn next_event(&mut self) -> Option<Event> {
        let start = self.bytes.iter().position(|byte| b"+-$".contains(byte))?;
        self.bytes.drain(..start);
        match self.bytes.first()? {
            b'+' => self.take_byte(Event::Ack),
            b'-' => self.take_byte(Event::Resend),
            _ => self.take_packet(),
        }
    }

    fn take_byte(&mut self, event: Event) -> Option<Event> {
        self.bytes.drain(..1);
        Some(event)
    }

    fn take_packet(&mut self) -> Option<Event> {
        let Some(hash) = self.bytes.iter().position(|byte| *byte == b'#') else {
            return self.give_up_if_too_long();
        };
        if self.bytes.len() < hash + 3 {
            return None;
        }
        let packet: Vec<u8> = self.bytes.drain(..hash + 3).collect();
        let (data, sum) = (packet.get(1..hash)?, packet.get(hash + 1..)?);
        let is_intact = hex_byte(sum) == Some(checksum(data)) && data.len() <= PACKET_BYTES_MAX;
        let content = is_intact.then(|| expand(data)).flatten();
        Some(content.map_or(Event::Damaged, Event::Packet))
    }

    /// Drops a packet that has no end within the bound.
    fn give_up_if_too_long(&mut self) -> Option<Event> {
        if self.bytes.len() <= PACKET_BYTES_MAX {
            return None;
        }
        self.bytes.clear();
        Some(Event::Damaged)
    }
}

/// Spells out escapes and runs; `None` where they make no sense or the result is too long.
fn expand(data: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::with_capacity(data.len());
    let mut bytes = data.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            ESCAPE => content.push(bytes.next()? ^ ESCAPE_FLIP),
            RUN => {
                let repetitions = bytes.next()?.checked_sub(RUN_BASE)?;
                let repeated = *content.last()?;
                content.extend(std::iter::repeat_n(repeated, usize::from(repetitions)));
            }
            byte => content.push(byte),
        }
        if content.len() > PACKET_BYTES_MAX {
            return None;
        }
    }
    Some(content)
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Reads pairs of hexadecimal digits.
#[must_use]
pub fn hex_bytes(digits: &[u8]) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(hex_byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(bytes: &[u8]) -> Vec<Event> {
        let mut inbox = Inbox::default();
        inbox.push(bytes);
        std::iter::from_fn(|| inbox.next_event()).collect()
    }

    fn packet(data: &str) -> Event {
        Event::Packet(data.as_bytes().to_vec())
    }

    #[test]
    fn a_packet_carries_the_sum_of_its_bytes() {
        assert_eq!(encode("g"), b"$g#67");
        assert_eq!(encode(""), b"$#00");
        assert_eq!(events(&encode("T05thread:01;")), [packet("T05thread:01;")]);
    }

    #[test]
    fn acknowledgements_and_packets_come_in_their_order_and_noise_is_skipped() {
        assert_eq!(events(b"++xx$OK#9a-"), [Event::Ack, Event::Ack, packet("OK"), Event::Resend]);
    }

    #[test]
    fn a_packet_may_come_in_pieces() {
        let mut inbox = Inbox::default();
        for byte in b"$OK#9" {
            inbox.push(&[*byte]);
            assert_eq!(inbox.next_event(), None);
        }
        inbox.push(b"a");
        assert_eq!(inbox.next_event(), Some(packet("OK")));
    }

    #[test]
    fn runs_and_escapes_are_spelled_out() {
        let shortened = encode("0* 1}]");
        assert_eq!(events(&shortened), [packet("00001}")]);
        for senseless in ["*!", "0*\u{1}", "a}", "0*"] {
            assert_eq!(events(&encode(senseless)), [Event::Damaged], "{senseless:?}");
        }
    }

    #[test]
    fn damage_is_told_and_does_not_swallow_what_follows() {
        assert_eq!(events(b"$OK#00$OK#9a"), [Event::Damaged, packet("OK")]);
        assert_eq!(events(b"$OK#+f$OK#9a"), [Event::Damaged, packet("OK")]);
    }

    #[test]
    fn a_packet_without_end_is_given_up() {
        let mut endless = vec![b'$'];
        endless.resize(PACKET_BYTES_MAX + 2, b'a');
        assert_eq!(events(&endless), [Event::Damaged]);
        let bomb = "0".to_owned() + &"*~".repeat(PACKET_BYTES_MAX / 90);
        assert_eq!(events(&encode(&bomb)), [Event::Damaged]);
    }

    #[test]
    fn hexadecimal_bytes_are_pairs_of_digits() {
        assert_eq!(hex_bytes(b"00ffA5"), Some(vec![0, 255, 0xa5]));
        for wrong in [&b"0"[..], b"0x", b"+1", b"  "] {
            assert_eq!(hex_bytes(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_inbox_panic_or_stall(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(events(&bytes).len() <= bytes.len());
        }
    }
}
