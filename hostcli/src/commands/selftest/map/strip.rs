//! The strip: a whole trace in one picture, from the first instruction of the entry to the return.
//!
//! Time goes from left to right, one cell for each boundary. Each fate has a lane of its own, so that the
//! picture does not depend on colours.

use super::form::Form;
use super::markup::Markup;
use super::parts::Kind;

/// Lanes, from the top.
const LANES: &[&str] = &[
    "delayed",
    "joined",
    "latched",
    "restarted",
    "apart",
    "failed",
    "died",
    "astray",
    "unexplained",
    "untried",
];

/// Width of the picture, of the names at its left and of the counts at its right, in pixels.
const WIDTH: usize = 1200;
const NAMES_WIDTH: usize = 96;
const COUNTS_WIDTH: usize = 64;
/// Top of the classes and of the first lane, and height of a lane, in pixels.
const CLASSES_TOP: usize = 26;
const LANES_TOP: usize = 48;
const LANE_HEIGHT: usize = 18;
/// Height of a cell, in pixels.
const CELL_HEIGHT: usize = 14;
/// Narrower parts have no room for their name, in hundredths of a pixel for each of its letters.
const LETTER_WIDTH: usize = 720;

/// Cells that look the same.
struct Stretch {
    lane: usize,
    first: usize,
    end: usize,
}

/// Draws the strip of a form.
pub(super) fn write(form: &Form<'_>, markup: &mut Markup) {
    let lanes = lanes_of(form);
    let height = LANES_TOP + lanes.len() * LANE_HEIGHT;
    let view_box = format!("0 0 {WIDTH} {height}");
    let label =
        format!("fate of an NMI at each of {} boundaries, in the order of the trace", form.sites().len());
    markup.nest("div", &[("class", "wide")], |markup| {
        let attributes =
            [("class", "strip"), ("viewBox", &*view_box), ("role", "img"), ("aria-label", &*label)];
        markup.nest("svg", &attributes, |markup| {
            write_parts(form, markup);
            write_classes(form, markup);
            write_lanes(form, &lanes, markup);
            write_landings(form, &lanes, markup);
        });
    });
}

/// Returns the lanes that are used, from the top.
fn lanes_of(form: &Form<'_>) -> Vec<&'static str> {
    let is_used = |lane: &&&str| (0..form.sites().len()).any(|position| form.fate_name(position) == **lane);
    LANES.iter().filter(is_used).copied().collect()
}

fn write_parts(form: &Form<'_>, markup: &mut Markup) {
    for part in form.parts() {
        let (first, end) = (part.positions.start, part.positions.end);
        let class = if part.kind.is_stub() { "p-stub" } else { "p-other" };
        markup.nest("g", &[], |markup| {
            rectangle(
                form,
                &Cells { class, first, end, top: 2, height: CELL_HEIGHT + 4 },
                markup,
                |markup| {
                    markup.element("title", &[], &format!("{}: #{first} to #{}", part.kind.name(), end - 1));
                },
            );
            let name = part.kind.name();
            let has_room = (end - first) * scale() / form.sites().len().max(1) > name.len() * LETTER_WIDTH;
            if has_room && part.kind != Kind::Interrupted {
                let middle = hundredths((x(form, first) + x(form, end)) / 2);
                markup.element("text", &[("x", &middle), ("y", "16"), ("class", "mid")], name);
            }
        });
    }
}

fn write_classes(form: &Form<'_>, markup: &mut Markup) {
    let baseline = (CLASSES_TOP + 11).to_string();
    markup.element("text", &[("x", "0"), ("y", &baseline)], "class");
    let classes: Vec<_> = form.sites().iter().map(|site| site.boundary.class).collect();
    let mut first = 0;
    for stretch in classes.chunk_by(PartialEq::eq) {
        let end = first + stretch.len();
        let name = stretch.first().map_or("", |class| class.name());
        let class = format!("c-{name}");
        rectangle(
            form,
            &Cells { class: &class, first, end, top: CLASSES_TOP, height: CELL_HEIGHT },
            markup,
            |markup| {
                markup.element("title", &[], &format!("{name}: #{first} to #{}", end - 1));
            },
        );
        first = end;
    }
}

fn write_lanes(form: &Form<'_>, lanes: &[&'static str], markup: &mut Markup) {
    let end_of_names = NAMES_WIDTH.to_string();
    let end_of_lanes = (WIDTH - COUNTS_WIDTH).to_string();
    for (index, lane) in lanes.iter().enumerate() {
        let baseline = (lane_top(index) + 11).to_string();
        let rule = (lane_top(index) + CELL_HEIGHT + 1).to_string();
        let count = (0..form.sites().len()).filter(|position| form.fate_name(*position) == *lane).count();
        let counts_at = (WIDTH - COUNTS_WIDTH + 8).to_string();
        markup.element("text", &[("x", "0"), ("y", &baseline)], lane);
        markup.element("text", &[("x", &counts_at), ("y", &baseline)], &count.to_string());
        let ends = [("x1", &*end_of_names), ("x2", &*end_of_lanes), ("y1", &*rule), ("y2", &*rule)];
        let [x1, x2, y1, y2] = ends;
        markup.void("line", &[("class", "rule"), x1, x2, y1, y2]);
    }
    for stretch in stretches(form, lanes) {
        let Some(name) = lanes.get(stretch.lane) else { continue };
        let class = format!("f-{name}");
        let (first, end, top) = (stretch.first, stretch.end, lane_top(stretch.lane));
        rectangle(form, &Cells { class: &class, first, end, top, height: CELL_HEIGHT }, markup, |markup| {
            markup.element(
                "title",
                &[],
                &format!("{name}: #{first} to #{}, {} boundaries", end - 1, end - first),
            );
        });
    }
}

/// Marks where delayed NMIs landed.
fn write_landings(form: &Form<'_>, lanes: &[&'static str], markup: &mut Markup) {
    for target in form.landings() {
        let lane = lanes.iter().position(|lane| *lane == form.fate_name(target));
        let (Some(from), Some(to)) = (lanes.iter().position(|lane| *lane == "delayed"), lane) else {
            continue;
        };
        let middle = hundredths((x(form, target) + x(form, target + 1)) / 2);
        let (top, end) = (lane_top(from).to_string(), lane_top(to).to_string());
        markup.nest("g", &[], |markup| {
            markup.element("title", &[], &format!("what was delayed lands at #{target}"));
            let [x1, x2] = [("x1", &*middle), ("x2", &*middle)];
            markup.void("line", &[("class", "landing"), x1, x2, ("y1", &top), ("y2", &end)]);
        });
    }
}

fn stretches(form: &Form<'_>, lanes: &[&'static str]) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for position in 0..form.sites().len() {
        let name = form.fate_name(position);
        let Some(lane) = lanes.iter().position(|lane| *lane == name) else { continue };
        match stretches.last_mut() {
            Some(last) if last.lane == lane && last.end == position => last.end += 1,
            _ => stretches.push(Stretch { lane, first: position, end: position + 1 }),
        }
    }
    stretches
}

/// A rectangle over some cells.
struct Cells<'a> {
    class: &'a str,
    first: usize,
    end: usize,
    top: usize,
    height: usize,
}

fn rectangle(form: &Form<'_>, cells: &Cells<'_>, markup: &mut Markup, content: impl FnOnce(&mut Markup)) {
    let left = x(form, cells.first);
    let (x, width) = (hundredths(left), hundredths(x(form, cells.end) - left));
    let (y, height) = (cells.top.to_string(), cells.height.to_string());
    let attributes = [("class", cells.class), ("x", &x), ("y", &y), ("width", &width), ("height", &height)];
    markup.nest("rect", &attributes, content);
}

/// Returns the left edge of a cell, in hundredths of a pixel.
fn x(form: &Form<'_>, position: usize) -> usize {
    NAMES_WIDTH * 100 + position * scale() / form.sites().len().max(1)
}

/// Returns the width of all cells, in hundredths of a pixel.
const fn scale() -> usize {
    (WIDTH - NAMES_WIDTH - COUNTS_WIDTH) * 100
}

const fn lane_top(lane: usize) -> usize {
    LANES_TOP + lane * LANE_HEIGHT
}

fn hundredths(number: usize) -> String {
    format!("{}.{:02}", number / 100, number % 100)
}
