//! What an NMI costs with each entry, in instructions, phase by phase: the tables of `nmiprof selftest cost`.
//!
//! The figures are exact, and the same on every machine: the kernel is stepped through under QEMU's `-icount`.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use nmiprof::commands::selftest::cost;
use nmiprof_tests::qemu;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: cost::Args,
}

fn main() -> ExitCode {
    if let Err(skip) = qemu() {
        skip.register();
        return ExitCode::SUCCESS;
    }
    // What `cargo bench` says on the command line is not for this.
    let Command { args } = Command::parse_from(["nmi_cost"]);
    match cost::run(&args, &mut io::stdout(), &mut io::stderr()) {
        Ok(outcome) => ExitCode::from(outcome.exit_status()),
        Err(error) => {
            eprintln!("nmi_cost: {error}");
            ExitCode::FAILURE
        }
    }
}
