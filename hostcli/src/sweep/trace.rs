//! The reference trace: every instruction of one NMI that nothing interrupts.
//!
//! A *position* in a trace is the boundary before its instruction: an NMI there finds that instruction as
//! the interrupted one. Position 0 is the first instruction of the entry, the last position is the
//! interrupted instruction that the return goes back to.

use super::code::{Code, Flow};

/// One position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Address of the instruction.
    pub address: u64,
    /// What came of it.
    pub kind: StepKind,
}

/// What came of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// It was executed.
    Retired,
    /// It raised an exception, whose handler follows: it took no time, and comes again.
    Faulted,
    /// It returned by `iretq`, which unmasks NMIs.
    Iret,
}

/// A whole trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    steps: Vec<Step>,
}

/// One stop of the tracer: what it saw of the CPU before an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The next instruction.
    pub rip: u64,
    /// Where it will go back to, if it is an `iretq`: the word at RSP.
    pub iret_target: Option<u64>,
}

impl Trace {
    /// Creates a trace from its positions.
    #[must_use]
    pub fn new(steps: Vec<Step>) -> Self {
        Self { steps }
    }

    /// Tells from the instructions what came of each stop.
    ///
    /// # Errors
    /// [`TraceError`] where the CPU executed what the image does not hold, or an `iretq` went elsewhere than
    /// to the frame that it found: it faulted, and whether that unmasks NMIs depends on the CPU.
    pub fn annotate(seen: &[Seen], code: &Code) -> Result<Self, TraceError> {
        let mut steps = Vec::with_capacity(seen.len());
        for (position, stop) in seen.iter().enumerate() {
            let after = seen.get(position + 1).map(|next| next.rip);
            let kind = match (code.flow(stop.rip), after) {
                (None, Some(_)) => return Err(TraceError::NoCode { position, address: stop.rip }),
                (Some(Flow::Iret), Some(after)) if stop.iret_target != Some(after) => {
                    return Err(TraceError::IretFaulted { position, address: stop.rip });
                }
                (Some(Flow::Iret), Some(_)) => StepKind::Iret,
                (Some(Flow::Next(next)), Some(after)) if next != after => StepKind::Faulted,
                _ => StepKind::Retired,
            };
            steps.push(Step { address: stop.rip, kind });
        }
        Ok(Self { steps })
    }

    /// Returns the positions.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns how many instructions a position comes after the first one. What faulted does not count: it
    /// is not retired.
    #[must_use]
    pub fn ticks(&self) -> Vec<u32> {
        let mut tick = 0;
        let mut ticks = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            ticks.push(tick);
            tick += u32::from(step.kind != StepKind::Faulted);
        }
        ticks
    }
}

/// Why stops make no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// There is no instruction in the image where the CPU was.
    #[error(
        "at position {position} the CPU was at {address:#x}, where the image has no code; \
         report it with `nmiprof --version`"
    )]
    NoCode {
        /// Where in the trace.
        position: usize,
        /// Where in memory.
        address: u64,
    },
    /// An `iretq` did not return.
    #[error(
        "the iretq at {address:#x} (position {position}) faulted without a second NMI; \
         that is a defect of the entry, so report it"
    )]
    IretFaulted {
        /// Where in the trace.
        position: usize,
        /// Where in memory.
        address: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images;

    fn seen(rip: u64) -> Seen {
        Seen { rip, iret_target: None }
    }

    #[test]
    fn what_comes_again_has_faulted_and_took_no_time() {
        let code = Code::parse(images::MAIN).expect("an ELF file");
        let entry = code.address("nmi_rostedt").expect("a label");
        let Some(Flow::Next(second)) = code.flow(entry) else { panic!("a plain instruction") };
        let handler = code.address("exception_common").expect("a label");
        let stops = [seen(entry), seen(second), seen(handler)];
        let trace = Trace::annotate(&stops, &code).expect("code of the image");
        let kinds: Vec<_> = trace.steps().iter().map(|step| step.kind).collect();
        assert_eq!(kinds, [StepKind::Retired, StepKind::Faulted, StepKind::Retired]);
        assert_eq!(trace.ticks(), [0, 1, 1]);
    }

    #[test]
    fn an_iretq_has_to_go_where_its_frame_says() {
        let code = Code::parse(images::MAIN).expect("an ELF file");
        let iretq = code.address("nmi_rostedt_iretq").expect("a label");
        let stops = |target| [Seen { rip: iretq, iret_target: Some(target) }, seen(0x1234)];
        let trace = Trace::annotate(&stops(0x1234), &code).expect("it returned");
        assert_eq!(trace.steps()[0].kind, StepKind::Iret);
        let error = Trace::annotate(&stops(0x9999), &code).expect_err("it faulted");
        assert!(matches!(error, TraceError::IretFaulted { position: 0, .. }));
    }

    #[test]
    fn what_runs_outside_the_image_is_an_error() {
        let code = Code::parse(images::MAIN).expect("an ELF file");
        let error = Trace::annotate(&[seen(8), seen(9)], &code).expect_err("no code there");
        assert_eq!(error, TraceError::NoCode { position: 0, address: 8 });
    }
}
