//! Samples that the kernel counts by where they fell (`aggregate=on`) say the same as the samples themselves, and a slow
//! line carries them at any rate.
//!
//! Method: two runs can't be compared exactly, because the drain that counts is sampled too. So the self-test image sends
//! both of one run (`aggregate=both`); the capture is taken apart into one of the samples and one of the tallies, and
//! what the commands print of them is compared byte for byte. The tables of that image are small, so that they fill
//! up many times. Runs of the main image, raw and counted, must then agree in the shares, and their own sizes say what a
//! line would have to carry.

use std::fs;
use std::path::Path;

use nmiprof::capture::{Capture, CaptureError, ChainId, Histogram, Identity, Record, SampledEvent};
use nmiprof::commands::{Outcome, export, report, script};
use nmiprof::images::Image;
use nmiprof_tests::{Boot, Failure, Verdict};
use nmiprof_wire::{FatalCause, Frame, decode};
use serde_json::Value;

/// What a line of 115,200 baud carries in a second.
const LINE_BYTES_PER_S: f64 = 11_520.0;

#[derive(clap::Parser)]
enum Cli {
    Export(export::Args),
    Report(report::Args),
    Script(script::Args),
}

/// Runs a command on a capture, and returns what it printed.
fn ask(command: &str, capture: &Path) -> String {
    let words = format!("nmiprof {command} -i {}", capture.display());
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let ran = match <Cli as clap::Parser>::try_parse_from(words.split_whitespace()).expect("sound flags") {
        Cli::Export(args) => export::run(&args, &mut out, &mut notes),
        Cli::Report(args) => report::run(&args, &mut out, &mut notes),
        Cli::Script(args) => script::run(&args, &mut out, &mut notes),
    };
    assert_eq!(ran.expect("the command works"), Outcome::Good, "{command}");
    String::from_utf8(out).expect("output is text")
}

/// Returns a capture without the frames that `is_left_out` names; all else is kept byte for byte.
fn without(capture: &[u8], mut is_left_out: impl FnMut(&Frame<'_>) -> bool) -> Vec<u8> {
    let mut kept = Vec::new();
    for line in capture.split_inclusive(|byte| *byte == 0) {
        let mut copy = line[..line.len() - 1].to_vec();
        if !decode(&mut copy).is_ok_and(|frame| is_left_out(&frame)) {
            kept.extend_from_slice(line);
        }
    }
    kept
}

fn for_each_frame(capture: &[u8], mut look: impl FnMut(&Frame<'_>)) {
    without(capture, |frame| {
        look(frame);
        false
    });
}

fn read(capture: &[u8]) -> (Record, Histogram) {
    let mut histogram = Histogram::default();
    let reader = Box::new(std::io::Cursor::new(capture.to_vec()));
    let record = Capture::from_reader("test", reader).and_then(|capture| {
        capture.read(|block| {
            histogram.count(block);
            Ok::<(), CaptureError>(())
        })
    });
    (record.expect("a capture of this build"), histogram)
}

/// Runs the self-test image, and returns its capture as samples and as tallies; `None` where the test is skipped.
fn both(words: &str, programs: &[&str]) -> Option<[Vec<u8>; 2]> {
    let boot = Boot::image(Image::Selftest).append("aggregate=both").append(words);
    let boot = programs.iter().fold(boot, |boot, program| boot.user_program(program));
    // The host takes samples and refuses tallies with the same numbers: the verdict is that on the samples.
    let run = boot.run().passed()?;
    let sent = without(&run.capture, |frame| matches!(frame, Frame::Tally(_)));
    let counted = without(&run.capture, |frame| matches!(frame, Frame::Block(_)));
    Some([sent, counted])
}

/// Counts the tallies, and those whose call chains are of an epoch before the last one that was begun.
fn tallies(capture: &[u8]) -> (usize, usize) {
    let (mut epoch, mut all, mut late) = (0, 0, 0);
    for_each_frame(capture, |frame| match frame {
        Frame::Stacks(stacks) => epoch = stacks.epoch,
        Frame::Tally(tally) => {
            all += 1;
            late += usize::from(tally.header.chains.is_some_and(|of| of < epoch));
        }
        _ => {}
    });
    (all, late)
}

/// Returns every command whose output must be the same.
fn commands(events: &[SampledEvent], places: &Histogram) -> Vec<String> {
    let reports = ["", " -g", " --no-children", " --json", " --sort comm,symbol,srcline"];
    let mut commands: Vec<String> = reports.map(|flags| format!("report{flags}")).into();
    for (_, event) in (0..).zip(events).filter(|(event, _)| places.samples_of(*event) > 0) {
        for format in ["folded", "svg"] {
            commands.push(format!("export --format {format} -e {}", event.name));
        }
    }
    commands
}

#[test]
fn one_run_gives_the_same_reports_and_exports_from_samples_and_from_counts() {
    let cases: [(&str, &[&str]); 6] = [
        ("period=2503 duration_ns=400000000", &[]),
        ("period=2503 chains=on duration_ns=500000000", &[]),
        ("period=10007 chains=on workload=chase duration_ns=3200000000", &[]),
        ("period=2003 chains=on tick_hz=2000 duration_ns=20000000000", &["sieve 5 10", "tree 1000 10"]),
        (
            "pmu=model-intel events=instructions,cycles:u,branches:k period=20011 chains=on duration_ns=9000000000",
            &["tree 1000 10"],
        ),
        ("pmu=model-amd events=instructions,cycles period=20011 duration_ns=300000000", &[]),
    ];
    let directory = tempfile::tempdir().expect("a temporary directory");
    let [sent_file, counted_file] = ["sent", "counted"].map(|name| directory.path().join(name));
    for (words, programs) in cases {
        let Some([sent, counted]) = both(words, programs) else { return };
        let [(raw, places), (record, counted_places)] = [read(&sent), read(&counted)];
        for record in [&raw, &record] {
            assert_eq!(record.accounts().identity(), Identity::Holds, "{words}");
            assert_eq!((record.accounts().total().link_lost, record.damage().frames), (0, 0), "{words}");
        }
        assert_eq!((record.samples(), record.counted_samples()), (raw.samples(), raw.samples()), "{words}");
        assert_eq!(places.sorted(), counted_places.sorted(), "{words}: every place has its samples");
        fs::write(&sent_file, &sent).and_then(|()| fs::write(&counted_file, &counted)).expect("room");
        let events = &record.run().expect("it introduced itself").events;
        for command in commands(events, &places) {
            assert_eq!(ask(&command, &sent_file), ask(&command, &counted_file), "{words}: {command}");
        }
        let (all, late) = tallies(&counted);
        println!(
            "{words}: {} samples at {} places, {all} tallies ({late} late)",
            raw.samples(),
            places.sorted().len()
        );
        assert!(all > events.len(), "{words}: more than one for each event");
        if words.contains("duration_ns=3200000000") {
            assert!(late > 0, "{words}: a tally comes when the next epoch has begun");
        }
    }
}

#[test]
fn a_lost_tally_costs_exactly_the_samples_that_it_stood_for() {
    let Some([_, counted]) = both("period=2503 chains=on duration_ns=300000000", &[]) else { return };
    let (whole, _) = read(&counted);
    for nth in 0..4 {
        let (mut number, mut lost) = (0, 0);
        let damaged = without(&counted, |frame| {
            let Frame::Tally(tally) = frame else { return false };
            number += 1;
            let is_lost = number % 4 == nth;
            lost += if is_lost { tally.samples } else { 0 };
            is_lost
        });
        let (record, places) = read(&damaged);
        let total = record.accounts().total();
        println!("{lost} of {} samples were in every 4th of {number} tallies", whole.samples());
        assert!(lost > 0);
        assert_eq!((total.link_lost, total.received), (lost, whole.samples() - lost));
        assert_eq!(places.samples_of(0), total.received);
        assert_eq!(record.accounts().identity(), Identity::Holds);
        let mut flipped = counted.clone();
        let at = counted.len() * (usize::try_from(nth).expect("small") + 1) / 5;
        flipped[at] ^= 0x10;
        let (record, _) = read(&flipped);
        let total = record.accounts().total();
        assert_eq!(total.received + total.link_lost, whole.samples(), "a flipped bit at {at}");
        assert!(record.damage().frames > 0, "a flipped bit at {at}");
    }
}

/// Runs the main image and returns its capture; `None` where the test is skipped.
fn main_image(words: &str) -> Option<Vec<u8>> {
    let run = Boot::image(Image::Main).append(words).limit(Boot::LIMIT * 4).run().passed()?;
    let accounts = run.record.accounts();
    assert_eq!((accounts.identity(), run.record.damage().frames), (Identity::Holds, 0), "{words}");
    assert_eq!(accounts.total().dropped.total(), 0, "{words}");
    let (record, places) = read(&run.capture);
    let is_known = |chain| record.chains().root(chain) != ChainId::UNKNOWN;
    assert!(places.sorted().iter().all(|(place, _)| is_known(place.chain)), "{words}: no chain is lost");
    Some(run.capture)
}

/// Returns the own share of every function of the workloads in their samples, in percent: what the drain does beside
/// them differs.
fn own_shares(capture: &[u8]) -> Vec<(String, f64)> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("capture");
    fs::write(&file, capture).expect("room");
    let report: Value = serde_json::from_str(&ask("report --json --no-children", &file)).expect("JSON");
    let rows = report["events"][0]["rows"].as_array().expect("rows").iter().map(|row| {
        (row["symbol"].as_str().unwrap_or_default().to_owned(), row["samples"].as_f64().unwrap_or_default())
    });
    let rows: Vec<_> = rows.filter(|(symbol, _)| symbol.contains("workloads::")).collect();
    let total: f64 = rows.iter().map(|(_, samples)| samples).sum();
    rows.into_iter().map(|(symbol, samples)| (symbol, 100.0 * samples / total)).collect()
}

#[test]
fn a_counted_run_shows_the_shares_of_a_sampled_one() {
    /// A multiple of the error that random samples would have.
    const ERRORS_MAX: f64 = 5.0;
    for words in ["period=10007 duration_ns=900000000", "period=10007 chains=on duration_ns=900000000"] {
        let Some(sent) = main_image(words) else { return };
        let Some(counted) = main_image(&format!("{words} aggregate=on")) else { return };
        let [(sent_record, _), (counted_record, _)] = [read(&sent), read(&counted)];
        assert_eq!(counted_record.counted_samples(), counted_record.samples(), "{words}: no sample went out");
        let samples = sent_record.samples().min(counted_record.samples()) as f64;
        let counted_shares = own_shares(&counted);
        let mut worst = 0.0_f64;
        for (symbol, share) in &own_shares(&sent) {
            let same = counted_shares.iter().find(|(name, _)| name == symbol);
            let difference = (same.map_or(0.0, |(_, share)| *share) - share).abs();
            let error = 100.0 * (2.0 * (share / 100.0) * (1.0 - share / 100.0) / samples).sqrt();
            worst = worst.max(difference / error.max(100.0 / samples));
            assert!(
                difference <= ERRORS_MAX * error.max(100.0 / samples),
                "{words}: {symbol}: {difference} of {share} %"
            );
        }
        println!("{words}: {samples} samples, the worst share is off by {worst:.2} standard errors");
    }
}

/// Returns the bytes per second of the target's time that a line would have to carry, and those per sample.
fn line_load(capture: &[u8]) -> (f64, f64) {
    let (mut span, mut hz) = (None, 1);
    for_each_frame(capture, |frame| match frame {
        Frame::Hello(hello) => {
            hz = hello.clock_hz;
            span.get_or_insert((hello.time, hello.time));
        }
        Frame::End(totals) => span = span.map(|(first, _)| (first, totals.time)),
        _ => {}
    });
    let (first, last) = span.expect("it introduced itself");
    let seconds = (last - first) as f64 / hz as f64;
    let (record, _) = read(capture);
    (record.bytes() as f64 / seconds, record.bytes_per_sample().expect("there are samples"))
}

#[test]
fn a_line_of_115200_baud_carries_what_is_counted_at_rates_that_it_does_not_carry_sampled() {
    for (rate, seconds) in [("period=2503", 2), ("period=10007 chains=on", 8)] {
        let Some(sent) = main_image(&format!("{rate} duration_ns=1000000000")) else { return };
        let words = format!("{rate} duration_ns={seconds}000000000 aggregate=on");
        let Some(counted) = main_image(&words) else { return };
        let [(sent, sent_each), (counted, counted_each)] = [line_load(&sent), line_load(&counted)];
        println!(
            "{rate}: {sent:.0} B/s ({sent_each:.2} per sample) sampled, {counted:.0} B/s ({counted_each:.2} per sample) counted"
        );
        assert!(sent > 4.0 * LINE_BYTES_PER_S, "{rate}: a rate that the line can't carry: {sent:.0} B/s");
        assert!(counted < LINE_BYTES_PER_S, "{rate}: {counted:.0} B/s");
        assert!(
            counted_each * 4.0 < sent_each,
            "{rate}: {counted_each:.2} and {sent_each:.2} bytes per sample"
        );
    }
}

#[test]
fn script_shows_places_with_their_numbers_and_no_times_that_were_never_taken() {
    let Some([_, counted]) = both("period=10007 duration_ns=100000000", &[]) else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("capture");
    fs::write(&file, &counted).expect("room");
    let (record, _) = read(&counted);
    let lines = ask("script -F cpu,time,event,ip", &file);
    let numbers = lines.lines().map(|line| {
        assert!(line.contains(".."), "a span: {line}");
        let (head, _) = line.split_once(" samples:").expect("a number");
        head.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok()).expect("a number")
    });
    assert_eq!(numbers.sum::<u64>(), record.samples());
}

#[test]
fn the_main_image_refuses_to_send_everything_twice() {
    let run = Boot::image(Image::Main).append("aggregate=both").run();
    let Some(verdict) = run.verdict() else { return };
    let Verdict::Fail(Failure::GaveUp(report)) = verdict else { panic!("{verdict}") };
    assert_eq!(report.cause, FatalCause::Configuration);
    assert!(report.message.contains("aggregate=both is for the self-test image"), "{}", report.message);
}
