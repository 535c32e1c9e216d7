//! Goal: what the kernel encodes is what the host decodes, and nothing else decodes.
//!
//! Method: random samples, chains, options and damage; an independent statement of each property.

use nmiprof_wire::{
    Block, BlockEncoder, BlockHeader, CpuTotals, DecodeError, Dispatch, FRAME_BYTES_MAX, FaultReturn, Frame,
    Job, LINE_BYTES_MAX, Line, LvtpcUnmask, NestedReturn, NmiEntry, Options, PmuChoice, RingMode, Sample,
    Sampling, SourceChoice, StackNode, StacksEncoder, Stress, UnknownPolicy, Unmask, decode, encode, stacks,
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

fn options() -> impl Strategy<Value = Options<'static>> {
    let sampling =
        prop_oneof![(1..u64::MAX).prop_map(Sampling::Period), (1..u64::MAX).prop_map(Sampling::Frequency)];
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
        (prop::sample::select(Line::ALL), prop::sample::select(LvtpcUnmask::ALL)),
    );
    let rest = (1..u64::MAX, any::<bool>(), 12..64_u32, 1..u32::MAX, any::<bool>(), any::<(u32, bool)>());
    (sampling, names, choices, rest).prop_map(|(sampling, workloads, choices, rest)| {
        let (
            nmi_entry,
            fault_return,
            (nested_return, unmask),
            (dispatch, unknown),
            ring,
            (stress, job, pmu, source),
            (line, lvtpc),
        ) = choices;
        let (duration_ns, chains, ring_log2, reserve_frames, unsafe_nmi, (decommit, warn_fault)) = rest;
        Options {
            workloads,
            duration_ns,
            sampling,
            chains,
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
    assert!(error.to_string().contains("workload, duration_ns, period"), "{error}");
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
