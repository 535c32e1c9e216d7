//! The ELF files of user programs that are at hand, by build-id.
//!
//! Three places are looked at: the programs that this executable carries, those that the user names, and those that
//! `record` kept beside the capture, because they may have been built anew since.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nmiprof_wire::BuildId;

use super::{Image, SymbolError};
use crate::capture::Processes;
use crate::images::{self, EXAMPLES};

/// Most files that are looked at beside a capture.
const KEPT_MAX: usize = 64;

/// ELF files, by build-id.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    images: HashMap<BuildId, Image>,
    /// Build-ids of the files that the user named.
    named: Vec<BuildId>,
}

impl Programs {
    /// Gathers the programs for the capture in the file `capture`; `files` are those that the user names.
    ///
    /// # Errors
    /// [`SymbolError`] where a named file can't be read or has no build-id.
    pub fn gather(capture: &Path, files: &[PathBuf]) -> Result<Self, SymbolError> {
        let mut programs = Self::embedded();
        for path in kept(capture) {
            // Whatever else is in that directory is none of ours.
            if let Ok((id, image)) = Image::of_program(&path) {
                programs.images.insert(id, image);
            }
        }
        for path in files {
            let (id, image) = Image::of_program(path)?;
            programs.images.insert(id, image);
            programs.named.push(id);
        }
        Ok(programs)
    }

    /// Returns the programs that this executable carries.
    #[must_use]
    pub fn embedded() -> Self {
        let image = |example: &images::Example| {
            let id = images::build_id(example.elf)?;
            Some((id, Image::embedded(example.elf, example.name)))
        };
        Self { images: EXAMPLES.iter().filter_map(image).collect(), named: Vec::new() }
    }

    /// Finds the ELF file of a build.
    #[must_use]
    pub fn find(&self, id: &BuildId) -> Option<&Image> {
        self.images.get(id)
    }

    /// Makes sure that every file that the user named is of a program that ran.
    ///
    /// # Errors
    /// [`SymbolError::WrongProgram`] for the first that is not.
    pub fn check(&self, processes: &Processes) -> Result<(), SymbolError> {
        let ran = |id: &BuildId| processes.all().iter().any(|process| process.build_id == Some(*id));
        let Some(found) = self.named.iter().find(|id| !ran(id)) else {
            return Ok(());
        };
        let name = self.find(found).map_or_else(String::new, |image| image.name().to_owned());
        Err(SymbolError::WrongProgram { name, found: *found, ran: what_ran(processes) })
    }
}

fn what_ran(processes: &Processes) -> String {
    let all: Vec<_> = processes
        .all()
        .iter()
        .map(|process| match process.build_id {
            Some(id) => format!("{} is build {id}", process.name),
            None => format!("{} has no build-id", process.name),
        })
        .collect();
    if all.is_empty() { "the capture is of a run without programs".to_owned() } else { all.join(", ") }
}

/// Keeps a copy of a program beside a capture.
///
/// # Errors
/// What the system says.
pub fn keep(capture: &Path, id: &BuildId, elf: &[u8]) -> io::Result<()> {
    let directory = directory_of(capture);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(format!("{id}.elf")), elf)
}

fn kept(capture: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory_of(capture)) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|end| end == "elf")).take(KEPT_MAX).collect()
}

/// Returns the directory beside a capture that its programs are kept in.
fn directory_of(capture: &Path) -> PathBuf {
    let mut name = capture.as_os_str().to_owned();
    name.push(".programs");
    PathBuf::from(name)
}
