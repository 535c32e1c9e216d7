//! The one event that a timer counts.

use nmiprof_wire::ClockKind;

use crate::sampler::Kept;

/// Returns the modifier of the event, if a timer can count what a text asks for.
pub fn suffix(events: &str) -> Option<&'static str> {
    match events {
        "" | "instructions" => Some(""),
        "instructions:u" => Some(":u"),
        "instructions:k" => Some(":k"),
        _ => None,
    }
}

/// Names the event after what the timer was seen to count.
pub fn event_name(events: &str, clock: ClockKind) -> &'static str {
    match (clock, suffix(events)) {
        (ClockKind::Instructions, Some(":u")) => "instructions:u",
        (ClockKind::Instructions, Some(":k")) => "instructions:k",
        (ClockKind::Instructions, _) => "instructions",
        (ClockKind::Time, Some(":u")) => "virtual-clock:u",
        (ClockKind::Time, Some(":k")) => "virtual-clock:k",
        (ClockKind::Time, _) => "virtual-clock",
    }
}

/// Returns which samples are kept: the timer ticks for user code and for the kernel.
pub fn kept(events: &str) -> Kept {
    match suffix(events) {
        Some(":u") => Kept { kernel: 0, ..Kept::ALL },
        Some(":k") => Kept { user: 0, ..Kept::ALL },
        _ => Kept::ALL,
    }
}
