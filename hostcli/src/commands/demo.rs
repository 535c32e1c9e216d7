//! `nmiprof demo`: the whole path once, with good defaults: record, report, flame graph.
//!
//! It is made of the same commands that a user types, and it prints them. Exit status 0 means that all
//! of them were content: the run is complete and every sample is accounted for.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::words::parse;
use super::{Error, Outcome, export, record, report};
use crate::machine::CommandLine;

/// About 28,000 samples with call chains, over all workloads.
const RECORD_FLAGS: [&str; 5] = ["-g", "-c", "100003", "--duration", "2.8"];
/// Own shares first, because those are the workloads; smaller ones are left out, so that about twenty
/// rows remain.
const REPORT_FLAGS: [&str; 3] = ["--no-children", "--percent-limit", "0.8"];
const EXPORT_FLAGS: [&str; 2] = ["--format", "svg"];

/// Flags of `nmiprof demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Directory for `nmiprof.data` and `flamegraph.svg`
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// Agree to install QEMU where it is missing
    #[arg(long)]
    pub yes: bool,
}

/// Records, reports to `out`, and draws.
///
/// # Errors
/// [`Error`] of the first command that could not work.
pub fn run(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    fs::create_dir_all(&args.dir).map_err(|source| Error::output(&args.dir, source))?;
    let files = Files::in_directory(&args.dir);
    let outcomes =
        [record_to(&files, args, out, notes)?, report_of(&files, out, notes)?, draw(&files, out, notes)?];
    suggest(&files, notes)?;
    let all_good = outcomes.iter().all(|outcome| *outcome == Outcome::Good);
    Ok(if all_good { Outcome::Good } else { Outcome::Findings })
}

/// What a demonstration leaves behind.
struct Files {
    data: PathBuf,
    graph: PathBuf,
}

impl Files {
    fn in_directory(directory: &Path) -> Self {
        let directory = if directory == Path::new(".") { Path::new("") } else { directory };
        Self { data: directory.join("nmiprof.data"), graph: directory.join("flamegraph.svg") }
    }
}

fn record_to(
    files: &Files,
    args: &Args,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<Outcome, Error> {
    announce(notes, &["record"], &RECORD_FLAGS, &[("-o", &files.data)])?;
    let mut flags: record::Args = parse(&RECORD_FLAGS)?;
    flags.output.clone_from(&files.data);
    flags.machine.yes = args.yes;
    record::run(&flags, out, notes)
}

fn report_of(files: &Files, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    announce(notes, &["report"], &REPORT_FLAGS, &[("-i", &files.data)])?;
    let mut flags: report::Args = parse(&REPORT_FLAGS)?;
    flags.input.input.clone_from(&files.data);
    let outcome = report::run(&flags, out, notes)?;
    out.flush()?;
    Ok(outcome)
}

fn draw(files: &Files, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    let paths = [("-i", &files.data), ("-o", &files.graph)];
    announce(notes, &["export"], &EXPORT_FLAGS, &paths)?;
    let mut flags: export::Args = parse(&EXPORT_FLAGS)?;
    flags.input.input.clone_from(&files.data);
    flags.output.clone_from(&files.graph);
    export::run(&flags, out, notes)
}

/// Prints a command before it is done.
fn announce(
    notes: &mut dyn Write,
    verb: &[&str],
    flags: &[&str],
    paths: &[(&str, &PathBuf)],
) -> Result<(), Error> {
    Ok(writeln!(notes, "\n$ {}", command([verb, flags].concat(), paths))?)
}

fn suggest(files: &Files, notes: &mut dyn Write) -> Result<(), Error> {
    let (data, graph) = (files.data.display(), files.graph.display());
    writeln!(notes, "\nThe capture is in {data}, the flame graph in {graph}: open it in a browser.")?;
    let input = [("-i", &files.data)];
    let next = [
        ("who called what", command(vec!["report", "-g"], &input)),
        ("every counter of the run, and what it ran on", command(vec!["info"], &input)),
        (
            "NMIs that interrupt NMIs, and not a sample lost",
            command(vec!["record", "--stress", "nest", "-w", "sort", "-o", "nest.data"], &[]),
        ),
    ];
    writeln!(notes, "Next:")?;
    next.iter().try_for_each(|(what, command)| writeln!(notes, "  # {what}\n  {command}"))?;
    Ok(())
}

/// Returns a command line that a shell takes as it is, for this executable as it was called.
fn command(words: Vec<&str>, paths: &[(&str, &PathBuf)]) -> String {
    let program = env::args_os().next().unwrap_or_else(|| "nmiprof".into());
    let mut line = CommandLine::new(program).args(words);
    for (flag, path) in paths {
        line = line.args([OsStr::new(flag), path.as_os_str()]);
    }
    line.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_those_of_the_commands() {
        let flags: record::Args = parse(&RECORD_FLAGS).expect("sound flags");
        assert!(flags.sampling.chains);
        parse::<report::Args>(&REPORT_FLAGS).expect("sound flags");
        parse::<export::Args>(&EXPORT_FLAGS).expect("sound flags");
    }

    #[test]
    fn names_are_as_short_as_they_can_be_and_quoted_where_they_must_be() {
        assert_eq!(Files::in_directory(Path::new(".")).data, Path::new("nmiprof.data"));
        let files = Files::in_directory(Path::new("my dir"));
        let line = command(vec!["info"], &[("-i", &files.data)]);
        assert!(line.ends_with(" info -i 'my dir/nmiprof.data'"), "{line}");
    }
}
