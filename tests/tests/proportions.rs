//! Samples fall where the instructions are, interrupts enabled or not.
//!
//! Method: under icount the length of a step of each workload is known in instructions, from a measurement
//! with sampling off. Two workloads, one of which runs with interrupts disabled, are sampled with a prime
//! period; the shares of the samples must be those of the instructions.

use nmiprof::images::Image;
use nmiprof::symbols::{self, Symbolizer};
use nmiprof_tests::samples::{ChainedSample, samples};
use nmiprof_tests::{Boot, Completed};

const TOLERANCE_POINTS: f64 = 1.0;
const SAMPLES_MIN: usize = 20_000;

/// Shares of samples in percent, for functions whose call chain names one of `modules`.
fn sampled_shares(run: &Completed, modules: [&str; 2]) -> [f64; 2] {
    let build_id = run.record.run().expect("the run introduced itself").build_id;
    let image = symbols::Image::find(&build_id, None).expect("the image is embedded");
    let mut symbolizer = Symbolizer::new(&image).expect("the image is an ELF");
    let mut counts = [0_usize; 2];
    for sample in samples(&run.capture) {
        let names = function_names(&mut symbolizer, &sample);
        for (count, module) in counts.iter_mut().zip(modules) {
            *count += usize::from(names.iter().any(|name| name.contains(module)));
        }
    }
    let total = counts[0] + counts[1];
    assert!(total >= SAMPLES_MIN, "{counts:?} samples in {modules:?}");
    counts.map(|count| 100.0 * count as f64 / total as f64)
}

fn function_names(symbolizer: &mut Symbolizer<'_>, sample: &ChainedSample) -> Vec<String> {
    let mut places = vec![symbolizer.instruction(sample.ip)];
    places.extend(sample.callers.iter().map(|caller| symbolizer.call(*caller)));
    let frames = places.iter().flat_map(|place| &place.frames);
    frames.map(|frame| frame.function.to_string()).collect()
}

/// Shares of instructions in percent, by the kernel's own measurement with sampling off.
fn true_shares(run: &Completed, names: [&str; 2]) -> [f64; 2] {
    let workloads = run.record.messages().workloads();
    let instructions = names.map(|name| {
        let workload = workloads.iter().find(|workload| workload.name == name).expect("it was run");
        let per_step = workload.instructions_per_step.expect("icount counts instructions");
        (workload.steps * per_step) as f64
    });
    instructions.map(|count| 100.0 * count / (instructions[0] + instructions[1]))
}

#[test]
fn a_workload_with_interrupts_disabled_gets_its_share() {
    let words = "workload=irqs-off,sort duration_ns=450000000 period=20011 chains=on";
    let Some(run) = Boot::image(Image::Main).append(words).run().passed() else { return };
    let sampled = sampled_shares(&run, ["workloads::irqs_off", "workloads::sort"]);
    let truth = true_shares(&run, ["irqs-off", "sort"]);
    println!("instructions {truth:.3?} %, samples {sampled:.3?} %");
    for (sampled, truth) in sampled.iter().zip(truth) {
        assert!(
            (sampled - truth).abs() <= TOLERANCE_POINTS,
            "{sampled:.3} % of the samples, {truth:.3} % in truth"
        );
    }
}

#[test]
fn one_sample_is_taken_every_period_exactly() {
    let words = "workload=sort duration_ns=300000000 period=10007";
    let Some(run) = Boot::image(Image::Main).append(words).run().passed() else { return };
    let times: Vec<u64> = samples(&run.capture).iter().map(|sample| sample.time).collect();
    let mut intervals: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    intervals.sort_unstable();
    let median = intervals[intervals.len() / 2];
    // An interval is the period and one run of the handler, whose length is constant but for page faults.
    let exact = intervals.iter().filter(|interval| **interval == median).count();
    assert!(median > 10_007 && median < 10_007 + 400, "{median} ticks between samples");
    assert!(exact * 100 >= intervals.len() * 95, "{exact} of {} intervals are {median}", intervals.len());
}
