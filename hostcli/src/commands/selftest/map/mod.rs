//! The window map: one page that shows, for each strategy, what an NMI at each instruction boundary did.
//!
//! The page is one file: no network, no fonts, no images of its own, and it works without its script. It is the
//! same, byte for byte, for the same image, the same QEMU and the same combinations.
//!
//! - [`markup`]: the writer, and the only place that escapes;
//! - [`lesson`]: the flaw, and how to read the map;
//! - [`strategy`]: the idea of each strategy, its stack, its labels;
//! - [`form`], [`parts`]: one combination, arranged for being drawn;
//! - [`strip`], [`listing`], [`failures`]: its picture, its boundaries, and what failed;
//! - [`page`]: where all of it goes.

mod failures;
mod form;
mod lesson;
mod listing;
mod markup;
mod page;
mod parts;
mod strategy;
mod strip;

use nmiprof_wire::{BuildId, FaultReturn, NestedReturn, NmiEntry, Unmask};

use super::nmi::reaches_most;
use super::table::verdict;
use crate::sweep::{Code, Combination, Outcome};
use form::Form;
use markup::Markup;
pub(super) use page::Page;
use strategy::{Stack, Strategy};

/// Nothing may be loaded: the page carries all that it needs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// What a map is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map<'a> {
    /// Version line of the QEMU that was used.
    pub(super) qemu: &'a str,
    /// Identity of the image that was swept.
    pub(super) build_id: Option<BuildId>,
    /// The code of that image.
    pub(super) code: &'a Code,
    /// What was swept.
    pub(super) combinations: &'a [Combination],
    /// What came of each.
    pub(super) outcomes: &'a [Outcome],
}

impl Map<'_> {
    /// Writes the page.
    pub(super) fn page(&self) -> String {
        let mut markup = Markup::default();
        markup.own("<!DOCTYPE html>\n");
        markup.nest("html", &[("lang", "en")], |markup| {
            markup.nest("head", &[], write_head);
            markup.nest("body", &[], |markup| self.write_body(markup));
        });
        markup.finish()
    }

    fn write_body(&self, markup: &mut Markup) {
        markup.own(include_str!("patterns.svg"));
        markup.nest("header", &[], |markup| self.write_header(markup));
        markup.nest("main", &[], |markup| {
            lesson::write(markup);
            for strategy in self.strategies() {
                self.write_strategy(strategy, markup);
            }
        });
        markup.nest("footer", &[], |markup| {
            markup.prose(
                "p",
                &[],
                "The sweep places a second NMI, on QEMU's model of NMIs. It is not silicon.",
            );
        });
        markup.nest("script", &[], |markup| markup.own(include_str!("script.js")));
    }

    fn write_header(&self, markup: &mut Markup) {
        markup.element("h1", &[], "nmiprof: the window map");
        let lead =
            "A second NMI at every instruction boundary of a first one: where it landed, and what it did.";
        markup.element("p", &[], lead);
        let build_id = self.build_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        let placements: u64 = self.outcomes.iter().map(|outcome| outcome.runs).sum();
        let swept = format!("{placements} placements in {} combinations", self.outcomes.len());
        markup.nest("dl", &[("class", "facts")], |markup| {
            for (name, value) in [("emulator", self.qemu), ("kernel image", &build_id), ("swept", &swept)] {
                markup.element("dt", &[], name);
                markup.element("dd", &[], value);
            }
        });
        markup.nest("nav", &[("aria-label", "strategies")], |markup| self.write_links(markup));
        markup.nest("p", &[("class", "tools"), ("hidden", "hidden")], |markup| {
            markup.element("button", &[("type", "button"), ("class", "open")], "open all");
            markup.text(" ");
            markup.element("button", &[("type", "button"), ("class", "close")], "close all");
        });
    }

    fn write_links(&self, markup: &mut Markup) {
        markup.nest("ul", &[], |markup| {
            let lesson = [("lesson", "the flaw"), ("reading", "how to read the map")];
            let strategies = self.strategies().map(|strategy| strategy.entry.name()).map(|name| (name, name));
            for (anchor, name) in lesson.into_iter().chain(strategies) {
                let target = format!("#{anchor}");
                markup.nest("li", &[], |markup| markup.element("a", &[("href", &target)], name));
            }
        });
    }

    /// Returns the strategies that were swept.
    fn strategies(&self) -> impl Iterator<Item = &'static Strategy> {
        let is_there = |entry: &NmiEntry| self.combinations.iter().any(|one| one.entry == *entry);
        NmiEntry::ALL.iter().copied().filter(is_there).map(Strategy::of)
    }

    fn write_strategy(&self, strategy: &Strategy, markup: &mut Markup) {
        let name = strategy.entry.name();
        let swept = self.combinations.iter().zip(self.outcomes);
        let forms: Vec<_> = swept
            .filter(|(combination, _)| combination.entry == strategy.entry)
            .map(|(combination, outcome)| Form::new(combination, outcome, self.code))
            .collect();
        markup.nest("section", &[("id", name), ("class", "strategy")], |markup| {
            markup.element("h2", &[], name);
            markup.prose("p", &[("class", "source")], strategy.source);
            strategy.idea.iter().for_each(|text| markup.prose("p", &[], text));
            markup.nest("div", &[("class", "stacks")], |markup| {
                strategy.stacks.iter().for_each(|stack| write_stack(stack, markup));
            });
            write_fates(strategy, &forms, markup);
            forms
                .iter()
                .for_each(|form| write_form(form, reaches_most(form.combination, self.combinations), markup));
        });
    }
}

fn write_head(markup: &mut Markup) {
    markup.void("meta", &[("charset", "utf-8")]);
    markup.void("meta", &[("http-equiv", "Content-Security-Policy"), ("content", POLICY)]);
    markup.void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    markup.element("title", &[], "nmiprof: the window map");
    markup.nest("style", &[], |markup| markup.own(include_str!("style.css")));
}

fn write_stack(stack: &Stack, markup: &mut Markup) {
    markup.nest("figure", &[], |markup| {
        markup.element("figcaption", &[], &format!("{}, from the top", stack.name));
        markup.nest("ol", &[], |markup| {
            for (name, meaning) in stack.parts {
                markup.nest("li", &[], |markup| {
                    markup.element("code", &[], name);
                    markup.prose("span", &[], meaning);
                });
            }
        });
    });
}

/// Says how the strategy brings about those fates that were seen.
fn write_fates(strategy: &Strategy, forms: &[Form<'_>], markup: &mut Markup) {
    let seen: Vec<_> =
        strategy.fates.iter().filter(|(name, _)| forms.iter().any(|form| form.has_effect(name))).collect();
    if seen.is_empty() {
        return;
    }
    markup.element("h3", &[], "What it does with a nested NMI");
    markup.nest("dl", &[], |markup| {
        for (name, how) in seen {
            markup.element("dt", &[], name);
            markup.prose("dd", &[], how);
        }
    });
}

fn write_form(form: &Form<'_>, is_open: bool, markup: &mut Markup) {
    let (anchor, open) = (form.anchor(), ("open", "open"));
    let attributes = [("class", "form"), ("id", &*anchor), open];
    markup.nest("details", if is_open { &attributes } else { &attributes[..2] }, |markup| {
        markup.nest("summary", &[], |markup| write_summary(form, markup));
        markup.prose("p", &[], &meaning(form.combination));
        if let Some(why) = &form.outcome.no_result {
            return markup.element("p", &[("class", "bad")], why);
        }
        markup.element("p", &[], &numbers(form.outcome));
        strip::write(form, markup);
        failures::write(form, markup);
        listing::write(form, markup);
    });
}

fn write_summary(form: &Form<'_>, markup: &mut Markup) {
    let Combination { fault_return, nested_return, unmask, .. } = form.combination;
    let options = format!("--fault-return {fault_return} --nested-return {nested_return} --unmask {unmask}");
    markup.element("code", &[], &options);
    markup.text(": ");
    let class = if form.outcome.is_as_claimed() { "verdict" } else { "verdict bad" };
    markup.element("span", &[("class", class)], verdict(form.outcome));
}

/// Says in words what the options of a combination mean.
fn meaning(combination: &Combination) -> String {
    let fault = match combination.fault_return {
        FaultReturn::Iret => "The page fault inside the NMI returns by `iretq`, which unmasks NMIs.",
        FaultReturn::Ret => {
            "The page fault inside the NMI returns by `popfq; ret`, which leaves NMIs masked."
        }
    };
    let nested = match (combination.entry, combination.nested_return) {
        (NmiEntry::Rostedt | NmiEntry::Latched, NestedReturn::Iret) => " A nested NMI returns by `iretq`.",
        (_, NestedReturn::Ret) => {
            " A nested NMI returns by `popfq; ret`, so that NMIs are masked in the outer one."
        }
        (_, NestedReturn::Iret) => "",
    };
    let unmask = match combination.unmask {
        Unmask::Fault => " Nothing else unmasks NMIs before the return.",
        Unmask::Early => " For this test the entry also unmasks NMIs as soon as it can bear that.",
    };
    format!("{fault}{nested}{unmask}")
}

fn numbers(outcome: &Outcome) -> String {
    let Outcome { masked, early, reachable, hit, runs, failures, .. } = outcome;
    let missed = outcome.missed.len();
    let mut text = format!(
        "{masked} boundaries are masked, {early} early, {reachable} reachable; {hit} of the last two were hit and \
         {missed} missed. {runs} placements were done, and {failures} failed."
    );
    if !outcome.complete {
        text.push_str(" Not every placement was done.");
    }
    if outcome.mutants.total > 0 {
        let mutants = &outcome.mutants;
        text.push_str(&format!(
            " Known defects that the sweep caught: {} of {}.",
            mutants.caught, mutants.total
        ));
    }
    text
}

#[cfg(test)]
mod tests;
