//! QEMU's monitor, for tests that look at a machine from outside: its memory, and its screen.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// Where a machine's monitor listens, and the files that it writes.
#[derive(Debug)]
pub struct Monitor {
    directory: PathBuf,
}

impl Monitor {
    const PROMPT: &'static [u8] = b"(qemu) ";
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Prepares a monitor whose files are in `directory`.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf() }
    }

    /// Returns the QEMU arguments that make the machine listen.
    #[must_use]
    pub fn qemu_args(&self) -> [String; 2] {
        ["-monitor".to_owned(), format!("unix:{},server=on,wait=off", self.socket().display())]
    }

    /// Connects, as soon as the machine is there.
    ///
    /// # Panics
    /// If it does not come.
    #[must_use]
    pub fn connect(&self) -> Session<'_> {
        let start = Instant::now();
        loop {
            match UnixStream::connect(self.socket()) {
                Ok(stream) => {
                    let mut session = Session { monitor: self, stream };
                    session.read_to_prompt().expect("a monitor greets");
                    return session;
                }
                Err(error) => assert!(start.elapsed() < Self::PATIENCE, "no monitor: {error}"),
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("monitor")
    }
}

/// A connection to a monitor.
#[derive(Debug)]
pub struct Session<'a> {
    monitor: &'a Monitor,
    stream: UnixStream,
}

impl Session<'_> {
    /// Returns the characters of the PC's text screen, row by row.
    ///
    /// # Panics
    /// If the monitor does not answer.
    #[must_use]
    pub fn text_screen(&mut self) -> String {
        const ADDRESS: u64 = 0xb_8000;
        const ROW_BYTES: usize = 160;
        let file = self.monitor.directory.join("text");
        self.command(&format!("pmemsave {ADDRESS:#x} {} \"{}\"", 25 * ROW_BYTES, file.display()));
        let cells = fs::read(file).expect("the monitor has written it");
        let rows = cells.chunks(ROW_BYTES).map(|row| {
            let text: String = row.iter().step_by(2).map(|byte| char::from(*byte)).collect();
            text.trim_end_matches([' ', '\0']).to_owned()
        });
        rows.collect::<Vec<_>>().join("\n").trim_end().to_owned()
    }

    /// Returns what the machine shows.
    ///
    /// # Panics
    /// If the monitor does not answer, or what it writes is no picture.
    #[must_use]
    pub fn picture(&mut self) -> Picture {
        let file = self.monitor.directory.join("picture");
        self.command(&format!("screendump \"{}\"", file.display()));
        Picture::parse(&fs::read(file).expect("the monitor has written it")).expect("a picture")
    }

    /// Writes to an I/O port, as an instruction of the machine would.
    ///
    /// # Panics
    /// If the monitor is gone.
    pub fn write_port(&mut self, port: u16, value: u8) {
        self.command(&format!("o /b {port:#x} {value:#x}"));
    }

    /// Ends the machine.
    ///
    /// # Panics
    /// If the monitor is gone.
    pub fn quit(mut self) {
        self.stream.write_all(b"quit\n").expect("the monitor listens");
        // The machine would not hear what was sent by somebody who is gone. An error means that it is gone itself.
        drop(io::copy(&mut self.stream, &mut io::sink()));
    }

    fn command(&mut self, command: &str) {
        self.stream.write_all(format!("{command}\n").as_bytes()).expect("the monitor listens");
        self.read_to_prompt().expect("the monitor answers");
    }

    fn read_to_prompt(&mut self) -> io::Result<()> {
        let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
        while !answer.ends_with(Monitor::PROMPT) {
            let len = self.stream.read(&mut piece)?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend(&piece[..len]);
        }
        Ok(())
    }
}

/// What a screen shows, as red, green and blue bytes.
#[derive(Debug)]
pub struct Picture {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Three bytes for each pixel.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// Reads a PPM file, as the monitor writes it: binary, 8 bits.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
        let (magic, size, _depth, pixels) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let mut size = std::str::from_utf8(size).ok()?.split(' ').map(str::parse);
        let (width, height) = (size.next()?.ok()?, size.next()?.ok()?);
        let sound = magic == b"P6" && pixels.len() == width * height * 3;
        sound.then(|| Self { width, height, pixels: pixels.to_vec() })
    }
}
