//! Captures of several CPUs: what was said of each, whose samples are shown, and a CPU that halted.

use nmiprof::capture::writer::{self, SyntheticSample, Writer};
use nmiprof::commands::Outcome;
use nmiprof_wire::{CpuInfo, Frame};

use crate::elf::TEXT;
use crate::fixture::{Fixture, ten_samples};

/// How far the clock of CPU 1 is off.
const OFFSET_TICKS: i64 = -5_000_000;

/// Four samples of CPU 0 in `quicksort`, and at the same moments as many of CPU 1 in `multiply`; CPU 2 is parked.
fn capture() -> Fixture {
    let mut hello = writer::hello();
    hello.cpus = 3;
    let mut writer = Writer::new(&hello).expect("a short Hello");
    for (cpu, clock_offset, samples) in [(0, 0, true), (1, OFFSET_TICKS, true), (2, 30, false)] {
        let info = CpuInfo { cpu, apic_id: 2 * u32::from(cpu), samples, clock_offset, clock_uncertainty: 40 };
        writer.frame(&Frame::Cpu(info)).expect("it fits");
    }
    for (cpu, offset) in [(0, 0x104), (1, 0x190)] {
        for n in 0..4 {
            let time = (10_000_000_u64 + 1_000_000 * n).wrapping_add_signed(i64::from(cpu) * OFFSET_TICKS);
            let sample = SyntheticSample { cpu, time, ip: TEXT + offset, ..SyntheticSample::default() };
            writer.sample(&sample).expect("the CPU is there");
        }
    }
    Fixture::new(&writer.end().expect("frames of its own making"))
}

#[test]
fn info_says_of_each_cpu_what_it_is_and_how_far_its_clock_is_off() {
    let text = capture().run("info").out;
    for line in [
        "#   APIC ID 0, samples\n",
        "#   APIC ID 2, samples; its clock less CPU 0's: -5000000 ticks, give or take 40: times are corrected by it\n",
        "#   APIC ID 4, parked; its clock less CPU 0's: 30 ticks, give or take 40: taken for none\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    let json = capture().run("info --json").out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let of_cpu = |cpu: usize, key: &str| json["per_cpu"][cpu][key].clone();
    assert_eq!(of_cpu(1, "apic_id"), 2);
    assert_eq!([of_cpu(1, "parked"), of_cpu(2, "parked")], [false, true]);
    assert_eq!([of_cpu(1, "clock_offset"), of_cpu(1, "clock_correction")], [OFFSET_TICKS, OFFSET_TICKS]);
    assert_eq!(
        [of_cpu(2, "clock_offset"), of_cpu(2, "clock_uncertainty"), of_cpu(2, "clock_correction")],
        [30, 40, 0]
    );
}

#[test]
fn samples_of_all_cpus_have_the_time_of_cpu_0() {
    let ran = capture().run("script -F cpu,time");
    let of_cpu = |cpu: &str| {
        let times = ran.out.lines().filter_map(|line| line.trim().strip_prefix(cpu));
        times.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of_cpu("[000]").len(), 4, "{}", ran.out);
    assert_eq!(of_cpu("[000]"), of_cpu("[001]"), "{}", ran.out);
}

#[test]
fn reports_and_scripts_show_the_samples_of_the_cpus_that_were_asked_for() {
    let fixture = capture();
    let all = fixture.run("report").out;
    assert!(all.contains("sort::quicksort") && all.contains("matrix::multiply"), "{all}");
    assert!(!all.contains("samples shown"), "{all}");
    for (list, shown, hidden) in
        [("0", "sort::quicksort", "matrix::multiply"), ("1-2", "matrix::multiply", "sort::quicksort")]
    {
        let report = fixture.run(&format!("report -C {list}"));
        assert_eq!((report.outcome(), report.notes.as_str()), (Outcome::Good, ""));
        assert!(report.out.contains(&format!("# samples shown: of CPUs {list}\n")), "{}", report.out);
        assert!(report.out.contains("# samples of it: 4\n"), "{}", report.out);
        assert!(report.out.contains(shown) && !report.out.contains(hidden), "{}", report.out);
        let json = fixture.run(&format!("report --json --cpu {list}")).out;
        assert!(json.contains(&format!("\"cpu_list\": \"{list}\"")) && !json.contains(hidden), "{json}");
        let script = fixture.run(&format!("script -C {list}")).out;
        assert!(script.lines().count() == 4 && !script.contains(hidden), "{script}");
    }
}

#[test]
fn cpus_without_samples_are_a_finding_and_those_that_are_not_there_an_error() {
    let fixture = capture();
    let parked = fixture.run("report -C 2");
    assert_eq!(
        (parked.outcome(), parked.notes.as_str()),
        (Outcome::Findings, "nmiprof: there are no samples\n")
    );
    for command in ["report", "script"] {
        let error = fixture.run(&format!("{command} -C 1,3")).error();
        assert!(error.contains("-C 1,3: the CPUs of the capture are 0 to 2"), "{error}");
    }
}

#[test]
fn after_a_halt_nothing_claims_that_ticks_are_instructions() {
    let mut writer = ten_samples(&writer::hello());
    let exact = Fixture::new(&ten_samples(&writer::hello()).end().expect("frames of its own making"));
    assert!(exact.run("info").out.contains("one tick is one retired instruction"));
    // Said while the run goes on, before it describes itself again.
    writer.totals(0, |totals| totals.nmi.halts = 3);
    writer.flush().and_then(|()| writer.sync()).expect("frames of its own making");
    let mut again = writer::hello();
    again.time = 20_000_000;
    writer.frame(&Frame::Hello(again)).expect("a short Hello");
    let fixture = Fixture::new(&writer.end().expect("frames of its own making"));

    let info = fixture.run("info").out;
    assert!(info.contains("# event: virtual-clock (virtual)"), "{info}");
    assert!(info.contains("Hz, time, not instructions") && info.contains("# deterministic: no"), "{info}");
    assert!(info.contains("#   halted 3 times while it sampled, so ticks of the clock are time\n"), "{info}");
    let json = fixture.run("info --json").out;
    assert!(json.contains("\"icount\": false") && json.contains("\"halts\": 3"), "{json}");
    let report = fixture.run("report").out;
    assert!(report.contains("# event: virtual-clock") && !report.contains("retired instruction"), "{report}");
    assert!(fixture.run("export --format svg").out.contains("virtual-clock"));
    let script = fixture.run("script").out;
    assert!(script.contains("virtual-clock: ") && !script.contains("instructions"), "{script}");
}

#[test]
fn a_script_that_has_printed_a_name_before_it_was_taken_back_says_so() {
    let mut writer = ten_samples(&writer::hello());
    let samples = (0..100_000).map(|n| SyntheticSample {
        time: 20_000_000 + 1_000_003 * n,
        ip: TEXT + 0x104 + 8 * (n % 7),
        ..SyntheticSample::default()
    });
    samples.for_each(|sample| writer.sample(&sample).expect("CPU 0 is there"));
    writer.totals(0, |totals| totals.nmi.halts = 3);
    let script = Fixture::new(&writer.end().expect("frames of its own making")).run("script");
    assert!(script.notes.contains("what is called instructions above is virtual-clock"), "{}", script.notes);
}
