//! Goal: user code is told from the kernel's, by counters that count one of the two and by the samples.
//!
//! Method: a program with a known split of its time runs in ring 3, by SYSCALL, SYSRET, `iret` and the tick of the
//! interval timer. What counters of user code and of the kernel count is compared with the machine's own counts by
//! privilege level; shares of the samples of user code with the machine's counts per address.

use nmiprof::images::Example;
use nmiprof_pc::harness::{Run, config, run};
use nmiprof_pc::{Attribution, Config};
use nmiprof_pmu::profiles::{Profile, SKYLAKE, ZEN2, ZEN4};
use nmiprof_program::archive;

const KERNEL_HALF: u64 = 1 << 63;
/// What the counters miss while the handler has stopped them.
const COUNT_TOLERANCE: f64 = 0.02;

fn program(words: &[&str]) -> Vec<u8> {
    let example = Example::find(words[0]).expect("an embedded program");
    let mut module = Vec::new();
    archive::push(&mut module, 0, words, example.elf).expect("sound arguments");
    archive::finish(&mut module).expect("it fits");
    module
}

fn split(profile: &'static Profile, words: &str) -> Run {
    let module = program(&["split", "60"]);
    let run = run(&Config { module, attribution: Attribution::Next, ..config(profile, words) });
    run.assert_sound(&format!("{} {words}", profile.id));
    run
}

#[test]
fn samples_of_user_code_fall_into_user_code_and_the_kernels_into_the_kernel() {
    for profile in [&SKYLAKE, &ZEN2, &ZEN4] {
        let run = split(profile, "duration_ns=2000000000 period=997 events=instructions:u,instructions:k");
        let of = |event| run.samples.iter().filter(move |sample| sample.event == event);
        assert!(of(0).count() > 300, "{}: {} user samples", profile.id, of(0).count());
        assert!(of(0).all(|sample| sample.process != 0), "{}: in the process", profile.id);
        // A kernel's event may overflow in the last instructions of the handler, with NMIs masked: its sample then falls
        // on the first instruction after the `iret`, in user code. A user's event can't.
        let strays = of(0).filter(|sample| sample.ip >= KERNEL_HALF).count();
        let delayed = of(1).filter(|sample| sample.ip < KERNEL_HALF).count();
        println!(
            "{}: {} and {} samples, {strays} astray, {delayed} delayed",
            profile.id,
            of(0).count(),
            of(1).count()
        );
        assert_eq!(strays, 0, "{}: user events in the kernel", profile.id);
        // How many depends on the handler's length and the period: most of the kernel's events here are the handler's own.
        assert!(delayed * 4 <= of(1).count(), "{}: kernel events in user code", profile.id);
    }
}

#[test]
fn counters_of_each_level_count_what_the_machine_counted_there() {
    for profile in [&SKYLAKE, &ZEN2, &ZEN4] {
        let run = split(profile, "duration_ns=2000000000 job=stat events=instructions:u,branches:u");
        let user = run.machine.watch().totals[0];
        let counts = [0, 1].map(|event| run.record.pmu().total(event).expect("counted").count);
        println!("{}: {counts:?} of {} and {}", profile.id, user.instructions, user.branches);
        for (counted, truth) in counts.into_iter().zip([user.instructions, user.branches]) {
            let off = (counted as f64 - truth as f64).abs() / truth as f64;
            assert!(off <= COUNT_TOLERANCE, "{}: {counted} of {truth}", profile.id);
        }
    }
}

#[test]
fn samples_of_user_code_have_the_shares_of_what_was_executed_there() {
    let run = split(&SKYLAKE, "duration_ns=2000000000 period=499 events=instructions:u");
    let pages = |address: u64| address >> 6;
    let user: Vec<_> =
        run.samples.iter().filter(|sample| sample.ip < KERNEL_HALF).map(|sample| pages(sample.ip)).collect();
    let counted: Vec<_> =
        run.machine.watch().sites.counted().filter(|(_, address, _)| *address < KERNEL_HALF).collect();
    let all: u64 = counted.iter().map(|(_, _, counts)| counts.instructions).sum();
    let mut places: Vec<_> = counted.iter().map(|(_, address, _)| pages(*address)).collect();
    places.sort_unstable();
    places.dedup();
    for place in places {
        let here: u64 = counted
            .iter()
            .filter(|(_, address, _)| pages(*address) == place)
            .map(|(_, _, counts)| counts.instructions)
            .sum();
        let share = here as f64 / all as f64;
        let seen = user.iter().filter(|other| **other == place).count() as f64 / user.len() as f64;
        let bound = 4.0 * (share * (1.0 - share) / user.len() as f64).sqrt() + 0.002;
        assert!(
            (seen - share).abs() <= bound,
            "{:#x}: {seen:.4} of the samples, {share:.4} of {all}",
            place << 6
        );
    }
    assert!(user.len() > 500, "{} samples", user.len());
}
