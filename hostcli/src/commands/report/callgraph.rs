//! Call graphs: by which callers each row was reached, outermost caller first.
//!
//! Every sample of a row contributes its call path down to the row's function (to its innermost
//! occurrence, where it recurs). Percentages are shares of all samples of the event; a function with a
//! single caller above it carries none, because it has its caller's share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write};
use std::rc::Rc;

use super::profile::{Profile, Row, RowKey};
use crate::capture::Histogram;
use crate::commands::paths::Paths;

/// Most functions from the outermost caller down; deeper ones are left out, which `...` shows.
const GRAPH_DEPTH_MAX: usize = 128;

/// Branches with a smaller share are left out.
const BRANCH_PCT_MIN: f64 = 0.5;

const INDENT: &str = "            ";

/// Call graphs by row.
#[derive(Debug, Default)]
pub(super) struct Graphs {
    roots: HashMap<RowKey, Node>,
}

#[derive(Debug, Default)]
struct Node {
    samples: u64,
    callees: BTreeMap<Rc<str>, Node>,
}

/// Builds the call graphs of the rows whose share is not below `limit_pct`.
pub(super) fn build(
    profile: &Profile,
    histogram: &Histogram,
    mut paths: Paths<'_, '_>,
    limit_pct: f64,
) -> Graphs {
    let shown: HashSet<&RowKey> = profile.rows_from(limit_pct).map(|row| &row.key).collect();
    let mut graphs = Graphs::default();
    for (place, count) in histogram.sorted() {
        if place.event != profile.event {
            continue;
        }
        let path = paths.of(&place);
        let mut names: Vec<_> =
            path.iter().rev().map(|frame| label(&frame.function, frame.is_inlined)).collect();
        let missing = paths.missing_callers(&place);
        let process = paths.process_name(&place);
        if let Some(missing) = missing {
            names.insert(0, missing.into());
        }
        let mut seen = HashSet::new();
        let rows = if profile.has_children { path.len() } else { 1 };
        for (depth, frame) in path.iter().take(rows).enumerate() {
            let key = profile.key(&place, frame, &process);
            if shown.contains(&key) && seen.insert(key.clone()) {
                let root = graphs.roots.entry(key).or_default();
                root.add(&names[..names.len() - depth], count);
            }
        }
    }
    graphs
}

fn label(function: &Rc<str>, is_inlined: bool) -> Rc<str> {
    if is_inlined { format!("{function} (inlined)").into() } else { Rc::clone(function) }
}

impl Node {
    /// Adds the samples of one path.
    fn add(&mut self, names: &[Rc<str>], count: u64) {
        let mut node = self;
        node.samples += count;
        for (depth, name) in names.iter().enumerate() {
            if depth == GRAPH_DEPTH_MAX {
                node = node.callees.entry("...".into()).or_default();
                node.samples += count;
                return;
            }
            node = node.callees.entry(Rc::clone(name)).or_default();
            node.samples += count;
        }
    }

    /// Returns the branches that are large enough to be shown, the largest first.
    fn branches(&self, profile: &Profile) -> Vec<(&Rc<str>, &Self)> {
        let mut branches: Vec<_> =
            self.callees.iter().filter(|(_, node)| profile.percent(node.samples) >= BRANCH_PCT_MIN).collect();
        branches.sort_by_key(|(_, node)| std::cmp::Reverse(node.samples));
        branches
    }
}

impl Graphs {
    /// Writes the call graph of a row, if there is one and it says more than the row.
    pub(super) fn write(&self, profile: &Profile, row: &Row, out: &mut dyn Write) -> io::Result<()> {
        let Some(root) = self.roots.get(&row.key) else {
            return Ok(());
        };
        let branches = root.branches(profile);
        if branches.iter().all(|(_, node)| node.callees.is_empty()) && branches.len() < 2 {
            return Ok(());
        }
        writeln!(out, "{INDENT}|")?;
        match branches.as_slice() {
            [(name, node)] => {
                writeln!(out, "{INDENT}---{name}")?;
                write_below(node, profile, &format!("{INDENT}   "), out)?;
            }
            several => write_branches(several, profile, INDENT, out)?,
        }
        writeln!(out)
    }
}

/// Writes what is below a function: one callee in the same column, several as branches.
fn write_below(node: &Node, profile: &Profile, indent: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut node = node;
    loop {
        let branches = node.branches(profile);
        match branches.as_slice() {
            [] => return Ok(()),
            // A single branch continues the column only if it has all of its caller's samples.
            [(name, callee)] if callee.samples == node.samples => {
                writeln!(out, "{indent}{name}")?;
                node = callee;
            }
            several => {
                writeln!(out, "{indent}|")?;
                return write_branches(several, profile, indent, out);
            }
        }
    }
}

fn write_branches(
    branches: &[(&Rc<str>, &Node)],
    profile: &Profile,
    indent: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    for (index, (name, node)) in branches.iter().enumerate() {
        let is_last = index + 1 == branches.len();
        let percent = format!("{:.2}%", profile.percent(node.samples));
        let bar = if is_last { ' ' } else { '|' };
        writeln!(out, "{indent}{}--{percent}--{name}", if is_last { '`' } else { '|' })?;
        let deeper = format!("{indent}{bar}{}", " ".repeat(percent.len() + 4));
        write_below(node, profile, &deeper, out)?;
        if !is_last {
            writeln!(out, "{indent}|")?;
        }
    }
    Ok(())
}
