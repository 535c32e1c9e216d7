//! Opening a capture: a file or the standard input, read up to the description of its run.
//!
//! The first `Hello` may be damaged, so samples may come before the first usable one. [`Capture::open`]
//! therefore reads ahead until it knows the run, keeps those bytes, and decodes them again with the
//! rest. It reads at most [`SEARCH_BYTES_MAX`] ahead.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{CaptureError, Record, RunInfo, SampleBlock, Stream, clean};
use crate::attach;

/// Most bytes that are searched for the description of the run.
pub const SEARCH_BYTES_MAX: usize = 64 << 20;

const PIECE_BYTES: usize = 64 << 10;

/// A capture whose run is known.
pub struct Capture {
    name: String,
    run: RunInfo,
    /// The bytes that were read to find the run.
    head: Vec<u8>,
    rest: Box<dyn Read>,
}

impl Capture {
    /// Opens a file, or the standard input where `path` is `-`.
    ///
    /// # Errors
    /// A [`CaptureError`] where it can't be read, or is no capture that this build can read.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        if path.as_os_str() == "-" {
            return Self::from_reader("standard input", Box::new(io::stdin()));
        }
        let name = clean(&path.display().to_string()).into_owned();
        if attach::is_line_name(&name) && !path.exists() {
            return Err(CaptureError::Line { name });
        }
        let file = open_file(path).map_err(|source| io_error(&name, 0, source))?;
        Self::from_reader(&name, Box::new(file))
    }

    /// Reads a capture from `reader`; `name` is what errors call it.
    ///
    /// # Errors
    /// A [`CaptureError`] where it can't be read, or is no capture that this build can read.
    pub fn from_reader(name: &str, mut reader: Box<dyn Read>) -> Result<Self, CaptureError> {
        let (mut head, mut stream) = (Vec::new(), Stream::new(name));
        loop {
            if let Some(run) = stream.record().run() {
                let run = run.clone();
                return Ok(Self { name: name.to_owned(), run, head, rest: reader });
            }
            let start = head.len();
            let is_searched = start >= SEARCH_BYTES_MAX;
            if is_searched || read_piece(name, &mut reader, &mut head)? == 0 {
                return Err(no_run(name, stream.record()));
            }
            stream.push(&head[start..], |_| Ok::<(), CaptureError>(()))?;
        }
    }

    /// Returns what errors call the capture.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the description of the run.
    #[must_use]
    pub fn run(&self) -> &RunInfo {
        &self.run
    }

    /// Decodes everything, handing every block of samples to `on_block`, and returns the record.
    ///
    /// # Errors
    /// A [`CaptureError`] where reading fails or a second run begins, and whatever `on_block` returns.
    pub fn read<E: From<CaptureError>>(
        mut self,
        mut on_block: impl FnMut(&SampleBlock<'_>) -> Result<(), E>,
    ) -> Result<Record, E> {
        let mut stream = Stream::for_run(&self.name, self.run);
        let mut piece = self.head;
        while !piece.is_empty() {
            stream.push(&piece, &mut on_block)?;
            piece.clear();
            let offset = stream.record().bytes();
            read_more(&mut self.rest, &mut piece).map_err(|source| io_error(&self.name, offset, source))?;
        }
        Ok(stream.finish())
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(file)
}

fn read_piece(name: &str, reader: &mut dyn Read, head: &mut Vec<u8>) -> Result<usize, CaptureError> {
    let offset = head.len() as u64;
    read_more(reader, head).map_err(|source| io_error(name, offset, source))
}

/// Appends at most one piece of what `reader` has; 0 means its end.
fn read_more(reader: &mut dyn Read, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let start = bytes.len();
    bytes.resize(start + PIECE_BYTES, 0);
    let count = loop {
        match reader.read(&mut bytes[start..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result,
        }
    };
    bytes.truncate(start + count.as_ref().copied().unwrap_or(0));
    count
}

fn io_error(name: &str, offset: u64, source: io::Error) -> CaptureError {
    let name = name.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => CaptureError::NotFound { name },
        io::ErrorKind::IsADirectory => CaptureError::Directory { name },
        _ => CaptureError::Io { name, offset, source },
    }
}

/// Says why no run was found.
fn no_run(name: &str, record: &Record) -> CaptureError {
    let (name, searched) = (name.to_owned(), record.bytes());
    if searched == 0 {
        CaptureError::Empty { name }
    } else if record.frames() == 0 {
        CaptureError::NotACapture { name, searched }
    } else if let Some(fatal) = record.messages().fatal() {
        CaptureError::GaveUp { name, reason: fatal.message.clone() }
    } else {
        CaptureError::NoHello { name, searched }
    }
}
