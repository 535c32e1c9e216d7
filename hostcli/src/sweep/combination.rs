//! What is swept: entry strategies in every form, and which of them are sound.

use std::fmt;

use nmiprof_wire::{FaultReturn, Line, NestedReturn, NmiEntry, Options, Unmask};

/// Seed of the storm that mutants and their sound form go through.
const STORM_SEED: u32 = 20_261_121;
/// Its nestings: the rarest defect shows in about ten reports.
pub const STORM_NESTINGS: u32 = 100_000;

/// One form of an entry strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Combination {
    /// The strategy.
    pub entry: NmiEntry,
    /// How a fault inside an NMI returns.
    pub fault_return: FaultReturn,
    /// How a nested NMI returns.
    pub nested_return: NestedReturn,
    /// When NMIs are unmasked.
    pub unmask: Unmask,
}

impl Combination {
    /// Returns every combination there is: only two strategies have a nested return to choose.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for &entry in NmiEntry::ALL {
            for &fault_return in FaultReturn::ALL {
                for &nested_return in nested_returns(entry) {
                    for &unmask in Unmask::ALL {
                        all.push(Self { entry, fault_return, nested_return, unmask });
                    }
                }
            }
        }
        all
    }

    /// Tells whether every invariant is claimed to hold: the naive entry can't bear any inner unmasking.
    ///
    /// How the ring is mapped makes no difference here: the handler of a sweep touches lazily mapped pages of its own.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let nothing_unmasks = self.fault_return == FaultReturn::Ret && self.unmask == Unmask::Fault;
        self.entry != NmiEntry::Naive || nothing_unmasks
    }

    /// Returns the label of the entry.
    #[must_use]
    pub fn label(&self) -> String {
        let early = if self.unmask == Unmask::Early { "_early" } else { "" };
        let nret = if self.nested_return == NestedReturn::Ret { "_nret" } else { "" };
        format!("nmi_{}{early}{nret}", self.entry)
    }

    /// Returns the kernel command line for the placements of a request.
    #[must_use]
    pub fn command_line(&self, request: &Request<'_>) -> String {
        self.command_line_for("sweep", request)
    }

    /// Returns the kernel command line for a storm, with the known defect `mutant`; empty for none.
    #[must_use]
    pub fn storm_command_line(&self, mutant: &str) -> String {
        self.command_line_for("storm", &Request { mutant, first: STORM_SEED, last: STORM_NESTINGS })
    }

    fn command_line_for<'a>(&self, selftest: &'a str, request: &Request<'a>) -> String {
        let options = Options {
            sweep_first: request.first,
            sweep_last: request.last,
            selftest,
            ..self.options(request.mutant)
        };
        options.to_string()
    }

    /// Returns the kernel command line for the pairs of a request.
    #[must_use]
    pub fn command_line_of_pairs(&self, request: &PairRequest<'_>) -> String {
        let (third_first, third_last) = request.gaps;
        let options = Options {
            sweep_first: request.first,
            sweep_last: request.last,
            third_first,
            third_last,
            selftest: "pairs",
            ..self.options(request.mutant)
        };
        options.to_string()
    }

    fn options<'a>(&self, mutant: &'a str) -> Options<'a> {
        Options {
            nmi_entry: self.entry,
            fault_return: self.fault_return,
            nested_return: self.nested_return,
            unmask: self.unmask,
            line: Line::File,
            unsafe_nmi: !self.is_sound() || !mutant.is_empty(),
            mutant,
            ..Options::default()
        }
    }
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entry, fault_return, nested_return, unmask } = self;
        write!(f, "{entry} fault={fault_return} nested={nested_return} unmask={unmask}")
    }
}

fn nested_returns(entry: NmiEntry) -> &'static [NestedReturn] {
    match entry {
        NmiEntry::Rostedt | NmiEntry::Latched => NestedReturn::ALL,
        NmiEntry::Naive | NmiEntry::Softmask | NmiEntry::Tristate => &[NestedReturn::Iret],
    }
}

/// Placements to be done in one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Known defect of the entry; empty for none.
    pub mutant: &'a str,
    /// First placement, in timer ticks.
    pub first: u32,
    /// Last placement, in timer ticks.
    pub last: u32,
}

/// Pairs to be done in one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairRequest<'a> {
    /// Known defect of the entry; empty for none.
    pub mutant: &'a str,
    /// First row: ticks of the second NMI.
    pub first: u32,
    /// Last row.
    pub last: u32,
    /// First and last gap from the second NMI to the third, in every row.
    pub gaps: (u32, u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(fault_return: FaultReturn, unmask: Unmask) -> Combination {
        Combination { entry: NmiEntry::Naive, fault_return, nested_return: NestedReturn::Iret, unmask }
    }

    #[test]
    fn every_strategy_is_there_in_every_form() {
        let all = Combination::all();
        assert_eq!(all.len(), 2 * 8 + 3 * 4);
        assert!(NmiEntry::ALL.iter().all(|entry| all.iter().any(|one| one.entry == *entry)));
    }

    #[test]
    fn the_naive_entry_is_sound_only_while_nothing_unmasks() {
        assert!(naive(FaultReturn::Ret, Unmask::Fault).is_sound());
        assert!(!naive(FaultReturn::Iret, Unmask::Fault).is_sound());
        assert!(!naive(FaultReturn::Ret, Unmask::Early).is_sound());
        assert_eq!(Combination::all().iter().filter(|one| !one.is_sound()).count(), 3);
    }

    #[test]
    fn labels_and_command_lines_name_the_form() {
        let combination = Combination {
            entry: NmiEntry::Rostedt,
            fault_return: FaultReturn::Ret,
            nested_return: NestedReturn::Ret,
            unmask: Unmask::Early,
        };
        assert_eq!(combination.label(), "nmi_rostedt_early_nret");
        let text = combination.command_line(&Request { mutant: "", first: 3, last: 9 });
        let options = Options::parse(&text).expect("our own words");
        assert_eq!((options.sweep_first, options.sweep_last, options.selftest), (3, 9, "sweep"));
        assert_eq!((options.fault_return, options.unmask), (FaultReturn::Ret, Unmask::Early));
        assert!(!options.unsafe_nmi);
        let unsound = naive(FaultReturn::Iret, Unmask::Fault);
        assert!(unsound.command_line(&Request { mutant: "", first: 1, last: 1 }).contains("unsafe_nmi=on"));
    }
}
