//! The ring's memory: the three choices, decommitting, running out of it, and address spaces that are older.
//!
//! Method: whole runs under icount. Each choice has equations of its own between page faults, pages and frames,
//! which are counted by the fault path, by a walk of the page tables, and by the drain.

use nmiprof::capture::{Balance, Identity};
use nmiprof::images::Image;
use nmiprof::machine::Size;
use nmiprof_tests::samples::samples;
use nmiprof_tests::{Boot, Completed, Failure, Verdict};
use nmiprof_wire::{Failure as Broken, FatalCause, LogLevel, NmiEntry, RingMode};

fn image(image: Image, words: &str) -> Boot {
    Boot::image(image).append(words)
}

/// Boots the main image; `None` where the test is skipped.
fn run(words: &str) -> Option<Completed> {
    image(Image::Main, words).run().passed()
}

/// Boots the self-test image; `None` where the test is skipped.
fn selftest(words: &str) -> Option<Completed> {
    image(Image::Selftest, words).run().passed()
}

/// Checks what holds for every sound run, and returns the totals.
fn balanced(run: &Completed) -> Balance {
    let accounts = run.record.accounts();
    let total = accounts.total();
    assert_eq!(accounts.identity(), Identity::Holds, "{total:?}");
    assert!(!accounts.is_nmi_inconsistent(), "{total:?}");
    assert_eq!(total.link_lost, 0, "a file loses nothing");
    assert!(run.record.messages().workloads().iter().all(|workload| workload.wrong_results == 0));
    // The ring is all that is lazy in these runs.
    let lazy_pages =
        if run.record.run().is_some_and(|run| run.ring == RingMode::Lazy) { total.ring_pages } else { 0 };
    assert_eq!(total.nmi.first_touches, lazy_pages + total.memory.decommitted, "{total:?}");
    assert_eq!(total.dropped.fault, 0, "{total:?}");
    total
}

/// Returns the one line of text that starts so.
fn line<'a>(run: &'a Completed, start: &str) -> &'a str {
    let mut lines = run.record.messages().logs().iter().filter(|log| log.text.starts_with(start));
    let line = lines.next().unwrap_or_else(|| panic!("the kernel says `{start}`"));
    println!("{}", line.text);
    &line.text
}

/// Returns the number that follows `key` in a line.
fn number(line: &str, key: &str) -> u64 {
    let (_, rest) = line.split_once(key).unwrap_or_else(|| panic!("`{key}` in {line}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("a number after `{key}` in {line}"))
}

// cases 18, 38
#[test]
fn all_three_choices_of_ring_memory_store_the_same_samples() {
    let mut all = Vec::new();
    for ring in RingMode::ALL {
        let Some(run) = run(&format!("ring={ring} duration_ns=100000000 period=5003 chains=on")) else {
            return;
        };
        let total = balanced(&run);
        assert_eq!(total.dropped.total(), 0);
        println!("{ring}: {:?} {:?}", total.nmi, total.memory);
        match ring {
            RingMode::Lazy => {
                assert!(total.nmi.page_faults > 50 && total.ring_pages == total.nmi.page_faults)
            }
            RingMode::Sync => {
                assert_eq!((total.nmi.page_faults, total.ring_pages, total.memory.ring_tables), (0, 1024, 4))
            }
            RingMode::Direct => {
                assert_eq!((total.nmi.page_faults, total.ring_pages, total.memory.ring_tables), (0, 1024, 0));
            }
        }
        all.push(samples(&run.capture).len());
    }
    assert!(all.iter().all(|count| *count > 15_000), "{all:?}");
}

// case 24
// Nothing faults, so nothing unmasks NMIs inside the handler
#[test]
fn without_faults_the_naive_entry_is_sound() {
    for ring in [RingMode::Sync, RingMode::Direct] {
        let words = format!("nmi=naive ring={ring} stress=nest duration_ns=50000000 period=1009 chains=on");
        let Some(run) = run(&words) else { return };
        let total = balanced(&run);
        assert_eq!((total.nmi.nested, total.nmi.page_faults), (0, 0));
        assert!(total.received > 10_000, "{}", total.received);
    }
    let refused = image(Image::Selftest, "nmi=naive ring=sync selftest=sweep").run();
    let Some(verdict) = refused.verdict() else { return };
    assert!(
        matches!(verdict, Verdict::Fail(Failure::GaveUp(report)) if report.cause == FatalCause::Configuration),
        "a sweep faults whatever the ring is: {verdict}"
    );
}

#[test]
fn the_first_fault_inside_an_nmi_is_reported_once_on_request() {
    for (ring, warn, expected) in [
        (RingMode::Lazy, "on", 1),
        (RingMode::Lazy, "off", 0),
        (RingMode::Sync, "on", 0),
        (RingMode::Direct, "on", 0),
    ] {
        let Some(run) = run(&format!("ring={ring} warn_fault={warn} duration_ns=20000000")) else { return };
        let warnings = run.record.messages().logs().iter().filter(|log| log.level == LogLevel::Warning);
        let texts: Vec<&str> = warnings.map(|log| log.text.as_str()).collect();
        assert_eq!(texts.len(), expected, "{ring}, {warn}: {texts:?}");
        assert!(
            texts
                .iter()
                .all(|text| text.starts_with("CPU 0: first page fault inside an NMI: RIP 0xffffffff8"))
        );
    }
}

// case 18
// A gibibyte of ring in a machine of 128 MiB; frames and tables for what is touched, and no more
#[test]
fn memory_used_is_proportional_to_pages_touched() {
    const WORDS: &str = "ring_bytes=1073741824 period=2003 chains=on";
    let mut used = Vec::new();
    for ms in [50, 100, 200] {
        let boot = image(Image::Main, &format!("{WORDS} duration_ns={ms}000000")).memory(Size::mib(128));
        let Some(run) = boot.run().passed() else { return };
        let total = balanced(&run);
        assert_eq!(total.dropped.total(), 0, "{total:?}");
        // Two tables, and one for each 512 pages.
        assert_eq!(total.memory.ring_tables, 2 + total.ring_pages.div_ceil(512), "{total:?}");
        assert_eq!(
            total.memory.table_frames,
            total.memory.ring_tables - 3,
            "all but the first three by faults"
        );
        println!("{ms} ms: {} pages, {:?}", total.ring_pages, total.memory);
        used.push((total.ring_pages + total.memory.ring_tables, total.memory.frames_left));
    }
    for pair in used.windows(2) {
        let [(frames, left), (more_frames, less_left)] = pair else { unreachable!("pairs") };
        assert!(more_frames > frames, "{used:?}");
        // The reserve may hold some frames more or less at the end.
        let missing = left - less_left;
        assert!(missing.abs_diff(more_frames - frames) < 256, "{used:?}");
    }
}

// case 22
// Memory is used up for good, while sampling
#[test]
fn running_out_of_memory_costs_samples_and_nothing_else() {
    const WORDS: &str = "ring_bytes=67108864 period=1009 chains=on duration_ns=200000000";
    let Some(run) = image(Image::Main, WORDS).memory(Size::mib(24)).run().passed() else { return };
    let total = balanced(&run);
    println!("{:?} {:?} {} received", total.dropped, total.memory, total.received);
    assert!(total.dropped.no_frame > 1000, "{total:?}");
    assert_eq!((total.memory.frames_left, total.reserve_frames_min), (0, 0), "{total:?}");
    assert!(total.received > 1000 && total.nmi.other_faults >= total.dropped.no_frame, "{total:?}");
    assert!(run.record.messages().workloads().iter().all(|workload| workload.steps > 0));
}

// case 22
// The same machine, whose ring gives its pages back, does not run out
#[test]
fn decommitting_makes_a_large_ring_fit_into_a_small_machine() {
    const WORDS: &str = "ring_bytes=67108864 period=1009 chains=on duration_ns=200000000 decommit=8";
    let Some(run) = image(Image::Main, WORDS).memory(Size::mib(24)).run().passed() else { return };
    let total = balanced(&run);
    println!("{:?} {:?} {} received", total.dropped, total.memory, total.received);
    assert_eq!(total.dropped.total(), 0, "{total:?}");
    assert!(total.memory.decommitted > 1000 && total.ring_pages < 64, "{total:?}");
}

// cases 3, 18
// Pages come and go, and every first touch provokes a nested NMI
#[test]
fn decommitted_pages_are_touched_first_again_and_again() {
    for entry in NmiEntry::ALL.iter().filter(|entry| **entry != NmiEntry::Naive) {
        let words = format!(
            "nmi={entry} ring_bytes=65536 decommit=1 stress=nest period=5003 chains=on duration_ns=100000000"
        );
        let Some(run) = run(&words) else { return };
        let total = balanced(&run);
        println!("{entry}: {:?} {:?}", total.nmi, total.memory);
        assert_eq!(total.dropped.total(), 0, "{total:?}");
        assert!(total.memory.decommitted > 10 * 16, "ten laps: {total:?}");
        assert_eq!(total.nmi.nested, total.nmi.first_touches, "{total:?}");
    }
}

#[test]
fn decommitting_what_does_not_come_and_go_is_refused() {
    for words in ["ring=sync decommit=1", "ring=direct decommit=1", "ring_bytes=8192 decommit=2"] {
        let run = image(Image::Main, words).run();
        let Some(verdict) = run.verdict() else { return };
        assert!(
            matches!(verdict, Verdict::Fail(Failure::GaveUp(report)) if report.message.starts_with("decommit=")),
            "{words}: {verdict}"
        );
    }
}

/// A ring of two pages, and so many overflows in each gap between draining and releasing that it would go round.
const GAP: &str = "ring_bytes=8192 decommit=1 period=1009 duration_ns=100000000";

// case 62
// In the gap
#[test]
fn nmis_between_draining_and_releasing_a_page_find_the_ring_full() {
    let Some(run) = selftest(&format!("{GAP} selftest=decommit-gap")) else { return };
    let total = balanced(&run);
    println!("{:?} {:?}", total.dropped, total.memory);
    assert!(total.memory.decommitted > 20, "{total:?}");
    assert!(
        total.dropped.ring_full > total.memory.decommitted * 50,
        "they did arrive in the gaps: {total:?}"
    );
}

#[test]
fn a_tail_that_is_published_before_the_release_is_caught() {
    let run = image(Image::Selftest, &format!("{GAP} selftest=decommit-publish-first")).run();
    let Some(verdict) = run.verdict() else { return };
    println!("{verdict}");
    assert!(
        matches!(
            verdict,
            Verdict::Fail(Failure::GaveUp(report)) if report.cause == FatalCause::Exception
                && report.message.contains("CR2 0xffffc0000000")
        ),
        "the drain reads a page that is gone: {verdict}"
    );
}

/// From the store to "current", of 7 bytes, over 8 no-operations, to the load of CR3.
const SWITCH_BYTES: u64 = 15;

/// Sweeps the switch between two address spaces, and returns the placements' addresses.
fn sweep_switch(words: &str) -> Option<(Completed, Vec<u64>)> {
    let run = selftest(&format!("selftest=switch sweep_first=490 sweep_last=610 {words}"))?;
    let total = balanced_switch(&run);
    let placements = run.record.messages().placements();
    assert_eq!(placements.len(), 121);
    for placement in placements {
        assert_eq!(placement.failures, 0, "{words}: {placement:x?} ({:?})", Broken::ALL);
    }
    println!("{words}: {:?} {:?}", total.nmi, total.memory);
    let rips = placements.iter().map(|placement| placement.last_rip).collect();
    Some((run, rips))
}

fn balanced_switch(run: &Completed) -> Balance {
    let accounts = run.record.accounts();
    assert_eq!(accounts.identity(), Identity::Holds, "{:?}", accounts.total());
    assert!(!accounts.is_nmi_inconsistent(), "{:?}", accounts.total());
    assert_eq!(accounts.total().dropped.total(), 0);
    accounts.total()
}

fn hex(line: &str, key: &str) -> u64 {
    let (_, rest) = line.split_once(key).unwrap_or_else(|| panic!("`{key}` in {line}"));
    let digits: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
    u64::from_str_radix(&digits, 16).expect("a hexadecimal number")
}

// cases 18, 20, 38
// The historical race. Both address spaces are older than the ring; the NMI is the first to notice.
#[test]
fn an_nmi_at_every_instruction_of_a_switch_brings_the_loaded_address_space_up_to_date() {
    for entry in NmiEntry::ALL.iter().filter(|entry| **entry != NmiEntry::Naive) {
        for stress in ["none", "nest"] {
            let words = format!("nmi={entry} stress={stress}");
            let Some((run, rips)) = sweep_switch(&words) else { return };
            let cr3 = hex(line(&run, "switch: line"), "CR3 is loaded at 0x");
            // One sample before each instruction from before the switch to after it; `mov cr3` has 3 bytes.
            let store = cr3 - SWITCH_BYTES;
            for rip in (store - 20..=store).chain(cr3 - 8..=cr3).chain(cr3 + 3..cr3 + 23) {
                assert!(rips.contains(&rip), "{words}: no sample at {rip:#x}, CR3 is loaded at {cr3:#x}");
            }
            let total = run.record.accounts().total();
            // Each placement syncs one space, so do the samples under locks; the drain's own is synced by the thread.
            assert_eq!((total.nmi.space_syncs, total.memory.thread_syncs), (122, 1), "{words}: {total:?}");
            if stress == "nest" {
                assert!(
                    total.nmi.nested >= 121,
                    "{words}: the NMIs nest where the fault returns: {:?}",
                    total.nmi
                );
            }
            line(&run, "switch: 0 placements with failures; up to date: under locks true, by the drain true");
        }
    }
}

#[test]
fn entries_installed_everywhere_and_the_direct_map_need_no_sync() {
    for ring in [RingMode::Sync, RingMode::Direct] {
        let Some((run, _)) = sweep_switch(&format!("ring={ring} nmi=naive")) else { return };
        let total = run.record.accounts().total();
        assert_eq!((total.nmi.page_faults, total.memory.thread_syncs), (0, 0), "{ring}: {total:?}");
    }
}

#[test]
fn a_fault_handler_that_trusts_the_current_process_fails_in_the_middle_of_the_switch() {
    let run = image(Image::Selftest, "selftest=switch-sync-current sweep_first=490 sweep_last=610").run();
    let Some(verdict) = run.verdict() else { return };
    println!("{verdict}");
    assert!(
        matches!(verdict, Verdict::Fail(Failure::GaveUp(report)) if report.cause == FatalCause::Exception),
        "the ring stays absent in the address space that is loaded: {verdict}"
    );
    let record = run.record().expect("it was booted");
    let placements = record.messages().placements();
    assert!(placements.iter().all(|placement| placement.failures == 0), "all is well before the middle");
    let logs = record.messages().logs().iter();
    let text = logs.map(|log| &log.text).find(|text| text.starts_with("switch: line")).expect("the line");
    let last = placements.last().expect("placements before the middle").last_rip;
    assert_eq!(
        last,
        hex(text, "CR3 is loaded at 0x") - SWITCH_BYTES,
        "the next NMI came after `current` was changed"
    );
}

// case 21
// Two CPUs install the same entry, played by one
// case 23
// Bad addresses of every kind, from inside an NMI and from inside the one that nests there
#[test]
fn reading_a_user_stack_from_an_nmi_kills_nothing() {
    for entry in NmiEntry::ALL.iter().filter(|entry| **entry != NmiEntry::Naive) {
        for fault_return in ["iret", "ret"] {
            let words = format!("nmi={entry} fault_return={fault_return} selftest=spaces");
            let Some(run) = selftest(&words) else { return };
            line(&run, "rival: the loser of a race goes on");
            let text = line(&run, "spaces:");
            assert!(text.contains(" 2 runs, 0 wrong, 6 faults"), "{words}: {text}");
            assert_eq!(run.record.accounts().total().nmi.other_faults, 6, "{words}: three in each run");
            let nested = run.record.accounts().total().nmi.nested;
            assert_eq!(nested > 0, fault_return == "iret", "{words}: {nested} nested");
        }
    }
}

#[test]
fn first_touches_and_syncs_have_their_price() {
    let mut costs = Vec::new();
    for ring in RingMode::ALL {
        let Some(run) = selftest(&format!("ring={ring} selftest=first-touch")) else { return };
        let text = line(&run, "first touch:");
        let [warm, page, old] = ["warm=", "new_page=", "old_space="].map(|key| number(text, key));
        assert!(number(text, "instructions; ") >= 6, "a new page every 171 samples: {text}");
        costs.push((warm, page, old));
    }
    let [(warm, page, old), sync, direct] = costs[..] else { unreachable!("three choices") };
    assert_eq!(sync, direct, "neither faults");
    assert_eq!((sync.0, sync.2), (warm, warm), "nothing is new for an old address space");
    assert!(sync.1 > warm && page > sync.1 + 100 && old > warm + 50, "{costs:?}");
}
