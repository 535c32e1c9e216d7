//! The kernel images and the user programs that this executable carries, found by build-id.
//!
//! The build script made them: [`MAIN`] is what `record` boots, [`SELFTEST`] has the mutants and triggers
//! that tests need. Neighbours: [`machine`](crate::machine) boots them, [`symbols`](crate::symbols) reads
//! their debug information.

use std::fmt;

use nmiprof_wire::BuildId;
use object::Object as _;

/// The image that `record` boots.
pub const MAIN: &[u8] = include_bytes!(env!("NMIPROF_IMAGE_MAIN"));
/// The image with mutants and triggers, for tests.
pub const SELFTEST: &[u8] = include_bytes!(env!("NMIPROF_IMAGE_SELFTEST"));
/// Version line of the compiler that built all of them.
pub const RUSTC: &str = env!("NMIPROF_RUSTC");

/// One of the embedded images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// What `record` boots.
    Main,
    /// The image with mutants and triggers, for tests.
    Selftest,
}

impl Image {
    /// Every embedded image.
    pub const ALL: [Self; 2] = [Self::Main, Self::Selftest];

    /// Returns the image's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Selftest => "selftest",
        }
    }

    /// Returns the ELF file.
    #[must_use]
    pub const fn elf(self) -> &'static [u8] {
        match self {
            Self::Main => MAIN,
            Self::Selftest => SELFTEST,
        }
    }

    /// Returns the identity that the linker gave to the image.
    #[must_use]
    pub fn build_id(self) -> Option<BuildId> {
        build_id(self.elf())
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A user program that this executable carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// What `record --program example:NAME` calls it.
    pub name: &'static str,
    /// The ELF file.
    pub elf: &'static [u8],
    /// What it does, in a few words.
    pub about: &'static str,
}

/// Every embedded program.
pub const EXAMPLES: [Example; 4] = [
    Example {
        name: "sieve",
        elf: include_bytes!(env!("NMIPROF_PROGRAM_SIEVE")),
        about: "prime numbers: [EXPONENT [ROUNDS]]",
    },
    Example {
        name: "tree",
        elf: include_bytes!(env!("NMIPROF_PROGRAM_TREE")),
        about: "a search tree of words, deep recursion: [WORDS [ROUNDS]]",
    },
    Example {
        name: "split",
        elf: include_bytes!(env!("NMIPROF_PROGRAM_SPLIT")),
        about: "two functions with a known share of instructions: [ROUNDS]",
    },
    Example {
        name: "hostile",
        elf: include_bytes!(env!("NMIPROF_PROGRAM_HOSTILE")),
        about: "tries to take the kernel down: ATTACK [NUMBER...]",
    },
];

impl Example {
    /// Finds a program by name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        EXAMPLES.iter().find(|example| example.name == name)
    }
}

/// Finds the embedded kernel image with this build-id.
#[must_use]
pub fn by_build_id(id: &BuildId) -> Option<&'static [u8]> {
    let found = Image::ALL.into_iter().find(|image| image.build_id() == Some(*id))?;
    Some(found.elf())
}

/// Reads the GNU build-id of an ELF file; `None` where it has none of 20 bytes.
#[must_use]
pub fn build_id(elf: &[u8]) -> Option<BuildId> {
    let file = object::File::parse(elf).ok()?;
    let bytes = file.build_id().ok()??;
    bytes.try_into().ok().map(BuildId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_is_found_by_its_own_build_id() {
        for image in Image::ALL {
            let id = image.build_id().expect("the linker writes a build-id");
            assert_eq!(by_build_id(&id), Some(image.elf()), "{image}");
        }
        assert_ne!(Image::Main.build_id(), Image::Selftest.build_id());
    }

    #[test]
    fn an_image_does_not_tell_where_it_was_built() {
        let workspace = env!("CARGO_MANIFEST_DIR").trim_end_matches("hostcli").as_bytes();
        assert!(workspace.len() > 1, "a directory to look for");
        for image in Image::ALL {
            assert_eq!(memchr::memmem::find(image.elf(), workspace), None, "{image}");
        }
    }

    #[test]
    fn every_program_has_a_build_id_of_its_own() {
        let ids: std::collections::HashSet<_> =
            EXAMPLES.iter().map(|example| build_id(example.elf).expect("the linker writes one").0).collect();
        assert_eq!(ids.len(), EXAMPLES.len());
    }

    #[test]
    fn what_is_no_image_has_no_build_id() {
        assert_eq!(build_id(b""), None);
        assert_eq!(build_id(b"\x7fELF"), None);
        assert_eq!(by_build_id(&BuildId::default()), None);
    }
}
