//! A medium to boot a machine from, by its firmware, in place of a kernel that QEMU loads by itself.

use std::ffi::OsString;
use std::path::PathBuf;

use super::config::with_commas_doubled;

/// A medium with a boot image on it.
#[derive(Clone, Debug)]
pub struct Medium {
    /// The boot image.
    pub file: PathBuf,
    /// How the machine sees it.
    pub drive: Drive,
    /// The machine's firmware; `None` for the BIOS that QEMU has.
    pub firmware: Option<PathBuf>,
}

/// How a machine sees a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    /// A CD.
    Cd,
    /// A disk.
    Disk,
    /// A USB stick.
    UsbStick,
}

impl Medium {
    /// Returns the arguments for QEMU.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        if let Some(firmware) = &self.firmware {
            args.push("-drive".into());
            args.push(with_commas_doubled("if=pflash,format=raw,readonly=on,file=", firmware));
        }
        let (drive, devices): (_, &[&str]) = match self.drive {
            Drive::Cd => ("media=cdrom,format=raw,readonly=on,file=", &[]),
            Drive::Disk => ("media=disk,format=raw,snapshot=on,file=", &[]),
            Drive::UsbStick => (
                "if=none,id=stick,format=raw,snapshot=on,file=",
                &["-device", "qemu-xhci", "-device", "usb-storage,drive=stick"],
            ),
        };
        args.push("-drive".into());
        args.push(with_commas_doubled(drive, &self.file));
        args.extend(devices.iter().map(OsString::from));
        args
    }
}
