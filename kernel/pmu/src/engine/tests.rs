//! Goal: every event is counted exactly once, every period ends in one sample, and no NMI is left unexplained.
//!
//! Method: the engine over a unit of which the test is in control: examples, one per promise, and one random
//! sequence of everything that can happen, compared with what the unit really counted.

use core::cell::Cell;

use super::mock::{Mock, Random};
use super::{Engine, EventCounts, Overflow, Rate, Request, ScheduleError, Settings};
use crate::capabilities::Interface;
use crate::counter::{Counter, CounterSet};
use crate::unit::Encoding;

const INTEL: Interface = Interface::Intel { version: 4 };
const SETTINGS: Settings = Settings { clock_hz: 1_000_000, tick_hz: 1000, cpu_time_max_percent: 0 };
const ALL: CounterSet = CounterSet(u64::MAX);
const GENERAL: CounterSet = CounterSet(0b1111);

fn request(select: u64, rate: Rate) -> Request {
    let group = u8::try_from(select).expect("a small code");
    Request { encoding: Encoding { select, counters: GENERAL, user: true, kernel: true }, rate, group }
}

fn engine(interface: Interface, requests: &[Request]) -> Engine<Mock> {
    let mut engine = Engine::new(Mock::new(interface), SETTINGS);
    engine.set_events(requests, ALL).expect("fits");
    engine.start(0);
    engine
}

/// Handles an NMI at time 0; returns its overflows and the samples.
fn nmi(engine: &mut Engine<Mock>) -> (u32, Vec<Overflow>) {
    let mut samples = Vec::new();
    let handled = engine.handle_nmi(|| 0, |overflow| samples.push(overflow));
    (handled, samples)
}

fn sample(event: u8) -> Overflow {
    Overflow { event, throttled: false }
}

#[test]
fn a_sample_is_taken_after_each_period_and_nowhere_else() {
    let mut engine = engine(INTEL, &[request(1, Rate::Period(7))]);
    let mut at = Vec::new();
    for events in 1..=70 {
        if engine.unit().count(1, 1) {
            assert_eq!(nmi(&mut engine), (1, vec![sample(0)]));
            at.push(events);
        }
    }
    assert_eq!(at, (1..=10).map(|nth| nth * 7).collect::<Vec<_>>());
    let counts = engine.counts(0);
    assert_eq!((counts.count, counts.overflows, counts.period_events), (70, 10, 7));
}

#[test]
fn one_sample_costs_six_accesses_and_no_look_at_the_clock() {
    let mut engine = engine(INTEL, &[request(1, Rate::Period(7))]);
    engine.unit().count(1, 7);
    let before = engine.unit().accesses;
    let handled = engine.handle_nmi(|| panic!("not needed"), |_| {});
    assert_eq!((handled, engine.unit().accesses - before), (1, 6), "begin, status, read, load, status, end");
}

#[test]
fn a_period_longer_than_a_counter_is_counted_in_parts() {
    let mut engine = engine(INTEL, &[request(1, Rate::Period(2500))]);
    let samples: Vec<usize> = [1000, 1000, 500, 1000, 1000, 500]
        .map(|part| {
            assert!(engine.unit().count(1, part), "loaded with {part}");
            let (handled, samples) = nmi(&mut engine);
            assert_eq!(handled, 1);
            samples.len()
        })
        .into();
    assert_eq!(samples, [0, 0, 1, 0, 0, 1]);
    assert_eq!(engine.counts(0).count, 5000);
}

#[test]
fn an_event_that_is_only_counted_overflows_without_a_sample() {
    let mut engine = engine(INTEL, &[request(1, Rate::Count)]);
    assert!(!engine.unit().count(1, 999));
    assert!(engine.unit().count(1, 4));
    assert_eq!(nmi(&mut engine), (1, vec![]));
    engine.unit().count(1, 10);
    engine.read_all(5);
    let expected = EventCounts { count: 1013, enabled_ticks: 5, running_ticks: 5, ..EventCounts::default() };
    assert_eq!(engine.counts(0), expected);
    engine.read_all(5);
    assert_eq!(engine.counts(0), expected, "nothing is counted twice");
}

#[test]
fn what_is_counted_past_the_overflow_belongs_to_the_next_period() {
    let mut engine = engine(INTEL, &[request(1, Rate::Period(100))]);
    engine.unit().count(1, 100);
    engine.unit().count(1, 30);
    nmi(&mut engine);
    assert!(!engine.unit().count(1, 69));
    assert!(engine.unit().count(1, 1));
}

#[test]
fn periods_that_pass_unnoticed_are_skipped_and_counted_as_such() {
    let mut engine = engine(INTEL, &[request(1, Rate::Period(10))]);
    engine.unit().count(1, 10);
    engine.unit().count(1, 35);
    assert_eq!(nmi(&mut engine), (1, vec![sample(0)]), "one overflow, one sample");
    let counts = engine.counts(0);
    assert_eq!((counts.count, counts.overflows, counts.skipped_periods), (45, 1, 3));
    assert!(!engine.unit().count(1, 4));
    assert!(engine.unit().count(1, 1), "the grid of periods is kept");
    nmi(&mut engine);
    engine.unit().count(1, 20);
    nmi(&mut engine);
    assert_eq!(engine.counts(0).skipped_periods, 4, "an overshoot of a whole period skips it");
    assert!(engine.unit().count(1, 10));
}

#[test]
fn a_stale_status_is_no_sample() {
    let mut engine = engine(INTEL, &[request(1, Rate::Period(100))]);
    engine.unit().count(1, 40);
    engine.unit().status = CounterSet(1);
    assert_eq!(nmi(&mut engine), (1, vec![]));
    assert!(!engine.unit().count(1, 59));
    assert!(engine.unit().count(1, 1), "nothing is lost");
}

#[test]
fn an_nmi_without_an_overflow_is_not_one_of_the_counters() {
    let mut engine = engine(INTEL, &[request(1, Rate::Period(100))]);
    assert_eq!(nmi(&mut engine), (0, vec![]));
    assert_eq!(engine.engine_counts().spurious, 1);
    assert!(!engine.claims_late(0));
}

#[test]
fn an_overflow_of_a_counter_without_an_event_is_handled_and_not_sampled() {
    let mut engine = engine(INTEL, &[request(1, Rate::Period(100))]);
    engine.unit().status = CounterSet(0b1000);
    assert_eq!(nmi(&mut engine), (1, vec![]));
    assert_eq!(engine.engine_counts().stopped_overflows, 1);
    engine.stop(0);
    engine.unit().status = CounterSet(1);
    assert_eq!(nmi(&mut engine), (1, vec![]), "nor does one that had an event");
    assert_eq!(engine.engine_counts().stopped_overflows, 2);
}

#[test]
fn an_engine_that_was_never_started_touches_no_register() {
    let mut engine = Engine::new(Mock::new(INTEL), SETTINGS);
    engine.set_events(&[request(1, Rate::Period(100))], ALL).expect("fits");
    assert_eq!(nmi(&mut engine), (0, vec![]));
    engine.tick(10);
    engine.stop(20);
    engine.read_all(20);
    assert_eq!((engine.unit().accesses, engine.counts(0).enabled_ticks), (0, 0));
}

#[test]
fn counters_that_overflow_without_end_are_restarted() {
    let mut engine = engine(INTEL, &[request(1, Rate::Period(3)), request(2, Rate::Period(50))]);
    engine.unit().unstoppable_events = 5;
    let (handled, samples) = nmi(&mut engine);
    assert!(handled >= 16);
    engine.unit().unstoppable_events = 0;
    assert_eq!(engine.engine_counts().recoveries, 1);
    let truth = engine.unit().truth;
    for (event, select, period) in [(0, 1, 3), (1, 2, 50)] {
        let counts = engine.counts(event);
        assert_eq!(counts.count, truth[select]);
        assert_eq!(counts.overflows + counts.skipped_periods, counts.count / period);
    }
    let overflows = engine.counts(0).overflows + engine.counts(1).overflows;
    assert_eq!(overflows, u64::try_from(samples.len()).expect("fits"));
    assert!(engine.unit().count(1, 3), "it counts again");
}

#[test]
fn a_rest_of_a_period_outlives_stop_and_start() {
    let mut engine = engine(INTEL, &[request(1, Rate::Period(100))]);
    engine.unit().count(1, 60);
    engine.stop(5);
    assert!(!engine.is_running());
    assert!(engine.unit().enabled.is_empty() && engine.unit().programmed.iter().all(Option::is_none));
    engine.start(50);
    assert!(!engine.unit().count(1, 39));
    assert!(engine.unit().count(1, 1));
    engine.stop(60);
    let counts = engine.counts(0);
    assert_eq!((counts.count, counts.enabled_ticks, counts.running_ticks), (100, 15, 15));
}

#[test]
fn events_change_only_while_stopped_and_only_to_what_fits() {
    let mut engine = engine(INTEL, &[request(1, Rate::Period(100))]);
    assert_eq!(engine.set_events(&[], ALL), Err(ScheduleError::Running));
    engine.unit().count(1, 10);
    engine.stop(0);
    let mut elsewhere = request(2, Rate::Count);
    elsewhere.encoding.counters = CounterSet(0b1_0000);
    let refused = engine.set_events(&[elsewhere], ALL).map_err(|error| error.to_string());
    assert_eq!(refused, Err("event 0: needs one of counters 0x10, usable are 0x30000000f".to_string()));
    assert_eq!(engine.counts(0).count, 10, "it has the events that it had");
    engine.set_events(&[request(2, Rate::Count)], ALL).expect("fits");
    assert_eq!(engine.counts(0), EventCounts::default());
    assert_eq!(engine.counts(200), EventCounts::default(), "no such event");
}

#[test]
fn an_overflow_of_a_stopped_counter_is_claimed_once() {
    let mut engine = engine(INTEL, &[request(1, Rate::Period(100)), request(2, Rate::Count)]);
    engine.unit().count(1, 100);
    engine.stop(10);
    assert_eq!(nmi(&mut engine), (0, vec![]));
    assert_eq!([20, 20].map(|now| engine.claims_late(now)), [true, false]);
    let (counts, account) = (engine.counts(0), engine.engine_counts());
    assert_eq!((counts.count, counts.overflows, counts.skipped_periods), (100, 0, 1));
    assert_eq!((account.late, account.spurious, account.stopped_overflows), (1, 1, 1));
}

#[test]
fn a_clean_stop_explains_no_nmi() {
    let mut engine = engine(INTEL, &[request(1, Rate::Period(100))]);
    engine.unit().count(1, 99);
    engine.stop(10);
    assert!(!engine.claims_late(10));
}

#[test]
fn on_amd_overflows_that_one_nmi_found_explain_the_nmis_of_the_others() {
    let requests = [request(1, Rate::Period(100)), request(2, Rate::Period(100))];
    let amd = Interface::AmdPerfMonV2;
    for (interface, found, late) in [(INTEL, 1, 0), (INTEL, 2, 0), (amd, 1, 1), (amd, 2, 2)] {
        let mut engine = engine(interface, &requests);
        (1..=found).for_each(|select| assert!(engine.unit().count(select, 100)));
        assert_eq!(u64::from(nmi(&mut engine).0), found);
        let claims = (0..5).filter(|_| engine.claims_late(99_999)).count();
        assert_eq!(claims, late, "{interface} found {found}");
        assert!(!engine.claims_late(0));
    }
    let mut alone = engine(amd, &requests[..1]);
    alone.unit().count(1, 100);
    nmi(&mut alone);
    assert!(!alone.claims_late(0), "with one counter the NMI is its own");
    let mut both = engine(amd, &requests);
    (1..=2).for_each(|select| assert!(both.unit().count(select, 100)));
    nmi(&mut both);
    both.late_was_explained(0);
    assert_eq!([0, 0].map(|now| both.claims_late(now)), [true, false], "one of them was swallowed");
}

#[test]
fn late_claims_expire() {
    let mut engine = engine(Interface::AmdLegacy, &[request(1, Rate::Period(100)), request(2, Rate::Count)]);
    engine.unit().count(1, 100);
    nmi(&mut engine);
    assert!(!engine.claims_late(100_001), "100 ms are over");
}

#[test]
fn events_that_take_turns_keep_the_rests_of_their_periods() {
    let requests: Vec<Request> = (0..5).map(|select| request(select, Rate::Period(100))).collect();
    let mut engine = engine(INTEL, &requests);
    assert!(engine.is_multiplexed() && engine.needs_tick());
    for turn in 0..5 {
        // Each event counts in four of five turns: 60 in three of them, then 40 in the last.
        for select in 0..5 {
            assert!(!engine.unit().count(select, 24));
        }
        engine.tick((turn + 1) * 10);
    }
    for event in 0..5 {
        let counts = engine.counts(event);
        assert_eq!((counts.count, counts.enabled_ticks, counts.running_ticks), (96, 50, 40), "event {event}");
    }
    let overflowing = (0..5).filter(|select| engine.unit().count(*select, 4)).count();
    assert_eq!(overflowing, 4, "those whose turn it is");
    assert_eq!(nmi(&mut engine).1.len(), 4);
    assert_eq!(engine.engine_counts().rotations, 5);
}

#[test]
fn a_period_that_ends_at_a_change_of_turn_is_sampled_by_the_nmi_that_is_on_its_way() {
    let requests: Vec<Request> = (0..5).map(|select| request(select, Rate::Period(100))).collect();
    let mut engine = engine(INTEL, &requests);
    engine.unit().count(0, 107);
    engine.tick(10);
    assert_eq!(engine.counts(0).overflows, 0);
    assert_eq!(nmi(&mut engine), (1, vec![sample(0)]));
    assert_eq!(nmi(&mut engine), (0, vec![]), "once");
    for turn in 2..=5 {
        engine.tick(turn * 10);
    }
    assert!(!engine.unit().count(0, 92));
    assert!(engine.unit().count(0, 1), "7 of the second period had been counted");
}

#[test]
fn new_events_begin_with_their_first_turn() {
    let requests: Vec<Request> = (0..5).map(|select| request(select, Rate::Period(100))).collect();
    let mut engine = engine(INTEL, &requests);
    (1..=3).for_each(|now| engine.tick(now));
    engine.stop(4);
    engine.set_events(&requests[..1], ALL).expect("fits");
    assert!(!engine.is_multiplexed() && !engine.needs_tick());
    engine.start(5);
    assert!(engine.unit().count(0, 100));
}

#[test]
fn a_group_is_counted_at_the_same_time() {
    let in_group = |select, group| Request { group, ..request(select, Rate::Count) };
    let requests =
        [in_group(0, 0), in_group(1, 0), in_group(2, 1), in_group(3, 1), in_group(4, 1), in_group(5, 2)];
    let mut engine = engine(INTEL, &requests);
    for now in 1..=60 {
        (0..6).for_each(|select| _ = engine.unit().count(select, 1 + select));
        engine.tick(now);
    }
    let counts: Vec<EventCounts> = (0..6).map(|event| engine.counts(event)).collect();
    for (one, other) in [(0, 1), (2, 3), (2, 4)] {
        assert_eq!(counts[one].running_ticks, counts[other].running_ticks);
    }
    for (select, counts) in (0..).zip(&counts) {
        assert_eq!(counts.enabled_ticks, 60);
        assert!(counts.running_ticks >= 20, "a third at least");
        let scaled = counts.count * counts.enabled_ticks / counts.running_ticks;
        assert_eq!(scaled, 60 * (1 + select), "the scaled count is that of the whole time");
    }
}

/// Everything that can happen to an engine, in random order.
#[test]
fn no_event_is_lost_or_counted_twice_whatever_happens() {
    for seed in 0x5eed_1000..0x5eed_1040_u64 {
        println!("seed {seed:#x}");
        let mut random = Random(seed);
        let interface = if random.below(2) == 0 { INTEL } else { Interface::AmdCoreExtension };
        let periods: Vec<u64> =
            (0..1 + random.below(9)).map(|_| random.below(3) * random.below(1500)).collect();
        let requests: Vec<Request> = (0..)
            .zip(&periods)
            .map(|(select, period)| {
                request(select, if *period == 0 { Rate::Count } else { Rate::Period(*period) })
            })
            .collect();
        let mut engine = engine(interface, &requests);
        let (mut now, mut samples, mut stops) = (0, vec![0; periods.len()], 0_u64);
        for _ in 0..3000 {
            now += random.below(1000);
            match random.below(20) {
                0 => engine.tick(now),
                1 => engine.read_all(now),
                2 if random.below(5) == 0 => {
                    engine.stop(now);
                    stops += 1;
                    engine.start(now);
                }
                3..6 => _ = engine.handle_nmi(|| now, |overflow| samples[usize::from(overflow.event)] += 1),
                _ => {
                    let (select, events) = (random.below(periods.len() as u64), 1 + random.below(400));
                    // The NMI comes soon, but not always before the next events.
                    if engine.unit().count(select, events) && random.below(4) != 0 {
                        engine.handle_nmi(|| now, |overflow| samples[usize::from(overflow.event)] += 1);
                    }
                }
            }
        }
        engine.handle_nmi(|| now, |overflow| samples[usize::from(overflow.event)] += 1);
        engine.read_all(now);
        engine.handle_nmi(|| now, |overflow| samples[usize::from(overflow.event)] += 1);
        assert!(stops > 0);
        let truth = engine.unit().truth;
        for (event, period) in periods.iter().enumerate() {
            let counts = engine.counts(u8::try_from(event).expect("fits"));
            assert_eq!(counts.count, truth[event], "event {event}");
            assert_eq!(counts.overflows, samples[event], "event {event}: each overflow is one call");
            if *period != 0 {
                let ended = counts.overflows + counts.skipped_periods;
                assert_eq!(ended, counts.count / period, "event {event}: each period ended once");
            }
            assert_eq!(counts.enabled_ticks, now);
        }
    }
}

#[test]
fn a_period_shorter_than_the_handler_leaves_the_code_its_share() {
    let settings = Settings { cpu_time_max_percent: 25, ..SETTINGS };
    let mut engine = Engine::new(Mock::new(INTEL), settings);
    engine.set_events(&[request(1, Rate::Period(2))], ALL).expect("fits");
    assert!(engine.needs_tick());
    engine.start(0);
    let (now, mut code, mut samples) = (Cell::new(0_u64), 0, 0);
    let mut tick = 1000;
    while now.get() < 1_000_000 {
        now.set(now.get() + 1);
        code += 1;
        if engine.unit().count(1, 1) {
            engine.handle_nmi(
                || now.get(),
                |overflow| {
                    assert!(!overflow.throttled, "the one that trips it is sampled");
                    now.set(now.get() + 30);
                    samples += 1;
                },
            );
        }
        if now.get() >= tick {
            engine.tick(now.get());
            tick += 1000;
        }
    }
    assert!((740_000..790_000).contains(&code), "{code} of a million are left to the code");
    let (counts, account) = (engine.counts(0), engine.engine_counts());
    assert_eq!(counts.overflows, samples);
    assert!(account.throttles >= 990, "{account:?}");
    let stopped = counts.enabled_ticks - counts.running_ticks;
    assert!(
        account.throttled_ticks > 700_000 && stopped.abs_diff(account.throttled_ticks) <= 1000,
        "{account:?}"
    );
}

#[test]
fn what_overflows_while_it_is_throttled_is_marked() {
    let settings = Settings { cpu_time_max_percent: 25, ..SETTINGS };
    let mut engine = Engine::new(Mock::new(INTEL), settings);
    engine.set_events(&[request(1, Rate::Period(100)), request(2, Rate::Period(5))], ALL).expect("fits");
    engine.start(0);
    engine.unit().count(1, 100);
    engine.unit().events_at_disable = 6;
    let (now, mut samples) = (Cell::new(0), Vec::new());
    engine.handle_nmi(|| now.replace(300), |overflow| samples.push(overflow));
    assert_eq!(samples, [sample(0), Overflow { event: 1, throttled: true }]);
    assert!(engine.unit().enabled.is_empty());
    assert!(engine.claims_late(301), "its NMI is on its way");
    engine.unit().events_at_disable = 0;
    engine.tick(1200);
    assert!(!engine.unit().enabled.is_empty());
    assert!(!engine.unit().count(2, 3));
    assert!(engine.unit().count(2, 1), "one of the second period had been counted");
    let account = engine.engine_counts();
    assert_eq!((account.throttles, account.throttled_ticks), (1, 900));
    engine.read_all(1300);
    assert_eq!((engine.counts(0).enabled_ticks, engine.counts(0).running_ticks), (1300, 400));
}

#[test]
fn turns_wait_while_throttled() {
    let settings = Settings { cpu_time_max_percent: 25, ..SETTINGS };
    let requests: Vec<Request> = (0..5).map(|select| request(select, Rate::Period(100))).collect();
    let mut engine = Engine::new(Mock::new(INTEL), settings);
    engine.set_events(&requests, ALL).expect("fits");
    engine.start(0);
    engine.unit().count(0, 100);
    let now = Cell::new(0);
    engine.handle_nmi(|| now.replace(900), |_| {});
    engine.tick(1000);
    assert_eq!(engine.engine_counts().rotations, 0, "it took more than the next window allows");
    assert!(engine.unit().enabled.is_empty());
    engine.stop(1500);
    assert_eq!(engine.engine_counts().throttled_ticks, 600, "a stop ends the episode");
    engine.start(2000);
    assert_eq!(engine.unit().enabled.count(), 4);
}

/// Runs a workload of one event per clock tick in every other 100 ms, and a 20th of that in between; returns the
/// samples of the last two of three seconds.
fn run_frequency(requests: &[Request], event: u8) -> u64 {
    let mut engine = Engine::new(Mock::new(INTEL).wide(), SETTINGS);
    engine.set_events(requests, ALL).expect("fits");
    engine.start(0);
    let mut samples = 0;
    for now in 1..=3_000_000 {
        if now / 100_000 % 2 == 0 || now % 20 == 0 {
            let overflowed = (0..6).fold(false, |any, select| engine.unit().count(select, 1) | any);
            if overflowed {
                let count =
                    |overflow: Overflow| samples += u64::from(overflow.event == event && now > 1_000_000);
                engine.handle_nmi(|| now, count);
            }
        }
        if now % 1000 == 0 {
            engine.tick(now);
        }
    }
    engine.stop(3_000_000);
    let counts = engine.counts(event);
    assert_eq!(counts.count, engine.unit().truth[usize::from(event)]);
    samples
}

#[test]
fn a_frequency_is_held_by_ticks_and_overflows() {
    let samples = run_frequency(&[request(0, Rate::Frequency(500)), request(1, Rate::Period(1000))], 0);
    assert!((950..=1050).contains(&samples), "{samples} of 1000");
}

#[test]
fn a_frequency_is_that_of_the_time_in_which_its_event_counts() {
    let requests: Vec<Request> = (0..6).map(|select| request(select, Rate::Frequency(300))).collect();
    let samples = run_frequency(&requests, 2);
    assert!((340..=460).contains(&samples), "{samples} of 600, in 4 of 6 turns");
}

#[test]
fn an_event_that_becomes_rare_is_not_waited_for_with_its_old_period() {
    let mut engine = engine(INTEL, &[request(1, Rate::Frequency(100))]);
    assert_eq!(engine.counts(0).period_events, 156, "a 64th of the ticks of a sample");
    engine.unit().count(1, 10);
    engine.tick(10_000);
    assert_eq!(engine.counts(0).period_events, 19, "an eighth, for 10 in the time of a sample");
    assert!(!engine.unit().count(1, 16));
    assert!(engine.unit().count(1, 1), "146 * 19 / 156 were left");
}

#[test]
fn a_tick_leaves_an_overflow_to_the_nmi_that_is_on_its_way() {
    let mut engine = engine(INTEL, &[request(1, Rate::Frequency(1))]);
    assert_eq!(engine.counts(0).period_events, 15_625);
    assert!(engine.unit().count(1, 1000), "a part");
    engine.tick(1_000_000);
    assert_eq!(nmi(&mut engine), (1, vec![]), "the NMI is explained");
    assert_eq!(engine.counts(0).count, 1000);
}

#[test]
fn throttled_time_does_not_make_a_period_shorter() {
    let mut engine = Engine::new(Mock::new(INTEL), Settings { cpu_time_max_percent: 25, ..SETTINGS });
    engine.set_events(&[request(1, Rate::Frequency(100))], ALL).expect("fits");
    engine.start(0);
    engine.unit().count(1, 156);
    let now = Cell::new(1);
    engine.handle_nmi(|| now.replace(now.get() + 150), |_| {});
    engine.tick(2000);
    assert_eq!(engine.engine_counts().throttles, 1);
    assert_eq!(engine.counts(0).period_events, 1248, "as steep a step as there is");
    engine.unit().count(1, 100);
    engine.tick(3000);
    assert_eq!(engine.counts(0).period_events, 1000, "100 in the 1000 ticks since it goes on");
}

#[test]
fn a_fixed_counter_counts_in_its_own_width() {
    let fixed = Counter::fixed(1).expect("exists");
    let encoding = Encoding { select: 3, counters: fixed.set(), user: true, kernel: true };
    let mut engine = engine(INTEL, &[Request { encoding, rate: Rate::Period(1500), group: 0 }]);
    assert!(engine.unit().enabled.contains(fixed));
    assert!(engine.unit().count(3, 1500), "in one part");
    engine.unit().count(3, 2);
    assert_eq!(nmi(&mut engine).1, [sample(0)]);
    assert_eq!(engine.counts(0).count, 1502);
}
