//! `nmiprof selftest`: proofs that the kernel does what it claims.

pub mod cost;
mod display;
mod map;
pub mod nmi;
pub mod pmu;
pub mod storm;
mod table;
mod workers;

use std::io::Write;

use super::{Error, Outcome};

/// Flags of `nmiprof selftest`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What is tested.
    #[command(subcommand)]
    pub test: Test,
}

/// The self-tests.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Test {
    /// Place a second NMI, and a third, at every instruction boundary of the NMI entries
    Nmi(nmi::Args),
    /// Count the instructions of an NMI with each entry, phase by phase
    Cost(cost::Args),
    /// Nest NMIs at random, with faults, breakpoints and several sources
    Storm(storm::Args),
    /// Let every counter of the PMU count a known piece of work, and interrupt
    Pmu(pmu::Args),
}

/// Runs a self-test.
///
/// # Errors
/// [`Error`] where it could not be done.
pub fn run(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    match &args.test {
        Test::Nmi(args) => nmi::run(args, out, notes),
        Test::Cost(args) => cost::run(args, out, notes),
        Test::Storm(args) => storm::run(args, out, notes),
        Test::Pmu(args) => pmu::run(args, out, notes),
    }
}
