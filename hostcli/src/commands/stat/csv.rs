//! Lines of fields, as perf stat's `-x` has them (Linux 6.1, `tools/perf/util/stat-display.c`).
//!
//! `value,unit,event[,error%],running ns,running %,metric,its unit`. The unit of a virtual count is `virtual`, so that a
//! line alone says what it is; what counted is in comments above.

use std::io::{self, Write};

use super::count::{Counted, Stat};
use crate::commands::pmu::{self, NOT_COUNTED, pmu_kind};

/// Writes one line for each event.
pub(super) fn write(stat: &Stat, separator: &str, out: &mut dyn Write) -> io::Result<()> {
    pmu::write_pmu(&stat.run, out)?;
    stat.events.iter().try_for_each(|event| {
        let fields: Vec<String> = fields(stat, event).iter().map(|field| quoted(field, separator)).collect();
        writeln!(out, "{}", fields.join(separator))
    })
}

fn fields(stat: &Stat, event: &Counted) -> Vec<String> {
    let unit = if pmu_kind(&stat.run) == "virtual" { "virtual" } else { "" };
    let value = event.mean().map_or_else(|| NOT_COUNTED.to_owned(), |mean| format!("{mean:.0}"));
    let mut fields = vec![value, unit.to_owned(), event.name.clone()];
    if stat.is_repeated() {
        fields.push(format!("{:.2}%", event.value.error_pct().unwrap_or(0.0)));
    }
    fields.push(format!("{:.0}", event.running_ns));
    fields.push(format!("{:.2}", event.running_pct()));
    match &event.metric {
        Some(metric) => fields.extend([format!("{:.2}", metric.value), metric.unit.to_owned()]),
        None => fields.extend([String::new(), String::new()]),
    }
    fields
}

/// Quotes a field that has the separator in it: `cpu/event=0x3c,umask=1/`.
fn quoted(field: &str, separator: &str) -> String {
    if !separator.is_empty() && field.contains(separator) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
