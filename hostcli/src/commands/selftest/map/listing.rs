//! The listing of a form: a row for each boundary.
//!
//! The entry's own instructions are shown; handler and page fault are folded into a summary. Below stand the
//! instructions of the entry that are not in the trace.

use std::collections::BTreeMap;

use super::form::{Form, effect_text};
use super::markup::Markup;
use super::parts::Part;
use super::strategy::Strategy;
use crate::sweep::Fate;

/// Names in which every function of the kernel begins: a row has no room for it.
const KERNEL_CRATE: &str = "nmiprof_kernel::";
/// Headings of the columns, and what they are for.
const COLUMNS: &[(&str, &str)] = &[
    ("#", "position in the trace"),
    ("address", "of the instruction after the boundary"),
    ("place", "label and offset"),
    ("instruction", "the one that an NMI here interrupts"),
    ("class", "can an NMI arrive here?"),
    ("fate of an NMI due here", "what it did"),
    ("counts", "arrivals / arrivals that found an NMI in progress / runs of the handler"),
];

/// Writes the listing of a form.
pub(super) fn write(form: &Form<'_>, markup: &mut Markup) {
    let landings = form.landings();
    for part in form.parts() {
        if part.kind.is_stub() || part.positions.len() == 1 {
            markup.element("h4", &[], &summary(form, part));
            write_table(form, part, &landings, markup);
        } else {
            markup.nest("details", &[("class", "body")], |markup| {
                markup.element("summary", &[], &summary(form, part));
                write_table(form, part, &landings, markup);
            });
        }
    }
    write_rest(form, markup);
}

/// Says how many boundaries a part has, of which class, and what became of the NMIs.
fn summary(form: &Form<'_>, part: &Part) -> String {
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut fates: BTreeMap<&str, usize> = BTreeMap::new();
    for position in part.positions.clone() {
        if let Some(site) = form.sites().get(position) {
            *classes.entry(site.boundary.class.name()).or_default() += 1;
            *fates.entry(form.fate_name(position)).or_default() += 1;
        }
    }
    let boundaries = if part.positions.len() == 1 { "boundary" } else { "boundaries" };
    let (name, total) = (part.kind.name(), part.positions.len());
    format!("{name}: {total} {boundaries}; {}; {}", counts(&classes), counts(&fates))
}

fn counts(counts: &BTreeMap<&str, usize>) -> String {
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

fn write_table(form: &Form<'_>, part: &Part, landings: &[usize], markup: &mut Markup) {
    markup.nest("div", &[("class", "wide")], |markup| {
        markup.nest("table", &[("class", "map")], |markup| {
            write_head(markup);
            markup.nest("tbody", &[], |markup| {
                for position in part.positions.clone() {
                    if part.kind.is_stub() {
                        write_label(form, position, markup);
                    }
                    write_row(form, position, landings.binary_search(&position).is_ok(), markup);
                }
            });
        });
    });
}

fn write_head(markup: &mut Markup) {
    markup.nest("thead", &[], |markup| {
        markup.nest("tr", &[], |markup| {
            for (name, meaning) in COLUMNS {
                markup.element("th", &[("scope", "col"), ("title", meaning)], name);
            }
        });
    });
}

/// Writes a row for the label at a position, if there is one.
fn write_label(form: &Form<'_>, position: usize, markup: &mut Markup) {
    let Some(site) = form.sites().get(position) else { return };
    let at = site.boundary.address;
    if let Some(window) = form.outcome.window.iter().find(|window| window.start.0 == at) {
        let columns = COLUMNS.len().to_string();
        markup.nest("tr", &[("class", "label")], |markup| {
            markup.nest("td", &[("colspan", &columns)], |markup| {
                write_label_text(form, &window.symbol, markup)
            });
        });
    }
}

fn write_label_text(form: &Form<'_>, label: &str, markup: &mut Markup) {
    markup.element("code", &[], &format!("{label}:"));
    if let Some(note) = Strategy::of(form.combination.entry).label_note(&form.label, label) {
        markup.text(" ");
        markup.inline(note);
    }
}

fn write_row(form: &Form<'_>, position: usize, is_landing: bool, markup: &mut Markup) {
    let Some(site) = form.sites().get(position) else { return };
    let (boundary, fate) = (site.boundary, form.fate_name(position));
    let class = format!("{} r-{fate}", boundary.class.name());
    let id = anchor(form, position);
    let attributes = [("class", &*class), ("id", &*id)];
    markup.nest("tr", if is_landing { &attributes } else { &attributes[..1] }, |markup| {
        markup.element("td", &[], &position.to_string());
        markup.element("td", &[], &format!("{:x}", boundary.address));
        markup.element("td", &[], &form.code.name(boundary.address).replace(KERNEL_CRATE, ""));
        markup.element("td", &[], &instruction(form, boundary.address));
        markup.element("td", &[], boundary.class.name());
        markup.nest("td", &[], |markup| write_fate(form, position, markup));
        markup.element("td", &[], &seen(form, position));
    });
}

fn instruction(form: &Form<'_>, address: u64) -> String {
    form.code.disassemble(address).unwrap_or_default().replace(KERNEL_CRATE, "")
}

/// Writes what became of the NMI that was due at a position.
fn write_fate(form: &Form<'_>, position: usize, markup: &mut Markup) {
    match form.sites().get(position).map(|site| &site.fate) {
        Some(Fate::Landed(arrival)) => match arrival.position {
            Some(landed) if landed != position => {
                markup.text(&format!("{} to ", form.fate_name(position)));
                let target = format!("#{}", anchor(form, landed));
                markup.element("a", &[("href", &target)], &format!("#{landed}"));
                markup.text(&format!(", there {}", effect_text(&arrival.effect)));
            }
            _ => markup.text(&effect_text(&arrival.effect)),
        },
        Some(Fate::Died(reason)) => markup.text(&format!("DIED: {reason}")),
        Some(Fate::Simultaneous) => markup.text("as the row above: the fault's delivery takes no time"),
        Some(Fate::Untried) | None => markup.text("not tried"),
    }
}

fn seen(form: &Form<'_>, position: usize) -> String {
    form.arrival(position).map_or_else(String::new, |arrival| {
        let placement = arrival.placement;
        format!("{} / {} / {}", placement.arrivals, placement.nested, placement.runs)
    })
}

fn anchor(form: &Form<'_>, position: usize) -> String {
    format!("{}-{position}", form.anchor())
}

/// Writes the instructions of the entry that are not in the trace.
fn write_rest(form: &Form<'_>, markup: &mut Markup) {
    let is_traced = |address: u64| form.sites().iter().any(|site| site.boundary.address == address);
    let lines: Vec<_> =
        form.code.lines(form.stub.clone()).into_iter().filter(|line| !is_traced(line.address)).collect();
    if lines.is_empty() {
        return;
    }
    markup.nest("details", &[("class", "body")], |markup| {
        let what = format!(
            "rest of the entry: {} instructions outside the trace, for a nested NMI and the run that it asks for",
            lines.len()
        );
        markup.element("summary", &[], &what);
        markup.nest("div", &[("class", "wide")], |markup| {
            markup.nest("table", &[("class", "rest")], |markup| {
                markup.nest("tbody", &[], |markup| {
                    for line in &lines {
                        write_rest_row(form, line.address, &line.text, markup);
                    }
                });
            });
        });
    });
}

fn write_rest_row(form: &Form<'_>, address: u64, text: &str, markup: &mut Markup) {
    if let Some(window) = form.outcome.window.iter().find(|window| window.start.0 == address) {
        markup.nest("tr", &[("class", "label")], |markup| {
            markup.nest("td", &[("colspan", "3")], |markup| write_label_text(form, &window.symbol, markup));
        });
    }
    markup.nest("tr", &[], |markup| {
        markup.element("td", &[], &format!("{address:x}"));
        markup.element("td", &[], &form.code.name(address));
        markup.element("td", &[], &text.replace(KERNEL_CRATE, ""));
    });
}
