//! Whether bytes that come after a cut in the line come from the same run.
//!
//! While a line is cut, the target may have been started again, or the plug may have gone into another machine. So what
//! comes first is decoded by itself, and compared with what came before the cut:
//!
//! - a [`Hello`](nmiprof_wire::Hello) must describe the same run, at a later time;
//! - sample numbers and overflows of no CPU may go back.
//!
//! The same image that was started again is found by its time, unless the cut lasted longer than the first
//! run had: then a clock that began anew may be ahead of where the old one stopped, and only the numbers tell.

use super::Record;
use super::accounts::{Accounts, CpuAccount};

impl Record {
    /// Says why what `later` decoded can't be the same run, if so.
    #[must_use]
    pub fn contradiction(&self, later: &Self) -> Option<&'static str> {
        if let (Some(first), Some(second)) = (self.run(), later.run()) {
            if first.build_id != second.build_id {
                return Some("it is of another build");
            }
            if first != second {
                return Some("it describes another run");
            }
        }
        if self.hello_time().zip(later.first_hello_time()).is_some_and(|(before, after)| after <= before) {
            return Some("its clock began anew: the target was started again");
        }
        let went_back = !self.accounts().continue_in(later.accounts());
        went_back.then_some("its samples are counted anew: the target was started again")
    }
}

impl Accounts {
    fn continue_in(&self, later: &Self) -> bool {
        self.cpus().iter().zip(later.cpus()).all(|(before, after)| before.continues_in(after))
    }
}

impl CpuAccount {
    fn continues_in(&self, later: &Self) -> bool {
        let samples_rise = later.first_sample().is_none_or(|first| first >= self.next_sample());
        let overflows = self.first_and_last_overflows().zip(later.first_and_last_overflows());
        samples_rise && overflows.is_none_or(|((_, before), (after, _))| after >= before)
    }
}

#[cfg(test)]
mod tests {
    use crate::capture::writer::{SyntheticSample, Writer, hello};
    use crate::capture::{CaptureError, Record, Stream};
    use nmiprof_wire::{BuildId, Frame, Hello};

    fn record(bytes: &[u8]) -> Record {
        let mut stream = Stream::new("made up");
        stream.push(bytes, |_| Ok::<(), CaptureError>(())).expect("a sound stream");
        stream.finish()
    }

    /// A run of `samples`; returns its bytes, and where the second half begins, with a description.
    fn run(hello: &Hello<'_>, samples: u64) -> (Vec<u8>, usize) {
        let (mut hello, mut writer) = (hello.clone(), Writer::new(hello).expect("it fits"));
        let mut middle = 0;
        for time in 1..=samples {
            writer.sample(&SyntheticSample { time, ..SyntheticSample::default() }).expect("it fits");
            if time == samples / 2 {
                writer.flush().and_then(|()| writer.sync()).expect("it fits");
                hello.time = time;
                middle = writer.bytes_so_far();
                writer.frame(&Frame::Hello(hello.clone())).expect("it fits");
            }
        }
        (writer.end().expect("it fits"), middle)
    }

    #[test]
    fn the_second_half_of_a_run_continues_the_first() {
        let (bytes, middle) = run(&hello(), 200);
        assert_eq!(record(&bytes[..middle]).contradiction(&record(&bytes[middle..])), None);
    }

    #[test]
    fn another_build_and_another_command_line_are_another_run() {
        let (bytes, middle) = run(&hello(), 200);
        let mut other = hello();
        other.build_id = BuildId([1; 20]);
        let first = record(&bytes[..middle]);
        assert_eq!(first.contradiction(&record(&run(&other, 400).0)), Some("it is of another build"));
        other = hello();
        other.options.duration_ns += 1;
        assert_eq!(first.contradiction(&record(&run(&other, 400).0)), Some("it describes another run"));
    }

    #[test]
    fn a_clock_that_began_anew_is_another_run() {
        let (bytes, middle) = run(&hello(), 200);
        let why = record(&bytes).contradiction(&record(&bytes[middle..]));
        assert!(why.is_some_and(|why| why.contains("clock")), "{why:?}");
    }

    #[test]
    fn numbers_that_go_back_are_another_run_even_without_a_description() {
        let (bytes, middle) = run(&hello(), 200);
        let after_hello = 1 + bytes.iter().position(|byte| *byte == 0).expect("a first frame");
        let why = record(&bytes[..middle]).contradiction(&record(&bytes[after_hello..middle]));
        assert!(why.is_some_and(|why| why.contains("counted anew")), "{why:?}");
    }
}
