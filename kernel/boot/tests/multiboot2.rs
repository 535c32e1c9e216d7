//! Multiboot2 information is read as the specification says, and no bytes can do harm.
//!
//! Method: information written tag by tag by this test, from the specification's tables; then the same with every byte
//! changed, with every length cut, and random bytes. Reading beyond the slice would panic. proptest prints the seed of
//! a failure.

use nmiprof_boot::{MemoryRange, Screen, multiboot2};
use proptest::prelude::*;

/// Information under construction.
struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Self {
        Self(vec![0; 8])
    }

    fn tag(mut self, kind: u32, body: &[u8]) -> Self {
        let len = u32::try_from(body.len() + 8).expect("short");
        self.0.extend(kind.to_le_bytes());
        self.0.extend(len.to_le_bytes());
        self.0.extend(body);
        self.0.resize(self.0.len().next_multiple_of(8), 0xee);
        self
    }

    fn memory_map(self, entry_bytes: usize, entries: &[(u64, u64, u32)]) -> Self {
        let mut body = Vec::new();
        body.extend(u32::try_from(entry_bytes).expect("short").to_le_bytes());
        body.extend([0; 4]);
        for (start, len, kind) in entries {
            let entry = body.len();
            body.extend(start.to_le_bytes());
            body.extend(len.to_le_bytes());
            body.extend(kind.to_le_bytes());
            body.resize(entry + entry_bytes, 0x55);
        }
        self.tag(6, &body)
    }

    fn finish(self) -> Vec<u8> {
        let mut bytes = self.tag(0, &[]).0;
        let len = u32::try_from(bytes.len()).expect("short");
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        bytes
    }
}

fn framebuffer(kind: u8, bits: u8) -> Vec<u8> {
    let mut body = 0x8000_0000_u64.to_le_bytes().to_vec();
    for number in [5120_u32, 1280, 800] {
        body.extend(number.to_le_bytes());
    }
    body.extend([bits, kind, 0, 0, 16, 8, 8, 8, 0, 8]);
    body
}

fn module(start: u32, end: u32) -> Vec<u8> {
    [&start.to_le_bytes()[..], &end.to_le_bytes(), b"programs\0"].concat()
}

/// A machine as OVMF and GRUB describe one.
fn whole() -> Vec<u8> {
    let map =
        [(0, 0xa_0000, 1), (0x10_0000, 0x70_0000, 1), (0x80_0000, 0x8000, 4), (0x80_8000, 0x700_0000, 1)];
    Writer::new()
        .tag(1, b"period=7 workload=sort\0")
        .tag(2, b"GRUB\0")
        .tag(3, &module(0x40_0000, 0x40_1234))
        .memory_map(24, &map)
        .tag(8, &framebuffer(1, 32))
        .tag(99, b"who knows")
        .finish()
}

#[test]
fn everything_is_found_in_any_order() {
    let info = multiboot2::parse(&whole());
    assert_eq!(info.command_line(), "period=7 workload=sort");
    assert_eq!(
        info.modules(),
        [MemoryRange { start: 0x40_0000, end: 0x40_1234 }],
        "though it came before the map"
    );
    assert_eq!(info.modules_refused(), 0);
    let starts: Vec<u64> = info.memory().runs().iter().map(|run| run.start).collect();
    assert_eq!(starts, [0, 0x10_0000, 0x80_8000]);
    assert_eq!(info.screen(), Screen::pixels(0x8000_0000, 5120, 1280, 800, 32));
    assert!(info.screen().is_some());
}

#[test]
fn longer_entries_of_a_later_version_are_read_and_shorter_ones_are_none() {
    for (entry_bytes, bytes) in [(20, 0x2000), (24, 0x2000), (40, 0x2000)] {
        let info =
            Writer::new().memory_map(entry_bytes, &[(0x1000, 0x1000, 1), (0x5000, 0x1000, 1)]).finish();
        assert_eq!(multiboot2::parse(&info).memory().bytes(), bytes, "{entry_bytes}");
    }
    let mut info = Writer::new().memory_map(24, &[(0x1000, 0x1000, 1)]).finish();
    info[16..20].copy_from_slice(&0_u32.to_le_bytes());
    assert!(multiboot2::parse(&info).memory().bytes() <= 0x1000, "entries of no bytes don't go on for ever");
}

#[test]
fn screens_of_other_kinds_are_left_alone() {
    for (kind, bits, is_screen) in
        [(0, 8, false), (1, 32, true), (1, 24, true), (1, 12, false), (2, 16, true), (7, 32, false)]
    {
        let info = Writer::new().tag(8, &framebuffer(kind, bits)).finish();
        assert_eq!(multiboot2::parse(&info).screen().is_some(), is_screen, "type {kind}, {bits} bits");
    }
}

#[test]
fn a_cut_anywhere_leaves_what_came_before() {
    let whole = whole();
    for len in 0..whole.len() {
        let info = multiboot2::parse(&whole[..len]);
        assert!(info.memory().bytes() <= 0x7aa_0000, "{len}");
    }
    let mut shorter = whole;
    shorter[..4].copy_from_slice(&40_u32.to_le_bytes());
    let info = multiboot2::parse(&shorter);
    assert_eq!(info.command_line(), "period=7 workload=sort");
    assert_eq!(info.memory().bytes(), 0, "what lies beyond the stated length is none of it");
}

proptest! {
    #[test]
    fn changed_bytes_never_make_more_ram_than_a_map_can_say(changes in prop::collection::vec((0_usize..400, any::<u8>()), 1..8)) {
        let mut bytes = whole();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let info = multiboot2::parse(&bytes);
        prop_assert!(info.modules().iter().all(|module| info.memory().contains(module)));
        prop_assert!(info.memory().runs().windows(2).all(|pair| pair[0].end < pair[1].start));
    }

    #[test]
    fn random_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Some(len) = bytes.first_chunk_mut::<4>() {
            *len = 300_u32.to_le_bytes();
        }
        let info = multiboot2::parse(&bytes);
        prop_assert!(info.command_line().len() <= 300);
    }
}
