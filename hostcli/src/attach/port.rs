//! Serial ports.
//!
//! The crate is `serial2`: any speed that the hardware has, timeouts, no library of the system's beside libc, and a
//! licence like ours (`serialport`, the other candidate, is under the MPL and wants libudev unless told otherwise).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Access as Mode;
use serial2::{SerialPort, Settings};

use super::source::{Heard, Source, TICK};

/// An open serial port, which nobody else can open meanwhile: two readers would each get a part of the bytes.
pub(super) struct Port(SerialPort);

impl Port {
    /// Opens a port: 8 data bits, no parity, one stop bit, no flow control, every byte as it comes.
    pub(super) fn open(device: &Path, baud: u32) -> io::Result<Self> {
        let mut port = SerialPort::open(device, |mut settings: Settings| {
            settings.set_raw();
            settings.set_baud_rate(baud)?;
            Ok(settings)
        })?;
        rustix::termios::ioctl_tiocexcl(&port)?;
        port.set_read_timeout(TICK)?;
        Ok(Self(port))
    }
}

impl Source for Port {
    fn read(&mut self, buffer: &mut [u8]) -> Heard {
        Heard::of(self.0.read(buffer))
    }
}

/// A serial port of this host, and whether this user may use it.
#[derive(Clone, Debug)]
pub struct Access {
    /// Its device file.
    pub device: PathBuf,
    /// What to do where it may not be used; `None` where it may.
    pub advice: Option<String>,
}

/// Lists the serial ports of this host. None is opened: that would raise its control lines, and may reset a board.
///
/// # Errors
/// What the system says.
pub fn accesses() -> io::Result<Vec<Access>> {
    let mut devices = SerialPort::available_ports()?;
    devices.sort();
    Ok(devices.into_iter().map(access).collect())
}

fn access(device: PathBuf) -> Access {
    let may_use = rustix::fs::access(&device, Mode::READ_OK | Mode::WRITE_OK).is_ok();
    let advice = (!may_use).then(|| permission_advice(&device));
    Access { device, advice }
}

/// Says how a user gets to use a port.
pub(super) fn permission_advice(device: &Path) -> String {
    let group = group_of(device).unwrap_or_else(|| "dialout".to_owned());
    format!("join the group that may use it, then log in again: `sudo usermod -aG {group} $USER`")
}

fn group_of(device: &Path) -> Option<String> {
    let id = fs::metadata(device).ok()?.gid();
    name_of_group(&fs::read_to_string("/etc/group").ok()?, id)
}

/// Finds the name of a group, unless it is root's, in the format of group(5).
fn name_of_group(groups: &str, id: u32) -> Option<String> {
    let names = groups.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then_some(name)
    });
    let is_plain = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    names.filter(is_plain).find(|_| id != 0).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_number() {
        let groups = "root:x:0:\nodd;rm -rf:x:7:\ndialout:x:20:ann,bob\n";
        assert_eq!(name_of_group(groups, 20).as_deref(), Some("dialout"));
        for id in [0, 7, 21] {
            assert_eq!(name_of_group(groups, id), None, "{id}");
        }
    }

    #[test]
    fn what_is_no_serial_port_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("room");
        assert!(Port::open(file.path(), 115_200).is_err());
        assert!(Port::open(Path::new("/dev/null"), 115_200).is_err());
    }
}
