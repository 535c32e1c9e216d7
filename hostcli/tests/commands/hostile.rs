//! Frames whose checksum holds but whose content was made up cost memory and patience within bounds.

use nmiprof::capture::writer;
use nmiprof::commands::Outcome;
use nmiprof_wire::{
    Block, BlockHeader, CounterReport, CounterVerdict, CpuTotals, Drops, EventCounts, Frame, LINE_BYTES_MAX,
    MemoryCounters, NmiCounters, Offer, PmuCounters, Stacks, Tally, encode,
};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_oneof, proptest};

use crate::fixture::{Fixture, hello_with_chains};

/// Numbers that are either small enough to mean something or large enough to overflow.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..6_u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 3), 1 => any::<u64>()]
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Encodes one made-up frame.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let coded = prop_oneof![prop::collection::vec(0..9_u8, 0..12), prop::collection::vec(any::<u8>(), 0..40)];
    (0..9_u8, prop::collection::vec(number(), 12), coded, any::<Option<bool>>()).prop_map(
        |(kind, numbers, coded, chains)| {
            let count = u16::try_from(coded.len() / 2).expect("short");
            let cpu = u16::try_from(numbers[0] % 3).expect("below 3");
            let frame = match kind {
                0 => Frame::Block(Block {
                    header: BlockHeader {
                        cpu,
                        event: u8::try_from(numbers[1] % 2).expect("below 2"),
                        first_sample: numbers[2],
                        dropped: numbers[3],
                        chains: chains.map(u32::from),
                        processes: numbers[1] % 3 == 0,
                    },
                    base_time: numbers[4],
                    base_interval: numbers[5],
                    base_ip: numbers[6],
                    count,
                    samples: &coded,
                }),
                1 => Frame::Stacks(Stacks {
                    cpu,
                    epoch: small(numbers[1]) % 2,
                    first_node: small(numbers[2]),
                    base_ip: numbers[3],
                    count,
                    nodes: &coded,
                }),
                8 => Frame::Tally(made_up_tally(cpu, &numbers, chains, &coded)),
                2 | 3 => totals(kind, cpu, &numbers),
                _ => of_pmu(kind, cpu, &numbers),
            };
            let mut line = [0; LINE_BYTES_MAX];
            encode(&frame, &mut line).expect("a short frame").to_vec()
        },
    )
}

/// Makes up a tally, whose total is now and then that of its entries.
fn made_up_tally<'a>(cpu: u16, numbers: &[u64], chains: Option<bool>, coded: &'a [u8]) -> Tally<'a> {
    let header = BlockHeader {
        cpu,
        event: u8::try_from(numbers[1] % 2).expect("below 2"),
        first_sample: numbers[2],
        dropped: numbers[3],
        chains: chains.map(u32::from),
        processes: numbers[1].is_multiple_of(3),
    };
    let columns = 2 + usize::from(header.chains.is_some()) + usize::from(header.processes);
    let count = u16::try_from(coded.len() / columns).expect("short");
    let [first_time, last_time] = [numbers[4], numbers[5]];
    let tally = Tally { header, first_time, last_time, samples: numbers[6], count, entries: coded };
    let sum = tally.entries().map(|entry| u64::from(entry.samples)).sum();
    Tally { samples: if numbers[7] < 4 { sum } else { tally.samples }, ..tally }
}

fn totals(kind: u8, cpu: u16, numbers: &[u64]) -> Frame<'static> {
    let totals = CpuTotals {
        cpu,
        time: numbers[1],
        overflows: numbers[2],
        sent: numbers[3],
        dropped: Drops { ring_full: numbers[4], no_frame: numbers[5], ..Drops::default() },
        nmi: NmiCounters {
            entries: numbers[6],
            runs: numbers[7],
            handled: numbers[8],
            ..NmiCounters::default()
        },
        ring_pages: numbers[9],
        reserve_frames_min: small(numbers[10]),
        memory: MemoryCounters {
            frames_left: numbers[9],
            decommitted: numbers[10],
            ..MemoryCounters::default()
        },
        ..CpuTotals::default()
    };
    if kind == 2 { Frame::Sync(totals) } else { Frame::End(totals) }
}

/// Makes up what a kernel says of its PMU.
fn of_pmu(kind: u8, cpu: u16, numbers: &[u64]) -> Frame<'static> {
    let byte = u8::try_from(numbers[1] & 0xff).expect("masked");
    match kind {
        4 => Frame::Counts(EventCounts {
            cpu,
            event: byte % 3,
            count: numbers[2],
            enabled_ticks: numbers[3],
            running_ticks: numbers[4],
            overflows: numbers[5],
            skipped_periods: numbers[6],
            period_events: numbers[7],
        }),
        5 => Frame::Pmu(PmuCounters {
            cpu,
            throttles: numbers[2],
            throttled_ticks: numbers[3],
            bus_errors: numbers[4],
            ..PmuCounters::default()
        }),
        6 => Frame::Offer(Offer {
            name: ["cycles", "\x1b[31m", "slots"][usize::from(byte % 3)],
            counters: numbers[2],
            select: numbers[3],
            formula: "\u{202e}",
            refused: ["", "because\x07"][usize::from(byte % 2)],
        }),
        _ => Frame::Counter(CounterReport {
            counter: byte,
            verdict: if numbers[2].is_multiple_of(2) { CounterVerdict::Works } else { CounterVerdict::Dead },
            counted: numbers[3],
            work: numbers[4],
            overflows: numbers[5],
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_frame_can_crash_a_command(lines in prop::collection::vec(line(), 0..40), has_chains: bool) {
        let mut hello = if has_chains { hello_with_chains() } else { writer::hello() };
        hello.cpus = 2;
        hello.time = u64::MAX;
        let start = writer::Writer::new(&hello).expect("a short Hello").into_bytes();
        let fixture = Fixture::new(&[start, lines.concat()].concat());
        for command in ["info --json", "info", "report -g", "report --json", "script", "export", "export --format svg"] {
            let ran = fixture.run(command);
            prop_assert!(ran.result.is_ok(), "{}: {:?}", command, ran);
        }
        for command in ["stat", "stat -x ,", "stat --json", "list", "list --json", "selftest pmu", "selftest pmu --json"] {
            let ran = fixture.ask(command);
            prop_assert!(ran.result.is_ok(), "{}: {:?}", command, ran);
            prop_assert!(!ran.out.contains(['\x1b', '\x07', '\u{202e}']), "{}: {:?}", command, ran);
        }
        if fixture.run("info").outcome() == Outcome::Good {
            prop_assert!(fixture.run("info --json").out.contains("\"identity\": \"holds\""));
        }
    }
}
