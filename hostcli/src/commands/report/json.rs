//! The machine-readable form of a report. Its names are a contract: add, never rename.

use std::collections::BTreeMap;

use nmiprof_wire::PmuKind;
use serde::Serialize;

use super::profile::{Profile, Row};
use crate::capture::{Identity, Record, RunInfo, WorkloadOutcome};
use crate::commands::processes::{JsonProcess, json_processes};
use crate::commands::summary;

/// Version of this form; raised when a name changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;

/// A whole report.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    schema_version: u32,
    build_id: String,
    pmu_kind: &'static str,
    pmu_name: &'a str,
    deterministic: bool,
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
        profiles: &'a [Profile],
        unresolved_pct: Option<f64>,
        limit_pct: f64,
    ) -> Self {
        let total = record.accounts().total();
        let event = |profile: &'a Profile| EventReport::new(run, profile, limit_pct);
        let fatal = record.messages().fatal().map(|_| summary::fatal_text(record));
        Self {
            schema_version: SCHEMA_VERSION,
            build_id: run.build_id.to_string(),
            pmu_kind: match run.pmu_kind {
                PmuKind::Hardware => "hardware",
                PmuKind::Virtual => "virtual",
            },
            pmu_name: &run.pmu_name,
            deterministic: run.deterministic,
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
    fn new(run: &RunInfo, profile: &'a Profile, limit_pct: f64) -> Self {
        let sampled = run.events.get(usize::from(profile.event));
        let rows = profile.rows_from(limit_pct).map(|row| JsonRow::new(profile, row));
        Self {
            event: &profile.name,
            sampling: sampled.map_or_else(String::new, |event| summary::sampling_text(event.sampling)),
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
