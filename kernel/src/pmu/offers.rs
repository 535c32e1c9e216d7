//! What the PMU offers, event by event, for `nmiprof list`.

use alloc::string::ToString;

use nmiprof_pmu::Extras;
use nmiprof_pmu::event::{generic_events, offer};
use nmiprof_wire::{Frame, Offer};

use super::{Pmu, Registers};
use crate::stream;

/// Sends what the PMU offers, and why it does not offer the rest.
pub fn send_offers(pmu: &Pmu) {
    match &pmu.registers {
        Some(registers) => {
            send_generic(pmu, registers);
            send_extras(&registers.capabilities.extras);
        }
        None => stream::send(&Frame::Offer(Offer {
            name: "instructions",
            counters: 1,
            select: 0,
            formula: "1 per tick of the timer",
            refused: "",
        })),
    }
}

fn send_generic(pmu: &Pmu, registers: &Registers) {
    for event in generic_events() {
        let offered = offer(*event, &registers.capabilities);
        let refused = match &offered {
            Err(reason) => reason.to_string(),
            Ok(encoding) if encoding.counters.intersection(registers.usable).is_empty() => {
                "no counter that counts it works here".to_string()
            }
            Ok(_) => alloc::string::String::new(),
        };
        let counters = offered.map_or(0, |encoding| encoding.counters.intersection(registers.usable).0);
        let select = offered.map_or(0, |encoding| encoding.select);
        let formula = offered.map_or("", |encoding| pmu.formula(&encoding));
        stream::send(&Frame::Offer(Offer {
            name: event.name(),
            counters,
            select,
            formula,
            refused: &refused,
        }));
    }
}

/// Sends which ways to precise samples and branch records there are: none is used so far.
fn send_extras(extras: &Extras) {
    let known = [
        ("pebs", extras.pebs),
        ("lbr", extras.lbr_depth_entries > 0),
        ("ibs-fetch", extras.ibs_fetch),
        ("ibs-op", extras.ibs_op),
    ];
    for (name, is_there) in known {
        let refused = if is_there { "present, but not used by nmiprof" } else { "not present" };
        stream::send(&Frame::Offer(Offer { name, counters: 0, select: 0, formula: "", refused }));
    }
}
