//! Goal: a damaged capture loses what was damaged and nothing else, says so, and never crashes its reader.
//!
//! Method: random damage to a sound capture of two CPUs: flipped bits, missing bytes and kilobytes, cut
//! tails, garbage. Every byte remembers where it came from, so which frames are untouched is known
//! without decoding. `NMIPROF_SEED` repeats a run; the seed is printed with every failure.

use std::collections::BTreeSet;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use nmiprof::capture::writer::{self, SyntheticSample, Writer};
use nmiprof::capture::{Capture, CaptureError, Decoder, Identity, Record, Sample};
use nmiprof::commands::{Error, Outcome, info, input::InputArgs};
use nmiprof_wire::{Aggregate, Frame, decode};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

const CASES: u32 = 400;
const CPUS: u16 = 2;
const SAMPLES: u64 = 3000;

/// When a sample was taken, where, and how many it stands for.
type Content = ((u64, u64), u64, u32);

/// One piece of damage. Positions are shares of the capture's length.
#[derive(Clone, Debug)]
enum Damage {
    FlipBit { at: prop::sample::Index, bit: u8 },
    Remove { at: prop::sample::Index, bytes: usize },
    CutTail { at: prop::sample::Index },
    Insert { at: prop::sample::Index, garbage: Vec<u8> },
    InsertBetweenFrames { at: prop::sample::Index, garbage: Vec<u8> },
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = || any::<prop::sample::Index>();
    let garbage = || prop::collection::vec(any::<u8>(), 1..3000);
    prop_oneof![
        4 => (at(), 0..8_u8).prop_map(|(at, bit)| Damage::FlipBit { at, bit }),
        3 => (at(), prop_oneof![Just(1), Just(1024)]).prop_map(|(at, bytes)| Damage::Remove { at, bytes }),
        1 => at().prop_map(|at| Damage::CutTail { at }),
        2 => (at(), garbage()).prop_map(|(at, garbage)| Damage::Insert { at, garbage }),
        2 => (at(), garbage()).prop_map(|(at, garbage)| Damage::InsertBetweenFrames { at, garbage }),
    ]
}

// case 64
#[test]
fn damage_costs_the_frames_that_it_touched_and_no_other() {
    damage_many_times(&sound_capture(Aggregate::Off));
}

// case 64
#[test]
fn damage_to_counted_samples_costs_the_tallies_that_it_touched_and_no_other() {
    damage_many_times(&sound_capture(Aggregate::On));
}

/// Damages a capture at random, and checks what is left of it.
fn damage_many_times(capture: &[u8]) {
    let seed = seed();
    println!("NMIPROF_SEED={seed} repeats this run");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("capture");
    let result = runner.run(&prop::collection::vec(damage(), 0..6), |damages| {
        let damaged = Damaged::new(capture, &damages);
        damaged.check_frames();
        damaged.check_record();
        fs::write(&file, &damaged.bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let input = InputArgs { input: file.clone(), vmlinux: None, programs: Vec::new() };
        damaged.check_exit_status(&info::Args { input, json: true });
        Ok(())
    });
    if let Err(error) = result {
        panic!("NMIPROF_SEED={seed}: {error}");
    }
}

fn seed() -> u64 {
    let given = std::env::var("NMIPROF_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    given.unwrap_or_else(now)
}

/// Writes a capture with call chains, repeated descriptions, counters on the way, and drops.
fn sound_capture(aggregate: Aggregate) -> Vec<u8> {
    let mut hello = writer::hello();
    hello.options.aggregate = aggregate;
    hello.cpus = CPUS;
    hello.options.chains = true;
    let mut writer = Writer::new(&hello).expect("a short Hello");
    for n in 0..SAMPLES {
        let callers = [0x1000, 0x2000 + n % 7 * 16, 0x3000 + n % 31 * 16];
        let sample = SyntheticSample {
            cpu: u16::try_from(n % 3 % 2).expect("0 or 1"),
            time: 100_003 * n,
            ip: 0x10_0000 + n * n % 977,
            callers: &callers,
            ..SyntheticSample::default()
        };
        writer.sample(&sample).expect("the CPU is there");
        if n % 500 == 499 {
            hello.time = sample.time;
            writer.flush().and_then(|()| writer.sync()).expect("frames of its own making");
            writer.frame(&Frame::Hello(hello.clone())).expect("a short Hello");
        }
    }
    writer.totals(1, |totals| {
        totals.overflows += 7;
        totals.dropped.ring_full = 7;
    });
    writer.end().expect("frames of its own making")
}

/// A frame of the sound capture that the damage did not touch.
struct Untouched {
    /// Where it begins now.
    offset: u64,
    /// Its bytes, without the ending zero.
    line: Vec<u8>,
}

impl Untouched {
    /// Hands the frame to `look`.
    fn look<T>(&self, look: impl FnOnce(&Frame<'_>) -> T) -> T {
        look(&decode(&mut self.line.clone()).expect("a frame of the sound capture"))
    }
}

/// A damaged capture, and what must be left of it.
struct Damaged {
    bytes: Vec<u8>,
    untouched: Vec<Untouched>,
    /// Stretches between zeros that are no untouched frames.
    touched: u64,
}

impl Damaged {
    fn new(capture: &[u8], damages: &[Damage]) -> Self {
        let mut stream: Vec<(u8, Option<usize>)> =
            capture.iter().enumerate().map(|(at, byte)| (*byte, Some(at))).collect();
        for damage in damages {
            apply(damage, &mut stream);
        }
        let bytes: Vec<u8> = stream.iter().map(|(byte, _)| *byte).collect();
        let (mut untouched, mut touched, mut offset) = (Vec::new(), 0, 0);
        for line in stream.split_inclusive(|(byte, _)| *byte == 0) {
            if is_untouched(capture, line) {
                let line = line[..line.len() - 1].iter().map(|(byte, _)| *byte).collect();
                untouched.push(Untouched { offset, line });
            } else if line.len() > 1 || line[0].0 != 0 {
                touched += 1;
            }
            offset += line.len() as u64;
        }
        Self { bytes, untouched, touched }
    }

    /// Every untouched frame is decoded where it is, and nothing else is.
    fn check_frames(&self) {
        let (mut decoder, mut input) = (Decoder::new(), &self.bytes[..]);
        let mut found = BTreeSet::new();
        while let Some(event) = decoder.next_frame(&mut input) {
            found.extend(event.map(|event| event.offset));
        }
        let expected: BTreeSet<u64> = self.untouched.iter().map(|frame| frame.offset).collect();
        assert_eq!(found, expected, "untouched frames, by offset");
    }

    /// Exactly the untouched samples arrive, and the accounts say how many did not.
    fn check_record(&self) {
        let mut arrived = vec![Vec::new(); usize::from(CPUS)];
        let read = self.open().and_then(|capture| {
            capture.read(|block| {
                arrived[usize::from(block.cpu)].extend(block.samples.iter().map(content));
                Ok::<(), CaptureError>(())
            })
        });
        assert_eq!(read.is_ok(), self.has_hello(), "a capture can be read if it says what it is");
        let Ok(record) = read else {
            return;
        };
        assert_eq!(arrived, self.sent_samples(), "the samples of the untouched blocks");
        // Where the first bytes and the first blocks are gone without another trace, it looks as if it was joined late.
        let heads = record.joined().map_or(0, |joined| u64::from(joined.head_bytes > 0));
        assert_eq!(record.damage().frames + heads, self.touched, "every damaged stretch is counted");
        for cpu in 0..CPUS {
            self.check_account(&record, cpu);
        }
        assert_eq!(record.accounts().identity(), self.identity());
    }

    fn check_account(&self, record: &Record, cpu: u16) {
        let account = &record.accounts().cpus()[usize::from(cpu)];
        let (balance, end) = (account.balance(), self.end_of(cpu));
        let sent = SAMPLES.div_ceil(3) * if cpu == 0 { 2 } else { 1 };
        assert!(balance.received + balance.link_lost <= sent, "never more than was sent: {balance:?}");
        if let Some((overflows, sent)) = end {
            let dropped = balance.dropped.total();
            assert_eq!(balance.received + balance.link_lost + dropped, overflows, "CPU {cpu}");
            assert_eq!(balance.received + balance.link_lost, sent, "CPU {cpu}");
        }
    }

    /// 0 if everything is accounted for, 1 if not, 2 if nothing says what the capture is.
    fn check_exit_status(&self, args: &info::Args) {
        let status = match info::run(args, &mut std::io::sink(), &mut std::io::sink()) {
            Ok(outcome) => outcome.exit_status(),
            Err(_) => Error::EXIT_STATUS,
        };
        let expected = match (self.has_hello(), self.identity()) {
            (false, _) => Error::EXIT_STATUS,
            (true, Identity::Holds) => Outcome::Good.exit_status(),
            (true, _) => Outcome::Findings.exit_status(),
        };
        assert_eq!(status, expected);
    }

    fn open(&self) -> Result<Capture, CaptureError> {
        Capture::from_reader("damaged", Box::new(std::io::Cursor::new(self.bytes.clone())))
    }

    fn has_hello(&self) -> bool {
        self.untouched.iter().any(|frame| frame.look(|frame| matches!(frame, Frame::Hello(_))))
    }

    fn identity(&self) -> Identity {
        if (0..CPUS).all(|cpu| self.end_of(cpu).is_some()) { Identity::Holds } else { Identity::Incomplete }
    }

    /// Returns the overflows and the sent samples of a CPU whose `End` survived.
    fn end_of(&self, cpu: u16) -> Option<(u64, u64)> {
        self.untouched.iter().find_map(|frame| {
            frame.look(|frame| match frame {
                Frame::End(totals) if totals.cpu == cpu => Some((totals.overflows, totals.sent)),
                _ => None,
            })
        })
    }

    /// Returns time and address of the samples in untouched blocks, by CPU.
    fn sent_samples(&self) -> Vec<Vec<Content>> {
        let mut sent = vec![Vec::new(); usize::from(CPUS)];
        for frame in &self.untouched {
            frame.look(|frame| match frame {
                Frame::Block(block) => {
                    let samples = block.samples().map(|sample| ((sample.time, sample.time), sample.ip, 1));
                    sent[usize::from(block.header.cpu)].extend(samples);
                }
                Frame::Tally(tally) => {
                    let span = (tally.first_time, tally.last_time);
                    let samples = tally.entries().map(|entry| (span, entry.ip, entry.samples));
                    sent[usize::from(tally.header.cpu)].extend(samples);
                }
                _ => {}
            });
        }
        sent
    }
}

fn content(sample: &Sample) -> Content {
    (sample.time.span(), sample.ip, sample.count)
}

fn apply(damage: &Damage, stream: &mut Vec<(u8, Option<usize>)>) {
    match damage {
        _ if stream.is_empty() => {}
        Damage::FlipBit { at, bit } => {
            let at = at.index(stream.len());
            stream[at] = (stream[at].0 ^ (1 << bit), None);
        }
        Damage::Remove { at, bytes } => {
            let at = at.index(stream.len());
            stream.drain(at..(at + bytes).min(stream.len()));
        }
        Damage::CutTail { at } => stream.truncate(at.index(stream.len())),
        Damage::Insert { at, garbage } => {
            let at = at.index(stream.len());
            stream.splice(at..at, garbage.iter().map(|byte| (*byte, None)));
        }
        Damage::InsertBetweenFrames { at, garbage } => {
            let mut starts = vec![0];
            starts
                .extend(stream.iter().enumerate().filter(|(_, (byte, _))| *byte == 0).map(|(at, _)| at + 1));
            let at = starts[at.index(starts.len())];
            stream.splice(at..at, garbage.iter().chain(&[0]).map(|byte| (*byte, None)));
        }
    }
}

/// Tells whether a line is a whole frame of the sound capture, byte for byte from one place.
fn is_untouched(capture: &[u8], line: &[(u8, Option<usize>)]) -> bool {
    let (Some((_, Some(first))), Some((0, Some(last)))) = (line.first(), line.last()) else {
        return false;
    };
    let is_in_order = line.iter().enumerate().all(|(n, (_, from))| *from == Some(first + n));
    is_in_order && first + line.len() == last + 1 && (*first == 0 || capture[first - 1] == 0)
}
