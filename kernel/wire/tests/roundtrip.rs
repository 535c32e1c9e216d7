//! Goal: what the kernel encodes is what the host decodes, and nothing else decodes.
//!
//! Method: random samples, chains, options and damage; an independent statement of each property.

use nmiprof_wire::{
    Aggregate, Block, BlockEncoder, BlockHeader, CpuTotals, DecodeError, Dispatch, FRAME_BYTES_MAX,
    FaultReturn, Frame, Job, LINE_BYTES_MAX, Line, LvtpcUnmask, NestedReturn, NmiEntry, Options, PmuChoice,
    RingMode, Sample, Sampling, SourceChoice, StackNode, StacksEncoder, Stress, Tally, TallyEncoder,
    TallyEntry, UnknownPolicy, Unmask, decode, encode, stacks,
};
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let sample = (any::<u64>(), any::<u64>(), any::<u32>()).prop_map(|(time, ip, stack)| Sample {
        time,
        ip,
        stack,
        process: stack / 2,
    });
    prop::collection::vec(sample, 0..400)
}

/// Encodes all samples, as many blocks as it takes, and hands every block to `check`.
fn for_each_block(samples: &[Sample], chains: bool, processes: bool, mut check: impl FnMut(Block<'_>)) {
    let header = BlockHeader { chains: chains.then_some(3), processes, ..BlockHeader::default() };
    let mut encoder = BlockEncoder::new(chains).with_processes(processes);
    for sample in samples {
        if encoder.is_full() {
            check(encoder.block(header));
            encoder.clear();
        }
        encoder.push(*sample).expect("a block that is not full takes a sample");
    }
    check(encoder.block(header));
}

fn tally_entries() -> impl Strategy<Value = Vec<TallyEntry>> {
    let near = prop_oneof![any::<u64>(), 0xffff_ffff_8010_0000..0xffff_ffff_8010_0400_u64];
    let entry = (near, any::<u32>(), 0..9_u32, 1..=u32::MAX)
        .prop_map(|(ip, stack, process, samples)| TallyEntry { ip, stack, process, samples });
    prop::collection::vec(entry, 0..400)
}

fn tally_header() -> impl Strategy<Value = BlockHeader> {
    (any::<u16>(), any::<u8>(), any::<[u64; 2]>()).prop_map(|(cpu, event, [first_sample, dropped])| {
        BlockHeader { cpu, event, first_sample, dropped, ..BlockHeader::default() }
    })
}

/// Encodes all entries, as many tallies as it takes, and hands every one to `check`.
fn for_each_tally(
    entries: &[TallyEntry],
    header: BlockHeader,
    [first_time, last_time]: [u64; 2],
    mut check: impl FnMut(Tally<'_>),
) {
    let mut encoder = TallyEncoder::new(header.chains.is_some(), header.processes);
    for entry in entries {
        if encoder.is_full() {
            check(encoder.tally(header, first_time, last_time));
            encoder.clear();
        }
        encoder.push(*entry).expect("a tally that is not full takes an entry");
    }
    check(encoder.tally(header, first_time, last_time));
}

fn link_choices() -> impl Strategy<Value = (Line, LvtpcUnmask, Aggregate)> {
    let (line, lvtpc) = (prop::sample::select(Line::ALL), prop::sample::select(LvtpcUnmask::ALL));
    (line, lvtpc, prop::sample::select(Aggregate::ALL))
}

fn sampling() -> impl Strategy<Value = Sampling> {
    prop_oneof![(1..u64::MAX).prop_map(Sampling::Period), (1..u64::MAX).prop_map(Sampling::Frequency)]
}

fn options() -> impl Strategy<Value = Options<'static>> {
    let names = prop_oneof![proptest::strategy::Just(""), proptest::strategy::Just("matrix,sort")];
    let choices = (
        prop::sample::select(NmiEntry::ALL),
        prop::sample::select(FaultReturn::ALL),
        (prop::sample::select(NestedReturn::ALL), prop::sample::select(Unmask::ALL)),
        (prop::sample::select(Dispatch::ALL), prop::sample::select(UnknownPolicy::ALL)),
        prop::sample::select(RingMode::ALL),
        (
            prop::sample::select(Stress::ALL),
            prop::sample::select(Job::ALL),
            prop::sample::select(PmuChoice::ALL),
            prop::sample::select(SourceChoice::ALL),
        ),
        link_choices(),
    );
    let rest = (1..u64::MAX, any::<bool>(), 12..64_u32, 1..u32::MAX, any::<bool>(), any::<(u32, bool)>());
    (sampling(), names, choices, rest).prop_map(|(sampling, workloads, choices, rest)| {
        let (
            nmi_entry,
            fault_return,
            (nested_return, unmask),
            (dispatch, unknown),
            ring,
            (stress, job, pmu, source),
            (line, lvtpc, aggregate),
        ) = choices;
        let (duration_ns, chains, ring_log2, reserve_frames, unsafe_nmi, (decommit, warn_fault)) = rest;
        Options {
            workloads,
            cpu_list: "0,2-3",
            duration_ns,
            sampling,
            chains,
            aggregate,
            ring,
            ring_bytes: 1 << ring_log2,
            decommit,
            warn_fault,
            reserve_frames,
            nmi_entry,
            fault_return,
            nested_return,
            unmask,
            dispatch,
            unknown,
            stress,
            job,
            pmu,
            source,
            lvtpc,
            profile: if chains { "skylake" } else { "" },
            events: if chains { "" } else { "{cycles:u,rC0},cpu/event=0x3c,cmask=1/" },
            cpu_percent_max: 60,
            tick_hz: reserve_frames,
            line,
            baud: reserve_frames,
            uart_hz: reserve_frames,
            rts_cts: unsafe_nmi,
            unsafe_nmi,
            sweep_first: reserve_frames,
            sweep_last: reserve_frames,
            third_first: reserve_frames,
            third_last: reserve_frames,
            mutant: workloads,
            selftest: workloads,
        }
    })
}

proptest! {
    #[test]
    fn samples_survive_the_line_in_any_order_and_of_any_value(
        samples in samples(), chains: bool, processes: bool,
    ) {
        let mut decoded = Vec::new();
        for_each_block(&samples, chains, processes, |block| {
            let mut line = [0; LINE_BYTES_MAX];
            let len = encode(&Frame::Block(block), &mut line).expect("a block fits into a frame").len();
            let Ok(Frame::Block(block)) = decode(&mut line[..len - 1]) else { panic!("a block came in") };
            let mut iter = block.samples();
            decoded.extend(iter.by_ref());
            assert!(iter.is_whole(), "nothing is left over");
        });
        let sent = samples.iter().map(|sample| Sample {
            stack: if chains { sample.stack } else { 0 },
            process: if processes { sample.process } else { 0 },
            ..*sample
        });
        prop_assert_eq!(decoded, sent.collect::<Vec<_>>());
    }

    #[test]
    fn counted_samples_survive_the_line_in_any_order_and_of_any_value(
        entries in tally_entries(), chains: bool, processes: bool, header in tally_header(), times: [u64; 2],
    ) {
        let header = BlockHeader { chains: chains.then_some(7), processes, ..header };
        let mut decoded = Vec::new();
        for_each_tally(&entries, header, times, |tally| {
            let mut line = [0; LINE_BYTES_MAX];
            let len = encode(&Frame::Tally(tally), &mut line).expect("a tally fits into a frame").len();
            let Ok(Frame::Tally(came)) = decode(&mut line[..len - 1]) else { panic!("a tally came in") };
            assert_eq!((came.header, [came.first_time, came.last_time]), (header, times));
            let (from, mut iter) = (decoded.len(), came.entries());
            decoded.extend(iter.by_ref());
            assert!(iter.is_whole(), "nothing is left over");
            let sum: u64 = decoded[from..].iter().map(|entry| u64::from(entry.samples)).sum();
            assert_eq!(came.samples, sum, "a tally's total is that of its entries");
        });
        let sent = entries.iter().map(|entry| TallyEntry {
            stack: if chains { entry.stack } else { 0 },
            process: if processes { entry.process } else { 0 },
            ..*entry
        });
        prop_assert_eq!(decoded, sent.collect::<Vec<_>>());
    }

    #[test]
    fn chain_nodes_survive_the_line(nodes in prop::collection::vec((any::<u32>(), any::<u64>()), 0..300)) {
        let mut encoder = StacksEncoder::new();
        let (mut sent, mut decoded): (Vec<StackNode>, Vec<StackNode>) = (Vec::new(), Vec::new());
        for (choice, ip) in nodes {
            if encoder.is_full() {
                decoded.extend(encoder.stacks(0).nodes());
                encoder.clear();
            }
            let next = stacks::FIRST_NODE + u32::try_from(sent.len()).expect("few nodes");
            let parent = choice % next;
            prop_assert_eq!(encoder.push(parent, ip), Some(next));
            sent.push(StackNode { node: next, parent, ip });
        }
        decoded.extend(encoder.stacks(0).nodes());
        prop_assert_eq!(decoded, sent);
        prop_assert_eq!(encoder.push(u32::MAX, 0), None, "a parent comes before its child");
    }

    #[test]
    fn options_survive_their_text_form(options in options()) {
        let text = options.to_string();
        prop_assert_eq!(Options::parse(&text), Ok(options));
    }

    #[test]
    fn a_damaged_frame_is_an_error(totals: [u64; 4], position: prop::sample::Index, flip in 1..=u8::MAX) {
        let [time, overflows, sent, ring_pages] = totals;
        let frame = Frame::Sync(CpuTotals { time, overflows, sent, ring_pages, ..CpuTotals::default() });
        let mut line = [0; LINE_BYTES_MAX];
        let len = encode(&frame, &mut line).expect("totals fit").len() - 1;
        let position = position.index(len);
        line[position] ^= flip;
        prop_assert!(decode(&mut line[..len]).is_err(), "one flipped byte at {} of {}", position, len);
    }

    #[test]
    fn random_bytes_are_an_error_and_never_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(decode(&mut bytes).is_err());
    }

    #[test]
    fn hostile_blocks_end_early_without_a_panic(samples: Vec<u8>, count: u16, chains: Option<u32>) {
        let header = BlockHeader { chains, ..BlockHeader::default() };
        let block = Block { header, base_time: 0, base_interval: 0, base_ip: 0, count, samples: &samples };
        prop_assert!(block.samples().count() <= usize::from(count));
    }

    #[test]
    fn hostile_tallies_end_early_without_a_panic(
        entries: Vec<u8>, count: u16, samples: u64, chains: Option<u32>, processes: bool,
    ) {
        let header = BlockHeader { chains, processes, ..BlockHeader::default() };
        let tally = Tally { header, first_time: u64::MAX, last_time: 0, samples, count, entries: &entries };
        let mut iter = tally.entries();
        let decoded: Vec<TallyEntry> = iter.by_ref().collect();
        prop_assert!(decoded.len() <= usize::from(count).min(entries.len()));
        prop_assert!(decoded.iter().all(|entry| entry.samples > 0));
        prop_assert_eq!(iter.next(), None, "an end is an end");
        if iter.is_whole() {
            prop_assert_eq!(decoded.len(), usize::from(count));
        }
    }

    #[test]
    fn a_tally_that_was_cut_or_has_a_byte_too_many_is_not_whole(
        entries in tally_entries(), at: prop::sample::Index, extra: u8,
    ) {
        for_each_tally(&entries, BlockHeader::default(), [0, 0], |tally| {
            let cut = &tally.entries[..at.index(tally.entries.len() + 1).min(tally.entries.len())];
            let is_whole = |coded: &[u8]| {
                let mut iter = Tally { entries: coded, ..tally }.entries();
                iter.by_ref().for_each(drop);
                iter.is_whole()
            };
            assert_eq!(is_whole(cut), cut.len() == tally.entries.len());
            assert!(!is_whole(&[tally.entries, &[extra]].concat()));
        });
    }
}

#[test]
fn a_line_holds_no_zero_but_its_last_byte() {
    let mut line = [0xff; LINE_BYTES_MAX];
    let sent = encode(&Frame::End(CpuTotals::default()), &mut line).expect("totals fit");
    assert_eq!(sent.iter().position(|byte| *byte == 0), Some(sent.len() - 1));
}

#[test]
fn the_largest_frame_fits_its_line() {
    let samples = vec![0xa5; FRAME_BYTES_MAX - 40];
    let header = BlockHeader::default();
    let block = Block { header, base_time: 0, base_interval: 0, base_ip: 0, count: 1, samples: &samples };
    let mut line = [0; LINE_BYTES_MAX];
    assert!(encode(&Frame::Block(block), &mut line).is_ok());
    let mut short = [0; 64];
    assert!(encode(&Frame::Block(block), &mut short).is_err(), "too small a buffer is an error");
}

#[test]
fn an_endless_line_is_too_long() {
    let mut line = vec![1; LINE_BYTES_MAX + 1];
    assert_eq!(decode(&mut line), Err(DecodeError::TooLong));
}

#[test]
fn an_unknown_word_names_itself_and_what_is_expected() {
    let error = Options::parse("period=5 colour=red").expect_err("no such option");
    assert_eq!(error.word, "colour=red");
    assert!(error.to_string().contains("workload, cpu_list, duration_ns, period"), "{error}");
    let error = Options::parse("nmi=best").expect_err("no such entry");
    assert_eq!(
        error.to_string(),
        "unknown kernel option `nmi=best`; expected: naive, rostedt, latched, softmask, tristate"
    );
    assert!(Options::parse("ring_bytes=5000").is_err(), "no power of two");
    assert!(Options::parse("period=0").is_err(), "a period of nothing");
    assert!(Options::parse("verbose").is_err(), "a word without a value");
}

#[test]
fn a_later_word_wins() {
    let options = Options::parse("period=5 period=7 freq=9").expect("all known");
    assert_eq!(options.sampling, Sampling::Frequency(9));
}

#[test]
fn where_nothing_fell_there_is_no_entry() {
    let nothing = TallyEntry { ip: 5, ..TallyEntry::default() };
    assert_eq!(TallyEncoder::new(false, false).push(nothing), Err(nothing));
}
