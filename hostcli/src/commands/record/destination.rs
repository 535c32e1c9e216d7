//! Where the bytes of a line go.
//!
//! QEMU writes to a regular file, which never makes it wait. Where the user wants them on the standard
//! output or in a device, QEMU writes to a temporary file and the bytes are copied as they come.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::commands::Error;

/// Where the bytes of a line go.
pub(super) enum Destination<'a> {
    /// To this file and nowhere else.
    File(PathBuf),
    /// To a temporary file, and on to the standard output.
    Output(TempPath, &'a mut dyn Write),
    /// To a temporary file, and on to what is no regular file.
    Device(TempPath, File),
}

impl<'a> Destination<'a> {
    /// Makes room: an existing regular file at `path` becomes `path.old`.
    ///
    /// # Errors
    /// [`Error::Output`] where nothing can be written there.
    pub(super) fn prepare(path: &Path, out: &'a mut dyn Write) -> Result<Self, Error> {
        let failed = |source| Error::output(path, source);
        if path.as_os_str() == "-" {
            return Ok(Self::Output(temporary().map_err(failed)?, out));
        }
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(failed(io::ErrorKind::IsADirectory.into())),
            Ok(found) if found.is_file() => {
                fs::rename(path, old_name(path)).map_err(failed)?;
                Ok(Self::File(path.to_path_buf()))
            }
            Ok(_) => {
                let device = OpenOptions::new().write(true).open(path).map_err(failed)?;
                Ok(Self::Device(temporary().map_err(failed)?, device))
            }
            Err(_) => Ok(Self::File(path.to_path_buf())),
        }
    }

    /// Returns the file for QEMU to write to.
    pub(super) fn line(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Output(path, _) | Self::Device(path, _) => path,
        }
    }

    /// Returns where bytes can be written to that no file has.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn writer(&mut self) -> io::Result<Box<dyn Write + '_>> {
        Ok(match self {
            Self::File(path) => Box::new(File::create(path)?),
            Self::Output(_, out) => Box::new(out),
            Self::Device(_, device) => Box::new(device),
        })
    }

    /// Returns where the bytes are to be copied to, if anywhere.
    pub(super) fn copy(&mut self) -> Option<&mut dyn Write> {
        match self {
            Self::File(_) => None,
            Self::Output(_, out) => Some(*out),
            Self::Device(_, device) => Some(device),
        }
    }
}

fn temporary() -> io::Result<TempPath> {
    let file = tempfile::Builder::new().prefix("nmiprof-").suffix(".data").tempfile()?;
    Ok(file.into_temp_path())
}

fn old_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_capture_becomes_the_old_one() {
        let directory = tempfile::tempdir().expect("room");
        let path = directory.path().join("a.data");
        for content in ["first", "second"] {
            let mut sink = io::sink();
            let mut destination = Destination::prepare(&path, &mut sink).expect("a fresh place");
            assert!(destination.copy().is_none());
            fs::write(destination.line(), content).expect("room");
        }
        let old = fs::read_to_string(directory.path().join("a.data.old")).expect("kept");
        assert_eq!(old, "first");
        assert_eq!(fs::read_to_string(&path).expect("written"), "second");
    }

    #[test]
    fn a_directory_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().expect("room");
        let error = Destination::prepare(directory.path(), &mut io::sink()).err().expect("a directory");
        assert!(matches!(error, Error::Output { .. }));
        assert!(directory.path().is_dir());
    }

    #[test]
    fn the_standard_output_and_devices_get_copies() {
        for path in ["-", "/dev/null"] {
            let mut sink = io::sink();
            let mut destination = Destination::prepare(Path::new(path), &mut sink).expect("both are there");
            assert!(destination.line().is_file());
            assert!(destination.copy().is_some());
        }
        assert!(!Path::new("/dev/null.old").exists());
    }
}
