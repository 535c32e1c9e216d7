//! What the page teaches before it shows anything: the flaw, the sweep, and how to read the map.

use super::markup::Markup;

/// What the flaw is. Prose has code between backticks.
const FLAW: &[&str] = &[
    "An x86 CPU that takes a non-maskable interrupt (NMI) masks further ones and starts at the top of a fixed \
     stack. The next `iretq` unmasks them, and the CPU does not ask whose `iretq` it is. An exception that is \
     raised inside the NMI handler, such as a page fault at the first touch of a page, ends with one: from \
     then on a second NMI can arrive while the first one still runs. It starts at the top of the same stack and \
     overwrites the frame by which the first one would have returned. This is the iret flaw.",
    "nmiprof provokes it on purpose, in each of its NMI entries. An entry survives if, whatever the second NMI \
     interrupts, the handler is never entered twice at a time, no NMI is lost, and the interrupted code gets \
     every register, flag and word of its stack back.",
];

/// What the sweep does.
const SWEEP: &[&str] = &[
    "First an NMI that nothing disturbs is stepped through from outside, by QEMU's debug stub. That reference trace \
     tells which boundaries between two instructions there are, and, from the `iretq`s in it alone, at which \
     of them an NMI can arrive. Then the kernel repeats this NMI once for each boundary, with a second NMI due \
     exactly there: a timer counts instructions. What was due where follows from the ticks of the timer; where the \
     NMI landed, from the frame that the CPU pushed; what it did, from the counts of arrivals, nested arrivals \
     and runs of the handler. `latched` and `restarted` give the same counts: labels of the entry tell them apart.",
];

/// Classes of a boundary, and their meaning.
const CLASSES: &[(&str, &str)] = &[
    ("masked", "No NMI can arrive: the CPU holds it back."),
    ("early", "One can, but only because the form was asked to unmask NMIs early, for this test."),
    ("reachable", "One can: an `iretq` of an exception has unmasked NMIs, or the NMI has returned."),
];

/// Fates, and their meaning.
const FATES: &[(&str, &str)] = &[
    ("delayed", "It was held back by the CPU, and landed at the boundary that the row names."),
    ("joined", "It arrived before the handler had begun: that one run served both NMIs."),
    (
        "latched",
        "It left a mark and went back. When the outer NMI was about to return, the handler ran once more.",
    ),
    (
        "restarted",
        "It arrived when the exit had let go already, so that nobody would look at a mark any more. It was recognized \
         by where it arrived, and the handler ran once more.",
    ),
    ("apart", "The first NMI had returned. This one is a first one itself."),
    ("failed", "Something did not hold. Only entries that are known to be unsound may show this."),
];

/// Fates that a sweep shows only where something is wrong, or where it was left alone.
const OTHER_FATES: &str = "Where something is wrong there may be others: `died` (the machine ended there), `astray` (it landed elsewhere \
     although it could arrive), `unexplained` (counts of no known fate); and `untried` where a combination that is known \
     to fail was left alone.";

/// Writes the lesson.
pub(super) fn write(markup: &mut Markup) {
    markup.nest("section", &[("id", "lesson")], |markup| {
        markup.element("h2", &[], "The flaw");
        FLAW.iter().take(1).for_each(|text| markup.prose("p", &[], text));
        markup.nest("div", &[("class", "wide")], |markup| markup.own(include_str!("timeline.svg")));
        FLAW.iter().skip(1).for_each(|text| markup.prose("p", &[], text));
        markup.element("h2", &[("id", "reading")], "How to read the map");
        SWEEP.iter().for_each(|text| markup.prose("p", &[], text));
        write_key("class", "c", CLASSES, markup);
        write_key("fate of an NMI", "f", FATES, markup);
        markup.prose("p", &[], OTHER_FATES);
        markup.prose(
            "p",
            &[],
            "Each strip is a whole trace: one cell for each boundary, time from left to right, and a lane for each \
             fate. A dashed line shows where delayed NMIs land. The listing below it has a row for each boundary; the \
             handler and its page fault are folded. Its last column are the counts: NMIs that arrived / of them nested / \
             runs of the handler.",
        );
    });
}

/// Writes a table of marks and meanings; `style` chooses the marks.
fn write_key(heading: &str, style: &str, meanings: &[(&str, &str)], markup: &mut Markup) {
    markup.nest("table", &[("class", "plain")], |markup| {
        markup.nest("thead", &[], |markup| {
            markup.nest("tr", &[], |markup| {
                markup.element("th", &[("scope", "col")], heading);
                markup.element("th", &[("scope", "col")], "meaning");
            });
        });
        markup.nest("tbody", &[], |markup| {
            for (name, meaning) in meanings {
                markup.nest("tr", &[], |markup| {
                    markup.nest("th", &[("scope", "row")], |markup| {
                        write_mark(&format!("{style}-{name}"), markup);
                        markup.text(name);
                    });
                    markup.prose("td", &[], meaning);
                });
            }
        });
    });
}

fn write_mark(class: &str, markup: &mut Markup) {
    markup.nest("svg", &[("class", "key"), ("viewBox", "0 0 26 14"), ("aria-hidden", "true")], |markup| {
        let size = [("width", "24"), ("height", "12"), ("x", "1"), ("y", "1")];
        let [width, height, x, y] = size;
        markup.void("rect", &[("class", class), x, y, width, height]);
    });
}
