//! The machine-readable form of a report. Its names are a contract: add, never rename.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Args;
use super::profile::{Profile, Row};
use crate::capture::{Identity, Record, RunInfo, WorkloadOutcome};
use crate::commands::processes::{JsonProcess, json_processes};
use crate::commands::{pmu, summary};

/// Version of this form; raised when a name changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;

/// A whole report.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    schema_version: u32,
    build_id: String,
    pmu_kind: &'static str,
    pmu_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pmu_fallback: &'a str,
    deterministic: bool,
    /// The CPUs whose samples are in the rows; absent where those of all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_list: Option<&'a str>,
    events: Vec<EventReport<'a>>,
    samples: u64,
    overflows: u64,
    dropped: u64,
    link_lost: u64,
    identity: Identity,
    unresolved_pct: Option<f64>,
    truncated_chains_pct: Option<f64>,
    damaged_frames: u64,
    workloads: &'a [WorkloadOutcome],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    processes: Vec<JsonProcess>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fatal: Option<String>,
}

#[derive(Debug, Serialize)]
struct EventReport<'a> {
    event: &'a str,
    sampling: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    formula: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    running_pct: Option<f64>,
    samples: u64,
    rows: Vec<JsonRow<'a>>,
}

#[derive(Debug, Serialize)]
struct JsonRow<'a> {
    samples: u64,
    self_pct: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    children_pct: Option<f64>,
    #[serde(flatten)]
    keys: BTreeMap<&'static str, &'a str>,
}

impl<'a> Report<'a> {
    pub(super) fn new(
        run: &'a RunInfo,
        record: &'a Record,
        args: &'a Args,
        profiles: &'a [Profile],
        unresolved_pct: Option<f64>,
    ) -> Self {
        let total = record.accounts().total();
        let event = |profile: &'a Profile| EventReport::new(run, record, profile, args.percent_limit);
        let fatal = record.messages().fatal().map(|_| summary::fatal_text(record));
        Self {
            schema_version: SCHEMA_VERSION,
            build_id: run.build_id.to_string(),
            pmu_kind: pmu::pmu_kind(run),
            pmu_name: &run.pmu_name,
            pmu_fallback: &run.pmu_fallback,
            deterministic: run.deterministic,
            cpu_list: args.cpus.cpu.as_deref(),
            events: profiles.iter().map(event).collect(),
            samples: record.samples(),
            overflows: total.overflows,
            dropped: total.dropped.total(),
            link_lost: total.link_lost,
            identity: record.accounts().identity(),
            unresolved_pct,
            truncated_chains_pct: record.truncated_chains_pct(),
            damaged_frames: record.damage().frames,
            workloads: record.messages().workloads(),
            processes: json_processes(record),
            fatal,
        }
    }
}

impl<'a> EventReport<'a> {
    fn new(run: &'a RunInfo, record: &Record, profile: &'a Profile, limit_pct: f64) -> Self {
        let sampled = run.events.get(usize::from(profile.event));
        let total = record.pmu().total(profile.event);
        let rows = profile.rows_from(limit_pct).map(|row| JsonRow::new(profile, row));
        Self {
            event: &profile.name,
            sampling: sampled.map_or_else(String::new, |event| summary::sampling_text(event.sampling)),
            formula: sampled.map(|event| &*event.formula).filter(|formula| !formula.is_empty()),
            count: total.and_then(|total| total.scaled),
            running_pct: total.and_then(|total| total.running_pct()),
            samples: profile.samples,
            rows: rows.collect(),
        }
    }
}

impl<'a> JsonRow<'a> {
    fn new(profile: &Profile, row: &'a Row) -> Self {
        let names = profile.keys.iter().map(|key| key.name());
        Self {
            samples: row.own,
            self_pct: profile.percent(row.own),
            children_pct: profile.has_children.then(|| profile.percent(row.children)),
            keys: names.zip(row.key.iter().map(|text| &**text)).collect(),
        }
    }
}
