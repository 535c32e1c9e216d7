//! What is swept: entry strategies in every form, which of them are sound, and their known defects.

use std::fmt;

use nmiprof_wire::{FaultReturn, Line, NestedReturn, NmiEntry, Options, Unmask};

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

    /// Returns the names of the known defects that this combination has to show.
    ///
    /// They are tried where NMIs reach nearly everything, so that no window hides behind the mask.
    #[must_use]
    pub fn mutants(&self) -> &'static [&'static str] {
        let reaches_all = self.unmask == Unmask::Early && self.fault_return == FaultReturn::Iret;
        if !reaches_all || self.nested_return != NestedReturn::Iret {
            return &[];
        }
        match self.entry {
            NmiEntry::Rostedt => {
                &["no-window-check", "no-gap-check", "clear-early", "no-cr2-restore", "save-again"]
            }
            NmiEntry::Naive | NmiEntry::Latched | NmiEntry::Softmask | NmiEntry::Tristate => &[],
        }
    }

    /// Returns the kernel command line for the placements of a request.
    #[must_use]
    pub fn command_line(&self, request: &Request<'_>) -> String {
        let options = Options {
            nmi_entry: self.entry,
            fault_return: self.fault_return,
            nested_return: self.nested_return,
            unmask: self.unmask,
            line: Line::File,
            unsafe_nmi: !self.is_sound() || !request.mutant.is_empty(),
            sweep_first: request.first,
            sweep_last: request.last,
            mutant: request.mutant,
            selftest: "sweep",
            ..Options::default()
        };
        options.to_string()
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

    #[test]
    fn defects_are_tried_where_nmis_reach_nearly_everything() {
        for combination in Combination::all() {
            let reaches_all =
                combination.unmask == Unmask::Early && combination.fault_return == FaultReturn::Iret;
            let is_rostedt =
                combination.entry == NmiEntry::Rostedt && combination.nested_return == NestedReturn::Iret;
            assert_eq!(combination.mutants().is_empty(), !(reaches_all && is_rostedt), "{combination}");
        }
    }
}
