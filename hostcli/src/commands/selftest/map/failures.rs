//! What failed in a form, and what that means.

use std::collections::BTreeMap;

use super::form::Form;
use super::markup::Markup;
use crate::sweep::{Effect, Fate, judge};

/// Kinds of failures, and what is wrong then.
const KINDS: &[(&str, &str)] = &[
    (
        "NMI-once",
        "The handler was entered while it was running. Its data were half written, and its stack was overwritten from the top.",
    ),
    (
        "NMI-latch",
        "An NMI was lost, or caused more than one run: arrivals, runs and the entry's own accounts do not match.",
    ),
    ("registers", "The interrupted code got a register back with another value."),
    ("flags", "The interrupted code got RFLAGS back with another value."),
    ("stack", "The interrupted code got RSP back with another value, or a word on its stack was changed."),
    ("CR2", "The interrupted code got CR2 back with another value."),
    ("DR7", "The interrupted code got DR7 back with another value."),
    ("canary", "The lowest words of the NMI stack, which nothing may reach, were changed."),
    (
        "NMI-live",
        "NMIs were still masked after the return; or there was no return: the frame to return by was gone, the NMI went round in circles and was given up. The counts then show many runs, or a third NMI: the watchdog's.",
    ),
    (
        "dispatch",
        "The dispatcher accounted for an NMI in another way than its situation allows, or the situation did not arise.",
    ),
    (
        "address space",
        "The address space in CR3 did not get what it missed, or another one did, or CR3 came back with another value.",
    ),
    (judge::RUNS, "Two NMIs did not have the runs that they ask for."),
    (judge::MASKED, "The NMI arrived where the masking says that none can."),
    (judge::DIED, "The machine did not outlive it."),
    ("unknown", "The kernel reports a failure that this program has no name for."),
];

/// Writes what failed, if anything did.
pub(super) fn write(form: &Form<'_>, markup: &mut Markup) {
    if form.outcome.failures == 0 {
        return;
    }
    markup.nest("div", &[("class", "failures")], |markup| {
        let heading = if form.outcome.sound { "What failed" } else { "What was destroyed" };
        markup.element("h4", &[], heading);
        if !form.outcome.sound {
            write_proof(markup);
        }
        write_places(form, markup);
        write_kinds(form, markup);
    });
}

fn write_proof(markup: &mut Markup) {
    let proof = "This is the proof that the flaw is real. The nested NMI starts at the top of the stack that the \
                 outer one still uses. Its frame, with a RIP inside the outer NMI, takes the place of the frame that \
                 leads back to the interrupted code. Where it meets the handler at work, the handler is entered a \
                 second time, on its own stack. Where it meets the entry, the exit, or the edges of the handler at \
                 which that does not say yet, or no longer, that it is running, the second run gets through; but the \
                 final `iretq` finds the wrong frame, and goes back into the NMI instead of to the interrupted code, \
                 again and again.";
    markup.prose("p", &[], proof);
}

/// Writes where NMIs landed that broke something, and what they broke.
fn write_places(form: &Form<'_>, markup: &mut Markup) {
    let mut places: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for (position, site) in form.sites().iter().enumerate() {
        let (landed, kinds) = match &site.fate {
            Fate::Landed(arrival) => match &arrival.effect {
                Effect::Failed(kinds) => (arrival.position, kinds.join(", ")),
                _ => continue,
            },
            Fate::Died(_) => (Some(position), judge::DIED.to_owned()),
            _ => continue,
        };
        let part = landed.map_or("where none may", |landed| form.part_name(landed));
        *places.entry((part, kinds)).or_default() += 1;
    }
    markup.nest("table", &[("class", "plain")], |markup| {
        markup.nest("thead", &[], |markup| {
            row("th", ["NMI landed in", "what did not hold", "boundaries"], markup)
        });
        markup.nest("tbody", &[], |markup| {
            for ((part, kinds), count) in &places {
                row("td", [part, kinds, &count.to_string()], markup);
            }
        });
    });
}

fn row(cell: &'static str, cells: [&str; 3], markup: &mut Markup) {
    markup.nest("tr", &[], |markup| cells.iter().for_each(|text| markup.element(cell, &[], text)));
}

/// Explains each kind of failure that there was.
fn write_kinds(form: &Form<'_>, markup: &mut Markup) {
    markup.nest("dl", &[], |markup| {
        for (kind, meaning) in KINDS {
            if let Some(count) = form.outcome.failures_by_kind.get(kind) {
                markup.element("dt", &[], &format!("{kind}: {count} placements"));
                markup.prose("dd", &[], meaning);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use nmiprof_wire::Failure;

    #[test]
    fn every_kind_of_failure_is_explained_once() {
        let names = Failure::ALL.iter().map(|(_, name)| *name);
        for name in names.chain([judge::RUNS, judge::MASKED, judge::DIED, "unknown"]) {
            assert_eq!(KINDS.iter().filter(|(kind, _)| *kind == name).count(), 1, "{name}");
        }
        assert_eq!(KINDS.len(), Failure::ALL.len() + 4);
    }
}
