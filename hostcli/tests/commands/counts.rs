//! `stat`, `list` and `selftest pmu` show what a kernel told of its PMU, and never a virtual count as a hardware one.

use nmiprof::capture::writer::{self, Writer};
use nmiprof::commands::Outcome;
use nmiprof_wire::{
    CounterReport, CounterVerdict, EventCounts, EventInfo, Frame, Hello, Job, Offer, PmuCounters, PmuInfo,
    PmuKind, Sampling,
};

use crate::fixture::{Fixture, Ran, assert_snapshot, run};

const MODEL: PmuInfo<'static> = PmuInfo {
    kind: PmuKind::Virtual,
    name: "intel-v4, model of a test",
    fallback: "the CPU announces no PMU",
};

const EVENTS: [(&str, &str, u64); 5] = [
    ("cycles", "1 per tick", 800_000_000),
    ("instructions", "5 per 4 ticks", 1_000_000_000),
    ("branches", "1 per 8 ticks", 200_000_000),
    ("branch-misses", "1 per 400 ticks", 1_000_000),
    ("cpu/event=0xd1,umask=1/", "1 per 1000 ticks", 0),
];

fn hello(pmu: PmuInfo<'static>) -> Hello<'static> {
    let mut hello = writer::hello();
    hello.pmu = pmu;
    let is_virtual = pmu.kind == PmuKind::Virtual;
    hello.events = EVENTS
        .map(|(name, formula, _)| EventInfo {
            name,
            sampling: Sampling::Count,
            formula: if is_virtual { formula } else { "" },
        })
        .into_iter()
        .collect();
    hello.options.job = Job::Stat;
    hello
}

/// Returns the capture of a run that counted `more` instructions than usual. The branch misses had a counter for two
/// thirds of the time, and the last event never.
fn counted(hello: &Hello<'_>, more: u64) -> Vec<u8> {
    let mut writer = Writer::new(hello).expect("a short Hello");
    for (event, (name, _, count)) in (0..).zip(EVENTS) {
        let running_ticks = match name {
            "branch-misses" => 600_000_000,
            "cpu/event=0xd1,umask=1/" => 0,
            _ => 900_000_000,
        };
        let count = if name == "instructions" { count + more } else { count };
        let counts =
            EventCounts { event, count, enabled_ticks: 900_000_000, running_ticks, ..EventCounts::default() };
        writer.frame(&Frame::Counts(counts)).expect("it fits");
    }
    writer.frame(&Frame::Pmu(PmuCounters { rotations: 899, ..PmuCounters::default() })).expect("it fits");
    writer.end().expect("frames of its own making")
}

fn stat(flags: &str) -> Ran {
    Fixture::new(&counted(&hello(MODEL), 0)).ask(&format!("stat {flags}"))
}

/// Replaces the directory of a fixture, which has another name each time.
fn without_place(ran: &Ran) -> String {
    let is_title = |line: &&str| line.starts_with(" Performance counter stats for ");
    let title = ran.out.lines().find(is_title).unwrap_or_default().to_owned();
    ran.out.replace(&title, " Performance counter stats for '...':")
}

#[test]
fn the_table_is_perfs() {
    let ran = stat("");
    assert_snapshot("stat.txt", &without_place(&ran));
    assert_eq!(ran.outcome(), Outcome::Findings, "one event was never counted");
    assert!(ran.notes.contains("no counter ever had event cpu/event=0xd1,umask=1/"), "{}", ran.notes);
}

#[test]
fn fields_are_perfs_and_each_line_says_that_it_is_virtual() {
    let ran = stat("-x ,");
    assert_snapshot("stat.csv", &ran.out);
    let mut lines = ran.out.lines().filter(|line| !line.starts_with('#'));
    assert!(lines.all(|line| line.split(',').nth(1) == Some("virtual")), "{}", ran.out);
}

#[test]
fn the_json_form_is_the_contract() {
    assert_snapshot("stat.json", &stat("--json").out);
}

#[test]
fn hardware_counts_are_not_called_virtual() {
    let hardware = PmuInfo { kind: PmuKind::Hardware, name: "intel-v5", fallback: "" };
    let fixture = Fixture::new(&counted(&hello(hardware), 0));
    for command in ["stat", "stat -x ,", "stat --json", "info", "info --json"] {
        let out = fixture.ask(command).out;
        assert!(out.contains("intel-v5") && !out.contains("virtual"), "{command}: {out}");
    }
}

#[test]
fn runs_are_summed_up_by_mean_and_standard_error() {
    let fixture = Fixture::new(&counted(&hello(MODEL), 0));
    std::fs::write(fixture.path("other"), counted(&hello(MODEL), 20_000_000)).expect("room");
    let ran = fixture.ask(&format!("stat -i {}", fixture.path("other").display()));
    // Mean 1.01e9; the error of the mean of two values is half their distance: 1e7, 0.99%.
    assert!(ran.out.contains("     1,010,000,000      instructions (virtual)"), "{}", ran.out);
    assert!(ran.out.contains("( +-  0.99% )") && ran.out.contains("(2 runs)"), "{}", ran.out);
    let csv = fixture.ask(&format!("stat -x ; -i {}", fixture.path("other").display()));
    assert!(csv.out.contains("1010000000;virtual;instructions;0.99%;900000000;100.00;1.26;"), "{}", csv.out);
}

#[test]
fn runs_of_different_pmus_have_no_mean() {
    let fixture = Fixture::new(&counted(&hello(MODEL), 0));
    let hardware = PmuInfo { kind: PmuKind::Hardware, ..MODEL };
    std::fs::write(fixture.path("other"), counted(&hello(hardware), 0)).expect("room");
    let error = fixture.ask(&format!("stat -i {}", fixture.path("other").display())).error();
    assert!(error.contains("different events or PMUs"), "{error}");
}

#[test]
fn a_table_goes_to_the_file_that_is_named() {
    let fixture = Fixture::new(&counted(&hello(MODEL), 0));
    let ran = fixture.ask(&format!("stat -o {}", fixture.path("table").display()));
    assert_eq!(ran.out, "");
    let table = std::fs::read_to_string(fixture.path("table")).expect("it was written");
    assert!(table.contains("insn per cycle"), "{table}");
    assert!(fixture.ask("stat -o /no/such/directory/file").error().contains("can't write"));
}

#[test]
fn an_event_that_is_none_costs_no_boot() {
    let error = run("stat -e cycles,intructions").error();
    assert!(error.contains("did you mean `instructions`?"), "{error}");
}

#[test]
fn info_shows_counts_and_the_drivers_counters() {
    let fixture = Fixture::new(&counted(&hello(MODEL), 0));
    let text = fixture.run("info").out;
    assert!(text.contains("# not a better PMU, because: the CPU announces no PMU\n"), "{text}");
    assert!(
        text.contains(
            "# count: 1500000, estimated from 1000000 in 66.67% of the time (virtual: 1 per 400 ticks, whoever runs)"
        ),
        "{text}"
    );
    assert!(text.contains("0 throttles (0 ticks), 899 rotations"), "{text}");
    let json = fixture.run("info --json").out;
    for words in [
        "\"fallback\": \"the CPU",
        "\"scaled\": 1500000",
        "\"rotations\": 899",
        "\"formula\": \"1 per tick\"",
    ] {
        assert!(json.contains(words), "{words}: {json}");
    }
}

#[test]
fn accesses_that_the_pmu_refused_are_a_finding() {
    let mut writer = Writer::new(&writer::hello()).expect("a short Hello");
    let counts = EventCounts { count: 1, enabled_ticks: 1, running_ticks: 1, ..EventCounts::default() };
    let counters = PmuCounters { bus_errors: 2, ..PmuCounters::default() };
    for frame in [Frame::Counts(counts), Frame::Pmu(counters)] {
        writer.frame(&frame).expect("it fits");
    }
    let ran = Fixture::new(&writer.end().expect("frames of its own making")).ask("stat");
    assert_eq!(ran.outcome(), Outcome::Findings);
    assert!(ran.notes.contains("2 accesses to the PMU's registers raised #GP"), "{}", ran.notes);
}

fn offers() -> Fixture {
    let mut hello = hello(MODEL);
    hello.options.job = Job::List;
    let mut writer = Writer::new(&hello).expect("a short Hello");
    for (name, counters, select, formula, refused) in [
        ("cycles", 0b1111 | 1 << 33, 0x3c, "1 per tick", ""),
        ("cache-misses", 0b1111, 0x412e, "1 per 1000 ticks", ""),
        ("slots", 0, 0, "", "CPUs of this kind have no such event"),
    ] {
        let offer = Offer { name, counters, select, formula, refused };
        writer.frame(&Frame::Offer(offer)).expect("it fits");
    }
    Fixture::new(&writer.end().expect("frames of its own making"))
}

#[test]
fn the_list_says_where_each_event_is_counted_and_why_others_are_not() {
    let ran = offers().ask("list");
    assert_eq!((ran.outcome(), ran.notes.as_str()), (Outcome::Good, ""));
    assert_snapshot("list.txt", &ran.out);
    assert_snapshot("list.json", &offers().ask("list --json").out);
}

#[test]
fn a_filter_takes_aliases_and_finding_nothing_is_a_finding() {
    let ran = offers().ask("list CPU-cyc");
    assert!(ran.out.contains("cycles OR cpu-cycles") && !ran.out.contains("cache-misses"), "{}", ran.out);
    let ran = offers().ask("list tlb");
    assert_eq!(ran.outcome(), Outcome::Findings);
    assert!(ran.notes.contains("no event has `tlb` in its name"), "{}", ran.notes);
}

fn tested(verdicts: &[(u8, CounterVerdict)]) -> Fixture {
    let mut hello = hello(MODEL);
    hello.options.job = Job::PmuTest;
    let mut writer = Writer::new(&hello).expect("a short Hello");
    for (counter, verdict) in verdicts {
        let (counted, overflows) = match verdict {
            CounterVerdict::Works => (40_001, 39),
            CounterVerdict::Silent => (40_001, 0),
            CounterVerdict::Dead | CounterVerdict::Untested => (0, 0),
        };
        let report = CounterReport { counter: *counter, verdict: *verdict, counted, work: 40_000, overflows };
        writer.frame(&Frame::Counter(report)).expect("it fits");
    }
    Fixture::new(&writer.end().expect("frames of its own making"))
}

#[test]
fn counters_that_fail_are_findings_and_those_that_were_not_tested_are_none() {
    let good = tested(&[(0, CounterVerdict::Works), (33, CounterVerdict::Untested)]).ask("selftest pmu");
    assert_eq!((good.outcome(), good.notes.as_str()), (Outcome::Good, ""));
    let all = [
        (0, CounterVerdict::Works),
        (1, CounterVerdict::Dead),
        (32, CounterVerdict::Silent),
        (33, CounterVerdict::Untested),
    ];
    let bad = tested(&all).ask("selftest pmu");
    assert_eq!(bad.outcome(), Outcome::Findings);
    assert!(bad.notes.contains("general counter 1 does not count"), "{}", bad.notes);
    assert!(bad.notes.contains("fixed counter 0 counts and does not interrupt"), "{}", bad.notes);
    assert_snapshot("selftest-pmu.txt", &bad.out);
    assert_snapshot("selftest-pmu.json", &tested(&all).ask("selftest pmu --json").out);
}

#[test]
fn no_counter_at_all_is_a_finding() {
    for none in [&[][..], &[(0, CounterVerdict::Untested)]] {
        let ran = tested(none).ask("selftest pmu");
        assert_eq!(ran.outcome(), Outcome::Findings);
        assert!(ran.notes.contains("no counter was tested"), "{}", ran.notes);
    }
}
