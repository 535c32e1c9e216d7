//! Every NMI is accounted for, whoever raised it.
//!
//! Method: NMIs injected through QEMU's monitor, as fast as it takes them, while the kernel samples. They
//! arrive at the CPU's NMI pin, no handler claims them, and many merge; what counts is that the two
//! equations between the NMI counters, and the accounting identity, hold all the same.

use std::io::{BufRead as _, BufReader, Write as _};
use std::iter;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nmiprof::capture::Identity;
use nmiprof::images::Image;
use nmiprof_tests::{Boot, Failure, Run, Verdict};
use nmiprof_wire::FatalCause;

const INJECTED: u64 = 100_000;
/// Commands sent before their answers are read.
const AT_A_TIME: usize = 8;
const LIMIT: Duration = Duration::from_secs(180);
/// Injects NMIs for as long as the monitor is there; returns how many it confirmed.
fn inject(socket: &Path) -> u64 {
    let Ok(stream) = UnixStream::connect(socket) else { return 0 };
    let Ok(mut commands) = stream.try_clone() else { return 0 };
    let mut answers = BufReader::new(stream).lines().map_while(Result::ok);
    let mut ask = |command: &str, times: usize| {
        let line = format!("{{\"execute\":\"{command}\"}}\n");
        commands.write_all(line.repeat(times).as_bytes()).ok()?;
        let confirmed = answers.by_ref().filter(|answer| answer.contains("\"return\"")).take(times).count();
        (confirmed == times).then_some(times as u64)
    };
    if ask("qmp_capabilities", 1).is_none() {
        return 0;
    }
    // Several at a time: the monitor's answer is slower than the command.
    iter::from_fn(|| ask("inject-nmi", AT_A_TIME)).sum()
}

/// Boots, and injects from the moment at which the kernel samples. (Before it has an interrupt table, an NMI
/// would end the machine, as on any PC.)
fn run_with_injection(words: &str) -> (Run, u64) {
    let directory = tempfile::tempdir().expect("room for a socket");
    let socket = directory.path().join("monitor");
    let monitor = format!("unix:{},server=on,wait=off", socket.display());
    let (signal, sampling) = mpsc::channel();
    let injector = thread::spawn(move || sampling.recv().map_or(0, |()| inject(&socket)));
    let boot = Boot::image(Image::Main).append(words).qemu_arg("-qmp").qemu_arg(&monitor);
    let run = boot.limit(LIMIT).signal_sampling(signal).run();
    (run, injector.join().expect("the injector does not panic"))
}

// cases 45, 47, 51
#[test]
fn a_hundred_thousand_injected_nmis_are_accounted_for() {
    let (run, injected) = run_with_injection("duration_ns=14000000000 period=200003 stress=nest");
    let Some(run) = run.passed() else { return };
    let accounts = run.record.accounts();
    let nmi = accounts.total().nmi;
    println!("{injected} injected; {nmi:?}");
    assert!(injected >= INJECTED, "only {injected} injected");
    assert_eq!(accounts.identity(), Identity::Holds);
    assert!(!accounts.is_nmi_inconsistent(), "{nmi:?}");
    assert!(nmi.unknown > 100, "no handler claims them: {nmi:?}");
    assert!(nmi.unknown < injected, "they merge: {nmi:?}");
}

// case 51
#[test]
fn an_unknown_nmi_stops_the_machine_where_that_is_the_policy() {
    let (run, injected) = run_with_injection("duration_ns=3000000000 unknown=stop");
    let Some(verdict) = run.verdict() else { return };
    let Verdict::Fail(Failure::GaveUp(report)) = verdict else { panic!("{verdict}, {injected} injected") };
    assert_eq!(report.cause, FatalCause::Invariant);
    assert!(report.message.contains("unknown NMI"), "{}", report.message);
}
