//! The QEMU executable: where it is and which version it has.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt};

use super::install::{InstallError, Packager, Wanted};
use crate::capture::clean;

/// A QEMU executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// The executable's name.
    pub const NAME: &'static str = "qemu-system-x86_64";
    /// The environment variable that names another one.
    pub const VARIABLE: &'static str = "NMIPROF_QEMU";

    /// Finds the executable: the one that [`Program::VARIABLE`] names, else the first one in `PATH`.
    ///
    /// # Errors
    /// [`ProgramError`] says what to install, or that the variable names nothing.
    pub fn find() -> Result<Self, ProgramError> {
        match env::var_os(Self::VARIABLE).filter(|named| !named.is_empty()) {
            Some(named) => Self::named(named),
            None => find_in_path(Self::NAME)
                .map(Self::at)
                .ok_or_else(|| ProgramError::Missing(Packager::find(Wanted::Qemu))),
        }
    }

    /// Uses the executable at `path`, whether there is one or not.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns where the executable is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the executable for its version line.
    ///
    /// # Errors
    /// [`ProgramError::Silent`] where it does not run or says nothing.
    pub fn version(&self) -> Result<String, ProgramError> {
        let silent = |why: String| ProgramError::Silent { program: self.clone(), why };
        let output = Command::new(&self.path).arg("--version").output();
        let output = output.map_err(|error| silent(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        match text.lines().next() {
            Some(line) if output.status.success() => Ok(clean(line).into_owned()),
            _ => Err(silent(output.status.to_string())),
        }
    }

    fn named(named: OsString) -> Result<Self, ProgramError> {
        let is_path = named.as_encoded_bytes().contains(&b'/');
        let found = if is_path {
            Some(PathBuf::from(&named)).filter(|path| is_executable(path))
        } else {
            find_in_path(&named)
        };
        found.map(Self::at).ok_or_else(|| ProgramError::NotThere(named.to_string_lossy().into_owned()))
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// Finds an executable in the directories of `PATH`.
pub(crate) fn find_in_path(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let directories = env::var_os("PATH")?;
    env::split_paths(&directories)
        .map(|directory| directory.join(name.as_ref()))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    let metadata = path.metadata();
    metadata.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Why there is no QEMU to use.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// There is none in `PATH`.
    #[error("there is no {} here; {}", Program::NAME, install_advice(*.0))]
    Missing(Option<Packager>),
    /// The environment names one that is not there.
    #[error(
        "{} names `{}`, which is no program; correct the variable or unset it",
        Program::VARIABLE,
        clean(.0)
    )]
    NotThere(String),
    /// It does not say its version.
    #[error(
        "`{program} --version` failed ({why}); reinstall QEMU, or name another one by {}",
        Program::VARIABLE
    )]
    Silent {
        /// The executable.
        program: Program,
        /// What happened.
        why: String,
    },
    /// It is missing, and was not installed.
    #[error(transparent)]
    Install(#[from] InstallError),
}

fn install_advice(packager: Option<Packager>) -> String {
    match packager {
        Some(packager) => format!("run `{}` (or the same command with --yes)", packager.command()),
        None => {
            "install QEMU for x86-64 by your system's package manager, or build it from source".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_found_and_nonsense_is_not() {
        assert!(find_in_path("sh").is_some());
        assert_eq!(find_in_path("no-such-program-anywhere"), None);
    }

    #[test]
    fn a_directory_and_a_plain_file_are_not_executable() {
        assert!(!is_executable(Path::new("/")));
        assert!(!is_executable(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))));
    }

    #[test]
    fn a_named_program_that_is_not_there_is_never_replaced() {
        let error = Program::named("/nowhere/qemu".into()).expect_err("not there");
        assert!(error.to_string().contains("`/nowhere/qemu`"), "{error}");
        assert!(error.to_string().contains(Program::VARIABLE), "{error}");
    }

    #[test]
    fn a_program_that_fails_has_no_version() {
        let error = Program::at("/bin/false").version().expect_err("it fails");
        assert!(matches!(error, ProgramError::Silent { .. }));
    }
}
