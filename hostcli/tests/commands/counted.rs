//! Samples that the kernel counted: everything that needs no times is the same as from the samples themselves.
//!
//! Method: the reference writer sends the same samples in both ways, in several tallies and epochs; what the commands
//! print is compared byte for byte. A tally that contradicts itself is refused whole.

use nmiprof::capture::writer::{self, SyntheticSample, Writer};
use nmiprof::commands::Outcome;
use nmiprof_wire::{
    Aggregate, BlockHeader, EventInfo, Frame, Hello, LINE_BYTES_MAX, Sampling, Tally, TallyEncoder,
    TallyEntry, encode,
};

use crate::elf::TEXT;
use crate::fixture::{Fixture, assert_snapshot, hello_with_chains, ten_samples, ten_samples_capture};

const SAMPLES: u64 = 5_000;

fn aggregated(hello: &Hello<'static>) -> Hello<'static> {
    let mut hello = hello.clone();
    hello.options.aggregate = Aggregate::On;
    hello
}

/// Describes a run of two events on two CPUs.
fn two_of_each(mut hello: Hello<'static>) -> Hello<'static> {
    hello.cpus = 2;
    hello.events = ["cycles", "branches"]
        .map(|name| EventInfo { name, sampling: Sampling::Period(1_000), formula: "" })
        .into_iter()
        .collect();
    hello
}

/// Writes samples all over the functions of the fixture, and forgets their chains now and then.
fn many_samples(hello: &Hello<'_>) -> Fixture {
    let mut writer = Writer::new(hello).expect("a short Hello");
    for n in 0..SAMPLES {
        let callers = [TEXT + 0x20 + n % 5 * 8, TEXT + 0x100 + n % 3 * 4];
        let sample = SyntheticSample {
            cpu: u16::try_from(n % 3 % 2).expect("0 or 1"),
            event: u8::try_from(n % 7 % 2).expect("0 or 1"),
            time: 100_003 * n,
            ip: TEXT + n * n % 0x2ff,
            callers: &callers,
            is_cut: n % 11 == 0,
        };
        writer.sample(&sample).expect("the CPU is there");
        if n % 1_000 == 999 {
            writer.next_epoch().expect("frames of its own making");
        }
    }
    Fixture::new(&writer.end().expect("frames of its own making"))
}

#[test]
fn reports_and_exports_are_those_of_the_samples_themselves() {
    for hello in [two_of_each(writer::hello()), two_of_each(hello_with_chains())] {
        let (raw, counted) = (many_samples(&hello), many_samples(&aggregated(&hello)));
        let reports = [
            "report",
            "report -g",
            "report --no-children",
            "report --sort cpu,symbol,srcline",
            "report --json",
            "export",
            "export --event branches",
            "export --format svg",
        ];
        for line in reports {
            let [raw, counted] = [raw.run(line), counted.run(line)];
            assert_eq!(counted.outcome(), Outcome::Good, "{line}: {}", counted.notes);
            assert_eq!((&counted.out, &counted.notes), (&raw.out, &raw.notes), "{line}");
        }
        let samples = format!("# counted in the kernel: {SAMPLES} samples");
        assert!(counted.run("info").out.contains(&samples), "{}", counted.run("info").out);
        assert!(!raw.run("info").out.contains("# counted in the kernel"));
    }
}

#[test]
fn a_line_of_script_is_a_place_with_its_number_and_its_span() {
    for (name, hello) in [("flat", writer::hello()), ("chains", hello_with_chains())] {
        let ran = Fixture::new(&ten_samples_capture(&aggregated(&hello))).run("script");
        assert_snapshot(&format!("script-counted-{name}.txt"), &ran.out);
        assert!(ran.notes.contains("the kernel counted 10 samples by where they fell"), "{}", ran.notes);
    }
    let ran = Fixture::new(&ten_samples_capture(&aggregated(&writer::hello()))).run("script -F ip");
    assert_eq!(ran.out.lines().next(), Some("3 samples: ffffffff80100104"), "a number is never left out");
}

#[test]
fn a_tally_that_contradicts_itself_is_refused_whole_and_the_next_one_counts() {
    let mut encoder = TallyEncoder::new(false, false);
    for offset in [4, 8] {
        let entry = TallyEntry { ip: TEXT + offset, samples: 5, ..TallyEntry::default() };
        encoder.push(entry).expect("room");
    }
    let header = |first_sample| BlockHeader { first_sample, ..BlockHeader::default() };
    let sound = encoder.tally(header(20), 3, 4);
    let contradictions = [
        Tally { samples: 11, header: header(10), ..sound },
        Tally { first_time: 5, header: header(10), ..sound },
        Tally { count: 1, header: header(10), ..sound },
        Tally { entries: &sound.entries[..sound.entries.len() - 1], header: header(10), ..sound },
        Tally { header: BlockHeader { event: 1, ..header(10) }, ..sound },
        Tally { header: BlockHeader { cpu: 1, ..header(10) }, ..sound },
    ];
    let mut bytes = ten_samples(&aggregated(&writer::hello())).end().expect("frames of its own making");
    let end = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == 0).expect("many frames") + 1;
    bytes.truncate(end);
    for tally in contradictions.iter().chain([&sound]) {
        let mut line = [0; LINE_BYTES_MAX];
        bytes.extend_from_slice(encode(&Frame::Tally(*tally), &mut line).expect("it fits"));
    }
    let ran = Fixture::new(&bytes).run("info --json");
    let info: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(info["damaged"]["frames"], contradictions.len(), "{}", ran.out);
    assert_eq!((&info["samples"], &info["counted_samples"]), (&20.into(), &20.into()));
    assert_eq!(info["totals"]["link_lost"], 10, "numbers 10 to 19 never came");
}
