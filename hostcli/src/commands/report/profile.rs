//! The rows of a report.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::capture::{Histogram, Place};
use crate::commands::paths::Paths;
use crate::symbols::SourceFrame;

/// What rows can be told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SortKey {
    /// Function
    #[value(alias = "sym")]
    Symbol,
    /// Source file and line
    Srcline,
    /// Source file
    #[value(name = "file", alias = "srcfile")]
    File,
    /// Program that ran
    #[value(alias = "process")]
    Comm,
    /// CPU
    Cpu,
    /// Event
    Event,
}

impl SortKey {
    /// Returns the column's title.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Symbol => "Symbol",
            Self::Srcline => "Source:Line",
            Self::File => "Source File",
            Self::Comm => "Command",
            Self::Cpu => "CPU",
            Self::Event => "Event",
        }
    }

    /// Returns the column's name in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Symbol => "symbol",
            Self::Srcline => "srcline",
            Self::File => "file",
            Self::Comm => "comm",
            Self::Cpu => "cpu",
            Self::Event => "event",
        }
    }
}

/// Texts of a row's columns, in the order of the keys.
pub(super) type RowKey = Vec<Rc<str>>;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: RowKey,
    /// Samples that fell here.
    pub(super) own: u64,
    /// Samples that fell here or into what was called from here.
    pub(super) children: u64,
}

/// All rows of one event, the largest first.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) event: u8,
    pub(super) name: Rc<str>,
    pub(super) keys: Vec<SortKey>,
    pub(super) has_children: bool,
    pub(super) samples: u64,
    pub(super) rows: Vec<Row>,
}

impl Profile {
    /// Counts the samples of one event.
    pub(super) fn new(
        event: u8,
        name: &str,
        keys: &[SortKey],
        has_children: bool,
        histogram: &Histogram,
        mut paths: Paths<'_, '_>,
    ) -> Self {
        let mut profile = Self {
            event,
            name: name.into(),
            keys: keys.to_vec(),
            has_children,
            samples: 0,
            rows: Vec::new(),
        };
        let mut counts: HashMap<RowKey, (u64, u64)> = HashMap::new();
        for (place, count) in histogram.sorted() {
            if place.event == event {
                profile.samples += count;
                let path = paths.of(&place);
                profile.count(&place, &path, &paths.process_name(&place), count, &mut counts);
            }
        }
        let row = |(key, (own, children))| Row { key, own, children };
        profile.rows = counts.into_iter().map(row).collect();
        profile.sort();
        profile
    }

    /// Counts the samples of one place: own ones for its innermost function, children's for every
    /// function on its path, once each however often it recurs.
    fn count(
        &self,
        place: &Place,
        path: &[SourceFrame],
        process: &Rc<str>,
        count: u64,
        counts: &mut HashMap<RowKey, (u64, u64)>,
    ) {
        let mut seen = HashSet::new();
        let shown = if self.has_children { path.len() } else { 1 };
        for (depth, frame) in path.iter().take(shown).enumerate() {
            let key = self.key(place, frame, process);
            let (own, children) = counts.entry(key.clone()).or_default();
            *own += if depth == 0 { count } else { 0 };
            *children += if seen.insert(key) { count } else { 0 };
        }
    }

    /// Returns the row that a function at a place belongs to.
    pub(super) fn key(&self, place: &Place, frame: &SourceFrame, process: &Rc<str>) -> RowKey {
        let text = |key: &SortKey| match key {
            SortKey::Symbol => Rc::clone(&frame.function),
            SortKey::Srcline => frame.srcline().map_or_else(|| "??:0".into(), Into::into),
            SortKey::File => frame.file.clone().unwrap_or_else(|| "??".into()),
            SortKey::Comm => Rc::clone(process),
            SortKey::Cpu => place.cpu.to_string().into(),
            SortKey::Event => Rc::clone(&self.name),
        };
        self.keys.iter().map(text).collect()
    }

    fn sort(&mut self) {
        let rank = |row: &Row| (std::cmp::Reverse(row.children), std::cmp::Reverse(row.own));
        self.rows.sort_unstable_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.key.cmp(&b.key)));
    }

    /// Returns the share of all samples of the event, in percent.
    pub(super) fn percent(&self, samples: u64) -> f64 {
        100.0 * samples as f64 / self.samples.max(1) as f64
    }

    /// Returns the rows whose share is not below `limit_pct`.
    pub(super) fn rows_from(&self, limit_pct: f64) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| self.percent(row.children) >= limit_pct)
    }
}
