//! Tests of the page, over sites made by hand on the code of the real image. A strict parser of XML reads it.

use std::collections::{BTreeMap, BTreeSet};

use nmiprof_wire::Placement;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::*;
use crate::images::Image;
use crate::sweep::fate::Arrival;
use crate::sweep::{Boundary, Class, Effect, Fate, Site};

/// What would break out of any text, attribute or comment.
const HOSTILE: &str = "</code>'\"><script>alert(1)</script><!-- &amp; \u{1b}[2J";

fn code() -> Code {
    Code::parse(Image::Selftest.elf()).expect("an ELF file")
}

/// Makes every instruction of the entry a boundary, then one of the handler, one of its fault, and the interrupted
/// one; NMIs are masked at the first four.
fn sites(combination: &Combination, code: &Code) -> Vec<Site> {
    let stub = code.entry(&combination.label()).expect("it is built in");
    let outside = ["exception_common", "exception_iretq", "experiment_line"].map(|label| code.address(label));
    let addresses = code.lines(stub).into_iter().map(|line| line.address);
    let addresses: Vec<_> = addresses.chain(outside.into_iter().flatten()).collect();
    let site = |(position, address): (usize, &u64)| {
        let class = if position < 4 { Class::Masked } else { Class::Reachable };
        let tick = u32::try_from(position).expect("a short trace");
        let effect = if combination.is_sound() { Effect::Latched } else { Effect::Failed(vec!["NMI-once"]) };
        let arrival = Arrival { position: Some(position.max(4)), effect, placement: Placement::default() };
        Site {
            boundary: Boundary { address: *address, occurrence: 0, class, tick },
            fate: Fate::Landed(arrival),
        }
    };
    addresses.iter().enumerate().map(site).collect()
}

fn outcome(combination: &Combination, code: &Code) -> Outcome {
    let mut outcome = Outcome::new(combination);
    outcome.sites = sites(combination, code);
    let windows = code.windows(&combination.label()).expect("it is built in");
    outcome.window = windows.iter().map(Into::into).collect();
    outcome.runs = 9;
    outcome.complete = true;
    if !combination.is_sound() {
        outcome.failures = 3;
        outcome.failures_by_kind.insert("NMI-once", 3);
    }
    outcome
}

fn page(change: impl Fn(&mut Vec<Outcome>)) -> String {
    let (code, combinations) = (code(), Combination::all());
    let mut outcomes: Vec<_> = combinations.iter().map(|one| outcome(one, &code)).collect();
    change(&mut outcomes);
    let build_id = Image::Selftest.build_id();
    Map { qemu: "QEMU 7.2", build_id, code: &code, combinations: &combinations, outcomes: &outcomes }.page()
}

/// What a parser found on a page.
#[derive(Default)]
struct Parsed {
    elements: BTreeMap<String, usize>,
    ids: BTreeSet<String>,
    references: Vec<String>,
}

impl Parsed {
    /// Reads a page, and fails where it is not well-formed.
    fn of(page: &str) -> Self {
        let (mut parsed, mut reader, mut depth) = (Self::default(), Reader::from_str(page), 0_u32);
        loop {
            match reader.read_event().expect("well-formed") {
                Event::Start(start) => {
                    depth += 1;
                    parsed.take(&start);
                }
                Event::Empty(start) => parsed.take(&start),
                Event::End(_) => depth -= 1,
                Event::GeneralRef(entity) => {
                    check_references(&format!("&{};", String::from_utf8_lossy(&entity)))
                }
                Event::Comment(_) | Event::PI(_) | Event::CData(_) => panic!("nothing here writes that"),
                Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(depth, 0, "every element is closed");
        parsed
    }

    fn take(&mut self, start: &BytesStart<'_>) {
        let name = String::from_utf8_lossy(start.name().as_ref()).into_owned();
        *self.elements.entry(name).or_default() += 1;
        for attribute in start.attributes() {
            let attribute = attribute.expect("a name, once, and a value in quotes");
            let value = String::from_utf8_lossy(&attribute.value).into_owned();
            check_references(&value);
            match attribute.key.as_ref() {
                b"id" => assert!(self.ids.insert(value.clone()), "the id {value} stands twice"),
                b"href" => self.references.push(value),
                b"src" | b"srcset" | b"style" => {
                    panic!("{value}: nothing is loaded, and styles are in one place")
                }
                key => assert!(!key.starts_with(b"on"), "no script in attributes"),
            }
        }
    }
}

/// Fails where a text refers to anything but the five characters that are escaped.
fn check_references(text: &str) {
    for reference in text.split('&').skip(1) {
        let is_known =
            ["lt;", "gt;", "amp;", "quot;", "#39;"].iter().any(|known| reference.starts_with(known));
        assert!(is_known, "{text}");
    }
}

/// Returns the rows of boundaries of each form.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let is_boundary =
        |row: &&str| ["masked ", "early ", "reachable "].iter().any(|class| row.starts_with(class));
    let forms = page.split("<details class=\"form\"").skip(1);
    forms.map(|form| form.split("<tr class=\"").filter(is_boundary).collect()).collect()
}

#[test]
fn the_page_is_well_formed_and_every_link_has_its_target() {
    let parsed = Parsed::of(&page(|_| {}));
    assert!(!parsed.references.is_empty());
    for reference in &parsed.references {
        let id = reference.strip_prefix('#').expect("links stay on the page");
        assert!(parsed.ids.contains(id), "{reference}");
    }
    assert_eq!((parsed.elements["script"], parsed.elements["style"]), (1, 1));
}

#[test]
fn a_page_that_is_not_well_formed_would_be_caught() {
    for (good, bad) in
        [("</section>", ""), ("</td>", "</th>"), ("<html lang=\"en\"", "<html lang=en"), ("&#39;", "&nbsp;")]
    {
        let page = page(|outcomes| outcomes[0].no_result = Some("it's".to_owned()));
        let broken = page.replacen(good, bad, 1);
        assert_ne!(page, broken);
        assert!(std::panic::catch_unwind(|| Parsed::of(&broken)).is_err(), "{good} as {bad}");
    }
}

#[test]
fn the_page_loads_nothing() {
    let page = page(|_| {});
    for outside in ["http:", "https:", "//", "@import", "url(\"", "src="] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.matches("url(").count() == page.matches("url(#").count());
    assert!(page.contains("default-src &#39;none&#39;"));
}

#[test]
fn every_boundary_of_every_form_has_one_row() {
    let page = page(|_| {});
    let (code, combinations) = (code(), Combination::all());
    let rows = rows(&page);
    assert_eq!(rows.len(), combinations.len());
    for (rows, combination) in rows.iter().zip(&combinations) {
        let sites = sites(combination, &code);
        assert_eq!(rows.len(), sites.len(), "{combination}");
        for (position, (row, site)) in rows.iter().zip(&sites).enumerate() {
            let cells = format!("<td>{position}</td><td>{:x}</td>", site.boundary.address);
            assert!(row.contains(&cells) && row.contains(site.boundary.class.name()), "{row}");
        }
        assert!(
            rows[0].contains("delayed to <a ")
                && rows[4].contains(if combination.is_sound() { "latched" } else { "FAILED" })
        );
    }
}

#[test]
fn no_text_from_outside_becomes_markup() {
    let plain = Parsed::of(&page(|_| {}));
    let code = code();
    let combinations = Combination::all();
    let mut outcomes: Vec<_> = combinations.iter().map(|one| outcome(one, &code)).collect();
    outcomes[0].window[0].symbol = HOSTILE.to_owned();
    outcomes[1].sites[5].fate = Fate::Died(HOSTILE.to_owned());
    outcomes[2].no_result = Some(HOSTILE.to_owned());
    let map =
        Map { qemu: HOSTILE, build_id: None, code: &code, combinations: &combinations, outcomes: &outcomes };
    let page = map.page();
    let parsed = Parsed::of(&page);
    assert_eq!(parsed.elements["script"], plain.elements["script"]);
    assert!(page.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count() >= 4, "all of it is shown");
    assert!(!page.contains('\u{1b}') && !page.contains("<!--"));
}

#[test]
fn the_same_results_give_the_same_bytes() {
    assert_eq!(page(|_| {}), page(|_| {}));
}

#[test]
fn every_strategy_is_there_with_its_idea_and_a_failure_with_its_meaning() {
    let page = page(|_| {});
    for entry in NmiEntry::ALL {
        assert!(page.contains(&format!("<section id=\"{entry}\"")), "{entry}");
    }
    assert_eq!(page.matches("What was destroyed").count(), 3, "the three combinations that are unsound");
    assert!(page.contains("NMI-once: 3 placements"));
}

#[test]
fn a_combination_without_a_result_says_why_and_has_no_rows() {
    let page = page(|outcomes| {
        outcomes[3] =
            Outcome { no_result: Some("not built".to_owned()), sites: Vec::new(), ..outcomes[3].clone() };
    });
    Parsed::of(&page);
    assert!(page.contains("NO RESULT") && page.contains("not built"));
    assert!(rows(&page)[3].is_empty());
}

#[test]
fn a_sweep_that_was_left_alone_is_drawn_as_well() {
    let page = page(|outcomes| {
        for site in outcomes[0].sites.iter_mut().skip(6) {
            site.fate = Fate::Untried;
        }
        outcomes[0].sites[5].fate = Fate::Simultaneous;
    });
    Parsed::of(&page);
    assert!(page.contains("not tried") && page.contains("the fault&#39;s delivery takes no time"));
}
