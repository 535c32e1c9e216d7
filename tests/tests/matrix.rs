//! Every machine boots, samples on all its CPUs, and accounts for every sample on each of them.
//!
//! Method: one table of what machines differ in. By default as many rows of it are booted as it takes for every pair of
//! two values to meet in one of them; with `NMIPROF_MATRIX=full` in the environment, every combination. Without icount
//! the CPUs are threads of a host that may be busy, so nothing is said of how many samples there are: there are some
//! on every CPU. Nor of unknown NMIs: one that a CPU was stopped just before sending may come too late to be claimed.

use std::collections::BTreeSet;
use std::env;
use std::time::Duration;

use nmiprof::capture::{Identity, RunInfo};
use nmiprof::images::Image;
use nmiprof::machine::Size;
use nmiprof_tests::{Boot, Completed};
use nmiprof_wire::ClockKind;

const MACHINES: [&str; 3] = ["pc", "q35", "microvm"];
const MODELS: [&str; 4] = ["qemu64", "EPYC", "Skylake-Server", "max"];
const CPUS: [u16; 4] = [1, 2, 4, 8];
const MEBIBYTES: [u32; 3] = [64, 1 << 10, 6 << 10];
/// Whether time counts instructions.
const ICOUNT: [bool; 2] = [true, false];

/// Numbers of values, in the order of [`Row`].
const SIZES: [usize; 5] = [MACHINES.len(), MODELS.len(), CPUS.len(), MEBIBYTES.len(), ICOUNT.len()];

/// Nanoseconds of target time: some hundred samples on each CPU.
const DURATION_NS: u64 = 20_000_000;
/// For each CPU, where CPUs wait for their turn on the host.
const DURATION_OF_TIME_NS: u64 = 200_000_000;
/// Eight CPUs on a busy host take a minute.
const LIMIT: Duration = Duration::from_secs(240);
/// Firmware and devices keep so much, at most.
const KEPT_MIB: u32 = 12;

/// One machine: indices of its values.
type Row = [usize; SIZES.len()];

/// Two values of different kinds, each as kind and index.
type Pair = [(usize, usize); 2];

fn all_rows() -> Vec<Row> {
    let mut rows = vec![[0; SIZES.len()]];
    for (kind, size) in SIZES.into_iter().enumerate() {
        let with = |row: &Row, value| {
            let mut row = *row;
            row[kind] = value;
            row
        };
        rows = rows.iter().flat_map(|row| (0..size).map(move |value| with(row, value))).collect();
    }
    rows
}

fn pairs(row: &Row) -> impl Iterator<Item = Pair> + '_ {
    let kinds = (0..row.len()).flat_map(|first| (0..first).map(move |second| [second, first]));
    kinds.map(|kinds| kinds.map(|kind| (kind, row[kind])))
}

/// Chooses rows in which every pair of values meets: always the row that has most of those that are missing.
fn pairwise(all: &[Row]) -> Vec<Row> {
    let mut missing: BTreeSet<Pair> = all.iter().flat_map(pairs).collect();
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let new = |row: &&Row| pairs(row).filter(|pair| missing.contains(pair)).count();
        // The first of several: the choice is the same each time.
        let best = *all.iter().rev().max_by_key(new).expect("there are rows");
        missing.retain(|pair| !pairs(&best).any(|met| met == *pair));
        chosen.push(best);
    }
    chosen
}

fn boot(row: &Row) -> Option<Completed> {
    let [machine, model, cpus, memory, icount] = *row;
    let duration_ns = if ICOUNT[icount] { DURATION_NS } else { DURATION_OF_TIME_NS * u64::from(CPUS[cpus]) };
    let words = format!("workload=sort period=20011 duration_ns={duration_ns}");
    let boot = Boot::image(Image::Main).append(&words).machine(MACHINES[machine]).cpu(MODELS[model]);
    let boot = boot.cpus(CPUS[cpus]).memory(Size::mib(MEBIBYTES[memory])).limit(LIMIT);
    if ICOUNT[icount] { boot.run() } else { boot.without_icount().run() }.passed()
}

fn text(row: &Row) -> String {
    let [machine, model, cpus, memory, icount] = *row;
    let icount = if ICOUNT[icount] { "icount" } else { "time" };
    format!(
        "-M {} -cpu {} -smp {} -m {}M, {icount}",
        MACHINES[machine], MODELS[model], CPUS[cpus], MEBIBYTES[memory]
    )
}

fn check(row: &Row, run: &Completed) {
    let what = text(row);
    let info = run.record.run().expect("the run introduced itself");
    let cpus = CPUS[row[2]];
    assert_eq!(info.cpus, cpus, "{what}: all of them have started");
    for (cpu, account) in run.record.accounts().cpus().iter().enumerate() {
        let balance = account.balance();
        assert_eq!(account.identity(), Identity::Holds, "{what}, CPU {cpu}: {balance:?}");
        assert!(!account.is_nmi_inconsistent(), "{what}, CPU {cpu}: {balance:?}");
        assert!(balance.received > 0 && balance.link_lost == 0, "{what}, CPU {cpu}: {balance:?}");
        assert!(!ICOUNT[row[4]] || balance.nmi.unknown == 0, "{what}, CPU {cpu}: {balance:?}");
    }
    let workloads = run.record.messages().workloads();
    assert!(workloads.iter().all(|workload| workload.steps > 0 && workload.wrong_results == 0), "{what}");
    check_clock(&what, info, cpus == 1 && ICOUNT[row[4]]);
    check_memory(&what, run, MEBIBYTES[row[3]]);
}

/// Ticks are instructions on one CPU under icount, and nothing claims that they are anywhere else.
fn check_clock(what: &str, info: &RunInfo, is_exact: bool) {
    assert_eq!(info.clock == ClockKind::Instructions, is_exact, "{what}");
    assert_eq!(info.deterministic, is_exact, "{what}");
    assert_eq!(info.events[0].name, if is_exact { "instructions" } else { "virtual-clock" }, "{what}");
}

/// Checks the kernel's own words: all memory but a few MiB.
fn check_memory(what: &str, run: &Completed, mib: u32) {
    let mut logs = run.record.messages().logs().iter();
    let line = logs.find(|line| line.text.starts_with("memory: ")).expect("the kernel says so");
    let usable = line.text.split(' ').find_map(|word| word.parse::<u32>().ok()).expect("a number");
    assert!((mib - KEPT_MIB..mib).contains(&usable), "{what}: {}", line.text);
}

#[test]
fn every_machine_boots_and_samples_on_all_cpus() {
    let all = all_rows();
    let is_full = env::var_os("NMIPROF_MATRIX").is_some_and(|asked| asked == "full");
    let rows = if is_full { all.clone() } else { pairwise(&all) };
    println!("{} of {} machines (NMIPROF_MATRIX=full boots all)", rows.len(), all.len());
    for row in &rows {
        let Some(run) = boot(row) else { return };
        check(row, &run);
        let received: Vec<u64> =
            run.record.accounts().cpus().iter().map(|account| account.balance().received).collect();
        println!("{}: {received:?} samples in {:.1} s", text(row), run.elapsed.as_secs_f64());
    }
}

#[test]
fn a_machine_without_an_interval_timer_is_refused_with_the_reason() {
    let run = Boot::image(Image::Main).machine("microvm,pit=off").run();
    let Some(verdict) = run.verdict() else { return };
    assert!(verdict.to_string().contains("no interval timer (8254)"), "{verdict}");
}

#[test]
fn the_short_table_has_every_pair_of_values() {
    let all = all_rows();
    assert_eq!(all.len(), SIZES.iter().product::<usize>());
    let short = pairwise(&all);
    let met: BTreeSet<Pair> = short.iter().flat_map(pairs).collect();
    assert_eq!(met, all.iter().flat_map(pairs).collect());
    assert!(short.len() <= 24, "{} rows", short.len());
}
