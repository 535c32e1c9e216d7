//! What the map says about each strategy: its idea, its stack, and how it deals with a nested NMI.
//!
//! The assembly files of the entries are the authority. The names of the stack's parts are those of the
//! kernel's types; a test compares them.

use nmiprof_wire::NmiEntry;

/// What there is to say about one strategy. Prose has code between backticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strategy {
    /// The strategy.
    pub(super) entry: NmiEntry,
    /// Where it comes from.
    pub(super) source: &'static str,
    /// Its idea, by paragraphs.
    pub(super) idea: &'static [&'static str],
    /// Its stacks.
    pub(super) stacks: &'static [Stack],
    /// Names of fates, and how this strategy brings them about.
    pub(super) fates: &'static [(&'static str, &'static str)],
    /// Ends of labels, and what begins there.
    pub(super) labels: &'static [(&'static str, &'static str)],
}

/// One stack: the CPU or the entry begins at its top and goes down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack {
    /// What the stack is.
    pub(super) name: &'static str,
    /// Its parts from the top: name and meaning.
    pub(super) parts: &'static [(&'static str, &'static str)],
}

impl Strategy {
    /// Returns what there is to say about an entry.
    pub(super) const fn of(entry: NmiEntry) -> &'static Self {
        match entry {
            NmiEntry::Naive => &NAIVE,
            NmiEntry::Rostedt => &ROSTEDT,
            NmiEntry::Latched => &LATCHED,
            NmiEntry::Softmask => &SOFTMASK,
            NmiEntry::Tristate => &TRISTATE,
        }
    }

    /// Finds what begins at a label of the entry whose own label is `entry`.
    pub(super) fn label_note(&self, entry: &str, label: &str) -> Option<&'static str> {
        let end = label.strip_prefix(entry)?;
        self.labels.iter().find(|(name, _)| *name == end).map(|(_, note)| *note)
    }
}

const COUNTERS: (&str, &str) = ("counters", "arrivals, nested arrivals, re-runs; the CPU never pushes here");
const HARDWARE: (&str, &str) =
    ("hardware", "pushed by the CPU: SS, RSP, RFLAGS, CS, RIP. Every NMI overwrites this one place");
const CONTEXT: (&str, &str) = ("context", "the registers that Rust may change, CR2, DR7");
const ENTRY_NOTE: (&str, &str) = ("", "the CPU arrives here, with NMIs masked");
const UNMASKED_NOTE: (&str, &str) =
    ("_unmasked", "`--unmask early` has just unmasked NMIs, so that they reach what follows");
const RETURN_NOTE: (&str, &str) = ("_iretq", "unmasks NMIs and goes to the interrupted code");

const NAIVE: Strategy = Strategy {
    entry: NmiEntry::Naive,
    source: "What the hardware offers, and no answer to the flaw.",
    idea: &[
        "Save the registers, call the handler, restore the registers, `iretq`. Nothing on the stack says that an \
         NMI is in progress, so a nested one takes itself for a first one: it overwrites the frame of the outer \
         NMI, its saved registers, and the handler's own stack.",
        "It is sound only where nothing inside the NMI executes `iretq`: faults have to return by `popfq; ret`. \
         It is the floor of every comparison, and with faults that return by `iretq` it is the proof that the \
         flaw is real.",
    ],
    stacks: &[Stack { name: "NMI stack", parts: &[COUNTERS, HARDWARE, CONTEXT] }],
    fates: &[],
    labels: &[ENTRY_NOTE, UNMASKED_NOTE, RETURN_NOTE],
};

const ROSTEDT: Strategy = Strategy {
    entry: NmiEntry::Rostedt,
    source: "Steven Rostedt, \"x86: Add workaround to NMI iret woes\" (Linux 3.3, and still there).",
    idea: &[
        "The NMI stack itself remembers that an NMI is in progress: one word is 1 until the exit. The frame \
         that the CPU pushed is copied twice to where no later NMI pushes, and the exit returns by the lower copy.",
        "A nested NMI runs nothing. It redirects that copy to the label `_repeat` and leaves. When the outer NMI \
         then executes its `iretq`, it lands at `_repeat`, copies the frame that was saved first once more, and \
         runs the handler again.",
    ],
    stacks: &[Stack {
        name: "NMI stack",
        parts: &[
            COUNTERS,
            HARDWARE,
            ("scratch", "RDX of the arrival; overwritten like the frame above"),
            ("executing", "1 while an NMI is in progress; the exit clears it right before `iretq`"),
            ("saved", "the outermost frame, written once"),
            ("returning", "the frame that the exit uses; a nested NMI redirects it to `_repeat`"),
            CONTEXT,
        ],
    }],
    fates: &[
        (
            "joined",
            "Its RIP is between `_repeat` and `_window_end`, where `returning` is being written. A run is about to start, so it leaves everything alone.",
        ),
        (
            "latched",
            "It finds `executing` set and redirects `returning`: the mark is the return address itself.",
        ),
        (
            "restarted",
            "`executing` is 0 already, but DF is set, as the exit has it, and RSP is exactly at `returning`. It redirects the frame of the very `iretq` that it interrupted.",
        ),
    ],
    labels: &[
        ENTRY_NOTE,
        ("_first", "the first arrival: set the word, save the frame"),
        ("_repeat", "a redirected `iretq` lands here"),
        ("_copy", "`returning` is written from `saved`: a nested NMI up to `_window_end` leaves it alone"),
        ("_window_end", "from here a nested NMI redirects `returning`"),
        ("_iretq", "the state is clear, the return is still to come: recognized by DF and RSP"),
        ("_check_gap", "DF was set: is RSP where only the exit has it?"),
        ("_nested", "redirect `returning`"),
        ("_nested_leave", "back into the outer NMI"),
    ],
};

const LATCHED: Strategy = Strategy {
    entry: NmiEntry::Latched,
    source: "Mathieu Desnoyers, \"[RFC] Latched NMI handler\" (2011), repaired: the state is assigned, not counted, \
             and a restart saves nothing again.",
    idea: &[
        "The NMI stack only decides. The handler runs on a second stack, to which frame and registers are copied \
         once; so the next NMI, which starts at the top of the first stack, finds nothing there to destroy.",
        "A nested NMI sets `latch` and leaves, and the exit looks at it. What arrives after that look would come \
         too late, so the whole exit is a window: an NMI whose RIP is in it never returns there. It resets RSP \
         to the saved context and runs the handler again.",
    ],
    stacks: &[
        Stack {
            name: "NMI stack",
            parts: &[COUNTERS, HARDWARE, ("scratch", "RDX of the arrival; nothing below it is used")],
        },
        Stack {
            name: "Second stack",
            parts: &[
                ("block", "state (1 while an NMI is in progress), latch, and where the counters are"),
                ("frame", "copy of `hardware`, written once, read by the final `iretq`"),
                CONTEXT,
            ],
        },
    ],
    fates: &[
        (
            "latched",
            "It finds the state set, sets `latch` and leaves. The exit sees the latch before it restores anything.",
        ),
        (
            "restarted",
            "Its RIP is in the exit window, so it does not go back: it sets the state, points RSP at `context` and starts the run itself.",
        ),
    ],
    labels: &[
        ENTRY_NOTE,
        ("_outside", "not in the exit window: is the state set?"),
        UNMASKED_NOTE,
        ("_run", "a run begins"),
        ("_window", "the exit window begins: an NMI from here to `iretq` restarts"),
        ("_iretq", "unmasks NMIs and goes to the interrupted code; the last instruction of the window"),
        ("_window_end", "the end of the exit window"),
        ("_in_window", "arrived in the exit window: drop the frame, start again"),
        ("_restart", "one more run: the latch is cleared as the last act before it"),
        ("_nested", "set the latch, back into the outer NMI"),
    ],
};

const SOFTMASK: Strategy = Strategy {
    entry: NmiEntry::Softmask,
    source: "Linus Torvalds, linux-kernel, July 2010, in the thread on page faults in NMIs; never merged.",
    idea: &[
        "The frame is copied away from where the CPU pushes. A nested NMI poisons the copy that the outer NMI \
         will return by: its CS becomes a null selector. Then it leaves by `popfq; ret`, so that NMIs stay masked \
         in the outer one.",
        "The outer NMI's `iretq` faults on the poison. The stub of that exception (#GP) sets the state, takes the \
         poison away and runs the handler again. Whether a faulting `iretq` unmasks NMIs depends on the processor; \
         nothing here depends on that.",
    ],
    stacks: &[Stack {
        name: "NMI stack",
        parts: &[
            COUNTERS,
            HARDWARE,
            ("scratch", "RDX of a nested arrival"),
            ("executing", "1 while an NMI is in progress"),
            ("saved", "the outermost frame, written once"),
            ("returning", "the frame that the exit uses; its CS is null while it is poisoned"),
            ("context", "the registers that Rust may change, CR2, DR7; at the exit the #GP frame lies here"),
        ],
    }],
    fates: &[
        (
            "latched",
            "It finds `executing` set and poisons `returning`: the exit's `iretq` faults, and the fault runs the handler again.",
        ),
        (
            "restarted",
            "`executing` is 0 already, but its RIP is the exit's `iretq`. It poisons the frame of the very `iretq` that it interrupted, which then faults.",
        ),
    ],
    labels: &[
        ENTRY_NOTE,
        ("_first", "the first arrival: set the state, copy the frame twice"),
        ("_run", "a run begins; from here a nested NMI asks for one more"),
        ("_iretq", "returns; or, poisoned, raises #GP"),
        ("_return_fault", "#GP arrives here: a poisoned return, or somebody else's fault"),
        ("_check_fault", "`--unmask early` has just unmasked NMIs in the fault as well"),
        ("_check_gap", "RIP is at the `iretq`: is it the kernel's?"),
        ("_nested", "poison `returning`, back into the outer NMI without `iretq`"),
    ],
};

const TRISTATE: Strategy = Strategy {
    entry: NmiEntry::Tristate,
    source: "The three NMI states of i386 Linux (3.3 and later), brought to x86-64.",
    idea: &[
        "One word is not running, executing or latched. A nested NMI sets it to latched and leaves. The exit \
         restores the registers first and then decrements the word: if that does not make it free, the handler \
         runs again.",
        "After the decrement two instructions remain, the branch and the `iretq`, and nothing but the frame to \
         return by is left to lose. An NMI there finds the word free, sees by its RIP where it is, points RSP at \
         that frame and runs the handler again.",
    ],
    stacks: &[Stack {
        name: "NMI stack",
        parts: &[
            COUNTERS,
            HARDWARE,
            ("state", "0 not running, 1 executing, 2 latched"),
            ("saved", "the outermost frame, written once; the final `iretq` reads it"),
            ("context", "the registers that Rust may change, CR2, DR7; written before each run"),
        ],
    }],
    fates: &[
        (
            "latched",
            "It finds the state set and makes it latched. The exit's decrement does not free it, and the handler runs again.",
        ),
        (
            "restarted",
            "The state is free, but its RIP is in the two instructions after the decrement. It drops its own frame and starts the run itself.",
        ),
    ],
    labels: &[
        ENTRY_NOTE,
        ("_first", "the first arrival: set the state, save the frame"),
        ("_execute", "a run begins"),
        UNMASKED_NOTE,
        ("_window", "the state may be free from here on: recognized by RIP"),
        ("_iretq", "unmasks NMIs and goes to the interrupted code; the last instruction of the window"),
        ("_window_end", "the end of the window"),
        ("_check_window", "arrived with the state free, below the window's end: is it in the window?"),
        ("_again", "one more run, from the frame that was saved first"),
        ("_nested", "set the state to latched, back into the outer NMI"),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images;
    use crate::sweep::{Code, Combination};

    /// Where the kernel keeps its entries.
    const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernel/src/nmi/entry/");

    /// Reads the fields of a type from the top of the stack, which is the end of the type.
    fn fields(source: &str, name: &str) -> Vec<String> {
        let (_, rest) = source.split_once(&format!("\nstruct {name} {{\n")).expect("the type is there");
        let (body, _) = rest.split_once("\n}").expect("its end");
        let field = |line: &str| Some(line.trim().strip_suffix(',')?.split_once(':')?.0.to_owned());
        body.lines().rev().filter_map(field).collect()
    }

    fn names(stack: &Stack) -> Vec<&'static str> {
        stack.parts.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn the_stacks_are_those_of_the_kernel() {
        for entry in NmiEntry::ALL {
            let source =
                std::fs::read_to_string(format!("{SOURCES}{entry}.rs")).expect("the kernel's sources");
            let types: &[&str] =
                if *entry == NmiEntry::Latched { &["Arrival", "Body"] } else { &["Picture"] };
            let stacks = Strategy::of(*entry).stacks;
            assert_eq!(stacks.len(), types.len());
            for (stack, name) in stacks.iter().zip(types) {
                assert_eq!(names(stack), fields(&source, name), "{entry}: {name}");
            }
        }
    }

    #[test]
    fn every_label_that_is_explained_is_in_the_image() {
        let code = Code::parse(images::SELFTEST).expect("an ELF file");
        for entry in NmiEntry::ALL {
            let strategy = Strategy::of(*entry);
            let forms = Combination::all().into_iter().filter(|one| one.entry == *entry);
            let labels: Vec<_> = forms.map(|one| one.label()).collect();
            for (end, _) in strategy.labels {
                let is_there = labels.iter().any(|label| code.address(&format!("{label}{end}")).is_some());
                assert!(is_there, "{entry}{end}");
            }
        }
        assert_eq!(Strategy::of(NmiEntry::Naive).label_note("nmi_naive", "nmi_naive"), Some(ENTRY_NOTE.1));
        assert_eq!(Strategy::of(NmiEntry::Naive).label_note("nmi_naive", "elsewhere"), None);
    }

    #[test]
    fn code_in_prose_is_closed() {
        for entry in NmiEntry::ALL {
            let strategy = Strategy::of(*entry);
            assert_eq!(strategy.entry, *entry);
            let parts = strategy.stacks.iter().flat_map(|stack| stack.parts);
            let pairs = parts.chain(strategy.fates).chain(strategy.labels).map(|(_, text)| text);
            for text in pairs.chain(strategy.idea).chain([&strategy.source]) {
                assert_eq!(text.matches('`').count() % 2, 0, "{text}");
            }
        }
    }
}
