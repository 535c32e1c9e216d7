//! The programs that make an image, and GRUB's modules: where they are, and how to get them.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::machine::program::find_in_path;
use crate::machine::{Consent, InstallError, Packager, Wanted};

/// The programs that make an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    pub(super) grub_mkimage: PathBuf,
    pub(super) xorriso: PathBuf,
    pub(super) mformat: PathBuf,
    pub(super) mmd: PathBuf,
    pub(super) mcopy: PathBuf,
    /// The directory of GRUB's modules, by platform.
    pub(super) grub: PathBuf,
}

impl Tools {
    /// Finds the tools.
    ///
    /// # Errors
    /// [`ToolsError::Missing`] names the first one that is missing, and the command that installs all of them.
    pub fn find() -> Result<Self, ToolsError> {
        Ok(Self {
            grub_mkimage: program(&["grub-mkimage", "grub2-mkimage"])?,
            xorriso: program(&["xorriso"])?,
            mformat: program(&["mformat"])?,
            mmd: program(&["mmd"])?,
            mcopy: program(&["mcopy"])?,
            grub: grub_modules()?,
        })
    }

    /// Finds the tools, and installs them where one is missing and that is allowed.
    ///
    /// # Errors
    /// [`ToolsError`] where one is still missing.
    pub fn find_or_install(consent: Consent, notes: &mut dyn Write) -> Result<Self, ToolsError> {
        match Self::find() {
            Err(ToolsError::Missing { packager: Some(packager), .. })
                if packager.install_if_allowed(consent, notes)? =>
            {
                Self::find()
            }
            found => found,
        }
    }
}

fn program(names: &[&'static str]) -> Result<PathBuf, ToolsError> {
    names.iter().find_map(find_in_path).ok_or_else(|| ToolsError::missing(names.first().unwrap_or(&"")))
}

/// Finds the modules of both platforms, which distributions package apart from each other.
fn grub_modules() -> Result<PathBuf, ToolsError> {
    const PLACES: [&str; 3] = ["/usr/lib/grub", "/usr/share/grub2", "/usr/share/grub"];
    const NEEDED: [(&str, &str); 2] = [
        ("i386-pc/boot_hybrid.img", "GRUB for BIOS (i386-pc)"),
        ("x86_64-efi/multiboot2.mod", "GRUB for UEFI (x86_64-efi)"),
    ];
    let lacks = |place: &Path| NEEDED.into_iter().find(|(file, _)| !place.join(file).is_file());
    let place = PLACES.iter().map(Path::new).find(|place| lacks(place).is_none());
    let missing = lacks(Path::new(PLACES[0])).map_or("GRUB", |(_, name)| name);
    place.map(Path::to_path_buf).ok_or_else(|| ToolsError::missing(missing))
}

/// Why there are no tools.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// One is not there.
    #[error("a boot image needs {name}, which is not here; {}", advice(*.packager))]
    Missing {
        /// What it is called.
        name: &'static str,
        /// Who could install it.
        packager: Option<Packager>,
    },
    /// They are missing, and were not installed.
    #[error(transparent)]
    Install(#[from] InstallError),
}

impl ToolsError {
    fn missing(name: &'static str) -> Self {
        Self::Missing { name, packager: Packager::find(Wanted::IsoTools) }
    }
}

fn advice(packager: Option<Packager>) -> String {
    match packager {
        Some(packager) => format!("run `{}` (or the same command with --yes)", packager.command()),
        None => "install GRUB for i386-pc and x86_64-efi, xorriso and mtools by your system's package manager, or \
                 take --elf and a boot loader of your own"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_what_to_do() {
        let text = program(&["no-such-tool"]).expect_err("it is not there").to_string();
        assert!(text.contains("no-such-tool") && text.contains("install"), "{text}");
    }
}
