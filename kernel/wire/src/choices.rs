//! Choices of the kernel command line: each is among named values, written as their names.
//!
//! The host's own arguments take the same words, so a name is given here once.

use core::fmt;
use core::str::FromStr;

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// Defines a choice among named values, its text form, and its parser.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal),+ $(,)? }
     expected $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
        pub enum $name { $($(#[$value_doc])* $value),+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// Returns the word for this value.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $name {
            type Err = &'static str;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.name() == word).ok_or($expected)
            }
        }
    };
}

choice! {
    /// Entry strategies at vector 2.
    NmiEntry {
        /// Save, call, `iretq`: sound only while nothing unmasks NMIs inside.
        Naive = "naive",
        /// On-stack state, saved and copied frames, a repeat trampoline (Linux 3.3).
        Rostedt = "rostedt",
        /// A deciding stub on its own stack, the handler on a second one, a restart window (Desnoyers' RFC, 2011).
        Latched = "latched",
        /// A nested NMI poisons the outer return, whose fault runs the handler again (Torvalds, 2010).
        Softmask = "softmask",
        /// Not running, executing, latched, released by one decrement (i386 Linux).
        Tristate = "tristate",
    }
    expected "naive, rostedt, latched, softmask, tristate"
}

choice! {
    /// How a fault taken inside an NMI returns.
    FaultReturn {
        /// By `iret`, which unmasks NMIs.
        Iret = "iret",
        /// Without `iret`, so that NMIs stay masked (Desnoyers' first proposal).
        Ret = "ret",
    }
    expected "iret, ret"
}

choice! {
    /// How a nested NMI returns into its outer NMI (`rostedt` and `latched`).
    NestedReturn {
        /// By `iret`, which unmasks NMIs in the outer one.
        Iret = "iret",
        /// Without `iret`: the outer one gets its masked context back.
        Ret = "ret",
    }
    expected "iret, ret"
}

choice! {
    /// When NMIs are unmasked inside an NMI.
    Unmask {
        /// By whatever does it: the `iret` of a fault.
        Fault = "fault",
        /// Right after the frame is copied, so that a nested NMI can arrive nearly everywhere: for tests.
        Early = "early",
    }
    expected "fault, early"
}

choice! {
    /// How the dispatcher asks its handlers.
    Dispatch {
        /// All of them, on every NMI.
        WalkAll = "walk-all",
        /// Up to the first that handled something, but all on a back-to-back NMI (Linux 3.2).
        StopEarly = "stop-early",
    }
    expected "walk-all, stop-early"
}

choice! {
    /// What an unknown NMI means.
    UnknownPolicy {
        /// It is counted and reported.
        Count = "count",
        /// It stops the machine.
        Stop = "stop",
    }
    expected "count, stop"
}

choice! {
    /// How the pages of a ring are mapped.
    RingMode {
        /// No page has a frame until it is first touched, and an address space meets the ring by a page fault.
        Lazy = "lazy",
        /// All pages are mapped at once, in every address space (`vmalloc_sync_all`).
        Sync = "sync",
        /// Consecutive frames in the direct map, which every address space has (the `kmalloc` choice).
        Direct = "direct",
    }
    expected "lazy, sync, direct"
}

choice! {
    /// What a run provokes on purpose.
    Stress {
        /// Nothing.
        None = "none",
        /// A self-NMI from the fault path at each first touch of a ring page, and at each first access of an
        /// address space to the ring.
        Nest = "nest",
    }
    expected "none, nest"
}

choice! {
    /// What a run is for.
    Job {
        /// Samples are taken.
        Record = "record",
        /// Events are counted.
        Stat = "stat",
        /// The PMU says what it offers.
        List = "list",
        /// Every counter is tested, and what was found is told.
        PmuTest = "pmu-test",
    }
    expected "record, stat, list, pmu-test"
}

choice! {
    /// What counts events.
    PmuChoice {
        /// The hardware where its counters work, else the timer.
        Auto = "auto",
        /// The counters of the CPU, or nothing.
        Hardware = "hardware",
        /// The local APIC's timer: one event.
        Timer = "timer",
        /// A model of an Intel PMU's registers, which counts by formulas of the clock.
        ModelIntel = "model-intel",
        /// A model of an AMD PMU's registers, which counts by formulas of the clock.
        ModelAmd = "model-amd",
    }
    expected "auto, hardware, timer, model-intel, model-amd"
}

choice! {
    /// Which interrupt stands behind a run that counts with a timer; or none, for the counters' own.
    SourceChoice {
        /// The first that works: the counters', the local APIC's timer, the HPET, the interval timer.
        Auto = "auto",
        /// That of the CPU's counters, and no timer.
        Pmu = "pmu",
        /// The local APIC's timer.
        Lapic = "lapic",
        /// The HPET, through the I/O APIC.
        Hpet = "hpet",
        /// The interval timer (8254), through the I/O APIC.
        Pit = "pit",
    }
    expected "auto, pmu, lapic, hpet, pit"
}

choice! {
    /// When the handler unmasks the local APIC's entry for performance counters, which an Intel CPU masks when it
    /// delivers an overflow's NMI.
    LvtpcUnmask {
        /// At the end, when no overflow is pending any more.
        Late = "late",
        /// At the beginning: an overflow while the handler runs raises a further NMI.
        Early = "early",
    }
    expected "late, early"
}

choice! {
    /// What is at the far end of the serial line.
    Line {
        /// A reader that may make the kernel wait: the run does not repeat exactly.
        Live = "live",
        /// A file: it never makes the kernel wait.
        File = "file",
    }
    expected "live, file"
}

choice! {
    /// What the kernel sends of its samples.
    Aggregate {
        /// Each sample.
        Off = "off",
        /// How many fell where: for lines that are slower than samples come.
        On = "on",
        /// Both, each numbered by itself, so that one can be held against the other: the self-test image only.
        Both = "both",
    }
    expected "off, on, both"
}
