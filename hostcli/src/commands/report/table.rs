//! The table, one row per line, each with its call graph.

use std::io::{self, Write};

use super::callgraph::Graphs;
use super::profile::{Profile, Row};

/// Writes the rows whose share is not below `limit_pct`.
pub(super) fn write(
    profile: &Profile,
    graphs: &Graphs,
    limit_pct: f64,
    out: &mut dyn Write,
) -> io::Result<()> {
    let widths = widths(profile, limit_pct);
    write_titles(profile, &widths, out)?;
    for row in profile.rows_from(limit_pct) {
        write_row(profile, row, &widths, out)?;
        graphs.write(profile, row, out)?;
    }
    let left_out = profile.rows.len() - profile.rows_from(limit_pct).count();
    if left_out > 0 {
        writeln!(out, "#\n# {left_out} more below {limit_pct}%")?;
    }
    Ok(())
}

/// Returns the width of every key's column; the last one needs none.
fn widths(profile: &Profile, limit_pct: f64) -> Vec<usize> {
    let mut widths: Vec<usize> = profile.keys.iter().map(|key| key.title().len()).collect();
    for row in profile.rows_from(limit_pct) {
        for (width, text) in widths.iter_mut().zip(&row.key) {
            *width = (*width).max(text.chars().count());
        }
    }
    if let Some(last) = widths.last_mut() {
        *last = 0;
    }
    widths
}

fn write_titles(profile: &Profile, widths: &[usize], out: &mut dyn Write) -> io::Result<()> {
    let shares =
        if profile.has_children { "# Children      Self     Samples" } else { "# Overhead     Samples" };
    write!(out, "{shares}")?;
    for (key, width) in profile.keys.iter().zip(widths) {
        write!(out, "  {:width$}", key.title())?;
    }
    write!(out, "\n# ........")?;
    if profile.has_children {
        write!(out, "  ........")?;
    }
    write!(out, "  ..........")?;
    for (key, width) in profile.keys.iter().zip(widths) {
        write!(out, "  {}", ".".repeat(key.title().len().max(*width)))?;
    }
    writeln!(out, "\n#")
}

fn write_row(profile: &Profile, row: &Row, widths: &[usize], out: &mut dyn Write) -> io::Result<()> {
    if profile.has_children {
        write!(out, "   {:6.2}%  ", profile.percent(row.children))?;
    } else {
        write!(out, "   ")?;
    }
    write!(
        out,
        "{}{:6.2}%  {:10}",
        if profile.has_children { " " } else { "" },
        profile.percent(row.own),
        row.own
    )?;
    for (text, width) in row.key.iter().zip(widths) {
        write!(out, "  {text:width$}")?;
    }
    writeln!(out)
}
