//! The line as something to read from, with a timeout, so that nothing that happens to it keeps the reader
//! from hearing its user.

use std::io;
use std::time::Duration;

use super::Address;
use super::{port, socket};

/// Longest time that a read waits for bytes.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// What every open line can do.
pub(super) trait Source {
    /// Reads what has come, waiting for at most [`TICK`].
    fn read(&mut self, buffer: &mut [u8]) -> Heard;
}

/// What one read of a line came to.
#[derive(Debug)]
pub(super) enum Heard {
    /// So many bytes; never 0.
    Bytes(usize),
    /// Nothing yet.
    Silence,
    /// The line is gone, for this reason.
    Lost(String),
}

impl Heard {
    /// Judges the result of a read with a timeout.
    pub(super) fn of(result: io::Result<usize>) -> Self {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        match result {
            Ok(0) => Self::Lost("the far end has closed it".to_owned()),
            Ok(count) => Self::Bytes(count),
            Err(error) if matches!(error.kind(), Interrupted | TimedOut | WouldBlock) => Self::Silence,
            Err(error) => Self::Lost(error.to_string()),
        }
    }
}

/// An open line.
pub struct Link {
    address: Address,
    /// `None` while it is lost.
    source: Option<Box<dyn Source>>,
}

impl Link {
    /// Opens a line.
    ///
    /// # Errors
    /// [`OpenError`] says why it can't be opened, and what to do.
    pub fn open(address: &Address) -> Result<Self, OpenError> {
        match open(address) {
            Ok(source) => Ok(Self { address: address.clone(), source: Some(source) }),
            Err(source) => Err(OpenError { address: address.clone(), source }),
        }
    }

    /// Opens the line again. The old one is closed first: a port is open to one reader only.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.source = None;
        self.source = Some(open(&self.address)?);
        Ok(())
    }

    /// Returns which line it is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Heard {
        match &mut self.source {
            Some(source) => source.read(buffer),
            None => Heard::Silence,
        }
    }
}

fn open(address: &Address) -> io::Result<Box<dyn Source>> {
    Ok(match address {
        Address::Port { device, baud } => Box::new(port::Port::open(device, *baud)?),
        Address::Unix(path) => Box::new(socket::connect_unix(path)?),
        Address::Tcp(name) => Box::new(socket::connect_tcp(name)?),
    })
}

/// Why a line can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("can't open {address}: {source}; {}", self.advice())]
pub struct OpenError {
    /// The line.
    pub address: Address,
    /// What the system said.
    pub source: io::Error,
}

impl OpenError {
    fn advice(&self) -> String {
        use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, ResourceBusy};
        match (&self.address, self.source.kind()) {
            (Address::Port { .. }, NotFound) => {
                "plug it in, or name another one: `nmiprof doctor` lists them".to_owned()
            }
            (Address::Port { device, .. }, PermissionDenied) => port::permission_advice(device),
            (Address::Port { .. }, ResourceBusy) => "end the program that uses it, then try again".to_owned(),
            (Address::Port { .. }, _) => {
                "name a serial port that has this speed; sockets are named by -i unix:PATH or tcp:HOST:PORT"
                    .to_owned()
            }
            (Address::Unix(_), NotFound | ConnectionRefused) => {
                "start the target first, with its serial line there: with QEMU, -chardev \
                 socket,id=line,path=PATH,server=on,wait=off -serial chardev:line"
                    .to_owned()
            }
            (Address::Tcp(_), ConnectionRefused) => {
                "start the target, or what serves its line, first".to_owned()
            }
            (_, PermissionDenied) => "ask its owner for access".to_owned(),
            _ => "check the name, and that the target runs".to_owned(),
        }
    }
}
