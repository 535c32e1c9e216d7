//! Boots the kernel on the emulated PC, with its serial line on a socket or in a file.
//!
//! `nmiprof-pc --profile zen4 --unix /tmp/line` waits for `nmiprof record -i unix:/tmp/line`, and then boots.
//! `nmiprof-pc --kernel FILE` boots somebody else's kernel, whose line is text.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use nmiprof_pc::boot::Kernel;
use nmiprof_pc::{Config, IretFault, Machine, Stopped};
use nmiprof_pmu::model::Flaw;
use nmiprof_pmu::profiles;

const USAGE: &str = "usage: nmiprof-pc [--profile ID] [--append WORDS] [--iret-fault keeps|unmasks] [--limit N] \
                     [--flaw dead|silent|mask-sticks] [--without hpet|io-apic] [--no-cache] [--memory MIB] \
                     [--module FILE] (--unix PATH | --capture FILE)\n       \
                     nmiprof-pc --kernel FILE [the same; without a path, the line goes to the standard output]";
/// Boundaries between two looks at the serial line.
const SLICE: u64 = 1_000_000;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("nmiprof-pc: {error}");
            ExitCode::from(2)
        }
    }
}

/// What the command line asks for.
struct Args {
    config: Config,
    unix: Option<PathBuf>,
    capture: Option<PathBuf>,
    limit: u64,
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let args = parse()?;
    if args.config.foreign.is_some_and(|elf| Kernel::parse_multiboot(elf).is_none()) {
        return Err(
            "the kernel is no ELF image with a Multiboot 1 header that this loader understands".into()
        );
    }
    let mut line = open_line(&args)?;
    let mut machine = Machine::new(&args.config);
    let start = Instant::now();
    let mut left = args.limit;
    let stopped = loop {
        let stopped = machine.run(SLICE.min(left));
        left = left.saturating_sub(SLICE);
        line.write_all(&machine.take_sent())?;
        if stopped != Stopped::Limit || left == 0 {
            break stopped;
        }
    };
    tell(&machine, &stopped, start);
    let success = if args.config.foreign.is_some() { 0 } else { nmiprof_wire::ExitCode::Success as u32 };
    Ok(if stopped == Stopped::Exit(success) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(machine: &Machine, stopped: &Stopped, start: Instant) {
    let boundaries = machine.watch().boundaries;
    let seconds = start.elapsed().as_secs_f64();
    eprintln!(
        "nmiprof-pc: {stopped:?} after {boundaries} instructions in {seconds:.2} s ({:.1} million/s), {} NMIs",
        boundaries as f64 / seconds / 1e6,
        machine.watch().nmi.taken
    );
}

fn open_line(args: &Args) -> Result<Box<dyn Write>, Box<dyn Error>> {
    match (&args.unix, &args.capture) {
        (Some(path), None) => {
            let listener = UnixListener::bind(path)?;
            eprintln!("nmiprof-pc: waiting at unix:{}", path.display());
            let (stream, _) = listener.accept()?;
            std::fs::remove_file(path)?;
            Ok(Box::new(stream))
        }
        (None, Some(path)) => Ok(Box::new(File::create(path)?)),
        (None, None) if args.config.foreign.is_some() => Ok(Box::new(std::io::stdout())),
        _ => Err(USAGE.into()),
    }
}

fn parse() -> Result<Args, Box<dyn Error>> {
    let mut args = Args { config: Config::default(), unix: None, capture: None, limit: u64::MAX };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--no-cache" {
            args.config.has_cache = false;
            continue;
        }
        let value = words.next().ok_or(USAGE)?;
        match word.as_str() {
            "--profile" => {
                args.config.profile = profiles::find(&value).ok_or_else(|| unknown_profile(&value))?
            }
            "--append" => args.config.command_line = value,
            "--kernel" => args.config.foreign = Some(std::fs::read(&value)?.leak()),
            "--memory" => args.config.memory_mib = value.parse()?,
            "--module" => args.config.module = std::fs::read(&value)?,
            "--unix" => args.unix = Some(value.into()),
            "--capture" => args.capture = Some(value.into()),
            "--limit" => args.limit = value.parse()?,
            "--iret-fault" => args.config.iret_fault = iret_fault(&value)?,
            "--flaw" => args.config.flaw = Some(flaw(&value)?),
            "--without" => remove(&mut args.config, &value)?,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(args)
}

fn iret_fault(word: &str) -> Result<IretFault, &'static str> {
    match word {
        "keeps" => Ok(IretFault::Keeps),
        "unmasks" => Ok(IretFault::Unmasks),
        _ => Err(USAGE),
    }
}

fn flaw(word: &str) -> Result<Flaw, &'static str> {
    match word {
        "dead" => Ok(Flaw::Dead),
        "silent" => Ok(Flaw::Silent),
        "mask-sticks" => Ok(Flaw::MaskSticks),
        _ => Err(USAGE),
    }
}

fn remove(config: &mut Config, device: &str) -> Result<(), &'static str> {
    match device {
        "hpet" => config.has_hpet = false,
        "io-apic" => config.has_io_apic = false,
        _ => return Err(USAGE),
    }
    Ok(())
}

fn unknown_profile(name: &str) -> String {
    let known: Vec<_> = profiles::ALL.iter().map(|profile| profile.id).collect();
    format!("no profile `{name}`; known: {}", known.join(", "))
}
