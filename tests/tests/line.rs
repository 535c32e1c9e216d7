//! A line that is slow, stalled, cut, noisy or not listened to costs samples, each of them counted, and nothing else.
//!
//! Method: COM1 leads to a far end in this process, which reads as slowly as 115200 baud, stops reading, hangs up or
//! flips bits; QEMU's UART has no room while it does not read. The kernel samples far more than such a line carries. What
//! was forced is proven by the far end's own account: how many bytes in which second, from when to when nothing was
//! read, which bits. That workloads go on is shown by their steps, against a run whose line takes everything.

use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nmiprof::capture::{Balance, Identity, Record};
use nmiprof::images::Image;
use nmiprof_tests::far_end::{Account, BYTES_PER_SECOND, Deed};
use nmiprof_tests::monitor::Monitor;
use nmiprof_tests::samples::samples;
use nmiprof_tests::{Boot, Completed, Failure, FarEnd, Run, Verdict, qemu};

/// As many samples as a far end takes that reads at once.
const DENSE: &str = "period=50000 ring_bytes=65536";
/// More samples than 115200 baud carry, on a slow host as well, and a small ring.
const TOO_DENSE: &str = "period=10000 ring_bytes=8192";

/// Lets one test at a time measure: time is time here, and two machines would hold each other up.
fn alone() -> MutexGuard<'static, ()> {
    static MEASURING: Mutex<()> = Mutex::new(());
    MEASURING.lock().unwrap_or_else(PoisonError::into_inner)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn dense(far_end: FarEnd, length: Duration) -> Boot {
    let duration = format!("duration_ns={}", length.as_nanos());
    Boot::image(Image::Main).append(DENSE).append(&duration).far_end(far_end)
}

fn balance(record: &Record) -> Balance {
    record.accounts().cpus()[0].balance()
}

/// Checks that every overflow is a sample here, a counted drop, or a counted loss.
fn check_identity(record: &Record) -> Balance {
    let balance = balance(record);
    let Balance { overflows, received, dropped, link_lost, .. } = balance;
    println!("{overflows} overflows = {received} received + {} dropped + {link_lost} lost", dropped.total());
    assert_eq!(record.accounts().identity(), Identity::Holds, "{balance:?}");
    assert_eq!(overflows, received + dropped.total() + link_lost);
    assert_eq!(dropped.total(), dropped.ring_full, "for no other reason");
    balance
}

/// Returns the only thing that the far end did.
fn only_deed(account: &Account, deed: Deed) -> (Duration, Duration) {
    let [(done, from, to)] = account.done[..] else { panic!("{:?}", account.done) };
    assert_eq!(done, deed);
    (from, to)
}

fn clock_hz(record: &Record) -> u64 {
    record.run().expect("a description").clock_hz
}

/// Returns the work that was done.
fn steps(record: &Record) -> u64 {
    let workloads = record.messages().workloads();
    assert!(workloads.iter().all(|workload| workload.wrong_results == 0));
    workloads.iter().map(|workload| workload.steps).sum()
}

/// Checks that the workloads did at least half of what they do while a far end takes everything: much less would be left
/// if they waited for the line, which has no room for most of the time.
fn check_steps(run: &Completed, length: Duration, words: &str) {
    let Some(free) = dense(FarEnd::fast(), length).append(words).run().passed() else { return };
    let (held_up, free) = (steps(&run.record), steps(&free.record));
    println!("{held_up} steps with this line, {free} with one that takes everything");
    assert!(held_up * 2 > free, "{held_up} steps of {free}");
}

/// Checks that a paced line had hardly an idle moment while there was sampling, and no more on it than it carries.
fn check_use(far: &Account, length: Duration) {
    let line = f64::from(BYTES_PER_SECOND);
    let fastest_pct = 100.0 * far.bytes_per_second_max() as f64 / line;
    assert!(fastest_pct < 115.0, "{fastest_pct:.1} % in one second: the far end did not keep its pace");
    // It boots before that, and sends what is left after it.
    let (from, to) = (seconds(2), length);
    let used_pct = 100.0 * far.bytes_between(from, to) as f64 / (line * (to - from).as_secs_f64());
    println!(
        "{used_pct:.2} % of the line used from {from:?} to {to:?}; {fastest_pct:.1} % in the fastest second"
    );
    assert!(far.last_byte() > to, "{:?}", far.last_byte());
    assert!((95.0..102.0).contains(&used_pct), "{used_pct:.2} %");
}

/// Checks that there is one gap between the samples, of about this length, and that as many are missing there as at the
/// rate of all others: sampling went on.
fn check_gap(run: &Completed, missing: u64, length: Duration) {
    let times: Vec<f64> = samples(&run.capture)
        .iter()
        .map(|sample| sample.time as f64 / clock_hz(&run.record) as f64)
        .collect();
    let mut intervals: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    intervals.sort_by(f64::total_cmp);
    let [.., next, gap] = intervals[..] else { panic!("samples") };
    let span = times.last().expect("samples") - times[0];
    let (inside, outside) = (missing as f64 / gap, times.len() as f64 / (span - gap));
    println!(
        "a gap of {gap:.3} s (the next is {next:.3} s): {inside:.0} samples a second in it, {outside:.0} else"
    );
    let lacks = (length.as_secs_f64() - gap).abs() / length.as_secs_f64();
    assert!(lacks < 0.6 && next < gap / 4.0, "{gap} s, then {next} s");
    assert!((outside / 3.0..outside * 3.0).contains(&inside), "{inside} and {outside}");
}

fn line_log(record: &Record) -> &str {
    let logs = record.messages().logs();
    &logs.iter().find(|log| log.text.starts_with("line: ")).expect("the line introduces itself").text
}

// case 64
#[test]
fn a_line_of_115200_baud_is_never_idle_while_the_ring_overflows_and_every_drop_is_counted() {
    let _alone = alone();
    const LENGTH: Duration = seconds(8);
    let Some(run) = dense(FarEnd::paced(), LENGTH).append(TOO_DENSE).run().passed() else { return };
    check_use(&run.far, LENGTH);
    assert_eq!(run.record.damage().frames, 0, "every byte is part of a frame");
    let balance = check_identity(&run.record);
    assert_eq!(balance.link_lost, 0, "what was sent has arrived");
    assert!(balance.dropped.ring_full > balance.received / 4, "the ring did overflow");
    // A busy host may hold up QEMU for some tenths of a second.
    let stall_ticks_max = run.record.line().expect("its counters").stall_ticks_max;
    assert!(stall_ticks_max < clock_hz(&run.record), "slow is no stall: {stall_ticks_max} ticks");
    check_steps(&run, LENGTH, TOO_DENSE);
}

// Thread 0 looks at the line at each tick, every 50 ms; what leaves in between, leaves by the interrupt.
#[test]
fn the_uarts_interrupt_keeps_the_line_busy_between_two_ticks() {
    let _alone = alone();
    const LENGTH: Duration = seconds(6);
    const BETWEEN: &str = "period=10000 tick_hz=20";
    let boot = dense(FarEnd::paced(), LENGTH).append(BETWEEN).user_program("sieve 6 1000000");
    let Some(run) = boot.run().passed() else { return };
    check_use(&run.far, LENGTH);
    assert_eq!(run.record.damage().frames, 0);
    assert_eq!(check_identity(&run.record).link_lost, 0);
    let line = run.record.line().expect("the line's counters");
    println!("{} of {} bytes left by the interrupt", line.interrupt_bytes, line.bytes);
    assert!(line.interrupt_bytes > line.bytes / 4, "{line:?}");
    let from_user = samples(&run.capture).iter().filter(|sample| sample.process > 0).count() as u64;
    assert!(from_user > run.record.samples() / 2, "the program did run: {from_user}");
}

// case 64
#[test]
fn a_line_that_stalls_for_seconds_costs_the_samples_of_these_seconds() {
    let _alone = alone();
    const LENGTH: Duration = seconds(7);
    const STALL: Duration = seconds(5);
    let Some(run) = dense(FarEnd::fast().stalls(seconds(1), STALL), LENGTH).run().passed() else { return };
    let (from, to) = only_deed(&run.far, Deed::Stall);
    assert!(to - from >= STALL);
    assert_eq!(run.far.bytes_between(from, to), 0, "nothing was read meanwhile");
    assert_eq!(run.record.damage().frames, 0);
    let balance = check_identity(&run.record);
    assert_eq!(balance.link_lost, 0);
    check_gap(&run, balance.dropped.ring_full, STALL);
    let line = run.record.line().expect("the line's counters");
    let stall_ms = line.stall_ticks_max * 1000 / clock_hz(&run.record);
    println!("{} stalls, the longest {stall_ms} ms; {} frames dropped", line.stalls, line.frames_dropped);
    assert!(line.stalls >= 1 && (4500..6000).contains(&stall_ms), "{line:?}");
    assert_eq!(line.frames_dropped, 0, "there was room for what is no sample");
    check_steps(&run, LENGTH, DENSE);
}

// case 64
#[test]
fn a_line_that_is_cut_and_returns_goes_on_with_what_is_sampled_then() {
    let _alone = alone();
    const LENGTH: Duration = seconds(6);
    const CUT: Duration = seconds(2);
    let boot = dense(FarEnd::fast().cuts(seconds(2), CUT), LENGTH).append("chains=on");
    let Some(run) = boot.run().passed() else { return };
    let (from, to) = only_deed(&run.far, Deed::Cut);
    assert!(to - from >= CUT);
    assert_eq!(run.far.connections, 2);
    let balance = check_identity(&run.record);
    assert_eq!(balance.dropped.ring_full, 0, "a UART sends into nothing as fast as ever");
    check_gap(&run, balance.link_lost, CUT);
    let damage = run.record.damage();
    assert!(damage.frames <= 2, "the frames that were cut, and nothing else: {damage:?}");
    let samples = samples(&run.capture);
    assert!(samples.windows(2).all(|pair| pair[0].time < pair[1].time), "none came twice");
    let last_second = samples.last().expect("samples").time - clock_hz(&run.record);
    let late: Vec<_> = samples.iter().filter(|sample| sample.time > last_second).collect();
    let with_callers = late.iter().filter(|sample| !sample.callers.is_empty()).count();
    assert!(with_callers * 10 > late.len() * 9, "chains are defined anew: {with_callers} of {}", late.len());
}

// case 64
#[test]
fn flipped_bits_cost_the_frames_that_they_are_in() {
    let _alone = alone();
    let seed = std::env::var("NMIPROF_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(64);
    println!("NMIPROF_SEED={seed} repeats the flips, by byte");
    let far_end = FarEnd::fast().flips(seed, 2_000, seconds(3));
    let Some(run) = dense(far_end, seconds(4)).run().passed() else { return };
    let flips = run.far.flipped.len();
    println!("{flips} bits flipped in {} bytes", run.far.sent.len());
    assert!(flips >= 10, "{flips}");
    let different = run.far.sent.iter().zip(&run.capture).filter(|(sent, came)| sent != came).count();
    assert_eq!((run.far.sent.len(), different), (run.capture.len(), flips), "and nothing else has changed");
    let damage = run.record.damage();
    // A flip may end a frame early (two stretches) or join two (one); several may hit one frame.
    assert!((1..=2 * flips as u64).contains(&damage.frames), "{damage:?}");
    let balance = check_identity(&run.record);
    let (sent, came) = (samples(&run.far.sent), samples(&run.capture));
    assert_eq!(balance.link_lost, (sent.len() - came.len()) as u64, "exactly those that did not come");
    assert!(balance.link_lost > 0);
    let mut sent = sent.iter();
    assert!(came.iter().all(|sample| sent.any(|other| other == sample)), "and those that came are right");
}

/// Checks that a kernel whose line stopped for good has ended by itself, and not at once.
fn check_ended_alone(run: &Run, length: Duration) {
    assert_eq!(run.verdict, Verdict::Fail(Failure::NoToken), "it left, and the line has no end");
    let elapsed = run.far.as_ref().map_or(Duration::ZERO, |far| far.elapsed);
    println!("ended after {elapsed:?}");
    assert!(elapsed < length + seconds(20), "{elapsed:?}");
}

// case 64
#[test]
fn a_line_that_never_returns_ends_the_run_all_the_same() {
    let _alone = alone();
    const LENGTH: Duration = seconds(3);
    let run = dense(FarEnd::fast().stalls(seconds(1), seconds(600)), LENGTH).run();
    if run.verdict().is_none() {
        return;
    }
    check_ended_alone(&run, LENGTH);
    let (from, to) = only_deed(run.far.as_ref().expect("a far end"), Deed::Stall);
    assert!(to - from > LENGTH, "the kernel waited for it: {:?}", to - from);
    let record = run.record().expect("a machine ran");
    let balance = balance(record);
    assert_eq!(record.accounts().identity(), Identity::Incomplete);
    assert_eq!(balance.received, samples(&run.capture).len() as u64);
    assert!(balance.received > 0 && balance.link_lost == 0, "nothing that was sent is missing in between");
}

/// COM1's modem control, and what it holds in the kernel's use: DTR, RTS, and the gate of its interrupt.
const MODEM_CONTROL: (u16, u8) = (0x3fc, 0b0_1011);
/// The same in loopback and without RTS, which then is CTS: what a far end does that does not listen.
const DEAF: u8 = 0b1_1001;

// case 64
#[test]
fn a_far_end_that_is_not_ready_stops_the_line_until_it_is() {
    let _alone = alone();
    const LENGTH: Duration = seconds(7);
    const DEAF_FOR: Duration = seconds(4);
    if let Err(skip) = qemu() {
        return skip.register();
    }
    let directory = tempfile::tempdir().expect("room");
    let monitor = Monitor::in_directory(directory.path());
    let [flag, value] = monitor.qemu_args();
    let (sampling, samples_now) = channel();
    let boot = dense(FarEnd::fast(), LENGTH).append("rts_cts=on").qemu_arg(&flag).qemu_arg(&value);
    let boot = boot.signal_sampling(sampling);
    let run = thread::scope(|scope| {
        let machine = scope.spawn(|| boot.run());
        samples_now.recv().expect("it samples");
        let mut session = monitor.connect();
        thread::sleep(seconds(1));
        session.write_port(MODEM_CONTROL.0, DEAF);
        let start = Instant::now();
        thread::sleep(DEAF_FOR);
        session.write_port(MODEM_CONTROL.0, MODEM_CONTROL.1);
        assert!(start.elapsed() >= DEAF_FOR);
        machine.join().expect("the harness does not panic")
    });
    let Some(run) = run.passed() else { return };
    assert!(line_log(&run.record).ends_with(", RTS/CTS"), "{}", line_log(&run.record));
    let balance = check_identity(&run.record);
    check_gap(&run, balance.dropped.ring_full, DEAF_FOR);
    let line = run.record.line().expect("the line's counters");
    assert!(line.stalls >= 1 && line.stall_ticks_max > clock_hz(&run.record) * 3, "{line:?}");
    // A burst that was under way when the far end said so is the one thing that can be hit.
    assert!(run.record.damage().frames <= 1, "{:?}", run.record.damage());
}

/// Returns QEMU arguments that lay a device over a register of COM1: it reads as `value` and ignores what is written.
fn overlaid(register: u16, value: u8) -> [String; 4] {
    let device = format!("isa-debugcon,iobase={:#x},readback={value:#x},chardev=over", 0x3f8 + register);
    ["-chardev", "null,id=over", "-device", &device].map(str::to_owned)
}

fn with_overlay(boot: Boot, register: u16, value: u8) -> Boot {
    overlaid(register, value).iter().fold(boot, |boot, arg| boot.qemu_arg(arg))
}

// case 64
#[test]
fn a_far_end_that_is_never_ready_is_given_up() {
    let _alone = alone();
    const MODEM_STATUS: u16 = 6;
    const LENGTH: Duration = seconds(1);
    let boot = with_overlay(dense(FarEnd::fast(), LENGTH).append("rts_cts=on"), MODEM_STATUS, 0);
    let start = Instant::now();
    let run = boot.run();
    if run.verdict().is_none() {
        return;
    }
    check_ended_alone(&run, LENGTH);
    assert!(start.elapsed() > LENGTH + seconds(4), "it was waited for: {:?}", start.elapsed());
    assert!(run.capture.is_empty(), "{} bytes came", run.capture.len());
}

#[test]
fn a_burst_is_as_long_as_the_fifo_that_is_found_and_not_as_the_one_that_is_announced() {
    let _alone = alone();
    const IDENTIFICATION: u16 = 2;
    // The last three never switch QEMU's FIFO on: the register that does it is hidden.
    let identifications = [
        (None, "a FIFO of 16 bytes,"),
        (Some(0x01), "no FIFO,"),
        (Some(0xc1), "a FIFO of 16 bytes announced and 1 found,"),
        (Some(0xe1), "a FIFO of 64 bytes announced and 1 found,"),
    ];
    for (identification, found) in identifications {
        let boot = dense(FarEnd::paced(), seconds(1));
        let boot = match identification {
            Some(value) => with_overlay(boot, IDENTIFICATION, value),
            None => boot,
        };
        let Some(run) = boot.run().passed() else { return };
        assert!(line_log(&run.record).contains(found), "{}", line_log(&run.record));
        assert_eq!(run.record.damage().frames, 0, "{found} no byte overran another");
        assert_eq!(check_identity(&run.record).link_lost, 0, "{found}");
    }
}

#[test]
fn the_rate_is_what_the_uart_was_told_and_one_that_it_cannot_make_is_refused() {
    let _alone = alone();
    const TRACE: [&str; 2] = ["-trace", "serial_update_parameters"];
    let boot = || TRACE.iter().fold(Boot::image(Image::Main), |boot, arg| boot.qemu_arg(arg));
    // QEMU's UART has the usual clock: what it sees of a faster one is the divisor.
    for (words, divisor, seen) in [
        ("baud=115200", 1, 115_200),
        ("baud=9600", 12, 9_600),
        ("baud=460800 uart_hz=14745600", 2, 57_600),
        ("baud=113000", 1, 115_200),
    ] {
        let run = boot().append("duration_ns=10000000").append(words).run();
        let last = run.stderr().lines().rfind(|line| line.contains("baudrate=")).map(str::to_owned);
        let Some(run) = run.passed() else { return };
        assert!(line_log(&run.record).contains(&format!("(divisor {divisor})")), "{}", line_log(&run.record));
        let last = last.expect("QEMU traces what the UART is told");
        assert!(last.contains(&format!("baudrate={seen} ")), "{words}: {last}");
    }
    for (words, nearest) in [("baud=100000", "115200 or 57600"), ("baud=921600", "115200")] {
        let run = boot().append(words).run();
        let Some(verdict) = run.verdict() else { return };
        let Verdict::Fail(Failure::GaveUp(report)) = verdict else { panic!("{verdict}") };
        assert!(report.message.contains(&format!("no nearer than {nearest};")), "{}", report.message);
    }
}
