//! Goal: an NMI that comes late, by any number of instructions, is known, and no sample is lost or doubled by it.
//!
//! Method: the machine is stopped shortly before an overflow. From there the run is repeated, each time with the NMI of
//! that overflow held up for one boundary more between the local APIC and the CPU, and each time to its end. Where the
//! counters overflow alone, it comes while nothing else happens; where another one overflows soon after, it comes in
//! that one's handler, at every instruction of it, and after it; where the run ends, after its counter was stopped.
//! `NMIPROF_SWEEP=full` tries every delay, in place of every 29th or so.

use std::env;

use nmiprof_pc::harness::{LIMIT, Run, config, finish};
use nmiprof_pc::watch::Watch;
use nmiprof_pc::{Access, Config, IretFault, Machine, Stopped};
use nmiprof_pmu::model::Privilege;
use nmiprof_pmu::profiles::{Profile, SKYLAKE, ZEN2, ZEN4};

const WORKLOAD: &str = "nmiprof_kernel::workloads::sort::insertion_sort";
const NMI: &str = "nmi_rostedt";
const PERIOD: u64 = 5003;
/// Longer than a handler, and shorter than a period: in a longer one a counter overflows twice.
const DELAY_MAX: u64 = 4800;
/// Delays after which an NMI of a stopped counter is known for sure: thousands of instructions later the kernel has
/// taken its sampler back, which knew what was stopped, and an NMI is unknown then.
const KNOWN_BOUNDARIES: u64 = 2 * PERIOD;
/// Boundaries to run from one look at the PMU to the next.
const LOOK_BOUNDARIES: u64 = 50;

/// Starts and stops the counters of Skylake.
const GLOBAL_CONTROL: Access = Access::Write(0x38f);

/// What a run is judged by.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    runs: u64,
    /// NMIs that were claimed as late.
    late: u64,
    swallowed: u64,
    /// NMIs that arrived in another one.
    nested: u64,
    samples: u64,
}

/// Brings a machine to its workload, sampling.
fn sampling(profile: &'static Profile, words: &str) -> Machine {
    let words = format!("duration_ns=3000000 workload=sort {words}");
    let mut machine = Machine::new(&Config { memory_mib: 24, ..config(profile, &words) });
    while machine.watch().pmu.model().running().is_empty() {
        assert_eq!(machine.run_to_symbol(WORKLOAD, LIMIT), Stopped::Label, "{words}");
    }
    machine
}

/// Runs a machine on to at most so many boundaries before the PMU's NMI that is the `number`th from here on.
fn run_to_before_overflow(machine: &mut Machine, number: u64) {
    let (snapshot, target) = (machine.snapshot(), machine.watch().pmis + number);
    let mut before = machine.instructions();
    loop {
        assert_eq!(machine.run(LOOK_BOUNDARIES), Stopped::Limit, "it samples");
        if machine.watch().pmis >= target {
            break;
        }
        before = machine.instructions();
    }
    machine.go_back(&snapshot);
    while machine.instructions() < before {
        assert_eq!(machine.run(before - machine.instructions()), Stopped::Limit);
    }
}

/// Repeats the run from here on, with each of these delays.
fn sweep(what: &str, mut machine: Machine, delays: impl Iterator<Item = u64>) -> Seen {
    let snapshot = machine.snapshot();
    let mut seen = Seen::default();
    for boundaries in delays {
        machine.watch_mut().hold_next_pmi = Some(boundaries);
        let run = finish(machine);
        seen.add(&run, &format!("{what}, late by {boundaries}"));
        machine = run.machine;
        machine.go_back(&snapshot);
    }
    println!("{what}: {seen:?}");
    seen
}

impl Seen {
    /// Judges a run, and its samples.
    fn add(&mut self, run: &Run, what: &str) {
        self.judge(run, what);
        for (event, total) in (0..).map_while(|event| Some((event, run.record.pmu().total(event)?))) {
            let samples = run.samples.iter().filter(|sample| sample.event == event).count() as u64;
            assert_eq!(samples, total.overflows, "{what}: {total:?}");
            let periods = total.count / PERIOD;
            assert!(samples <= periods && periods <= samples + 1, "{what}: {samples} samples, {total:?}");
            self.samples += samples;
        }
    }

    fn judge(&mut self, run: &Run, what: &str) {
        run.assert_sound(what);
        let nmi = run.nmi();
        assert_eq!(nmi.unknown, 0, "{what}: {nmi:?}");
        self.runs += 1;
        self.late += run.record.pmu().counters().map(|counters| counters.late).sum::<u64>();
        self.swallowed += nmi.swallowed;
        self.nested += nmi.nested;
    }
}

/// Every delay up to some, and then each `stride`th; all with `NMIPROF_SWEEP=full`.
fn delays(stride: usize) -> impl Iterator<Item = u64> {
    let is_full = env::var_os("NMIPROF_SWEEP").is_some_and(|value| value == "full");
    (0..60).chain((60..DELAY_MAX).step_by(if is_full { 1 } else { stride }))
}

/// Brings a machine to before an overflow that another one follows within a few instructions.
fn before_two(profile: &'static Profile, words: &str) -> Machine {
    let events = [PERIOD, PERIOD + 6].map(|period| format!("instructions/period={period}/"));
    let mut machine = sampling(profile, &format!("events={} {words}", events.join(",")));
    run_to_before_overflow(&mut machine, 5);
    machine
}

#[test]
fn an_nmi_that_comes_late_samples_its_overflow_all_the_same() {
    for profile in [&SKYLAKE, &ZEN2, &ZEN4] {
        let mut machine = sampling(profile, &format!("events=instructions/period={PERIOD}/"));
        run_to_before_overflow(&mut machine, 5);
        let seen = sweep(profile.id, machine, delays(29));
        // Now and then the tick's NMI, or an order's, has come before it.
        assert!(seen.late + seen.swallowed < seen.runs / 4, "{}: {seen:?}", profile.id);
    }
}

// cases 44, 52, 54
#[test]
fn an_nmi_whose_overflow_another_one_has_found_is_known_in_its_handler_and_after_it() {
    for profile in [&SKYLAKE, &ZEN2, &ZEN4] {
        let seen = sweep(&format!("{}, two", profile.id), before_two(profile, ""), delays(29));
        if profile.is_intel() {
            // The second one's NMI never came: the entry is masked.
            assert!(seen.late + seen.swallowed < seen.runs / 4, "{}: {seen:?}", profile.id);
        } else {
            // Those in the handler are swallowed, as other empty ones are; those after it are claimed.
            assert!(seen.late > seen.runs / 4, "{}: {seen:?}", profile.id);
        }
    }
}

// cases 44, 52
#[test]
fn a_late_nmi_breaks_no_sound_entry_at_any_instruction_of_anothers_handler() {
    for entry in ["rostedt", "latched", "softmask", "tristate"] {
        for iret_fault in [IretFault::Unmasks, IretFault::Keeps] {
            let mut machine = before_two(&ZEN4, &format!("nmi={entry} unmask=early"));
            machine.watch_mut().iret_fault = iret_fault;
            let seen = sweep(&format!("{entry} {iret_fault:?}"), machine, delays(41));
            assert!(seen.nested > seen.runs / 4, "{entry} {iret_fault:?}: {seen:?}");
        }
    }
}

// cases 52, 57
#[test]
fn an_nmi_that_comes_after_its_counter_was_stopped_is_known() {
    for profile in [&SKYLAKE, &ZEN2, &ZEN4] {
        let mut machine = sampling(profile, &format!("events=instructions/period={PERIOD}/"));
        let before = machine.watch().pmis;
        let last = finish(machine.fork()).machine.watch().pmis - before;
        run_to_before_overflow(&mut machine, last);
        let seen = sweep(&format!("{}, the last", profile.id), machine, (0..KNOWN_BOUNDARIES).step_by(101));
        assert!(seen.late > 0, "{}: {seen:?}", profile.id);
    }
}

/// Counts the instructions up to the one after which this number changes.
fn instructions_until(machine: &mut Machine, number: fn(&Watch) -> u64) -> u64 {
    let (snapshot, before, start) = (machine.snapshot(), number(machine.watch()), machine.instructions());
    while number(machine.watch()) == before {
        assert_eq!(machine.step(), Stopped::Limit, "it samples");
    }
    let instructions = machine.instructions() - start;
    machine.go_back(&snapshot);
    instructions
}

/// Brings a machine to before the last overflow before the thread orders the counters to stop; returns how many
/// instructions lie between that overflow and the NMI that is sent for the order, where nothing comes between them.
fn before_order(machine: &mut Machine) -> u64 {
    let (snapshot, before, sent) = (machine.snapshot(), machine.watch().pmis, machine.watch().own_nmis);
    while machine.watch().own_nmis == sent {
        assert_eq!(machine.run(LOOK_BOUNDARIES), Stopped::Limit, "it samples");
    }
    let overflows = machine.watch().pmis - before;
    machine.go_back(&snapshot);
    run_to_before_overflow(machine, overflows);
    let overflow = instructions_until(machine, |watch| watch.pmis);
    machine.watch_mut().hold_next_pmi = Some(LIMIT);
    instructions_until(machine, |watch| watch.own_nmis) - overflow
}

/// Lets the NMI of the PMU come that is held up, and another overflow while its handler returns, of which the order's
/// obedience in the same handler finds the status; `false` where the NMI of an order has come first.
fn latch_another(machine: &mut Machine) -> bool {
    let sent = machine.watch().own_nmis;
    assert_eq!(machine.run_to_symbol(NMI, LIMIT), Stopped::Label);
    if machine.watch().own_nmis != sent {
        return false;
    }
    for _ in ["stop", "start"] {
        assert_eq!(machine.run_to_access(&[GLOBAL_CONTROL], LIMIT), Stopped::Access(GLOBAL_CONTROL));
    }
    machine.step();
    machine.watch_mut().with_pmu(|model| {
        let next = model.next_overflows().next().expect("it counts again");
        model.happen(next.signal, next.events, Privilege::Kernel);
    });
    true
}

// cases 44, 52
#[test]
fn two_overflows_between_an_order_and_the_nmi_that_is_sent_for_it_leave_no_nmi_unknown() {
    let mut machine = sampling(&SKYLAKE, &format!("events=instructions/period={PERIOD}/"));
    let distance = before_order(&mut machine);
    let snapshot = machine.snapshot();
    let (mut runs, mut both) = (0, 0);
    for boundaries in distance - 30.. {
        machine.watch_mut().hold_next_pmi = Some(boundaries);
        if !latch_another(&mut machine) {
            break;
        }
        let (run, mut seen) = (finish(machine), Seen::default());
        seen.judge(&run, &format!("late by {boundaries}"));
        runs += 1;
        both += u64::from(seen.swallowed > 0 && seen.late > 0);
        machine = run.machine;
        machine.go_back(&snapshot);
    }
    println!("{both} of {runs} runs had two NMIs that found nothing");
    assert!(
        runs >= 30 && both > 0,
        "the second overflow's NMI is swallowed, and the order's is late: {both} of {runs}"
    );
}
