//! Known defects of the entries, and what shows each.
//!
//! A mutant is a further stub of the self-test image, made from the same assembly with one thing wrong: the
//! list at the end of each entry's assembly file says what. One for which two NMIs suffice is caught by the
//! sweep. Some defects need a third one, in the run that the second one asked for, or on the way to it: those
//! are caught by the storm, which the sound entry has to survive with the same seed.

use nmiprof_wire::{FaultReturn, NestedReturn, NmiEntry, Unmask};

use super::combination::Combination;

/// A known defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Its name, which the kernel takes as `mutant=NAME`.
    pub name: &'static str,
    /// What has to catch it.
    pub shown_by: ShownBy,
}

/// What shows a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownBy {
    /// The sweep: two NMIs.
    Sweep,
    /// The storm: three NMIs.
    Storm,
}

const fn sweep(name: &'static str) -> Mutant {
    Mutant { name, shown_by: ShownBy::Sweep }
}

const fn storm(name: &'static str) -> Mutant {
    Mutant { name, shown_by: ShownBy::Storm }
}

const ROSTEDT: &[Mutant] = &[
    sweep("no-window-check"),
    sweep("window-short"),
    sweep("no-gap-check"),
    sweep("clear-early"),
    sweep("no-redirect"),
    sweep("save-again"),
    sweep("no-dr7-zero"),
    sweep("no-dr7-restore"),
    sweep("no-cr2-restore"),
    storm("window-late"),
    storm("repeat-not-executing"),
];

const ROSTEDT_NESTED_RET: &[Mutant] = &[
    sweep("no-window-check"),
    sweep("no-gap-check"),
    sweep("no-redirect"),
    sweep("flags-lost"),
    sweep("rsp-off"),
];

const LATCHED: &[Mutant] = &[
    sweep("no-window-check"),
    sweep("window-late"),
    sweep("window-short"),
    sweep("clear-early"),
    sweep("no-latch"),
    sweep("latch-stays"),
    sweep("literal-rfc"),
    sweep("restart-keeps-rsp"),
    sweep("restart-keeps-dr7"),
    sweep("save-again"),
    sweep("context-again"),
    sweep("no-dr7-zero"),
    sweep("no-dr7-restore"),
    sweep("no-cr2-restore"),
    storm("unlatch-late"),
    storm("restart-state-free"),
];

const LATCHED_NESTED_RET: &[Mutant] =
    &[sweep("no-window-check"), sweep("no-latch"), sweep("flags-lost"), sweep("rsp-off")];

const SOFTMASK: &[Mutant] = &[
    sweep("no-executing-check"),
    sweep("no-gap-check"),
    sweep("clear-early"),
    sweep("no-poison"),
    sweep("poison-rip"),
    sweep("no-cure"),
    sweep("flags-lost"),
    sweep("rsp-off"),
    sweep("no-dr7-zero"),
    sweep("no-dr7-restore"),
    sweep("no-cr2-restore"),
    storm("no-poison-check"),
    storm("fault-not-executing"),
    storm("cure-early"),
];

const TRISTATE: &[Mutant] = &[
    sweep("no-window-check"),
    sweep("window-late"),
    sweep("window-short"),
    sweep("set-late"),
    sweep("release-early"),
    sweep("no-latch"),
    sweep("again-not-set"),
    sweep("window-no-run"),
    sweep("window-keeps-rsp"),
    sweep("save-again"),
    sweep("no-dr7-zero"),
    sweep("no-dr7-restore"),
    sweep("no-cr2-restore"),
];

impl Combination {
    /// Returns the known defects that this combination has to show.
    ///
    /// They are tried where NMIs reach nearly everything, so that no window hides behind the mask.
    #[must_use]
    pub fn mutants(&self) -> &'static [Mutant] {
        if self.unmask != Unmask::Early || self.fault_return != FaultReturn::Iret {
            return &[];
        }
        match (self.entry, self.nested_return) {
            (NmiEntry::Rostedt, NestedReturn::Iret) => ROSTEDT,
            (NmiEntry::Rostedt, NestedReturn::Ret) => ROSTEDT_NESTED_RET,
            (NmiEntry::Latched, NestedReturn::Iret) => LATCHED,
            (NmiEntry::Latched, NestedReturn::Ret) => LATCHED_NESTED_RET,
            (NmiEntry::Softmask, _) => SOFTMASK,
            (NmiEntry::Tristate, _) => TRISTATE,
            // Nothing in it is about nesting, so nothing can be left out.
            (NmiEntry::Naive, _) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::images;
    use crate::sweep::Code;

    /// Returns the label of a mutant's entry.
    fn label(combination: &Combination, mutant: &Mutant) -> String {
        let nret = if combination.nested_return == NestedReturn::Ret { "_nret" } else { "" };
        format!("nmi_{}{nret}_mutant_{}", combination.entry, mutant.name.replace('-', "_"))
    }

    fn labels_of_mutants(image: &[u8]) -> BTreeSet<String> {
        let code = Code::parse(image).expect("an ELF file");
        let exits = code.labels().filter_map(|label| label.strip_suffix("_iretq"));
        exits.filter(|entry| entry.contains("_mutant_")).map(str::to_owned).collect()
    }

    #[test]
    fn the_self_test_image_holds_these_mutants_and_the_other_one_holds_none() {
        let listed: BTreeSet<_> = Combination::all()
            .iter()
            .flat_map(|one| one.mutants().iter().map(|mutant| label(one, mutant)))
            .collect();
        assert_eq!(labels_of_mutants(images::SELFTEST), listed);
        assert_eq!(labels_of_mutants(images::MAIN), BTreeSet::new());
    }

    #[test]
    fn every_strategy_that_does_something_about_nesting_has_mutants() {
        let all = Combination::all();
        for entry in NmiEntry::ALL {
            let count: usize =
                all.iter().filter(|one| one.entry == *entry).map(|one| one.mutants().len()).sum();
            assert_eq!(count == 0, *entry == NmiEntry::Naive, "{entry}: {count}");
        }
    }
}
