//! What a flat sample on a warm page costs with each NMI entry, in instructions.
//!
//! The kernel measures it at every start: under `-icount` a tick of its clock is an instruction, so the time
//! between two samples less the interrupted instructions between them is one whole NMI, from the first
//! instruction of its entry to the last of its exit. The figure is exact, and the same on every machine.

use nmiprof::images::Image;
use nmiprof_tests::Boot;
use nmiprof_wire::{NmiEntry, Options};

fn sample_instructions(entry: NmiEntry) -> Option<u64> {
    let options =
        Options { duration_ns: 1_000_000, nmi_entry: entry, unsafe_nmi: true, ..Options::default() };
    let run = Boot::image(Image::Main).options(&options).run().passed()?;
    run.record.run()?.sample_instructions
}

fn main() {
    let entries = NmiEntry::ALL.iter().map(|entry| (entry, sample_instructions(*entry)));
    let costs: Vec<_> = entries.collect();
    println!("{:10} {:>12}", "entry", "instructions");
    for (entry, cost) in costs {
        println!(
            "{:10} {:>12}",
            entry.name(),
            cost.map_or_else(|| "skipped".to_owned(), |cost| cost.to_string())
        );
    }
}
