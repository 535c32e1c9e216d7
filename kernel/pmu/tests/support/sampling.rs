//! Programs of the whole engine over the driver and the model, and their checks.
//!
//! After each step:
//!
//! - no access raised #GP, and the model saw nothing that a driver should not do;
//! - what was counted of each event is what happened on its counters, and each overflow was one call of the sink;
//! - when no NMI is on its way, as many periods of each event have ended as fit into its count: `overflows +
//!   skipped_periods = floor(count / period)`.
//!
//! Periods may be skipped only where that is explained: by a stop, or because more than a period of events passed
//! while an NMI was on its way.

use nmiprof_pmu::model::{Model, Privilege, Signal, Violations};
use nmiprof_pmu::profiles::Registers;
use nmiprof_pmu::{
    Capabilities, Counter, CounterSet, Defect, Driver, Encoding, Engine, Rate, Request, Settings, Unmask,
    detect,
};

use super::events::{Kind, kinds, what};
use super::log::Entry;
use super::machine::{self, Event, Machine};
use super::program::{Check, LATENCY_STEPS_MAX, Setting, ensure};
use super::random::Random;
use super::truth::What;

/// Periods longer than this are never skipped but by a stop: more events than any NMI waits for.
const PERIOD_LONG: u64 = 20_000;
/// The most NMIs that come of one step.
const NMIS_MAX: u32 = 1000;
const SETTINGS: Settings = Settings { clock_hz: 1_000_000, tick_hz: 1000, cpu_time_max_percent: 0 };

/// What a run met.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sampled {
    pub(crate) samples: u64,
    pub(crate) skipped: u64,
    pub(crate) rotations: u64,
    pub(crate) stops: u64,
    pub(crate) nmis: u64,
    /// NMIs that no overflow explained, and which were claimed.
    pub(crate) late: u64,
    /// NMIs of the counters that nobody claimed.
    pub(crate) unexplained: u64,
}

impl Sampled {
    pub(crate) const fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.skipped += other.skipped;
        self.rotations += other.rotations;
        self.stops += other.stops;
        self.nmis += other.nmis;
        self.late += other.late;
        self.unexplained += other.unexplained;
    }

    /// Asserts that nothing that is worth a test was never met.
    pub(crate) fn assert_met(&self, profile: &str) {
        let met = [self.samples, self.skipped, self.rotations, self.stops, self.nmis];
        assert!(met.iter().all(|count| *count > 50), "{profile}: {self:?}");
        // On Intel only a counter that was stopped can leave one behind.
        assert!(self.late > 10, "{profile}: {self:?}");
    }
}

/// An engine under way.
struct Run<D> {
    setting: Setting,
    engine: Engine<Driver<Machine, D>>,
    random: Random,
    requests: Vec<Request>,
    /// Calls of the sink, by event.
    samples: Vec<u64>,
    /// Whether NMIs of somebody else come, and handlers are shorter than the way of an NMI. An NMI may then find
    /// overflows whose own NMIs come one by one later, and explain nothing; else each has to be explained.
    has_others: bool,
    /// An NMI handled more than one event: an empty one may follow.
    swallows: bool,
    before: Violations,
    started_at: u64,
    enabled_ticks: u64,
    met: Sampled,
}

/// Runs an engine for so many steps.
///
/// # Errors
/// What was wrong, with what led to it.
pub(crate) fn run<D: Defect>(setting: Setting, seed: u64, steps: u64) -> Result<Sampled, String> {
    let mut run = Run::<D>::new(setting, seed);
    let mut step = 0;
    let result = (0..steps).try_for_each(|_| {
        step += 1;
        run.step()
    });
    let result = result.and_then(|()| run.end());
    result.map_err(|wrong| {
        let requests = &run.requests;
        let log = &run.engine.unit().bus().log;
        let id = setting.profile.id;
        format!("{log}{requests:#?}\n{id}, seed {seed:#x}, step {step}, {setting}: {wrong}")
    })?;
    Ok(run.met)
}

impl<D: Defect> Run<D> {
    fn new(setting: Setting, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut model = Model::new(setting.profile).with_latency(setting.latency_steps);
        let capabilities = detect(&setting.profile, &mut model).expect("a profile has a PMU");
        let before = model.violations();
        let machine = Machine::new(model, Random::new(random.next()));
        let unit = Driver::new(machine, capabilities, setting.handling);
        let mut engine = Engine::new(unit, SETTINGS);
        let requests = loop {
            let requests = requests(&setting, &capabilities, &mut random);
            if engine.set_events(&requests, CounterSet(u64::MAX)).is_ok() {
                break requests;
            }
        };
        engine.unit().bus().events = requests.iter().map(|request| event(&setting, request)).collect();
        engine.unit().bus().inside_one_in = setting.inside_one_in;
        let samples = vec![0; requests.len()];
        let met = Sampled::default();
        let has_others = random.one_in(2);
        Self {
            setting,
            engine,
            random,
            requests,
            samples,
            has_others,
            swallows: false,
            before,
            started_at: 0,
            enabled_ticks: 0,
            met,
        }
    }

    fn step(&mut self) -> Check {
        match self.random.below(100) {
            _ if !self.engine.is_running() => self.start(),
            0..80 => self.happen()?,
            80..88 if self.has_others => self.tick(),
            88..92 if self.has_others => self.nmi(false),
            92..94 if self.random.one_in(4) => self.stop(),
            _ => self.read_all(),
        }
        self.handle_nmis()?;
        self.check()
    }

    /// Ends the run: everything that is on its way arrives, and nothing may be left.
    fn end(&mut self) -> Check {
        self.engine.unit().bus().inside_one_in = 0;
        let mut left = 10 * LATENCY_STEPS_MAX;
        while left > 0 {
            left = self.engine.unit().bus().happen(Signal::Other(u64::MAX), left, Privilege::User);
            self.handle_nmis()?;
        }
        self.read_all();
        self.check()?;
        let machine = self.engine.unit().bus();
        ensure(machine.model.steps_to_delivery() == u64::MAX, || "an NMI is still on its way".into())?;
        self.met.nmis = machine.nmis;
        self.met.samples = self.samples.iter().sum();
        self.met.skipped = self.each(|counts| counts.skipped_periods);
        self.met.rotations = self.engine.engine_counts().rotations;
        Ok(())
    }

    fn each(&self, of: impl Fn(nmiprof_pmu::engine::EventCounts) -> u64) -> u64 {
        (0..16).map(|event| of(self.engine.counts(event))).sum()
    }

    fn happen(&mut self) -> Check {
        let (signal, count, privilege) = self.engine.unit().bus().something();
        self.note("code", count);
        let mut left = count;
        while left > 0 {
            left = self.engine.unit().bus().happen(signal, left, privilege).min(300);
            self.handle_nmis()?;
        }
        Ok(())
    }

    fn handle_nmis(&mut self) -> Check {
        for _ in 0..NMIS_MAX {
            if !std::mem::take(&mut self.engine.unit().bus().is_nmi_pending) {
                return Ok(());
            }
            self.nmi(true);
        }
        Err("NMIs without end".into())
    }

    /// Handles an NMI: one of the counters, or somebody else's.
    fn nmi(&mut self, is_own: bool) {
        self.note(if is_own { "nmi" } else { "nmi of somebody else" }, 0);
        let now = self.now();
        self.engine.unit().bus().in_nmi = true;
        let samples = &mut self.samples;
        let handled = self.engine.handle_nmi(|| now, |overflow| samples[usize::from(overflow.event)] += 1);
        self.pass();
        self.engine.unit().bus().in_nmi = false;
        if is_own && handled == 0 {
            // case 52; and case 44, which is the dispatcher's: right after an NMI with several events
            let is_swallowed = std::mem::take(&mut self.swallows);
            let is_claimed = !is_swallowed && self.engine.claims_late(now);
            self.met.late += u64::from(is_claimed);
            self.met.unexplained += u64::from(!is_claimed && !is_swallowed);
        }
        self.swallows |= handled > 1;
    }

    /// Lets the rest of the handler pass: as long as an NMI takes.
    fn pass(&mut self) {
        if !self.has_others {
            let way = LATENCY_STEPS_MAX + 1;
            self.engine.unit().bus().happen(Signal::Other(u64::MAX), way, Privilege::Kernel);
        }
    }

    /// Does something in the NMI of the tick.
    fn within(&mut self, what: &'static str, act: impl FnOnce(&mut Engine<Driver<Machine, D>>, u64)) {
        let now = self.now();
        self.note(what, now);
        self.engine.unit().bus().in_nmi = true;
        act(&mut self.engine, now);
        self.engine.unit().bus().in_nmi = false;
    }

    fn tick(&mut self) {
        self.nmi(false);
        self.within("tick", Engine::tick);
    }

    fn read_all(&mut self) {
        self.within("read all", Engine::read_all);
    }

    fn start(&mut self) {
        self.started_at = self.now();
        self.within("start", Engine::start);
    }

    fn stop(&mut self) {
        self.enabled_ticks += self.now() - self.started_at;
        self.within("stop", Engine::stop);
        self.engine.unit().bus().in_nmi = true;
        self.pass();
        self.engine.unit().bus().in_nmi = false;
        self.met.stops += 1;
        // What was on its way arrives while nothing runs.
        if self.random.one_in(2) {
            self.engine.unit().bus().happen(Signal::Slots, 200, Privilege::Kernel);
        }
    }

    fn now(&mut self) -> u64 {
        self.engine.unit().bus().now
    }

    fn note(&mut self, what: &'static str, number: u64) {
        self.engine.unit().bus().log.push(Entry::Engine(what, number));
    }

    fn check(&mut self) -> Check {
        let one_in = std::mem::replace(&mut self.engine.unit().bus().inside_one_in, 0);
        self.within("read all", Engine::read_all);
        self.engine.unit().bus().inside_one_in = one_in;
        let (errors, faults) = (self.engine.unit().errors(), self.engine.unit().bus().faults);
        ensure(errors == 0 && faults == 0, || format!("{errors} errors, {faults} times #GP"))?;
        self.check_violations()?;
        self.check_running()?;
        let recoveries = self.engine.engine_counts().recoveries;
        ensure(recoveries == 0, || format!("{recoveries} recoveries, and nothing overflows without end"))?;
        let unexplained = self.met.unexplained;
        ensure(self.has_others || unexplained == 0, || "an NMI of the counters is not explained".into())?;
        (0..self.requests.len()).try_for_each(|index| self.check_event(index))
    }

    /// An early unmask is one with overflows pending, by its definition. A tick that only follows frequencies leaves an
    /// overflow to the NMI that is on its way, and so it stops and starts with the overflow pending.
    fn check_violations(&mut self) -> Check {
        let is_early = self.setting.handling.unmask == Unmask::Early;
        let follows = self.requests.iter().any(|request| matches!(request.rate, Rate::Frequency(_)));
        let now = self.engine.unit().bus().model.violations();
        let mut allowed = self.before;
        allowed.unmasked_with_overflow = if is_early || follows { now.unmasked_with_overflow } else { 0 };
        allowed.started_with_overflow = if follows { now.started_with_overflow } else { 0 };
        ensure(now == allowed, || format!("{now:?}"))
    }

    /// Where all events fit at once, each is counted whenever nothing is to be handled first.
    fn check_running(&mut self) -> Check {
        let is_whole = self.engine.is_running() && !self.engine.is_multiplexed();
        let machine = self.engine.unit().bus();
        if !is_whole || machine.model.steps_to_delivery() != u64::MAX {
            return Ok(());
        }
        let running: Vec<_> = machine.model.next_overflows().map(|next| machine::what(&next)).collect();
        let stopped = machine.events.iter().find(|event| !running.contains(&event.what));
        ensure(stopped.is_none(), || format!("stands still: {stopped:?}"))
    }

    fn check_event(&mut self, index: usize) -> Check {
        let counts = self.engine.counts(u8::try_from(index).expect("at most 16"));
        let is_running = self.engine.is_running();
        let is_whole = !self.engine.is_multiplexed();
        let machine = self.engine.unit().bus();
        let event = &machine.events[index];
        ensure(counts.count == event.counted, || format!("event {index}: {counts:?}, counted {event:?}"))?;
        let is_plain = is_whole && self.setting.inside_one_in == 0 && !self.setting.handling.freeze;
        let is_complete = !is_plain || self.met.stops > 0 || event.counted == event.happened;
        ensure(is_complete, || format!("event {index} is not counted: {event:?}"))?;
        let samples = self.samples[index];
        ensure(counts.overflows == samples, || format!("event {index}: {counts:?}, {samples} calls"))?;
        let running = if is_running { machine.now - self.started_at } else { 0 };
        let enabled = self.enabled_ticks + running;
        ensure(counts.enabled_ticks == enabled, || format!("event {index}: {counts:?}, {enabled} ticks"))?;
        ensure(counts.running_ticks <= enabled, || format!("event {index}: {counts:?}"))?;
        self.check_periods(index)
    }

    fn check_periods(&mut self, index: usize) -> Check {
        let Rate::Period(period) = self.requests[index].rate else { return Ok(()) };
        let counts = self.engine.counts(u8::try_from(index).expect("at most 16"));
        let machine = self.engine.unit().bus();
        let is_quiet = machine.model.steps_to_delivery() == u64::MAX && !machine.is_nmi_pending;
        let (ended, told) = (counts.count / period, counts.overflows + counts.skipped_periods);
        let holds = told <= ended && (told == ended || !is_quiet);
        ensure(holds, || format!("event {index}: {ended} periods of {period} ended: {counts:?}"))?;
        let is_exact = self.setting.latency_steps == 0 && self.setting.inside_one_in == 0;
        let skipped_max = match period {
            _ if is_exact => 0,
            0..PERIOD_LONG => u64::MAX,
            _ => self.met.stops,
        };
        ensure(counts.skipped_periods <= skipped_max, || format!("event {index} skips: {counts:?}"))
    }
}

/// Makes up 1 to 16 events, all different.
fn requests(setting: &Setting, capabilities: &Capabilities, random: &mut Random) -> Vec<Request> {
    let count = random.below(16) + 1;
    let few: Vec<Kind> = (0..4).flat_map(|_| kinds(setting.profile, random)).collect();
    let mut requests: Vec<Request> = Vec::new();
    let mut group = 0;
    for _ in 0..count {
        let request = request(setting, capabilities, group, &few, random);
        let wanted = event(setting, &request).what;
        if requests.iter().all(|other| event(setting, other).what != wanted) {
            requests.push(request);
            group += u8::from(!random.one_in(4));
        }
    }
    requests
}

fn request(
    setting: &Setting,
    capabilities: &Capabilities,
    group: u8,
    few: &[Kind],
    random: &mut Random,
) -> Request {
    let select = random.pick(few).select;
    let (user, kernel) = random.pick(&[(true, true), (true, false), (false, true)]);
    let general = capabilities.general;
    let some = CounterSet(general.0 & random.next());
    let counters = if random.one_in(3) && !some.is_empty() { some } else { general };
    let encoding = Encoding { select, counters, user, kernel };
    let encoding = Encoding { counters: counters.union(fixed_for(setting, encoding)), ..encoding };
    let rate = match random.below(10) {
        0 => Rate::Count,
        1 => Rate::Frequency(random.below(500) + 1),
        2 => Rate::Period(random.below(4) + 1),
        3 => Rate::Period(random.magnitude(1 << 50)),
        4 => Rate::Period((1 << random.pick(&[31, 32, 39, 47])) + random.below(3) - 1),
        5..8 => Rate::Period(random.below(30) + PERIOD_LONG),
        _ => Rate::Period(random.below(300) + 1),
    };
    Request { encoding, rate, group }
}

/// Returns the fixed counters that count what a general counter counts with this encoding.
fn fixed_for(setting: &Setting, encoding: Encoding) -> CounterSet {
    let Registers::Intel(facts) = &setting.profile.registers else { return CounterSet::EMPTY };
    let general = Counter::general(0).expect("exists");
    let wanted = what(setting.profile, general, encoding);
    let fixed = (0..facts.fixed).filter_map(Counter::fixed);
    let same = fixed.filter(|counter| what(setting.profile, *counter, encoding) == wanted);
    same.fold(CounterSet::EMPTY, |set, counter| set.union(counter.set()))
}

fn event(setting: &Setting, request: &Request) -> Event {
    let general = Counter::general(0).expect("exists");
    let what: What = what(setting.profile, general, request.encoding);
    Event { what, counted: 0, happened: 0 }
}
