//! Names of lines: `unix:PATH`, `tcp:HOST:PORT`, and serial ports, `DEVICE[@BAUD]`.

use std::fmt;
use std::path::PathBuf;

use crate::capture::clean;

/// Speed of a serial port unless another one is named: what a 16550 does without a divisor.
pub const BAUD: u32 = 115_200;

const UNIX: &str = "unix:";
const TCP: &str = "tcp:";

/// Which line to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A serial port.
    Port {
        /// Its device file.
        device: PathBuf,
        /// Its speed, in bits per second.
        baud: u32,
    },
    /// A socket in the file system that somebody listens on.
    Unix(PathBuf),
    /// A host and a port number, as `HOST:PORT`.
    Tcp(String),
}

impl Address {
    /// Reads `DEVICE` or `DEVICE@BAUD`.
    ///
    /// # Errors
    /// Says what is expected.
    pub fn parse_port(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected a device and perhaps its speed, such as /dev/ttyUSB0@115200";
        let (device, baud) = match text.rsplit_once('@') {
            Some((device, baud)) if baud.chars().all(|c| c.is_ascii_digit()) => {
                (device, baud.parse().map_err(|_| EXPECTED)?)
            }
            _ => (text, BAUD),
        };
        let is_sound = !device.is_empty() && baud > 0;
        is_sound.then(|| Self::Port { device: device.into(), baud }).ok_or(EXPECTED)
    }

    /// Reads `unix:PATH` or `tcp:HOST:PORT`.
    ///
    /// # Errors
    /// Says what is expected.
    pub fn parse_socket(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str =
            "expected unix:PATH or tcp:HOST:PORT; a capture file is read by report, script, info or export";
        if let Some(path) = text.strip_prefix(UNIX).filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let name = text.strip_prefix(TCP).ok_or(EXPECTED)?;
        let (host, port) = name.rsplit_once(':').ok_or(EXPECTED)?;
        let is_sound = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
        is_sound.then(|| Self::Tcp(name.to_owned())).ok_or(EXPECTED)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { device, baud } => write!(f, "{}@{baud}", clean(&device.display().to_string())),
            Self::Unix(path) => write!(f, "{UNIX}{}", clean(&path.display().to_string())),
            Self::Tcp(name) => write!(f, "{TCP}{}", clean(name)),
        }
    }
}

/// Tells whether a name is a socket's, not a file's.
#[must_use]
pub fn is_line_name(name: &str) -> bool {
    name.starts_with(UNIX) || name.starts_with(TCP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_a_device_and_perhaps_a_speed() {
        let port = |device: &str, baud| Ok(Address::Port { device: device.into(), baud });
        assert_eq!(Address::parse_port("/dev/ttyUSB0"), port("/dev/ttyUSB0", BAUD));
        assert_eq!(Address::parse_port("/dev/ttyS1@921600"), port("/dev/ttyS1", 921_600));
        assert_eq!(Address::parse_port("/dev/serial/a@b"), port("/dev/serial/a@b", BAUD));
        for wrong in ["", "@9600", "/dev/ttyS0@", "/dev/ttyS0@0", "/dev/ttyS0@99999999999"] {
            assert!(Address::parse_port(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_socket_is_a_path_or_a_host_and_a_port() {
        assert_eq!(Address::parse_socket("unix:/tmp/line"), Ok(Address::Unix("/tmp/line".into())));
        for name in ["localhost:4555", "[::1]:4555", "10.0.0.7:1"] {
            assert_eq!(Address::parse_socket(&format!("tcp:{name}")), Ok(Address::Tcp(name.to_owned())));
        }
        for wrong in ["", "unix:", "tcp:", "tcp:host", "tcp::1", "tcp:host:0", "tcp:host:x", "nmiprof.data"] {
            assert!(Address::parse_socket(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_address_is_shown_as_it_is_written_and_can_not_drive_the_terminal() {
        for text in ["unix:/tmp/line", "tcp:localhost:1"] {
            assert_eq!(Address::parse_socket(text).expect("sound").to_string(), text);
        }
        let odd = Address::parse_port("/dev/\x1b[2J@300").expect("a name like any other");
        assert_eq!(odd.to_string(), "/dev/\\u{1b}[2J@300");
    }
}
