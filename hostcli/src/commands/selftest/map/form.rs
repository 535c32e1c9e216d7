//! One combination, arranged for being drawn: its sites, the parts of its trace, and the names of its fates.

use std::ops::Range;

use super::parts::{Part, parts};
use crate::sweep::{Code, Combination, Effect, Fate, Outcome, Site, fate};

/// One combination that was swept.
#[derive(Debug)]
pub(super) struct Form<'a> {
    /// What was swept.
    pub(super) combination: &'a Combination,
    /// What came of it.
    pub(super) outcome: &'a Outcome,
    /// The code of the image.
    pub(super) code: &'a Code,
    /// Label of the entry.
    pub(super) label: String,
    /// Addresses of the entry; empty where the image does not hold it.
    pub(super) stub: Range<u64>,
    parts: Vec<Part>,
}

impl<'a> Form<'a> {
    /// Arranges a combination.
    pub(super) fn new(combination: &'a Combination, outcome: &'a Outcome, code: &'a Code) -> Self {
        let label = combination.label();
        let stub = code.entry(&label).unwrap_or_default();
        let parts = parts(&outcome.sites, &stub);
        Self { combination, outcome, code, label, stub, parts }
    }

    /// Returns the boundaries and fates, in the order of the trace.
    pub(super) fn sites(&self) -> &'a [Site] {
        &self.outcome.sites
    }

    /// Returns the parts of the trace.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Returns the name of the fate at a position. What happens at the same moment as the boundary before has
    /// the fate of that one.
    pub(super) fn fate_name(&self, position: usize) -> &'static str {
        match self.sites().get(position) {
            Some(Site { fate: Fate::Simultaneous, .. }) if position > 0 => self.fate_name(position - 1),
            Some(site) => site.fate_name(position),
            None => "",
        }
    }

    /// Returns the arrival of the NMI that was due at a position.
    pub(super) fn arrival(&self, position: usize) -> Option<&'a fate::Arrival> {
        match &self.sites().get(position)?.fate {
            Fate::Landed(arrival) => Some(arrival),
            _ => None,
        }
    }

    /// Returns the positions at which NMIs landed that were due at another one, in ascending order.
    pub(super) fn landings(&self) -> Vec<usize> {
        let landed = |position| self.arrival(position)?.position.filter(|landed| *landed != position);
        let mut landings: Vec<_> = (0..self.sites().len()).filter_map(landed).collect();
        landings.sort_unstable();
        landings.dedup();
        landings
    }

    /// Returns the name of the part to which a position belongs.
    pub(super) fn part_name(&self, position: usize) -> &'static str {
        let part = self.parts.iter().find(|part| part.positions.contains(&position));
        part.map_or("nowhere", |part| part.kind.name())
    }

    /// Tells whether any NMI had this effect.
    pub(super) fn has_effect(&self, name: &str) -> bool {
        let effect = |position| self.arrival(position).map(|arrival| arrival.effect.name());
        (0..self.sites().len()).any(|position| effect(position) == Some(name))
    }

    /// Returns a name for anchors: letters, digits and hyphens only.
    pub(super) fn anchor(&self) -> String {
        let Combination { entry, fault_return, nested_return, unmask } = self.combination;
        format!("{entry}-{fault_return}-{nested_return}-{unmask}")
    }
}

/// Says what an effect is, for a row of the map.
pub(super) fn effect_text(effect: &Effect) -> String {
    match effect {
        Effect::Joined => "joined".to_owned(),
        Effect::Latched => "latched: re-run".to_owned(),
        Effect::Restarted => "restarted: re-run".to_owned(),
        Effect::Apart => "apart".to_owned(),
        Effect::Failed(kinds) => format!("FAILED: {}", kinds.join(", ")),
        Effect::Unexplained => "unexplained".to_owned(),
    }
}
