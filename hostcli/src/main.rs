//! The `nmiprof` command: arguments in, exit status out. What it does is in the library.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};
use nmiprof::commands::{
    Error, Outcome, demo, doctor, export, image, info, list, record, report, script, selftest, stat,
};
use nmiprof::images::{self, Image};
use nmiprof_wire::WIRE_VERSION;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => finish(run(&cli.command)),
        Err(usage) => {
            // Help that nobody reads to its end is still help.
            drop(usage.print());
            ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(Error::EXIT_STATUS))
        }
    }
}

fn run(command: &Command) -> Result<Outcome, Error> {
    let (mut out, mut notes) = (io::stdout().lock(), io::stderr());
    let outcome = match command {
        Command::Demo(args) => demo::run(args, &mut out, &mut notes),
        Command::Record(args) => record::run(args, &mut out, &mut notes),
        Command::Stat(args) => stat::run(args, &mut out, &mut notes),
        Command::List(args) => list::run(args, &mut out, &mut notes),
        Command::Report(args) => report::run(args, &mut out, &mut notes),
        Command::Script(args) => script::run(args, &mut out, &mut notes),
        Command::Info(args) => info::run(args, &mut out, &mut notes),
        Command::Export(args) => export::run(args, &mut out, &mut notes),
        Command::Image(args) => image::run(args, &mut out, &mut notes),
        Command::Doctor(args) => doctor::run(args, &mut out, &mut notes),
        Command::Selftest(args) => selftest::run(args, &mut out, &mut notes),
    }?;
    out.flush()?;
    Ok(outcome)
}

fn finish(result: Result<Outcome, Error>) -> ExitCode {
    match result {
        Ok(outcome) => ExitCode::from(outcome.exit_status()),
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody left to tell where the standard error is closed.
            drop(writeln!(io::stderr(), "nmiprof: error: {error}"));
            ExitCode::from(Error::EXIT_STATUS)
        }
    }
}

/// Profile a kernel from inside its NMIs
#[derive(Parser)]
#[command(name = "nmiprof", version, long_version = VERSION.as_str(), arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Record, report and draw once, with good defaults
    Demo(demo::Args),
    /// Boot a machine, or attach to one, and write what its kernel samples to a capture
    Record(record::Args),
    /// Boot a machine and show what its PMU counts
    Stat(stat::Args),
    /// Show which events can be sampled and counted
    List(list::Args),
    /// Show where the samples fell
    Report(report::Args),
    /// Print samples one by one
    Script(script::Args),
    /// Show what a capture says of its run
    Info(info::Args),
    /// Write call paths for other tools, or a flame graph
    Export(export::Args),
    /// Write a boot image for other machines: a CD or a USB stick, for BIOS and UEFI
    Image(image::Args),
    /// Examine this host
    Doctor(doctor::Args),
    /// Examine the kernel
    Selftest(selftest::Args),
}

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let id = |image: Image| image.build_id().map_or("no build-id".to_owned(), |id| id.to_string());
    format!(
        "{}\nkernel {}\nselftest kernel {}\nwire version {WIRE_VERSION}\nkernels built by {}",
        env!("CARGO_PKG_VERSION"),
        id(Image::Main),
        id(Image::Selftest),
        images::RUSTC
    )
});
