//! Where the page goes.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::commands::Error;

/// Where the page goes.
#[derive(Debug)]
pub(in super::super) enum Page<'a> {
    /// To this file, which is empty so far.
    File(&'a Path, File),
    /// To the standard output.
    Output,
}

impl<'a> Page<'a> {
    /// Makes the file. It is made before the sweep, so that a place that can't be written to is known at once.
    ///
    /// # Errors
    /// [`Error::Output`] where nothing can be written there.
    pub(in super::super) fn create(path: &'a Path) -> Result<Self, Error> {
        if path.as_os_str() == "-" {
            return Ok(Self::Output);
        }
        let file = File::create(path).map_err(|error| Error::output(path, error))?;
        Ok(Self::File(path, file))
    }

    /// Tells whether the page takes the standard output.
    pub(in super::super) const fn is_output(&self) -> bool {
        matches!(self, Self::Output)
    }

    /// Writes the page.
    ///
    /// # Errors
    /// [`Error`] where it can't be written.
    pub(in super::super) fn write(self, text: &str, out: &mut dyn Write) -> Result<(), Error> {
        match self {
            Self::File(path, mut file) => {
                file.write_all(text.as_bytes()).map_err(|error| Error::output(path, error))
            }
            Self::Output => Ok(write_and_flush(text, out)?),
        }
    }
}

fn write_and_flush(text: &str, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_the_page_and_the_output_nothing() {
        let directory = tempfile::tempdir().expect("room");
        let (path, mut out) = (directory.path().join("map.html"), Vec::new());
        let page = Page::create(&path).expect("a fresh place");
        assert!(!page.is_output());
        page.write("<p/>", &mut out).expect("room");
        assert_eq!((std::fs::read_to_string(&path).expect("written"), out.len()), ("<p/>".to_owned(), 0));
    }

    #[test]
    fn a_hyphen_is_the_output_and_a_directory_is_refused() {
        let mut out = Vec::new();
        let page = Page::create(Path::new("-")).expect("always there");
        assert!(page.is_output());
        page.write("<p/>", &mut out).expect("room");
        assert_eq!(out, b"<p/>");
        let error = Page::create(Path::new("/")).expect_err("a directory");
        assert!(matches!(error, Error::Output { .. }));
    }
}
