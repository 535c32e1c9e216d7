//! A placeholder until the next step.
#![cfg_attr(target_os = "none", no_std, no_main)]
nmiprof_programs::program!(hostile::main);
#[cfg(target_os = "none")]
mod hostile {
    use nmiprof_programs::Arguments;
    pub(crate) fn main(_: Arguments) -> u64 {
        0
    }
}
