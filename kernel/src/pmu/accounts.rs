//! What the counters of a PMU came to.

use nmiprof_wire::{EventCounts, Frame, PmuCounters};

use super::Pmu;
use crate::stream;

impl Pmu {
    /// Sends what every event came to, and what the driver counted, once sampling has ended.
    /// `timer` is what the timer or a line counted, where that counts.
    pub fn send_counts(&mut self, cpu: u16, events: usize, timer: PmuCounters) {
        let Some(counters) = self.registers.as_mut().and_then(|registers| registers.counters.as_mut()) else {
            return stream::send(&Frame::Pmu(PmuCounters { cpu, ..timer }));
        };
        for event in 0..u8::try_from(events).unwrap_or(u8::MAX) {
            let counts = counters.counts(event);
            stream::send(&Frame::Counts(EventCounts {
                cpu,
                event,
                count: counts.count,
                enabled_ticks: counts.enabled_ticks,
                running_ticks: counts.running_ticks,
                overflows: counts.overflows,
                skipped_periods: counts.skipped_periods,
                period_events: counts.period_events,
            }));
        }
        let counts = counters.engine_counts();
        stream::send(&Frame::Pmu(PmuCounters {
            cpu,
            throttles: counts.throttles,
            throttled_ticks: counts.throttled_ticks,
            rotations: counts.rotations,
            late: counts.late,
            merged: counts.merged,
            stopped_overflows: counts.stopped_overflows,
            recoveries: counts.recoveries,
            bus_errors: u64::from(counters.unit().errors()),
        }));
    }
}
