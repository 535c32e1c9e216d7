//! The machine-readable form. Its names are a contract: add, never rename.

use nmiprof_wire::ClockKind;
use serde::Serialize;

use super::count::{Counted, Stat};
use crate::commands::pmu::JsonPmu;

/// Version of this form; raised when a name changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;

/// Everything that `stat` says.
#[derive(Debug, Serialize)]
pub(super) struct Form<'a> {
    schema_version: u32,
    build_id: String,
    pmu: JsonPmu,
    cpu_name: &'a str,
    clock_hz: u64,
    icount: bool,
    deterministic: bool,
    command_line: &'a str,
    runs: u32,
    /// Mean length of the counted part, in seconds of the target's clock.
    seconds: f64,
    events: Vec<Event<'a>>,
}

#[derive(Debug, Serialize)]
struct Event<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    formula: &'a str,
    /// Mean of the runs; null where no counter ever had the event.
    count: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_pct: Option<f64>,
    running_ns: f64,
    enabled_ns: f64,
    running_pct: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric_unit: Option<&'static str>,
    counts: &'a [Option<u64>],
}

impl<'a> Form<'a> {
    pub(super) fn new(stat: &'a Stat) -> Self {
        let run = &stat.run;
        Self {
            schema_version: SCHEMA_VERSION,
            build_id: run.build_id.to_string(),
            pmu: JsonPmu::new(run),
            cpu_name: &run.cpu_name,
            clock_hz: run.clock_hz,
            icount: run.clock == ClockKind::Instructions,
            deterministic: run.deterministic,
            command_line: &run.command_line,
            runs: stat.seconds.count(),
            seconds: stat.seconds.mean(),
            events: stat.events.iter().map(Event::new).collect(),
        }
    }
}

impl<'a> Event<'a> {
    fn new(event: &'a Counted) -> Self {
        Self {
            event: &event.name,
            formula: &event.formula,
            count: event.mean(),
            error_pct: event.value.error_pct(),
            running_ns: event.running_ns,
            enabled_ns: event.enabled_ns,
            running_pct: event.running_pct(),
            metric: event.metric.map(|metric| metric.value),
            metric_unit: event.metric.map(|metric| metric.unit),
            counts: &event.runs,
        }
    }
}
