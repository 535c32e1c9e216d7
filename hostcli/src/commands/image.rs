//! `nmiprof image`: the kernel for other machines than QEMU's.
//!
//! `--iso` writes one file that boots from a CD and from a USB stick, under BIOS and UEFI; `--elf` writes the bare
//! kernel for a boot loader of the user's own, which may speak Multiboot2 or PVH. The words are the kernel's command
//! line, checked here by the kernel's own parser: a machine that stands somewhere else is no place to find a typing
//! error.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nmiprof_wire::Options;

use super::flags::programs::Packed;
use super::{Error, Outcome};
use crate::capture::clean;
use crate::images;
use crate::iso::{self, Contents, Tools};
use crate::machine::Consent;

/// Flags of `nmiprof image`.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Write a boot image for CD and USB stick, BIOS and UEFI
    #[arg(long, value_name = "FILE", required_unless_present = "elf")]
    pub iso: Option<PathBuf>,

    /// Write the bare kernel, for another boot loader (Multiboot2 or PVH)
    #[arg(long, value_name = "FILE")]
    pub elf: Option<PathBuf>,

    /// User program to run: a static ELF file, or example:NAME, and its arguments (repeatable)
    #[arg(long = "program", value_name = "COMMAND", requires = "iso")]
    pub programs: Vec<String>,

    /// Words for the kernel, such as duration_ns=5000000000 or freq=999
    #[arg(value_name = "WORD", requires = "iso")]
    pub words: Vec<String>,

    /// Agree to install the tools that are missing
    #[arg(long)]
    pub yes: bool,
}

/// Writes the images. There is nothing for `out`.
///
/// # Errors
/// [`Error`] where an image can't be made or written.
pub fn run(args: &Args, _out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    if let Some(path) = &args.elf {
        fs::write(path, images::MAIN).map_err(|source| Error::output(path, source))?;
        said(notes, "the kernel", path)?;
    }
    if let Some(path) = &args.iso {
        let words = checked(&args.words)?;
        let packed = Packed::new(&args.programs, &[])?;
        let tools =
            Tools::find_or_install(Consent::from_yes(args.yes), notes).map_err(iso::IsoError::from)?;
        iso::write(&Contents { kernel: images::MAIN, module: &packed.module, words: &words }, &tools, path)?;
        said(notes, "a boot image", path)?;
        instruct(notes, path)?;
    }
    Ok(Outcome::Good)
}

/// Splits the words where the user has put several into one argument, and has the kernel's parser look at them.
fn checked(words: &[String]) -> Result<Vec<String>, Error> {
    let line = words.join(" ");
    Options::parse(&line)
        .map_err(|error| Error::Usage(format!("the kernel would refuse its words: {error}")))?;
    Ok(line.split_ascii_whitespace().map(str::to_owned).collect())
}

fn said(notes: &mut dyn Write, what: &str, path: &Path) -> Result<(), Error> {
    let bytes = fs::metadata(path).map_err(|source| Error::output(path, source))?.len();
    let name = path.display().to_string();
    writeln!(notes, "[ nmiprof image: Wrote {what}, {:.1} MB, to {} ]", bytes as f64 / 1e6, clean(&name))?;
    Ok(())
}

fn instruct(notes: &mut dyn Write, path: &Path) -> Result<(), Error> {
    let name = path.display().to_string();
    let name = clean(&name);
    writeln!(notes, "Write it to a USB stick (which loses all that is on it), or burn it to a CD:")?;
    writeln!(notes, "  dd if={name} of=/dev/sdX bs=4M conv=fsync")?;
    writeln!(notes, "The machine sends its capture by COM1, at 115200 baud, 8N1.")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::words::parse;

    #[test]
    fn words_are_checked_as_the_kernel_would() {
        let words = |list: &[&str]| checked(&list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&["period=7 chains=on", "nmi=naive"]).expect("sound").len(), 3);
        let error = words(&["perod=7"]).expect_err("a typing error").to_string();
        assert!(error.contains("perod"), "{error}");
    }

    #[test]
    fn there_is_something_to_write() {
        assert!(parse::<Args>(&[]).is_err());
        assert!(parse::<Args>(&["--elf", "k", "period=7"]).is_err(), "a bare kernel takes no words along");
        let args: Args = parse(&["--iso", "x.iso", "period=7", "--program", "example:sieve"]).expect("sound");
        assert_eq!((args.words.len(), args.programs.len()), (1, 1));
    }
}
