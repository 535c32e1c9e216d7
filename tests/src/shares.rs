//! Shares of workloads in a run: as the samples have them, and as they were measured without sampling.

use nmiprof::symbols::{self, Symbolizer};

use crate::Completed;
use crate::samples::{ChainedSample, samples};

/// Counts the samples whose call chain names each of `modules`.
///
/// # Panics
/// If the capture can't be decoded or symbolized.
#[must_use]
pub fn sample_counts<const N: usize>(run: &Completed, modules: [&str; N]) -> [usize; N] {
    sample_counts_where(run, |_| true, modules)
}

/// Counts the samples for which `is_meant` and whose call chain names each of `modules`.
///
/// # Panics
/// If the capture can't be decoded or symbolized.
#[must_use]
pub fn sample_counts_where<const N: usize>(
    run: &Completed,
    is_meant: impl Fn(&ChainedSample) -> bool,
    modules: [&str; N],
) -> [usize; N] {
    let build_id = run.record.run().expect("the run introduced itself").build_id;
    let image = symbols::Image::find(&build_id, None).expect("the image is embedded");
    let mut symbolizer = Symbolizer::new(&image).expect("the image is an ELF");
    let mut counts = [0; N];
    for sample in samples(&run.capture).into_iter().filter(is_meant) {
        let names = function_names(&mut symbolizer, &sample);
        for (count, module) in counts.iter_mut().zip(modules) {
            *count += usize::from(names.iter().any(|name| name.contains(module)));
        }
    }
    counts
}

/// Returns the instructions that each of the workloads ran, by the kernel's own measurement with sampling off.
///
/// # Panics
/// If one of them was not run, or the clock did not count instructions.
#[must_use]
pub fn instructions<const N: usize>(run: &Completed, names: [&str; N]) -> [u64; N] {
    let workloads = run.record.messages().workloads();
    names.map(|name| {
        let workload = workloads.iter().find(|workload| workload.name == name).expect("it was run");
        workload.steps * workload.instructions_per_step.expect("icount counts instructions")
    })
}

/// Turns counts into percent of their sum.
#[must_use]
pub fn percent<const N: usize>(counts: [u64; N]) -> [f64; N] {
    let total: u64 = counts.iter().sum();
    counts.map(|count| 100.0 * count as f64 / total as f64)
}

fn function_names(symbolizer: &mut Symbolizer<'_>, sample: &ChainedSample) -> Vec<String> {
    let mut places = vec![symbolizer.instruction(sample.ip)];
    places.extend(sample.callers.iter().map(|caller| symbolizer.call(*caller)));
    let frames = places.iter().flat_map(|place| &place.frames);
    frames.map(|frame| frame.function.to_string()).collect()
}
