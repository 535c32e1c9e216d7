//! One instruction, from the boundary before it to the one after it: what it is, what it touches, and what it counts.

use super::{Attribution, Current, Stop, Watch};
use crate::cpu::decode::{Decoded, Kind, decode};
use crate::engine::{Flow, Registers};
use crate::events::cache::Hit;
use crate::events::sites::SiteIndex;
use crate::events::{Counts, cost};
use crate::ram::Access;

/// Bytes of the longest instruction.
const INSTRUCTION_BYTES_MAX: usize = 15;
const MODE_64_BIT: u32 = 1 << 15;
const CR0_PAGING: u64 = 1 << 31;

impl Watch {
    /// Retires the instruction before the boundary at `next`.
    #[inline]
    pub(super) fn finish(&mut self, registers: &mut Registers, current: &Current, next: u64) {
        let decoded = &self.sites.get(current.site).decoded;
        if decoded.kind == Kind::Repeated && next == current.address {
            let mut counts = self.own_counts(current.site) + current.extra;
            counts.instructions = 0;
            return self.count(current.site, counts, self.level);
        }
        let mut counts = self.own_counts(current.site) + current.extra;
        if decoded.is_branch {
            let taken = next != current.address.wrapping_add(u64::from(decoded.len));
            counts.taken_branches = u64::from(taken);
            if self.predictor.misses(current.address, taken, next) {
                counts.branch_misses = 1;
                counts.stalled_frontend = cost::MISPREDICTION;
                counts.cycles += cost::MISPREDICTION;
            }
        }
        let kind = decoded.kind;
        self.count(current.site, counts, self.level);
        if kind != Kind::Plain {
            self.finish_kind(registers, kind);
        }
    }

    fn finish_kind(&mut self, registers: &mut Registers, kind: Kind) {
        match kind {
            Kind::InterruptReturn => {
                self.nmi.unmask();
                self.look_at_level(registers);
            }
            Kind::SystemReturn => self.look_at_level(registers),
            Kind::Shadow => self.is_shadowed = true,
            Kind::Plain | Kind::Repeated | Kind::Flush | Kind::Special(_) => (),
        }
        self.devices_changed();
    }

    fn look_at_level(&mut self, registers: &mut Registers) {
        let state = registers.state();
        self.level_changed(state.privilege(), state.control[3]);
    }

    /// Returns what an instruction counts whatever happens to it.
    #[inline]
    pub(super) fn own_counts(&self, site: SiteIndex) -> Counts {
        let decoded = &self.sites.get(site).decoded;
        Counts {
            instructions: 1,
            cycles: u64::from(decoded.cycles),
            branches: u64::from(decoded.is_branch),
            loads: u64::from(decoded.loads),
            stores: u64::from(decoded.stores),
            ..Counts::default()
        }
    }

    #[inline]
    pub(super) fn count(&mut self, site: SiteIndex, counts: Counts, level: usize) {
        self.clock += counts.cycles;
        self.totals[level] += counts;
        if self.pmu.is_counting() {
            match self.attribution {
                Attribution::Own => self.sites.get_mut(site).counts += counts,
                Attribution::Next => self.carried = Some(self.carried.unwrap_or_default() + counts),
            }
        }
    }

    /// Begins the instruction after the boundary.
    #[inline]
    pub(super) fn begin(&mut self, registers: &mut Registers, address: u64) -> Flow {
        let site = self.sites.index(self.root, address);
        if let Some(counts) = self.carried.take() {
            self.sites.get_mut(site).counts += counts;
        }
        if self.sites.get(site).decoded.len == 0 {
            self.decode(registers, site, address);
        }
        let decoded = &self.sites.get(site).decoded;
        if decoded.is_label && self.passed_label.take() != Some(address) {
            self.stop = Some(Stop::Label);
            return Flow::Stop;
        }
        if let Kind::Special(special) = decoded.kind {
            self.stop = Some(Stop::Special(special, site));
            return Flow::Stop;
        }
        let extra = if decoded.operand_count > 0 { self.touch(registers, site) } else { Counts::default() };
        self.current = Some(Current { site, address, extra });
        Flow::Go
    }

    #[inline]
    fn touch(&mut self, registers: &mut Registers, site: SiteIndex) -> Counts {
        let mut counts = Counts::default();
        let Some(cache) = &mut self.cache else { return counts };
        let general = registers.general();
        let decoded = &self.sites.get(site).decoded;
        for operand in &decoded.operands[..usize::from(decoded.operand_count)] {
            if decoded.kind == Kind::Flush {
                cache.flush(operand.address(&general));
                continue;
            }
            let hit = cache.touch(operand.address(&general));
            let added = cost::of_access(hit);
            counts.cache_references += u64::from(hit != Hit::First);
            counts.cache_misses += u64::from(hit == Hit::Memory);
            counts.stalled_backend += added;
            counts.cycles += added;
        }
        counts
    }

    #[cold]
    fn decode(&mut self, registers: &mut Registers, site: SiteIndex, address: u64) {
        let state = registers.state();
        let bitness = if state.mode & MODE_64_BIT != 0 { 64 } else { 32 };
        let mut bytes = Vec::with_capacity(INSTRUCTION_BYTES_MAX);
        for offset in 0..INSTRUCTION_BYTES_MAX as u64 {
            let place = address.wrapping_add(offset);
            let physical = if state.control[0] & CR0_PAGING == 0 {
                Some(place)
            } else {
                registers.ram().translate(state.control[3], place, Access::Read)
            };
            match physical.and_then(|physical| registers.ram().physical(physical, 1)) {
                Some(byte) => bytes.push(byte[0]),
                None => break,
            }
        }
        let is_label = self.sites.get(site).decoded.is_label;
        self.sites.get_mut(site).decoded = Decoded { is_label, ..decode(&bytes, address, bitness) };
    }
}
