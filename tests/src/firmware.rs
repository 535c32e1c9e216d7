//! Machines that boot by their firmware: the boot image, and where the firmware is.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nmiprof::iso::{self, Contents, Tools};
use nmiprof::machine::{Consent, Drive, Medium};

use crate::skips::Skip;

/// A machine's firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, which comes with QEMU.
    Bios,
    /// OVMF.
    Uefi,
}

impl Firmware {
    /// Where distributions put OVMF.
    const OVMF: [&'static str; 4] = [
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
    ];

    /// Describes a boot from `file` by this firmware.
    ///
    /// # Errors
    /// The skip of a test whose firmware is not here.
    pub fn boots(self, file: &Path, drive: Drive) -> Result<Medium, Skip> {
        let firmware = match self {
            Self::Bios => None,
            Self::Uefi => Some(ovmf()?),
        };
        Ok(Medium { file: file.to_path_buf(), drive, firmware })
    }
}

fn ovmf() -> Result<PathBuf, Skip> {
    let found = Firmware::OVMF.iter().map(PathBuf::from).find(|path| path.is_file());
    found.ok_or_else(|| {
        Skip::needed_in_ci("there is no UEFI firmware for QEMU; run `apt-get install -y ovmf`")
    })
}

/// Makes a boot image in `directory`.
///
/// # Errors
/// The skip of a test that needs the tools.
///
/// # Panics
/// If the tools fail.
pub fn boot_image(directory: &Path, contents: &Contents<'_>) -> Result<PathBuf, Skip> {
    let tools = tools()?;
    let path = directory.join("nmiprof.iso");
    iso::write(contents, &tools, &path).unwrap_or_else(|error| panic!("{error}"));
    Ok(path)
}

/// Finds the tools, and installs them as [`qemu`](crate::qemu) is.
fn tools() -> Result<Tools, Skip> {
    /// One test at a time looks, so that none installs what another one is installing.
    static LOOKING: Mutex<()> = Mutex::new(());

    let _looking = LOOKING.lock();
    let agreed = env::var_os("NMIPROF_INSTALL").is_some_and(|agreed| agreed == "1");
    let consent = if agreed { Consent::Given } else { Consent::NotGiven };
    Tools::find_or_install(consent, &mut io::stderr())
        .map_err(|missing| Skip::needed_in_ci(missing.to_string()))
}
