//! The kernel image that a capture's addresses belong to.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use nmiprof_wire::BuildId;
use object::Object as _;

use crate::capture::clean;
use crate::images;

/// Why there is no image to look addresses up in.
#[derive(Debug, thiserror::Error)]
pub enum SymbolError {
    /// No image is at hand.
    #[error(
        "the capture was made by kernel build {wanted}, which this nmiprof does not carry; \
         use the nmiprof that recorded it, or name that kernel's ELF with -k"
    )]
    NoImage {
        /// Build-id of the capture's kernel.
        wanted: BuildId,
    },
    /// The named file can't be read.
    #[error("can't read the kernel ELF `{name}`: {source}; check the path given with -k")]
    Io {
        /// The file.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The named file is no ELF.
    #[error("`{name}` is no ELF file ({source}); name the kernel's ELF with -k")]
    NotElf {
        /// The file.
        name: String,
        /// What the ELF parser said.
        source: object::Error,
    },
    /// The named file says nothing of its build.
    #[error(
        "`{name}` has no GNU build-id of 20 bytes, so nothing shows that it is kernel build {wanted}; \
         name that kernel's ELF with -k"
    )]
    NoBuildId {
        /// The file.
        name: String,
        /// Build-id of the capture's kernel.
        wanted: BuildId,
    },
    /// The named file is of another build.
    #[error(
        "`{name}` is build {found}, but the capture was made by kernel build {wanted}; \
         name that kernel's ELF with -k, or leave -k out to use the embedded one"
    )]
    WrongBuild {
        /// The file.
        name: String,
        /// Its build-id.
        found: BuildId,
        /// Build-id of the capture's kernel.
        wanted: BuildId,
    },
    /// A program's file can't be read.
    #[error("can't read the program `{name}`: {source}; check the path given with --program")]
    ProgramIo {
        /// The file.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program's file does not say of which build it is.
    #[error(
        "`{name}` is no ELF file with a GNU build-id of 20 bytes, so nothing shows that it is what ran; link programs \
         with --build-id=sha1"
    )]
    ProgramWithoutBuildId {
        /// The file.
        name: String,
    },
    /// A program's file is none of those that ran.
    #[error("`{name}` is build {found}, and no program of that build ran; {ran}")]
    WrongProgram {
        /// The file.
        name: String,
        /// Its build-id.
        found: BuildId,
        /// What did run.
        ran: String,
    },
}

/// An ELF whose build-id is known, and is the one that was asked for.
#[derive(Clone, Debug)]
pub struct Image {
    bytes: Cow<'static, [u8]>,
    name: String,
}

impl Image {
    /// Finds the image of a build: the file `elf` where it is given, else the embedded one.
    ///
    /// # Errors
    /// A [`SymbolError`] where there is none, or where `elf` is another build's.
    pub fn find(wanted: &BuildId, elf: Option<&Path>) -> Result<Self, SymbolError> {
        if let Some(path) = elf {
            return Self::from_file(wanted, path);
        }
        let bytes = images::by_build_id(wanted).ok_or(SymbolError::NoImage { wanted: *wanted })?;
        Ok(Self { bytes: Cow::Borrowed(bytes), name: "the embedded kernel".to_owned() })
    }

    /// Makes an image of an embedded program.
    pub(super) fn embedded(elf: &'static [u8], name: &str) -> Self {
        Self { bytes: Cow::Borrowed(elf), name: name.to_owned() }
    }

    /// Reads the ELF file of a program, and its build-id.
    pub(super) fn of_program(path: &Path) -> Result<(BuildId, Self), SymbolError> {
        let name = clean(&path.display().to_string()).into_owned();
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(SymbolError::ProgramIo { name, source }),
        };
        match build_id(&bytes) {
            Ok(Some(found)) => Ok((found, Self { bytes: Cow::Owned(bytes), name })),
            Ok(None) | Err(_) => Err(SymbolError::ProgramWithoutBuildId { name }),
        }
    }

    fn from_file(wanted: &BuildId, path: &Path) -> Result<Self, SymbolError> {
        let name = clean(&path.display().to_string()).into_owned();
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(SymbolError::Io { name, source }),
        };
        match build_id(&bytes) {
            Ok(Some(found)) if found == *wanted => Ok(Self { bytes: Cow::Owned(bytes), name }),
            Ok(Some(found)) => Err(SymbolError::WrongBuild { name, found, wanted: *wanted }),
            Ok(None) => Err(SymbolError::NoBuildId { name, wanted: *wanted }),
            Err(source) => Err(SymbolError::NotElf { name, source }),
        }
    }

    /// Returns the ELF.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns what messages call the image.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Reads the GNU build-id of an ELF; `None` where it has none of 20 bytes.
fn build_id(elf: &[u8]) -> Result<Option<BuildId>, object::Error> {
    let id = object::File::parse(elf)?.build_id()?;
    Ok(id.and_then(|id| id.try_into().ok()).map(BuildId))
}
