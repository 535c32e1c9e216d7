//! Several CPUs sample, each accounts for itself, and nothing claims what their shared clock can't give.
//!
//! Method: machines of one to eight CPUs. Under icount their ticks are instructions of any of them; the tests that say
//! so also run without, where the CPUs really run at the same time. Triggers of the self-test image set clocks wrong,
//! send NMIs to parked CPUs, and leave out what makes another CPU forget a page.

use std::ops::RangeInclusive;

use nmiprof::capture::{Balance, Identity};
use nmiprof::images::Image;
use nmiprof_tests::samples::{ChainedSample, samples};
use nmiprof_tests::shares::sample_counts_where;
use nmiprof_tests::{Boot, Completed, Failure, Verdict};
use nmiprof_wire::{ClockKind, CpuInfo};

/// How far `selftest=clock-skew` sets the clocks of other CPUs.
const SKEW_TICKS: i64 = -1_000_000_000_000;
/// NMIs of each kind that `selftest=parked` sends to each parked CPU.
const PARKED_NMIS: u64 = 200;

/// Checks what holds for every sound run, on each CPU, and returns the balances.
fn balances(run: &Completed, what: &str) -> Vec<Balance> {
    let accounts = run.record.accounts().cpus().iter().enumerate();
    let balances = accounts.map(|(cpu, account)| {
        let balance = account.balance();
        assert_eq!(account.identity(), Identity::Holds, "{what}, CPU {cpu}: {balance:?}");
        assert!(!account.is_nmi_inconsistent(), "{what}, CPU {cpu}: {balance:?}");
        assert_eq!(balance.dropped.fault, 0, "{what}, CPU {cpu}: {balance:?}");
        balance
    });
    let balances = balances.collect();
    let workloads = run.record.messages().workloads();
    assert!(workloads.iter().all(|workload| workload.steps > 0 && workload.wrong_results == 0), "{what}");
    balances
}

fn cpu_info(run: &Completed, cpu: u16) -> CpuInfo {
    *run.record.cpus().get(cpu).expect("the kernel describes every CPU")
}

fn times_of(samples: &[ChainedSample], cpu: u16) -> RangeInclusive<u64> {
    let times = || samples.iter().filter(|sample| sample.cpu == cpu).map(|sample| sample.time);
    times().min().expect("it has samples")..=times().max().expect("it has samples")
}

fn log_line<'a>(run: &'a Completed, start: &str) -> &'a str {
    let mut lines = run.record.messages().logs().iter().filter(|log| log.text.starts_with(start));
    &lines.next().unwrap_or_else(|| panic!("the kernel says `{start}`")).text
}

#[test]
fn cpus_that_share_a_clock_claim_no_instructions() {
    let boot =
        || Boot::image(Image::Main).append("workload=sort,irqs-off duration_ns=100000000 period=20011");
    let Some(alone) = boot().run().passed() else { return };
    let Some(two) = boot().cpus(2).run().passed() else { return };
    for (run, cpus, clock, event) in
        [(&alone, 1, ClockKind::Instructions, "instructions"), (&two, 2, ClockKind::Time, "virtual-clock")]
    {
        let received: Vec<u64> = balances(run, event).iter().map(|balance| balance.received).collect();
        assert!(received.len() == cpus && received.iter().all(|count| *count > 1000), "{received:?}");
        let info = run.record.run().expect("the run introduced itself");
        assert_eq!((info.clock, info.events[0].name.as_str()), (clock, event));
        assert_eq!(info.deterministic, cpus == 1);
        let workloads = run.record.messages().workloads();
        assert!(workloads.iter().all(|workload| workload.instructions_per_step.is_some() == (cpus == 1)));
    }
    let line = log_line(&two, "clock: ");
    assert!(line.contains("of any CPU, so a CPU's ticks are time"), "{line}");
}

#[test]
fn one_cpu_that_samples_while_all_others_are_parked_has_its_clock_for_itself() {
    let words = "cpu_list=0 workload=sort duration_ns=100000000 period=20011";
    let Some(run) = Boot::image(Image::Main).append(words).cpus(4).run().passed() else { return };
    balances(&run, words);
    let info = run.record.run().expect("the run introduced itself");
    assert_eq!((info.clock, info.events[0].name.as_str()), (ClockKind::Instructions, "instructions"));
    let times: Vec<u64> = samples(&run.capture).iter().map(|sample| sample.time).collect();
    let mut intervals: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    intervals.sort_unstable();
    let median = intervals[intervals.len() / 2];
    // Within the period and one run of the handler, but for page faults.
    let exact = intervals.iter().filter(|interval| **interval == median).count();
    assert!(times.len() > 4000 && exact * 100 >= intervals.len() * 95, "{exact} of {}", intervals.len());
}

#[test]
fn the_cpus_that_were_chosen_work_and_sample_and_no_others() {
    let words = "cpu_list=1-2 workload=sort duration_ns=50000000 period=20011";
    let Some(run) = Boot::image(Image::Main).append(words).cpus(4).run().passed() else { return };
    let received: Vec<u64> = balances(&run, words).iter().map(|balance| balance.received).collect();
    assert!(matches!(received[..], [0, first, second, 0] if first.min(second) > 1000), "{received:?}");
    let chosen: Vec<bool> = (0..4).map(|cpu| cpu_info(&run, cpu).samples).collect();
    assert_eq!(chosen, [false, true, true, false]);
    let refused = Boot::image(Image::Main).append("cpu_list=2").cpus(2).run();
    let Some(verdict) = refused.verdict() else { return };
    assert!(verdict.to_string().contains("the CPUs of this machine are 0 to 1"), "{verdict}");
}

#[test]
fn cpus_that_write_the_same_lines_lose_no_write() {
    for (boot, name) in [
        (Boot::image(Image::Main), "icount"),
        (Boot::image(Image::Main).without_icount().append("duration_ns=1000000000"), "time"),
    ] {
        let boot = boot.cpus(4).append("workload=shared chains=on period=20011");
        let boot = if name == "icount" { boot.append("duration_ns=50000000") } else { boot };
        let Some(run) = boot.run().passed() else { return };
        balances(&run, name);
        for cpu in 0..4 {
            let [adding] = sample_counts_where(&run, |sample| sample.cpu == cpu, ["workloads::shared::add"]);
            assert!(adding > 0, "{name}: CPU {cpu} adds");
        }
        let workload = &run.record.messages().workloads()[0];
        println!("{name}: {} steps of all CPUs", workload.steps);
        assert!(workload.name == "shared" && workload.steps >= 4, "{name}: {workload:?}");
    }
}

#[test]
fn a_write_to_a_shared_line_that_gets_lost_is_a_wrong_result() {
    // The CPUs have to run at the same time, at least for some of it.
    let words = "selftest=lost-writes workload=shared cpu_list=0-3 duration_ns=2000000000";
    let boot = Boot::image(Image::Selftest).append(words).cpus(4).without_icount();
    let Some(run) = boot.run().passed() else { return };
    let wrong = run.record.messages().workloads()[0].wrong_results;
    println!("{wrong} wrong results");
    assert!(wrong > 0);
}

#[test]
fn what_shows_something_on_several_cpus_only_runs_on_request_only() {
    let Some(run) = Boot::image(Image::Main).append("duration_ns=20000000").run().passed() else { return };
    let workloads = run.record.messages().workloads();
    assert!(workloads.len() > 4 && workloads.iter().all(|workload| workload.name != "shared"));
    let unknown = Boot::image(Image::Main).append("workload=share").run();
    let Some(verdict) = unknown.verdict() else { return };
    assert!(verdict.to_string().contains("irqs-off, shared"), "it is among the known ones: {verdict}");
}

#[test]
fn clocks_that_agree_are_found_to_agree() {
    for icount in [true, false] {
        let boot = Boot::image(Image::Main).append("workload=sort duration_ns=50000000").cpus(4);
        let boot = if icount { boot } else { boot.without_icount() };
        let Some(run) = boot.run().passed() else { return };
        for cpu in 0..4 {
            let info = cpu_info(&run, cpu);
            println!("icount {icount}: {info:?}");
            assert_eq!((info.cpu, info.clock_correction()), (cpu, 0), "{info:?}");
            assert!(cpu == 0 || info.clock_uncertainty > 0, "the question takes some time: {info:?}");
        }
    }
}

/// The samples' own times are right in this test, so whatever corrects them makes them wrong, and by how much.
#[test]
fn an_offset_between_clocks_is_measured_reported_and_taken_out_of_the_times() {
    for icount in [true, false] {
        let words = "selftest=clock-skew cpu_list=0-2 workload=sort duration_ns=200000000";
        let boot = Boot::image(Image::Selftest).append(words).cpus(3);
        let boot = if icount { boot } else { boot.without_icount() };
        let Some(run) = boot.run().passed() else { return };
        balances(&run, words);
        assert_eq!(cpu_info(&run, 0).clock_correction(), 0);
        let all = samples(&run.capture);
        let right = times_of(&all, 0);
        for cpu in [1, 2] {
            let info = cpu_info(&run, cpu);
            println!("icount {icount}: {info:?}");
            let error = info.clock_offset - SKEW_TICKS;
            assert!(error.unsigned_abs() <= info.clock_uncertainty, "{info:?}");
            assert!(info.clock_uncertainty < SKEW_TICKS.unsigned_abs() / 1000, "it says something: {info:?}");
            let shifted = times_of(&all, cpu);
            let [start, end] = [shifted.start(), shifted.end()]
                .map(|time| time.checked_add_signed(info.clock_offset).expect("a time after the start"));
            // Of one run, within what the start of a CPU takes: less than the shift by far.
            let [early, late] = [start.abs_diff(*right.start()), end.abs_diff(*right.end())];
            assert!(early.max(late) < SKEW_TICKS.unsigned_abs() / 100, "{shifted:?}, {right:?}, {info:?}");
        }
    }
}

// case 53
#[test]
fn parked_cpus_claim_their_nmis_count_those_that_are_nobodys_and_go_on() {
    for icount in [true, false] {
        let boot = Boot::image(Image::Selftest).append("selftest=parked period=20011").cpus(3);
        let boot = if icount { boot } else { boot.without_icount() };
        let Some(run) = boot.run().passed() else { return };
        let balances = balances(&run, "parked");
        let line = log_line(&run, "parked: ");
        assert!(line.ends_with("each of 2 CPUs; 2 still work"), "{line}");
        assert_eq!(balances[0].nmi.unknown, 0, "the others' NMIs are not CPU 0's: {:?}", balances[0].nmi);
        for balance in &balances[1..] {
            println!("{:?}", balance.nmi);
            assert_eq!((balance.overflows, balance.nmi.unknown), (0, PARKED_NMIS), "{balance:?}");
            assert!(balance.nmi.handled > PARKED_NMIS, "{balance:?}");
            assert_eq!(balance.nmi.runs, balance.nmi.handled + balance.nmi.unknown, "{balance:?}");
        }
    }
}

// cases 51, 53
#[test]
fn an_unknown_nmi_on_a_parked_cpu_stops_the_machine_where_that_is_the_policy() {
    let run = Boot::image(Image::Selftest).append("selftest=parked unknown=stop").cpus(2).run();
    let Some(verdict) = run.verdict() else { return };
    let Verdict::Fail(Failure::GaveUp(report)) = verdict else { panic!("{verdict}") };
    assert_eq!(report.cpu, 1, "{verdict}");
}

const DECOMMIT: &str =
    "workload=sort ring_bytes=65536 decommit=1 period=5003 duration_ns=60000000 cpu_list=0-1 chains=on";

#[test]
fn pages_of_another_cpus_ring_come_and_go_and_each_return_is_a_first_touch() {
    for icount in [true, false] {
        let boot = Boot::image(Image::Main).append(DECOMMIT).append("cpu_list=0-3").cpus(4);
        let boot = if icount { boot } else { boot.without_icount().append("duration_ns=400000000") };
        let Some(run) = boot.run().passed() else { return };
        for balance in balances(&run, DECOMMIT) {
            println!("{} pages decommitted, {:?}", balance.memory.decommitted, balance.dropped);
            assert!(balance.memory.decommitted > if icount { 16 } else { 0 }, "{balance:?}");
            let pages = balance.ring_pages + balance.memory.decommitted;
            assert_eq!(balance.nmi.first_touches, pages, "{balance:?}");
        }
    }
}

#[test]
fn a_page_that_its_cpu_was_not_made_to_forget_is_noticed() {
    let sound = Boot::image(Image::Selftest).append(DECOMMIT).append("selftest=").cpus(2).run();
    let Some(sound) = sound.passed() else { return };
    assert!(balances(&sound, "sound").iter().all(|balance| balance.memory.decommitted > 16));
    let run =
        Boot::image(Image::Selftest).append(DECOMMIT).append("selftest=decommit-no-flush").cpus(2).run();
    let Some(verdict) = run.verdict() else { return };
    println!("{verdict}");
    let Some(total) = run.record().map(|record| record.accounts().total()) else { return };
    let has_stale_pages = total.nmi.first_touches != total.ring_pages + total.memory.decommitted;
    assert!(!verdict.is_pass() || has_stale_pages, "{total:?}");
}

#[test]
fn a_cpu_that_halts_while_it_samples_takes_back_that_ticks_are_instructions() {
    let words = "selftest=idle period=20011 tick_hz=1000";
    let Some(run) = Boot::image(Image::Selftest).append(words).run().passed() else { return };
    let halts = balances(&run, words)[0].nmi.halts;
    let info = run.record.run().expect("the run introduced itself");
    assert!(halts > 0, "200 ticks with nothing to run");
    assert_eq!((info.clock, info.events[0].name.as_str()), (ClockKind::Time, "virtual-clock"));
    assert!(!info.deterministic);
}

#[test]
fn programs_never_let_the_cpu_halt_so_that_ticks_stay_instructions() {
    let boot = Boot::image(Image::Main).append("period=20011 duration_ns=20000000000");
    let boot = ["sieve 4 20", "tree 500 3", "split 100"].into_iter().fold(boot, Boot::user_program);
    let Some(run) = boot.run().passed() else { return };
    assert_eq!(balances(&run, "programs")[0].nmi.halts, 0);
    let info = run.record.run().expect("the run introduced itself");
    assert_eq!((info.clock, info.events[0].name.as_str()), (ClockKind::Instructions, "instructions"));
}
