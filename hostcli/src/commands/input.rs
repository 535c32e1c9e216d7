//! The flags that name what is read, and what they open.

use std::io::Write;
use std::path::PathBuf;

use nmiprof_wire::CpuList;

use super::Error;
use crate::capture::{Capture, Histogram, Record};
use crate::symbols::{Image, Programs, SymbolError};

/// What to read.
#[derive(Clone, Debug, clap::Args)]
pub struct InputArgs {
    /// Capture to read; `-` is the standard input
    #[arg(short, long, value_name = "FILE", default_value = "nmiprof.data")]
    pub input: PathBuf,
    /// ELF of the kernel that made the capture; without it, the kernel that nmiprof carries
    #[arg(short = 'k', long, value_name = "FILE")]
    pub vmlinux: Option<PathBuf>,
    /// ELF of a user program that ran (repeatable); without it, what nmiprof carries or `record` kept
    #[arg(long = "program", value_name = "FILE")]
    pub programs: Vec<PathBuf>,
}

impl InputArgs {
    /// Opens the capture.
    ///
    /// # Errors
    /// Where it can't be read or is no capture.
    pub fn open(&self) -> Result<Capture, Error> {
        Ok(Capture::open(&self.input)?)
    }

    /// Finds the image that the capture's addresses belong to.
    ///
    /// # Errors
    /// Where there is none, or the named one is of another build.
    pub fn image(&self, capture: &Capture) -> Result<Image, Error> {
        Ok(Image::find(&capture.run().build_id, self.vmlinux.as_deref())?)
    }

    /// Gathers the user programs that the capture's addresses may belong to.
    ///
    /// # Errors
    /// Where a named file can't be used.
    pub fn programs(&self) -> Result<Programs, Error> {
        Ok(Programs::gather(&self.input, &self.programs)?)
    }

    /// Finds the image, or says on `notes` why addresses stay unresolved. A file that was named must fit.
    ///
    /// # Errors
    /// Where the named file is not the capture's kernel.
    pub fn image_if_any(&self, capture: &Capture, notes: &mut dyn Write) -> Result<Option<Image>, Error> {
        match Image::find(&capture.run().build_id, self.vmlinux.as_deref()) {
            Ok(image) => Ok(Some(image)),
            Err(error @ SymbolError::NoImage { .. }) => {
                writeln!(notes, "nmiprof: no symbols: {error}")?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Reads a whole capture and counts its samples by place.
///
/// # Errors
/// Where reading fails or a second run begins.
pub fn count(capture: Capture) -> Result<(Record, Histogram), Error> {
    count_of(capture, CpuList::ALL)
}

/// Reads a whole capture and counts the samples of some CPUs by place.
///
/// # Errors
/// As for [`count`].
pub fn count_of(capture: Capture, cpus: CpuList<'_>) -> Result<(Record, Histogram), Error> {
    let mut histogram = Histogram::default();
    let record = capture.read(|block| {
        if cpus.contains(block.cpu) {
            histogram.count(block);
        }
        Ok::<(), Error>(())
    })?;
    Ok((record, histogram))
}
