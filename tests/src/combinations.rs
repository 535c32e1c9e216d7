//! Every sound form of the NMI entries, as kernel options.

use nmiprof::sweep::Combination;
use nmiprof_wire::{FaultReturn, Options, Unmask};

/// How many there are: `rostedt` and `latched` in eight forms, `softmask` and `tristate` in four, `naive` where
/// nothing unmasks NMIs.
pub const SOUND: usize = 8 + 8 + 4 + 4 + 1;

/// Returns `base` in every sound form.
///
/// # Panics
/// If there are not [`SOUND`] of them.
#[must_use]
pub fn sound(base: Options<'static>) -> Vec<Options<'static>> {
    let all = Combination::all().into_iter().filter(Combination::is_sound);
    let forms: Vec<_> = all.map(|form| with_form(base, &form)).collect();
    assert_eq!(forms.len(), SOUND);
    forms
}

/// Tells whether anything unmasks NMIs inside an NMI.
#[must_use]
pub fn nests(options: &Options<'_>) -> bool {
    options.fault_return == FaultReturn::Iret || options.unmask == Unmask::Early
}

fn with_form(base: Options<'static>, form: &Combination) -> Options<'static> {
    let Combination { entry: nmi_entry, fault_return, nested_return, unmask } = *form;
    Options { nmi_entry, fault_return, nested_return, unmask, ..base }
}
